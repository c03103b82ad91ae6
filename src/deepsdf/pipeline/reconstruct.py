"""Fit codes to the shapes of a split and mesh them; mesh the training codes."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trimesh
from torch import Tensor

from deepsdf.checkpoints import save_code
from deepsdf.errors import DeepSDFError, InputError
from deepsdf.files import csv_text, write_text
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.geometry.meshes import save_mesh
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.fit.options import FitOptions
from deepsdf.inference.fit.result import Fit
from deepsdf.inference.shape import Shape
from deepsdf.inference.space import ShapeSpace
from deepsdf.jobs.processes import BatchResult
from deepsdf.jobs.threads import BackgroundWork
from deepsdf.progress import OnProgress, Progress, ProgressCounter
from deepsdf.splits import ShapeName, read_split
from deepsdf.workspace import DataSource, Experiment

FIT_BATCH = {"cpu": 2, "cuda": 64}
"""Shapes that are fitted together while the shapes before them are meshed. On a GPU a step of 64 shapes takes little
longer than a step of one; on a CPU a larger batch would only delay the first mesh."""

MESH_THREADS = {"cpu": 1, "cuda": 4}
"""Shapes that are meshed at once. With a GPU most of the time goes to the part on the CPU, which runs in parallel; more
than four threads wait for each other."""


class Reconstruction(NamedTuple):
    """Result of one fit, which `on_fit` receives. Fields not listed are those of `Fit`.

    Attributes:
        seconds: time of the batch's fit divided by its number of shapes.
        best_of: number of fits of which this is the best.
    """

    shape: ShapeName
    loss: float
    steps: int
    reason: str
    uncertainty: float
    warnings: tuple[str, ...]
    seconds: float
    best_of: int = 1

    @classmethod
    def of(cls, shape: ShapeName, fit: Fit, row: int, seconds: float, best_of: int) -> Reconstruction:
        return cls(
            shape, float(fit.losses[row]), int(fit.steps[row]), fit.reasons[row], float(fit.uncertainty[row]),
            fit.warnings[row], seconds, best_of,
        )  # fmt: skip


COLUMNS = ("shape", "loss", "steps", "reason", "uncertainty", "warnings", "fit_seconds", "mesh_seconds", "best_of")


class ReconstructionTable:
    """reconstruct.csv: one row per fitted shape. Rows of shapes that are not fitted again are kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, list[str]] = {}
        if path.is_file():
            with path.open(newline="", encoding="utf-8", errors="replace") as file:
                header, *rows = [*csv.reader(file)] or [[]]
            if header == list(COLUMNS):
                self._rows = {row[0]: row for row in rows if len(row) == len(COLUMNS)}

    def put(self, fit: Reconstruction, mesh_seconds: float | None) -> None:
        """Add or replace a row. Without a mesh, the cell of its seconds is empty."""
        meshed = "" if mesh_seconds is None else f"{mesh_seconds:.3f}"
        self._rows[str(fit.shape)] = [
            str(fit.shape), f"{fit.loss:.6g}", str(fit.steps), fit.reason, f"{fit.uncertainty:.4g}",
            "; ".join(fit.warnings), f"{fit.seconds:.3f}", meshed, str(fit.best_of),
        ]  # fmt: skip

    def write(self) -> None:
        write_text(self._path, csv_text([COLUMNS, *self._rows.values()]))


def reconstruct(
    experiment: Experiment,
    data: DataSource,
    split: str | os.PathLike[str],
    fit: FitOptions = FitOptions(),
    meshing: Meshing = Meshing(),
    *,
    checkpoint: str | int = "latest",
    skip: bool = False,
    device: str = "auto",
    on_fit: Callable[[Reconstruction], None] | None = None,
    on_progress: OnProgress | None = None,
) -> BatchResult:
    """Fit a code to the SDF samples of each shape and mesh it.

    Writes Codes/, Meshes/ (unit frame, like the original) and reconstruct.csv in Reconstructions/<epoch>.

    Args:
        fit: options of the fits.
        meshing: options of the meshes.
        skip: leave out shapes whose mesh exists.
        on_fit: called with each fitted code.
        on_progress: called with the number of shapes, with the steps of each batch's fit (task "fitting"), and with
            each finished shape.
    Raises:
        InputError: no such split or checkpoint, or none of the shapes has samples.
    """
    space = ShapeSpace.load(experiment, checkpoint, device)
    shapes = read_split(split)
    result = BatchResult()
    if skip:
        existing = {shape for shape in shapes if experiment.reconstructed_mesh_path(space.epoch, shape).is_file()}
        result.skipped = [shape for shape in shapes if shape in existing]
        shapes = [shape for shape in shapes if shape not in existing]
    progress = ProgressCounter(len(shapes), on_progress)
    run = _Run(experiment, space, meshing, result, progress)
    batch = FIT_BATCH[space.device.type]
    fitted = 0
    threads = MESH_THREADS[space.device.type]
    with BackgroundWork(run.mesh, run.meshed, share_cores=len(shapes) > batch, threads=threads) as meshes:

        def on_step(event: Progress) -> None:
            meshes.collect()
            if on_progress:
                on_progress(event)

        for start in range(0, len(shapes), batch):
            named, samples = run.read(data, shapes[start : start + batch])
            if not named:
                continue
            began = time.perf_counter()
            found = space.fit(samples, fit, on_progress=on_step)
            seconds = (time.perf_counter() - began) / len(named)
            fitted += len(named)
            for k, shape in enumerate(named):
                save_code(experiment.reconstructed_code_path(space.epoch, shape), found.codes[k])
                reconstruction = Reconstruction.of(shape, found, k, seconds, fit.best_of)
                if on_fit:
                    on_fit(reconstruction)
                meshes.submit(reconstruction, shape, found.codes[k])
    if shapes and not fitted:
        raise InputError(
            f"none of the {len(shapes)} shapes of {split} has samples in {data.root}; "
            f"first: {result.failures[0].reason}"
        )
    return result


