"""A trained shape space: decoder, training codes, and the operations on shapes of the space."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deepsdf.checkpoints import codes_content, load_codes, load_decoder, model_content, write_pth
from deepsdf.errors import InputError
from deepsdf.inference.complete.options import CompletionOptions
from deepsdf.inference.edit.constraints import Constraint
from deepsdf.inference.edit.editing import Edit, edit
from deepsdf.inference.encode import EncodeOptions, Observation, encode
from deepsdf.inference.fit.fitting import Observations, fit_codes
from deepsdf.inference.fit.options import FitOptions
from deepsdf.inference.fit.result import Fit
from deepsdf.inference.paths import Path as CodePath
from deepsdf.inference.paths import code_path
from deepsdf.inference.shape import CHUNK, Shape, TrainedCodes
from deepsdf.network.decoder import Decoder
from deepsdf.network.objective import LOSSES, Loss
from deepsdf.network.priors import fit_prior
from deepsdf.progress import OnProgress
from deepsdf.specs import ConstantSchedule, Specs
from deepsdf.workspace import Experiment

if TYPE_CHECKING:
    from deepsdf.geometry.meshes import Normalization
    from deepsdf.geometry.scanning.scan import Scan
    from deepsdf.inference.complete.completion import Completion

logger = logging.getLogger(__name__)


class ShapeSpace(TrainedCodes):
    """A trained shape space: the attributes of `TrainedCodes`, and the operations on its shapes.

    Attributes:
        epoch: epoch of the checkpoint.
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
        super().__init__(decoder, codes, clamping_distance=clamping_distance, device=device)
        self.epoch = epoch
        self.specs = specs

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
    def loss(self) -> Loss:
        """The loss of the training, which fits use as well; the clamped L1 loss if `specs` is None."""
        return LOSSES["clamped_l1" if self.specs is None else self.specs.loss]

    @property
    def code_length(self) -> int:
        """Length L of the codes."""
        return self.decoder.code_length

    def shape(self, code: Tensor | np.ndarray | Sequence[float] | int) -> Shape:
        """The shape of a code (L,), or of the training code with a number."""
        if isinstance(code, int | np.integer):
            if not -len(self.codes) <= code < len(self.codes):
                raise InputError(f"there is no training code {code}; there are {len(self.codes)}")
            return Shape(self.decoder, self.codes[code])
        vector = torch.as_tensor(code, dtype=torch.float32, device=self.device).detach().reshape(-1)
        if len(vector) != self.code_length:
            raise InputError(f"the code has length {len(vector)}; expected {self.code_length}")
        return Shape(self.decoder, vector)

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
        return fit_codes(self, self.loss, observations, options, on_progress)

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
        # Imported on use, because it imports SciPy's spatial search.
        from deepsdf.inference.complete.completion import complete

        return complete(self, scan, options, normalization=normalization)

    def interpolate(self, code_a: Tensor, code_b: Tensor, steps: int = 8, *, path: CodePath = "linear") -> list[Shape]:
        """Shapes from one code to another, both ends included.

        Args:
            steps: number of shapes.
            path: "linear", the straight line; "prior", through training codes in between, so that no shape of the path
                is far from all training shapes (see `deepsdf.inference.paths`).
        """
        a, b = self.shape(code_a).code, self.shape(code_b).code
        return [self.shape(code) for code in code_path(a, b, steps, path=path, codes=self.trained_codes)]

    def edit(self, code: Tensor | np.ndarray | Sequence[float] | int, constraints: Sequence[Constraint]) -> Edit:
        """The shape that meets constraints, nearest to a given one in the prior's standard deviations.

        Args:
            code: the given shape: a code (L,), or the number of a training code.
            constraints: `Through`, `Region` and `Size` of `deepsdf.inference.edit.constraints`, unit frame.
        Returns:
            The shape, and how well each constraint is met. If no shape of the space meets all constraints, it is a
            compromise, and `doubt` says why.
        Raises:
            InputError: invalid constraints, or constraints that contradict each other in every space.
            NoSurfaceError: the given shape has no surface.
        """
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
        network_arch=space.decoder.network_arch,
        network_specs=space.decoder.network_specs,
        code_length=space.code_length,
        num_epochs=max(1, space.epoch),
        snapshot_frequency=max(1, space.epoch),
        samples_per_scene=2,
        scenes_per_batch=1,
        clamping_distance=space.clamping_distance,
        learning_rate_schedule=[ConstantSchedule(value=0.0), ConstantSchedule(value=0.0)],
    )
