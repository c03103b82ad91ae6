"""Codes and meshes of a split's shapes, and meshes of the training codes."""

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
from deepsdf.geometry.isosurface.options import Meshing, Method, Vertices
from deepsdf.geometry.meshes import save_mesh
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.fit.fitting import Fit
from deepsdf.inference.fit.options import FitOptions, Optimizer
from deepsdf.inference.space import Shape, ShapeSpace
from deepsdf.jobs.processes import BatchResult
from deepsdf.jobs.threads import BackgroundWork
from deepsdf.progress import OnProgress, Progress, ProgressCounter
from deepsdf.splits import ShapeName, read_split
from deepsdf.workspace import DataSource, Experiment

FIT_BATCH = {"cpu": 2, "cuda": 64}
"""Shapes fitted together, while those before are meshed: on a GPU many, whose steps cost little more than one's; on a
CPU they are fitted one after the other anyway."""

MESH_THREADS = {"cpu": 1, "cuda": 4}
"""Shapes meshed at once. On a GPU the field is quick and the rest, on the processor, is most of it; more than four wait
for each other."""


class Reconstruction(NamedTuple):
    """Told after each fit of a batch: how well the code explains its samples; see `Fit`.

    Attributes:
        seconds: of the batch's fit, divided by its shapes.
        best_of: how many fits it is the best of.
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


class Table:
    """reconstruct.csv: a row for each fitted shape; rows of shapes that are not fitted again stay."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, list[str]] = {}
        if path.is_file():
            with path.open(newline="", encoding="utf-8", errors="replace") as file:
                header, *rows = [*csv.reader(file)] or [[]]
            if header == list(COLUMNS):
                self._rows = {row[0]: row for row in rows if len(row) == len(COLUMNS)}

    def put(self, fit: Reconstruction, mesh_seconds: float | None) -> None:
        """Add or replace a row; without a mesh its seconds are an empty cell."""
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
    *,
    checkpoint: str | int = "latest",
    optimizer: Optimizer = "lm",
    steps: int | None = None,
    best_of: int = 1,
    resolution: int = 256,
    vertices: Vertices = "exact",
    method: Method = "sparse",
    closed: bool = False,
    skip: bool = False,
    device: str = "auto",
    seed: int = 0,
    on_fit: Callable[[Reconstruction], None] | None = None,
    on_progress: OnProgress | None = None,
) -> BatchResult:
    """Fit a code to each shape's SDF samples and mesh it: Reconstructions/<epoch>/Codes, /Meshes, /reconstruct.csv.

    Meshes are in the unit frame, as the original's.

    Args:
        optimizer, steps, best_of: see `FitOptions`.
        resolution, vertices, method, closed: see `deepsdf.polygonize`.
        skip: leave shapes alone whose mesh is there.
        on_fit: called with each fitted code.
        on_progress: called with the number of shapes, with the steps of each batch's fit (task "fitting"), and with
            each finished shape.
    Raises:
        InputError: no such split or checkpoint, or none of the shapes has samples.
    """
    options = FitOptions(optimizer=optimizer, steps=steps, best_of=best_of, seed=seed)
    space = ShapeSpace.load(experiment, checkpoint, device)
    shapes = read_split(split)
    result = BatchResult()
    if skip:
        there = {shape for shape in shapes if experiment.reconstructed_mesh_path(space.epoch, shape).is_file()}
        result.skipped = [shape for shape in shapes if shape in there]
        shapes = [shape for shape in shapes if shape not in there]
    progress = ProgressCounter(len(shapes), on_progress)
    meshing = Meshing(resolution, vertices=vertices, method=method, closed=closed)
    mesh_of = partial(Shape.mesh, meshing=meshing)
    run = _Run(experiment, space, mesh_of, vertices == "exact", result, progress)
    batch = FIT_BATCH[space.device.type]
    fitted = 0
    threads = MESH_THREADS[space.device.type]
    with BackgroundWork(run.mesh, run.meshed, share_cores=len(shapes) > batch, threads=threads) as meshes:

        def on_step(progress: Progress) -> None:
            meshes.collect()
            if on_progress:
                on_progress(progress)

        for start in range(0, len(shapes), batch):
            named, samples = run.read(data, shapes[start : start + batch])
            if not named:
                continue
            began = time.perf_counter()
            fit = space.fit(samples, options, on_progress=on_step)
            seconds = (time.perf_counter() - began) / len(named)
            fitted += len(named)
            for k, shape in enumerate(named):
                save_code(experiment.reconstructed_code_path(space.epoch, shape), fit.codes[k])
                told = Reconstruction.of(shape, fit, k, seconds, best_of)
                if on_fit:
                    on_fit(told)
                meshes.submit(told, shape, fit.codes[k])
    if shapes and not fitted:
        raise InputError(
            f"none of the {len(shapes)} shapes of {split} has samples in {data.root}; {result.failures[0].reason}"
        )
    return result


