"""A trained shape space: its decoder, its training codes, and what one does with them."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import trimesh
from torch import Tensor

from deepsdf.checkpoints import codes_content, load_codes, load_decoder, model_content, write_pth
from deepsdf.devices import fast_bfloat16, resolve_device
from deepsdf.errors import InputError
from deepsdf.geometry.isosurface.options import SHAPE_TOLERANCE, Meshing
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.complete.options import CompletionOptions
from deepsdf.inference.encode import EncodeOptions, Observation, encode
from deepsdf.inference.fit.fitting import FINAL_SAMPLES, Fit, assess, fit_adam
from deepsdf.inference.fit.options import FitOptions
from deepsdf.inference.fit.problem import CodeProblem, Draw
from deepsdf.inference.fit.schedule import fit_lm
from deepsdf.inference.paths import Path as CodePath
from deepsdf.inference.paths import code_path
from deepsdf.network.decoder import Decoder
from deepsdf.network.priors import GaussianPrior, fit_prior
from deepsdf.progress import OnProgress, Progress
from deepsdf.samples.bank import SampleBank
from deepsdf.specs import ConstantSchedule, Specs
from deepsdf.workspace import Experiment

if TYPE_CHECKING:
    from deepsdf.geometry.meshes import Normalization
    from deepsdf.geometry.scanning.scan import Scan
    from deepsdf.inference.complete.completion import Completion
    from deepsdf.inference.edit.constraints import Constraint
    from deepsdf.inference.edit.editing import Edit

logger = logging.getLogger(__name__)

CHUNK = 32_768
"""Points evaluated at once: their activations stay in a processor's cache."""

GRADIENT_CHUNK = 16_384
"""As many with gradients, which keep every layer's activations."""

MAX_CANDIDATES, RANDOM_CANDIDATES = 256, 32
"""Training codes, and draws from the prior, looked at for a start of a fit."""

ROUGH_SAMPLES = 16_000
"""Shapes of more are fitted in bfloat16, where the device is quick at it."""

Observations = SDFSamples | np.ndarray | Tensor


@dataclass(frozen=True)
class Shape:
    """One shape of the space: a field, in the unit frame.

    Attributes:
        decoder: shared with the space.
        code: (L,).
    """

    decoder: Decoder
    code: Tensor

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Signed distance of points (n, 3): (n,) float32, negative inside."""
        return self.sdf(points)

    @torch.no_grad()
    def sdf(self, points: np.ndarray) -> np.ndarray:
        """Signed distance of points (n, 3), unit frame: (n,) float32, negative inside."""
        points = _points(points)
        found = np.empty(len(points), np.float32)
        for start in range(0, len(points), CHUNK):
            chunk = torch.from_numpy(points[start : start + CHUNK]).to(self.code.device)
            found[start : start + CHUNK] = self.decoder(self.code[None], chunk[None])[0].cpu().numpy()
        return found

    def sdf_and_gradient(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signed distances (n,) of points (n, 3), unit frame, and their gradients (n, 3), float32."""
        points = _points(points)
        values, gradients = np.empty(len(points), np.float32), np.empty((len(points), 3), np.float32)
        for start in range(0, len(points), GRADIENT_CHUNK):
            part = slice(start, start + GRADIENT_CHUNK)
            with torch.enable_grad():
                chunk = torch.from_numpy(points[part]).to(self.code.device).requires_grad_(True)
                sdf = self.decoder(self.code.detach()[None], chunk[None])[0]
                (gradient,) = torch.autograd.grad(sdf.sum(), chunk)
            values[part], gradients[part] = sdf.detach().cpu().numpy(), gradient.cpu().numpy()
        return values, gradients

    def mesh(self, meshing: Meshing | int = Meshing()) -> trimesh.Trimesh:
        """The shape's surface, unit frame, faces outward; see `deepsdf.polygonize`.

        Args:
            meshing: options, or the resolution. The tolerance defaults to 1/64 of a cell.
        """
        from deepsdf.geometry.isosurface.polygonize import polygonize

        meshing = Meshing.of(meshing)
        return polygonize(self, replace(meshing, tolerance=meshing.tolerance or SHAPE_TOLERANCE))


