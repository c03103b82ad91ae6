"""Meshes to a data source: SDF samples, surface samples and normalization of every shape of a split."""

from __future__ import annotations

import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from deepsdf.errors import InputError, MeshError
from deepsdf.geometry.distance import MeshSDF
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.metrics import POINTS
from deepsdf.geometry.sampling import (
    TEST_COUNT,
    TEST_SECOND_FACTOR,
    TEST_VARIANCE,
    TRAIN_COUNT,
    TRAIN_SECOND_FACTOR,
    TRAIN_VARIANCE,
    sample_sdf,
    sample_surface,
)
from deepsdf.geometry.signs import SIGNS
from deepsdf.geometry.warp_runtime import resolve_device
from deepsdf.pipeline.batch import BatchResult, OnShape, OnStart, describe, run_batch
from deepsdf.pipeline.quality import Quality, assess, write_qualities
from deepsdf.pipeline.sources import dataset_name, find_mesh
from deepsdf.splits import Failure, ShapeName, read_split
from deepsdf.workspace import DataSource


def preprocess(
    data: str | os.PathLike[str],
    source: str | os.PathLike[str],
    split: str | os.PathLike[str],
    *,
    name: str | None = None,
    surface: bool = False,
    test: bool = False,
    samples: int | None = None,
    skip: bool = False,
    workers: int = 1,
    device: str = "auto",
    sign: str = "auto",
    seed: int = 0,
    on_start: OnStart | None = None,
    on_shape: OnShape | None = None,
) -> BatchResult:
    """Write the samples of a split's shapes into a data source, made where it is not there.

    Args:
        data: the data source's folder.
        source: the folder of meshes.
        split: the split file.
        name: the dataset's name, a key of the split file; by default the source folder's name.
        surface: write surface samples, not SDF samples. The normalization is written with either.
        test: SDF samples for testing: fewer, and spread wider.
        samples: how many a shape; by default 500 000 SDF samples, 250 000 for testing, 30 000 on the surface.
        skip: leave shapes alone whose file is there.
        workers: processes.
        sign: how inside is told from outside; see `MeshSDF`.
        seed: with the shape's name it decides its samples, whatever the order of work.
        on_start: told the number of shapes to work on.
        on_shape: told each finished shape.
    Raises:
        InputError: no such folder or split, a split without this dataset, none of its meshes there, or an unknown
            sign or device.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(f"there is no folder of meshes at {folder}")
    dataset = name or dataset_name(folder)
    named = read_split(split)
    shapes = [shape for shape in named if shape.dataset == dataset]
    if not shapes:
        known = ", ".join(sorted({shape.dataset for shape in named}))
        raise InputError(f"{split} has no dataset {dataset!r}, only {known}; choose it with --name")
    result = BatchResult()
    if sign not in SIGNS:
        raise InputError(f"sign {sign!r} is not known; choose one of {', '.join(SIGNS)}")
    resolve_device(device)
    wanted = _Wanted(surface, test, samples, sign, device)
    target = DataSource(Path(data))
    tasks = {}
    for shape in shapes:
        path = target.surface_path(shape) if surface else target.samples_path(shape)
        if skip and path.is_file():
            result.skipped.append(shape)
            continue
        try:
            mesh = find_mesh(folder, shape)
        except (InputError, OSError) as error:
            result.failures.append(Failure(shape, describe(error)))
            continue
        tasks[shape] = (target, shape, mesh, wanted, _seed(shape, seed))
    if len(result.failures) == len(shapes):
        raise InputError(
            f"none of the {len(shapes)} shapes of {split} is in {folder}; first: {result.failures[0].reason}"
        )
    target.register(dataset, folder)
    if on_start:
        on_start(len(tasks))
    run_batch(_preprocess_shape, tasks, result, workers=workers, on_shape=on_shape)
    if not surface:
        rejected = [Quality(str(shape), "rejected", reason) for shape, reason in result.failures]
        write_qualities(target.quality_path, [*result.returned.values(), *rejected])
    return result


def _seed(shape: ShapeName, seed: int) -> int:
    return zlib.crc32(str(shape).encode()) + (seed << 32)


@dataclass(frozen=True)
class _Wanted:
    """What to make of each mesh."""

    surface: bool
    test: bool
    samples: int | None
    sign: str
    device: str


def _preprocess_shape(data: DataSource, shape: ShapeName, path: Path, wanted: _Wanted, seed: int) -> Quality | None:
    start = time.perf_counter()
    mesh = load_mesh(path)
    normalization = Normalization.fit(mesh)
    field = MeshSDF(normalization.apply_mesh(mesh), sign=wanted.sign, device=wanted.device)
    if wanted.surface:
        points = sample_surface(field, wanted.samples or POINTS, seed=seed)
        data.save_normalization(shape, normalization)
        data.save_surface(shape, normalization.invert(points))
        return None
    count, variance, second = (
        (TEST_COUNT, TEST_VARIANCE, TEST_SECOND_FACTOR)
        if wanted.test
        else (TRAIN_COUNT, TRAIN_VARIANCE, TRAIN_SECOND_FACTOR)
    )
    samples = sample_sdf(field, wanted.samples or count, variance=variance, second_variance_factor=second, seed=seed)
    if not len(samples.neg) or not len(samples.pos):
        side = "inside" if not len(samples.neg) else "outside"
        raise MeshError(f"{path}: no sample lies {side}; the mesh is open or broken, and has no inside to learn")
    data.save_normalization(shape, normalization)
    samples.save(data.samples_path(shape))
    return assess(shape, field.oriented, samples, time.perf_counter() - start)
