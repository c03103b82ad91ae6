"""Preprocess meshes: write SDF samples, surface samples and the normalization of each shape of a split."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepsdf.errors import InputError, MeshError
from deepsdf.figures.contact import contact_sheet, shape_picture
from deepsdf.files import sweep
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import (
    TEST_COUNT,
    TEST_SECOND_FACTOR,
    TEST_VARIANCE,
    TRAIN_COUNT,
    TRAIN_SECOND_FACTOR,
    TRAIN_VARIANCE,
    SDFSamples,
    sample_sdf,
    sample_surface,
)
from deepsdf.geometry.variants import vary
from deepsdf.jobs.processes import BatchResult, describe, run_batch
from deepsdf.kernels.launch import cpu_threads, limited_threads
from deepsdf.kernels.runtime import warp_device
from deepsdf.library.quality import Quality, QualityFile, assess
from deepsdf.library.sources import dataset_name, find_mesh
from deepsdf.metrics.options import PAPER_POINTS
from deepsdf.pipeline.options import Sampling
from deepsdf.progress import OnProgress
from deepsdf.rendering.render import save_image
from deepsdf.splits import Failure, ShapeName, read_split, write_split
from deepsdf.workspace import DataSource

VARIANT_SHARE = 4
"""Divisor of the number of samples of a variant. There are many variants, and training draws equally often from each of
them and from the shapes themselves."""


@dataclass
class Preprocessed(BatchResult):
    """Outcome of preprocessing a split.

    Attributes:
        qualities: quality of the SDF samples of each shape, including skipped and failed shapes.
        sheets: pages of the contact sheet.
        varied: split file of the shapes and their variants; None without variants.
    """

    qualities: dict[ShapeName, Quality] = field(default_factory=dict)
    sheets: list[Path] = field(default_factory=list)
    varied: Path | None = None


def preprocess(
    data: str | os.PathLike[str],
    source: str | os.PathLike[str],
    split: str | os.PathLike[str],
    sampling: Sampling = Sampling(),
    *,
    name: str | None = None,
    skip: bool = False,
    workers: int = 0,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
) -> Preprocessed:
    """Write samples of the shapes of a split into a data source, which is created if it does not exist.

    After an interruption all written files are complete, and preprocess.csv has rows for the finished shapes; `skip`
    continues from there. Each variant counts as a separate shape, named after its shape with "~1", "~2", ...
    appended. Shapes and variants are listed in a new split file, whose name is that of `split` with "_varied"
    appended.

    Args:
        data: folder of the data source.
        source: folder of meshes.
        split: split file.
        sampling: options of the samples.
        name: name of the dataset, a key of the split file; by default the name of the source folder.
        skip: leave out shapes whose file exists.
        workers: number of processes, of one thread each if there are as many shapes. 0 works in this process with all
            cores; a mesh that crashes a library then ends this process.
        timeout: seconds per shape; needs workers.
        on_progress: called with the number of shapes, then with each finished shape.
    Raises:
        InputError: no such folder, split or device, a split without this dataset, or none of its meshes exists.
    """
    folder = Path(source)
    dataset, shapes = _shapes_of(folder, split, name)
    warp_device(sampling.device)
    target = DataSource(Path(data))
    result = Preprocessed()
    tasks = _tasks(target, folder, shapes, sampling, skip, result)
    threads = workers // max(1, min(workers, len(tasks))) or cpu_threads()
    tasks = {shape: (*arguments, threads) for shape, arguments in tasks.items()}
    if result.failures and not tasks and not result.skipped:
        raise InputError(
            f"none of the {len(shapes)} shapes of {split} has a mesh in {folder}; first: {result.failures[0].reason}"
        )
    target.register(dataset, folder)

    def run(work: Callable[..., object], on_result: Callable[[ShapeName, str | None], None] | None = None) -> None:
        try:
            run_batch(
                work, tasks, result, workers=workers, timeout=timeout, on_result=on_result, on_progress=on_progress
            )
        finally:
            sweep(target.root)

    if sampling.surface:
        run(_write_surface)
        return result
    record = QualityFile(target.quality_path)

    def note(shape: ShapeName, reason: str | None) -> None:
        found = result.returned[shape] if reason is None else Quality(str(shape), "rejected", reason)
        result.qualities[shape] = found
        record.add(found)

    for shape, reason in result.failures:
        result.qualities[shape] = Quality(str(shape), "rejected", reason)
        record.add(result.qualities[shape])
    try:
        run(_write_samples, note)
    finally:
        record.flush()
    known = record.read()
    result.qualities |= {shape: known[str(shape)] for shape in result.skipped if str(shape) in known}
    if sampling.variants:
        result.varied = _split_of_all(target, Path(split), sampling.variants)
    if sampling.pictures:
        result.sheets = contact_sheet(target, Path(split).stem, result.qualities)
    return result


def _shapes_of(folder: Path, split: str | os.PathLike[str], name: str | None) -> tuple[str, list[ShapeName]]:
    """Name of the dataset, and its shapes in the split."""
    if not folder.is_dir():
        raise InputError(f"there is no folder of meshes at {folder}")
    dataset = name or dataset_name(folder)
    named = read_split(split)
    shapes = [shape for shape in named if shape.dataset == dataset]
    if not shapes:
        known = ", ".join(sorted({shape.dataset for shape in named}))
        raise InputError(f"{split} has no dataset {dataset!r}, only {known}; choose one with --name")
    return dataset, shapes


def _tasks(
    target: DataSource, folder: Path, shapes: list[ShapeName], sampling: Sampling, skip: bool, result: BatchResult
) -> dict[ShapeName, tuple[Any, ...]]:
    """Arguments of the work on each shape. Skipped shapes and shapes without a mesh are added to the result."""
    tasks = {}
    for shape in shapes:
        try:
            mesh = find_mesh(folder, shape)
        except (InputError, OSError) as error:
            mesh = error
        for number in range(sampling.variants + 1):
            own = _variant(shape, number)
            path = target.surface_path(own) if sampling.surface else target.samples_path(own)
            if skip and path.is_file():
                result.skipped.append(own)
            elif isinstance(mesh, Path):
                tasks[own] = (target, own, mesh, sampling, number)
            elif not number:
                result.failures.append(Failure(shape, describe(mesh)))
    return tasks


def _variant(shape: ShapeName, number: int) -> ShapeName:
    """Name of a variant of a shape; number 0 is the shape itself."""
    return shape._replace(instance=f"{shape.instance}~{number}") if number else shape


def _split_of_all(data: DataSource, split: Path, variants: int) -> Path:
    """Write a split file of all shapes of a split, followed by the variants that exist."""
    path = split.with_name(f"{split.stem}_varied{split.suffix}")
    shapes = read_split(split)
    made = (_variant(shape, number) for number in range(1, variants + 1) for shape in shapes)
    write_split(path, [*shapes, *(shape for shape in made if data.samples_path(shape).is_file())])
    return path


def _seed(shape: ShapeName, seed: int) -> int:
    return zlib.crc32(str(shape).encode()) + (seed << 32)


def _field(path: Path, sampling: Sampling, shape: ShapeName, variant: int) -> tuple[Normalization, MeshSDF]:
    mesh = load_mesh(path)
    if variant:
        mesh = vary(mesh, seed=_seed(shape, sampling.seed))
    normalization = Normalization.fit(mesh)
    return normalization, MeshSDF(
        normalization.apply_mesh(mesh),
        sign=sampling.sign,
        device=sampling.device,
        keep_cavities=sampling.keep_cavities,
        thicken=sampling.thicken,
    )


def _write_surface(
    data: DataSource, shape: ShapeName, path: Path, sampling: Sampling, variant: int, threads: int
) -> None:
    with limited_threads(threads):
        normalization, surface = _field(path, sampling, shape, variant)
        points = sample_surface(surface, sampling.samples or PAPER_POINTS, seed=_seed(shape, sampling.seed))
    data.save_normalization(shape, normalization)
    data.save_surface(shape, normalization.invert(points))


def _write_samples(
    data: DataSource, shape: ShapeName, path: Path, sampling: Sampling, variant: int, threads: int
) -> Quality:
    start = time.perf_counter()
    picture = data.picture_path(shape)
    picture.unlink(missing_ok=True)  # it may show an earlier mesh
    with limited_threads(threads):
        normalization, signed = _field(path, sampling, shape, variant)
        if sampling.pictures:
            save_image(picture, shape_picture(signed))
        samples = _sdf_samples(signed, sampling, _seed(shape, sampling.seed), VARIANT_SHARE if variant else 1)
        try:
            quality = assess(shape, signed, samples)
        except MeshError as error:
            raise MeshError(f"{path}: {error}") from None
    data.save_normalization(shape, normalization)
    samples.save(data.samples_path(shape))
    return quality._replace(seconds=round(time.perf_counter() - start, 3))


def _sdf_samples(signed: MeshSDF, sampling: Sampling, seed: int, share: int) -> SDFSamples:
    count, variance, second = (
        (TEST_COUNT, TEST_VARIANCE, TEST_SECOND_FACTOR)
        if sampling.test
        else (TRAIN_COUNT, TRAIN_VARIANCE, TRAIN_SECOND_FACTOR)
    )
    count = (sampling.samples or count) // share
    return sample_sdf(signed, count, variance=variance, second_variance_factor=second, seed=seed)