class ShapeSpace:
    """A decoder, its training codes and their prior.

    Attributes:
        decoder: in evaluation mode, on `device`.
        codes: (scenes, L), row k is the k-th shape of the training split.
        clamping_distance: δ of the training.
        epoch: of the checkpoint.
        device: where it computes.
        specs: settings of the experiment; None for a space that was not loaded from one.
    """

    def __init__(
        self,
        decoder: Decoder,
        codes: Tensor,
        *,
        clamping_distance: float = 0.1,
        epoch: int = 0,
        device: str | torch.device = "auto",
        specs: Specs | None = None,
    ) -> None:
        self.device = resolve_device(str(device))
        self.specs = specs
        self.decoder = decoder.to(self.device).eval()
        self.codes = codes.detach().float().to(self.device)
        self.clamping_distance = clamping_distance
        self.epoch = epoch
        if self.codes.ndim != 2 or self.codes.shape[1] != decoder.code_length:
            raise InputError(f"codes have shape {tuple(codes.shape)}; the decoder takes (n, {decoder.code_length})")

    @classmethod
    def load(
        cls,
        experiment: Experiment | str | os.PathLike[str],
        checkpoint: str | int = "latest",
        device: str = "auto",
    ) -> ShapeSpace:
        """A trained experiment's space, also the original's and its descendants'.

        Raises:
            InputError: no such experiment or checkpoint, or one that is broken or does not fit specs.json.
        """
        experiment = experiment if isinstance(experiment, Experiment) else Experiment.open(experiment)
        decoder, epoch = load_decoder(experiment, checkpoint)
        codes, codes_epoch = load_codes(experiment, checkpoint)
        if codes_epoch != epoch:
            raise InputError(
                f"the checkpoint {checkpoint!r} of {experiment.root} has a model of epoch {epoch}, "
                f"but codes of epoch {codes_epoch}"
            )
        specs = experiment.specs
        return cls(
            decoder, codes, clamping_distance=specs.clamping_distance, epoch=epoch, device=device, specs=specs
        )  # fmt: skip

    def save(self, folder: str | os.PathLike[str]) -> Experiment:
        """Write the space as a new experiment that `load` reads: specs.json, decoder and training codes.

        Raises:
            InputError: the folder contains an experiment already.
        """
        experiment = Experiment(Path(folder))
        if (experiment.root / "specs.json").exists():
            raise InputError(f"{experiment.root} contains an experiment already; pass a new folder")
        specs = self.specs or _specs_of(self)
        contents = {
            experiment.model_path("latest"): model_content(self.decoder, self.epoch),
            experiment.codes_path("latest"): codes_content(self.codes, self.epoch),
        }
        write_pth(contents)
        specs.save(experiment.root / "specs.json")
        return experiment

    def to(self, device: str | torch.device) -> ShapeSpace:
        """A copy of the space on another device; this one stays where it is.

        Raises:
            InputError: no such device on this machine.
        """
        return ShapeSpace(
            copy.deepcopy(self.decoder),
            self.codes,
            clamping_distance=self.clamping_distance,
            epoch=self.epoch,
            device=device,
            specs=self.specs,
        )

    def sdf(self, codes: Tensor, points: Tensor) -> Tensor:
        """Signed distances, differentiable by codes, points and the weights of `decoder` (also twice, and by vmap).

        Under `torch.no_grad()` points are evaluated in chunks, so any number of them fits into memory.

        Args:
            codes: (b, L), or (L,) for one shape.
            points: (b, n, 3), or (n, 3) for the same points of every shape; unit frame. Codes and points have the
                decoder's dtype and are moved to `device`.
        Returns:
            (b, n) on `device`, negative inside; (n,) for codes (L,) and points (n, 3).
        Raises:
            InputError: other shapes, or different numbers of shapes.
        """
        single = codes.ndim == 1 and points.ndim == 2
        batched_codes = codes if codes.ndim == 2 else codes[None]
        batched_points = points if points.ndim == 3 else points[None]
        shapes = {len(batched_codes), len(batched_points)} - {1}
        good = codes.ndim in (1, 2) and codes.shape[-1] == self.code_length and points.ndim in (2, 3)
        if not good or points.shape[-1] != 3 or len(shapes) > 1:
            raise InputError(
                f"codes have shape {tuple(codes.shape)} and points {tuple(points.shape)}; expected codes "
                f"(b, {self.code_length}) or ({self.code_length},) and points (b, n, 3) or (n, 3)"
            )
        count = shapes.pop() if shapes else 1
        batched_codes = batched_codes.to(self.device).expand(count, -1)
        batched_points = batched_points.to(self.device).expand(count, -1, -1)
        if torch.is_grad_enabled():
            distances = self.decoder(batched_codes, batched_points)
        else:
            chunks = batched_points.split(max(1, CHUNK // count), dim=1)
            distances = torch.cat([self.decoder(batched_codes, chunk) for chunk in chunks], dim=1)
        return distances[0] if single else distances

    @property
    def code_length(self) -> int:
        return self.decoder.code_length

    @cached_property
    def is_trained(self) -> Tensor:
        """(scenes,), which rows of `codes` are not all zero: those belong to shapes that could not be trained on."""
        return self.codes.abs().sum(dim=1) > 0

    @cached_property
    def trained_codes(self) -> Tensor:
        """The rows of `codes` that are trained."""
        return self.codes[self.is_trained]

    @cached_property
    def prior(self) -> GaussianPrior:
        """The Gaussian that the trained codes amount to."""
        if len(self.trained_codes) < 2:
            raise InputError(f"a prior needs at least 2 training codes; this space has {len(self.trained_codes)}")
        return GaussianPrior.fit(self.trained_codes)

    def shape(self, code: Tensor | np.ndarray | Sequence[float] | int) -> Shape:
        """The shape of a code (L,), or of the training code of that number."""
        if isinstance(code, int | np.integer):
            if not -len(self.codes) <= code < len(self.codes):
                raise InputError(f"there is no training code {code}; there are {len(self.codes)}")
            return Shape(self.decoder, self.codes[code])
        found = torch.as_tensor(code, dtype=torch.float32, device=self.device).detach().reshape(-1)
        if len(found) != self.code_length:
            raise InputError(f"a code of {len(found)} numbers was given; this space has codes of {self.code_length}")
        return Shape(self.decoder, found)

    def fit(
        self,
        observations: Observations | Sequence[Observations],
        options: FitOptions = FitOptions(),
        *,
        on_progress: OnProgress | None = None,
    ) -> Fit:
        """Fit codes to observed signed distances. Shapes are independent, and are evaluated in one batch.

        Args:
            observations: `SDFSamples` or rows x y z sdf (n, 4), unit frame; one shape or a list of shapes.
            options: optimizer, steps, samples and seed.
            on_progress: receives one event per step; steps are counted over all runs of `options.best_of`.
        Returns:
            Codes (b, L), losses (b,) and uncertainties, in the order of the observations; b is 1 for a single one.
        Raises:
            InputError: no observations, or rows that are not finite or not (n, 4).
        """
        single = isinstance(observations, SDFSamples | np.ndarray | Tensor)
        listed = [observations] if single else list(observations)  # pyright: ignore[reportArgumentType]
        if not listed:
            raise InputError("no observations were given to fit")
        rows = [_sides(item, number) for number, item in enumerate(listed)]
        # Its rounding is less than chance where samples are drawn anew; more than the last steps where they are not.
        rough = [fast_bfloat16(self.device) and sum(map(len, sides)) > ROUGH_SAMPLES for sides in rows]
        kinds = [kind for kind in (False, True) if kind in rough]
        members = [[number for number, own in enumerate(rough) if own == kind] for kind in kinds]
        fits: list[Fit] = []
        decoder = self.decoder.folded()
        for place, (kind, own) in enumerate(zip(kinds, members, strict=True)):
            problem = CodeProblem(decoder, self.prior, self.clamping_distance, kind)
            bank = SampleBank.from_shapes([rows[number] for number in own]).to(self.device)
            part = on_progress and _shifted(on_progress, place, len(kinds))
            fits.append(self._best_fit(problem, bank, options, part))
        return fits[0] if len(fits) == 1 else Fit.joined(fits, members)

    def _best_fit(
        self, problem: CodeProblem, bank: SampleBank, options: FitOptions, on_progress: OnProgress | None
    ) -> Fit:
        """For each shape of a bank the fit with the lowest loss among `options.best_of` fits."""
        judged: Draw | None = None
        fits: list[Fit] = []
        steps, samples = options.max_steps, options.max_samples
        for run in range(options.best_of):
            seed = options.seed + run
            # One generator per shape: a shape's code does not depend on which others are fitted with it.
            generator = [torch.Generator(self.device).manual_seed(seed) for _ in range(len(bank))]
            part = on_progress and _shifted(on_progress, run, options.best_of)
            drawn = Draw(*bank.spread(FINAL_SAMPLES, generator))
            judged = judged or drawn  # the losses of all runs are computed on the same samples
            if options.optimizer == "adam":
                # δ is 0.1 whatever the training's: the original has it as a literal.
                found = fit_adam(
                    problem.decoder, bank, generator=generator, steps=steps, samples=samples, on_progress=part
                )
            else:
                every = -(-len(self.trained_codes) // MAX_CANDIDATES)
                candidates, draws = self.trained_codes[::every], self._draws(RANDOM_CANDIDATES, seed)
                found = fit_lm(
                    problem, bank, candidates=candidates, draws=draws, generator=generator, steps=steps,
                    samples=samples, on_progress=part,
                )  # fmt: skip
            fits.append(assess(problem, bank, found, judged))
        return Fit.best(fits)

    def _draws(self, count: int, seed: int) -> Tensor:
        return self.prior.sample(count, torch.Generator().manual_seed(seed))

    def encode(
        self,
        observation: Observation,
        options: EncodeOptions = EncodeOptions(),
        *,
        on_progress: OnProgress | None = None,
    ) -> Tensor:
        """The latent code (L,) of a shape from a mesh, a scan, SDF samples, or the path of a file with one of them.

        Doubts about the result are logged as warnings; `deepsdf.encode(space, observation)` returns them together with
        the pose, the samples and the fit.

        Args:
            observation: see `deepsdf.encode`.
            on_progress: see `deepsdf.encode`.
        Raises:
            InputError: a file that is missing, unreadable or of an unknown kind.
        """
        found = encode(self, observation, options, on_progress=on_progress)
        for warning in found.warnings:
            logger.warning("%s", warning)
        return found.code

    def complete(
        self,
        scan: Scan,
        options: CompletionOptions = CompletionOptions(),
        *,
        normalization: Normalization | None = None,
    ) -> Completion:
        """Estimate the complete shape and the pose that explain a partial scan.

        Shapes of a space lie in the unit frame: the centre of the whole shape's bounding box is at the origin, and the
        shape is scaled into the unit sphere. Neither can be computed from a part of the shape. A scan in another frame
        therefore needs the whole shape's normalization, or `pose="similarity"`, which estimates rotation, translation
        and scale.

        Args:
            scan: points, normals and camera positions, in any frame.
            options: which part of the pose is estimated, noise, weights and seed.
            normalization: maps the scan's frame to the unit frame, if it is known.
        Raises:
            InputError: the scan is not in the unit frame although the options require it.
        """
        from deepsdf.inference.complete.completion import complete

        return complete(self, scan, options, normalization=normalization)

    def interpolate(self, code_a: Tensor, code_b: Tensor, steps: int = 8, *, path: CodePath = "linear") -> list[Shape]:
        """Shapes from one code to another, both ends included.

        Args:
            path: "linear", the straight line; "prior", over training codes that lie between, so that no shape on the
                way is far from all training shapes (see `deepsdf.inference.paths`).
        """
        a, b = self.shape(code_a).code, self.shape(code_b).code
        return [self.shape(code) for code in code_path(a, b, steps, path=path, codes=self.trained_codes)]

    def edit(self, code: Tensor | np.ndarray | Sequence[float] | int, constraints: Sequence[Constraint]) -> Edit:
        """The shape nearest to a code's, in the prior's standard deviations, that keeps constraints.

        Args:
            constraints: `Through`, `Box` and `Size` of `deepsdf.inference.edit.constraints`, unit frame.
        Returns:
            The shape, and how well each constraint is kept. Where `doubt` is not None it is not what was asked for:
            constraints that no shape of the space keeps together end in a compromise.
        Raises:
            InputError: constraints that are no constraints, or contradict each other in any space.
            NoSurfaceError: the code has no surface.
        """
        from deepsdf.inference.edit.editing import edit

        return edit(self, self.shape(code), constraints)

    def sample(self, count: int, *, prior: str = "gaussian", seed: int = 0) -> list[Shape]:
        """Draw new shapes.

        Args:
            prior: distribution that codes are drawn from, a name in `deepsdf.network.priors.PRIORS`.
        Raises:
            InputError: unknown prior, or too few training codes.
        """
        if count < 1:
            raise InputError(f"count is {count}; at least 1 shape can be drawn")
        generator = torch.Generator().manual_seed(seed)
        codes = fit_prior(prior, self.trained_codes).sample(count, generator)
        return [self.shape(code) for code in codes]


def _specs_of(space: ShapeSpace) -> Specs:
    """Settings that describe a space without an experiment: its network; training settings are placeholders."""
    return Specs(
        description="A shape space saved by ShapeSpace.save; it was not trained from this file.",
        data_source="",
        train_split="",
        network_arch="encoded_decoder",
        network_specs=space.decoder.network_specs,
        code_length=space.code_length,
        num_epochs=max(1, space.epoch),
        snapshot_frequency=max(1, space.epoch),
        samples_per_scene=2,
        scenes_per_batch=1,
        clamping_distance=space.clamping_distance,
        learning_rate_schedule=[ConstantSchedule(value=0.0), ConstantSchedule(value=0.0)],
    )


def _shifted(on_progress: OnProgress, run: int, runs: int) -> OnProgress:
    """A callback for one of several runs of the same length that reports steps of all runs."""
    return lambda one: on_progress(Progress(run * one.total + one.done, runs * one.total, one.task))


def _points(points: np.ndarray) -> np.ndarray:
    points = np.array(points, np.float32)  # a copy: torch takes no reversed or read-only arrays
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points have shape {points.shape}; (n, 3) was expected")
    return points


def _sides(observation: Observations, number: int) -> tuple[Tensor, Tensor]:
    """Outside and inside rows of one observation."""
    if isinstance(observation, SDFSamples):
        outside, inside = torch.tensor(observation.pos), torch.tensor(observation.neg)
    else:
        rows = torch.as_tensor(observation, dtype=torch.float32)
        if rows.ndim != 2 or rows.shape[1] != 4:
            raise InputError(f"observation {number} has shape {tuple(rows.shape)}; rows x y z sdf (n, 4) were expected")
        outside, inside = rows[rows[:, 3] > 0], rows[rows[:, 3] <= 0]
    if not len(outside) + len(inside) or not torch.isfinite(outside).all() or not torch.isfinite(inside).all():
        raise InputError(f"observation {number} is empty or holds values that are not finite")
    return outside, inside
