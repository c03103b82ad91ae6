"""From any observation of a shape (mesh, file, scan, SDF samples) to its latent code."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import torch
import trimesh
from torch import Tensor

from deepsdf.checkpoints import load_code
from deepsdf.errors import InputError, NoFacesError
from deepsdf.geometry.formats import MESH_FORMATS
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.scanning.files import load_scan, scan_suffixes
from deepsdf.geometry.scanning.scan import Scan
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples, sample_sdf
from deepsdf.inference.complete.options import Axis, CompletionOptions, Pose
from deepsdf.inference.fit.options import FitOptions
from deepsdf.options import Options, option
from deepsdf.progress import OnProgress, Progress

if TYPE_CHECKING:
    from deepsdf.inference.complete.completion import Completion
    from deepsdf.inference.fit.result import Fit

Treat = Literal["auto", "whole", "partial"]
Kind = Literal["code", "samples", "mesh", "scan"]
Observation = trimesh.Trimesh | Scan | SDFSamples | str | os.PathLike[str]


@dataclass(frozen=True)
class EncodeOptions(Options):
    """Options of `encode`."""

    treat: Treat = option(
        "auto",
        "'whole': a mesh of a whole shape, which is sampled and fitted. 'partial': a scan of a part of the surface, "
        "which is completed. 'auto': meshes with faces are whole, points are partial.",
        choices=("auto", "whole", "partial"),
    )
    pose: Pose = option(
        "similarity",
        "Quantities to estimate for a scan besides the code, see `CompletionOptions`: 'none' for the unit frame.",
        choices=get_args(Pose),
    )
    up: Axis = option("y", "Up axis of a scan.", choices=("x", "y", "z"))
    samples: int = option(100_000, "Number of SDF samples drawn from a mesh.", minimum=2)
    seed: int = option(0, "Random seed. The same seed gives the same code on the CPU.", minimum=0)


@dataclass(frozen=True, eq=False)
class Encoding:
    """A latent code, and what it was computed from.

    Attributes:
        code: (L,), on the space's device.
        kind: what was encoded.
        warnings: why the code may not describe the shape; empty if there is no doubt.
        to_unit: (4, 4) float64, similarity from the input's frame to the unit frame; None for codes.
        mesh: the input mesh in the unit frame.
        samples: SDF samples that were fitted, unit frame.
        scan: the scan that was completed, in its own frame.
        fit: result of the fit (meshes and samples).
        completion: result of the completion (scans).
    """

    code: Tensor
    kind: Kind
    warnings: tuple[str, ...] = ()
    to_unit: np.ndarray | None = None
    mesh: trimesh.Trimesh | None = None
    samples: SDFSamples | None = None
    scan: Scan | None = None
    fit: Fit | None = None
    completion: Completion | None = None


def encodable_suffixes(*, complete: bool = False) -> tuple[str, ...]:
    """Suffixes of files that `encode` reads: meshes, scans, SDF samples (.npz) and codes (.pth).

    Args:
        complete: only formats that do not need a second file.
    """
    return (*scan_suffixes(complete=complete), ".npz", ".pth")


class CodeEstimator(Protocol):
    """The part of `ShapeSpace` that encoding needs."""

    device: torch.device

    @property
    def code_length(self) -> int: ...

    def fit(self, observations: Any, options: FitOptions = ..., *, on_progress: OnProgress | None = None) -> Fit: ...

    def complete(self, scan: Scan, options: CompletionOptions = ...) -> Completion: ...


def encode(
    space: CodeEstimator,
    observation: Observation,
    options: EncodeOptions = EncodeOptions(),
    *,
    on_progress: OnProgress | None = None,
) -> Encoding:
    """Compute the latent code of a shape from one observation of it.

    Meshes are normalised by their bounding box, repaired, sampled and fitted. SDF samples are fitted. Scans are
    completed. Code files (.pth) are read. Files are recognised by their suffix (`encodable_suffixes`); a mesh file
    without faces is a point cloud.

    Args:
        observation: a mesh (any frame), SDF samples (unit frame), a scan (any frame; the unit frame if `options.pose`
            is "none"), or the path of a file with one of them or a code.
        on_progress: receives the tasks "reading", "sampling", "fitting" and "completing". An exception that it raises
            cancels the work; a completion cannot be cancelled once it has started.
    Raises:
        InputError: a file that is missing, unreadable or of an unknown kind; or an observation that cannot be treated
            as `options.treat` says.
    """
    work = _Encoder(space, options, on_progress)
    if isinstance(observation, trimesh.Trimesh):
        return work.mesh(observation)
    if isinstance(observation, Scan):
        return work.scan(observation)
    if isinstance(observation, SDFSamples):
        return work.samples(observation)
    return work.file(Path(observation))


def read_code(path: str | os.PathLike[str], length: int) -> Tensor:
    """The code (L,) of a code file (.pth).

    Raises:
        InputError: no such file, no code, another length, or values that are not finite.
    """
    code = load_code(path, length)
    if not bool(code.isfinite().all()):
        raise InputError(f"{path} holds a code with numbers that are NaN or infinite")
    return code


@dataclass(frozen=True)
class _Encoder:
    space: CodeEstimator
    options: EncodeOptions
    on_progress: OnProgress | None

    def report(self, task: str, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(Progress(done, total, task))

    def file(self, path: Path) -> Encoding:
        suffix, treat = path.suffix.lower(), self.options.treat
        if suffix not in encodable_suffixes():
            raise InputError(
                f"{path}: cannot read {suffix or 'files without a suffix'}; use {', '.join(encodable_suffixes())}"
            )
        if not path.is_file():
            raise InputError(f"there is no file {path}")
        self.report("reading", 0, 1)
        if suffix == ".pth":
            return Encoding(read_code(path, self.space.code_length).to(self.space.device), "code")
        if suffix == ".npz":
            return self.samples(SDFSamples.load(path))
        if suffix in MESH_FORMATS and treat != "partial":
            try:
                mesh = load_mesh(path)
            except NoFacesError:
                if treat == "whole":
                    raise
            else:
                return self.mesh(mesh)
        return self.scan(load_scan(path, seed=self.options.seed), str(path))

    def mesh(self, mesh: trimesh.Trimesh) -> Encoding:
        if self.options.treat == "partial":
            raise InputError("the mesh is to be treated as a partial scan; pass a Scan of it (Scan.from_points)")
        normalization = Normalization.fit(mesh)
        unit = normalization.apply_mesh(mesh)
        self.report("sampling", 0, 1)
        field = MeshSDF(unit, device=str(self.space.device))
        samples = sample_sdf(field, self.options.samples, seed=self.options.seed)
        to_unit = np.eye(4)  # x -> scale (x + offset)
        to_unit[:3, :3] *= normalization.scale
        to_unit[:3, 3] = normalization.scale * normalization.offset
        fit = self._fit(samples)
        return Encoding(fit.codes[0], "mesh", fit.warnings[0], to_unit, mesh=unit, samples=samples, fit=fit)

    def samples(self, samples: SDFSamples) -> Encoding:
        fit = self._fit(samples)
        return Encoding(fit.codes[0], "samples", fit.warnings[0], np.eye(4), samples=samples, fit=fit)

    def _fit(self, samples: SDFSamples) -> Fit:
        self.report("fitting", 0, 1)
        fit = self.space.fit(
            samples,
            FitOptions(seed=self.options.seed),
            on_progress=lambda event: self.report("fitting", event.done, event.total),
        )
        self.report("fitting", 1, 1)  # most fits converge before their last step
        return fit

    def scan(self, scan: Scan, source: str = "the scan") -> Encoding:
        from deepsdf.inference.complete.completion import misfit

        if self.options.treat == "whole":
            raise InputError(f"{source} holds surface points, from which inside and outside cannot be sampled; "
                             "treat it as partial")  # fmt: skip
        self.report("completing", 0, 1)
        found = self.space.complete(
            scan, CompletionOptions(pose=self.options.pose, up=self.options.up, seed=self.options.seed)
        )
        self.report("completing", 1, 1)
        doubt = misfit(found)
        return Encoding(found.code, "scan", (doubt,) if doubt else (), found.to_unit, scan=scan, completion=found)