class _Run:
    """What one run of `reconstruct` does with each shape, and tells of it."""

    def __init__(
        self,
        experiment: Experiment,
        space: ShapeSpace,
        mesh_of: Callable[[Shape], trimesh.Trimesh],
        normals: bool,
        result: BatchResult,
        progress: ProgressCounter,
    ) -> None:
        self.space, self.mesh_of, self.normals, self.result, self.progress = space, mesh_of, normals, result, progress
        self.table = Table(experiment.reconstruction_table_path(space.epoch))
        self.path = partial(experiment.reconstructed_mesh_path, space.epoch)

    def read(self, data: DataSource, shapes: Sequence[ShapeName]) -> tuple[list[ShapeName], list[SDFSamples]]:
        """The samples of those shapes that have some."""
        named, samples = [], []
        for shape in shapes:
            try:
                found = data.load_samples(shape)
                if not len(found):  # rows that are not finite were left out
                    path = data.samples_path(shape)
                    raise InputError(f"{path} is empty or holds infinite values; `deepsdf preprocess` makes it again")
                samples.append(found)
                named.append(shape)
            except InputError as error:
                self.finish(shape, error)
        return named, samples

    def mesh(self, shape: ShapeName, code: Tensor) -> float:
        """Write a code's mesh; returns how many seconds it took."""
        began = time.perf_counter()
        path = self.path(shape)
        # A mesh of an earlier code must not stand for this one if meshing fails.
        path.unlink(missing_ok=True)
        save_mesh(self.mesh_of(self.space.shape(code)), path, normals=self.normals)
        return time.perf_counter() - began

    def meshed(self, told: Reconstruction, seconds: Future[float]) -> None:
        error = seconds.exception()
        if error and not isinstance(error, DeepSDFError):
            raise error
        self.table.put(told, None if error else seconds.result())
        self.table.write()
        self.finish(told.shape, error)

    def finish(self, shape: ShapeName, error: DeepSDFError | None) -> None:
        reason = None if error is None else str(error)
        self.result.add(shape, reason)
        self.progress.advance(shape, reason)


def training_meshes(
    experiment: Experiment,
    *,
    checkpoint: str | int = "latest",
    keep_normalization: bool = False,
    resolution: int = 256,
    vertices: Vertices = "exact",
    method: Method = "sparse",
    closed: bool = False,
    skip: bool = False,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> BatchResult:
    """Mesh the training codes: TrainingMeshes/<epoch>.

    Args:
        keep_normalization: leave the meshes in the unit frame; otherwise each is taken back to its mesh frame.
        resolution, vertices, method, closed: see `deepsdf.polygonize`.
    Raises:
        InputError: no such checkpoint, or a training split that does not fit its codes.
    """
    specs = experiment.specs
    space = ShapeSpace.load(experiment, checkpoint, device)
    shapes = read_split(specs.train_split)
    if len(shapes) != len(space.codes):
        raise InputError(
            f"{specs.train_split} names {len(shapes)} shapes, but the checkpoint holds {len(space.codes)} codes; "
            "it is not the split that was trained on"
        )
    data = None if keep_normalization else DataSource.open(specs.data_source)
    result = BatchResult()
    paths = [experiment.training_mesh_path(space.epoch, shape) for shape in shapes]
    todo = [index for index, path in enumerate(paths) if not (skip and path.is_file())]
    result.skipped = [shape for index, shape in enumerate(shapes) if index not in set(todo)]
    progress = ProgressCounter(len(todo), on_progress)
    exact = vertices == "exact"
    meshing = Meshing(resolution, vertices=vertices, method=method, closed=closed)
    mesh_of = partial(Shape.mesh, meshing=meshing)
    for index in todo:
        reason = None
        try:
            mesh = mesh_of(_trained(space.shape(space.codes[index])))
            save_mesh(
                data.load_normalization(shapes[index]).invert_mesh(mesh) if data else mesh, paths[index], normals=exact
            )
        except DeepSDFError as error:
            reason = str(error)
        result.add(shapes[index], reason)
        progress.advance(shapes[index], reason)
    return result


def _trained(shape: Shape) -> Shape:
    if not shape.code.any():
        raise InputError("its code was never trained: its samples were missing")
    return shape
