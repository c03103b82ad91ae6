"""Codes and meshes of a split's shapes, and meshes of the training codes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trimesh

from deepsdf.checkpoints import save_code
from deepsdf.errors import DeepSDFError, InputError
from deepsdf.files import atomic_path
from deepsdf.geometry.polygonize import Method, Vertices
from deepsdf.geometry.sampling import SDFSamples
from deepsdf.inference.fitting import OnStep, Optimizer
from deepsdf.inference.shapespace import Shape, ShapeSpace
from deepsdf.pipeline.batch import BatchResult, OnShape, OnStart
from deepsdf.splits import Failure, ShapeName, read_split
from deepsdf.workspace import DataSource, Experiment

FIT_BATCH = 16
"""Shapes fitted together: enough to fill the machine, few enough to keep their samples in memory."""


class Reconstruction(NamedTuple):
    """Told after each fit of a batch: how well the codes explain their samples."""

    shape: ShapeName
    loss: float
    steps: int


def reconstruct(
    experiment: Experiment,
    data: DataSource,
    split: str | os.PathLike[str],
    *,
    checkpoint: str | int = "latest",
    optimizer: Optimizer = "lm",
    steps: int | None = None,
    resolution: int = 256,
    vertices: Vertices = "exact",
    method: Method = "sparse",
    closed: bool = False,
    skip: bool = False,
    device: str = "auto",
    seed: int = 0,
    on_start: OnStart | None = None,
    on_step: OnStep | None = None,
    on_fit: Callable[[Reconstruction], None] | None = None,
    on_shape: OnShape | None = None,
) -> BatchResult:
    """Fit a code to each shape's SDF samples and mesh it: Reconstructions/<epoch>/Codes and /Meshes.

    Meshes are in the unit frame, as the original's.

    Args:
        optimizer, steps: see `ShapeSpace.fit`.
        resolution, vertices, method, closed: see `deepsdf.polygonize`.
        skip: leave shapes alone whose mesh is there.
        on_start: told the number of shapes to work on.
        on_step: told the fit's steps, batch by batch.
        on_fit: told each fitted code.
        on_shape: told each finished shape, and the reason where it failed.
    Raises:
        InputError: no such split or checkpoint, or none of the shapes has samples.
    """
    space = ShapeSpace.load(experiment, checkpoint, device)
    shapes = read_split(split)
    result = BatchResult()
    if skip:
        there = {shape for shape in shapes if experiment.reconstructed_mesh_path(space.epoch, shape).is_file()}
        result.skipped = [shape for shape in shapes if shape in there]
        shapes = [shape for shape in shapes if shape not in there]
    if on_start:
        on_start(len(shapes))

    def finish(shape: ShapeName, error: DeepSDFError | None) -> None:
        if error is None:
            result.done.append(shape)
        else:
            result.failures.append(Failure(shape, str(error)))
        if on_shape:
            on_shape(shape, None if error is None else str(error))

    exact = vertices == "exact"
    mesh_of = partial(Shape.mesh, resolution=resolution, vertices=vertices, method=method, closed=closed)
    fitted = 0
    for start in range(0, len(shapes), FIT_BATCH):
        named, samples = _read(data, shapes[start : start + FIT_BATCH], finish)
        if not named:
            continue
        fit = space.fit(samples, optimizer=optimizer, steps=steps, seed=seed, on_step=on_step)
        fitted += len(named)
        for shape, code, loss, taken in zip(named, fit.codes, fit.losses.tolist(), fit.steps.tolist(), strict=True):
            save_code(experiment.reconstructed_code_path(space.epoch, shape), code)
            if on_fit:
                on_fit(Reconstruction(shape, loss, taken))
            try:
                # A mesh of an earlier code must not stand for this one if meshing fails.
                experiment.reconstructed_mesh_path(space.epoch, shape).unlink(missing_ok=True)
                save_mesh(
                    mesh_of(space.shape(code)), experiment.reconstructed_mesh_path(space.epoch, shape), normals=exact
                )
            except DeepSDFError as error:
                finish(shape, error)
            else:
                finish(shape, None)
    if shapes and not fitted:
        raise InputError(
            f"none of the {len(shapes)} shapes of {split} has samples in {data.root}; {result.failures[0].reason}"
        )
    return result


def _read(
    data: DataSource, shapes: Sequence[ShapeName], finish: Callable[[ShapeName, DeepSDFError | None], None]
) -> tuple[list[ShapeName], list[SDFSamples]]:
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
            finish(shape, error)
    return named, samples


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
    on_start: OnStart | None = None,
    on_shape: OnShape | None = None,
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
    if on_start:
        on_start(len(todo))
    exact = vertices == "exact"
    mesh_of = partial(Shape.mesh, resolution=resolution, vertices=vertices, method=method, closed=closed)
    for index in todo:
        reason = None
        try:
            mesh = mesh_of(_trained(space.shape(space.codes[index])))
            save_mesh(
                data.load_normalization(shapes[index]).invert_mesh(mesh) if data else mesh, paths[index], normals=exact
            )
            result.done.append(shapes[index])
        except DeepSDFError as error:
            reason = str(error)
            result.failures.append(Failure(shapes[index], reason))
        if on_shape:
            on_shape(shapes[index], reason)
    return result


def _trained(shape: Shape) -> Shape:
    if not shape.code.any():
        raise InputError("its code was never trained: its samples were missing")
    return shape


_NORMALS = {".ply": "vertex_normal", ".obj": "include_normals", ".glb": "include_normals"}
"""The formats that hold normals, and their writers' option."""


def save_mesh(mesh: trimesh.Trimesh, path: str | os.PathLike[str], *, normals: bool = False) -> None:
    """Write a mesh whole, in the format of the path's suffix; with its vertices' normals, where the format has them.

    Raises:
        InputError: a suffix that no writer knows.
    """
    try:
        with atomic_path(path) as temporary:
            option = _NORMALS.get(Path(path).suffix.lower()) if normals else None
            mesh.export(temporary, None, **({option: True} if option else {}))
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: meshes are written as .ply, .obj, .stl, .off or .glb ({error})") from None