class _Run:
    """State of one run of `reconstruct`: reads samples, writes meshes and records results."""

    def __init__(
        self,
        experiment: Experiment,
        space: ShapeSpace,
        meshing: Meshing,
        result: BatchResult,
        progress: ProgressCounter,
    ) -> None:
        self.space, self.meshing, self.result, self.progress = space, meshing, result, progress
        self.table = ReconstructionTable(experiment.reconstruction_table_path(space.epoch))
        self.path = partial(experiment.reconstructed_mesh_path, space.epoch)

    def read(self, data: DataSource, shapes: Sequence[ShapeName]) -> tuple[list[ShapeName], list[SDFSamples]]:
        """Shapes that have samples, and their samples. The others fail."""
        named, samples = [], []
        for shape in shapes:
            try:
                found = data.load_samples(shape)
                if not len(found):  # rows with infinite values have been removed
                    path = data.samples_path(shape)
                    raise InputError(f"{path} contains no finite samples; run `deepsdf preprocess` to write it again")
                samples.append(found)
                named.append(shape)
            except InputError as error:
                self.finish(shape, error)
        return named, samples

    def mesh(self, shape: ShapeName, code: Tensor) -> float:
        """Write the mesh of a code; returns the time in seconds."""
        began = time.perf_counter()
        path = self.path(shape)
        # If meshing fails, the mesh of an earlier code must not be taken for this one.
        path.unlink(missing_ok=True)
        _save(self.space.shape(code).mesh(self.meshing), path, self.meshing)
        return time.perf_counter() - began

    def meshed(self, fit: Reconstruction, seconds: Future[float]) -> None:
        error = seconds.exception()
        if error and not isinstance(error, DeepSDFError):
            raise error
        self.table.put(fit, None if error else seconds.result())
        self.table.write()
        self.finish(fit.shape, error)

    def finish(self, shape: ShapeName, error: DeepSDFError | None) -> None:
        reason = None if error is None else str(error)
        self.result.add(shape, reason)
        self.progress.advance(shape, reason)


def training_meshes(
    experiment: Experiment,
    meshing: Meshing = Meshing(),
    *,
    checkpoint: str | int = "latest",
    keep_normalization: bool = False,
    skip: bool = False,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> BatchResult:
    """Mesh the training codes. Writes TrainingMeshes/<epoch>.

    Args:
        keep_normalization: write meshes in the unit frame instead of the mesh frame of each shape.
        skip: leave out shapes whose mesh exists.
        on_progress: called with the number of shapes, then with each finished shape.
    Raises:
        InputError: no such checkpoint, or the training split does not have one shape per code.
    """
    specs = experiment.specs
    space = ShapeSpace.load(experiment, checkpoint, device)
    shapes = read_split(specs.train_split)
    if len(shapes) != len(space.codes):
        raise InputError(
            f"{specs.train_split} names {len(shapes)} shapes, but the checkpoint holds {len(space.codes)} codes; "
            "it is not the training split of this experiment"
        )
    data = None if keep_normalization else DataSource.open(specs.data_source)
    result = BatchResult()
    paths = [experiment.training_mesh_path(space.epoch, shape) for shape in shapes]
    todo = [index for index, path in enumerate(paths) if not (skip and path.is_file())]
    result.skipped = [shape for index, shape in enumerate(shapes) if index not in set(todo)]
    progress = ProgressCounter(len(todo), on_progress)
    for index in todo:
        reason = None
        try:
            mesh = _trained(space.shape(space.codes[index])).mesh(meshing)
            frame = data.load_normalization(shapes[index]) if data else None
            _save(frame.invert_mesh(mesh) if frame else mesh, paths[index], meshing)
        except DeepSDFError as error:
            reason = str(error)
        result.add(shapes[index], reason)
        progress.advance(shapes[index], reason)
    return result


def _trained(shape: Shape) -> Shape:
    if not shape.code.any():
        raise InputError("the code was not trained: the shape had no samples")
    return shape


def _save(mesh: trimesh.Trimesh, path: Path, meshing: Meshing) -> None:
    save_mesh(mesh, path, normals=meshing.vertices == "exact")
