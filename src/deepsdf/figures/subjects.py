"""What a picture shows: shapes from files and from experiments."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import KDTree

from deepsdf.errors import InputError, NoFacesError, NoSurfaceError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.formats import MESH_FORMATS
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.point_clouds import load_points
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.shape import Shape

NEIGHBOURS = 8
"""Samples that are averaged for the signed distance between them: the corners of a cell of a grid are 8 too."""


@dataclass(frozen=True)
class Subject:
    """A shape to draw.

    Attributes:
        name: caption.
        mesh: None for a point cloud, and for a learned shape without a surface.
        points: (n, 3) of a point cloud or of SDF samples; None otherwise.
        field: creates the shape's field, which may take seconds; None for a point cloud.
        unit: the shape is in the unit frame.
    """

    name: str
    mesh: trimesh.Trimesh | None = None
    points: np.ndarray | None = None
    field: Callable[[], Field] | None = None
    unit: bool = False

    def in_unit_frame(self, device: str, normalization: Normalization | None = None) -> Subject:
        """The subject in the unit frame: moved by `normalization`, by default its own, unless it is there already."""
        if self.unit or self.mesh is None:
            return self
        mesh = (normalization or Normalization.fit(self.mesh)).apply_mesh(self.mesh)
        return replace(self, mesh=mesh, field=lambda: MeshSDF(mesh, device=device), unit=True)


def file_suffixes() -> tuple[str, ...]:
    """Suffixes of the files that can be drawn: meshes (or points in a mesh file) and SDF samples."""
    return (*MESH_FORMATS, ".npz")


def is_file(name: str) -> bool:
    """Whether a name is a file that can be drawn; otherwise it names a shape of an experiment."""
    return Path(name).suffix.lower() in file_suffixes() and Path(name).is_file()


def of_file(path: Path, device: str) -> Subject:
    """A mesh, points if the file has no faces, or SDF samples.

    Raises:
        InputError: an unknown suffix, or a file that cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in file_suffixes():
        kinds = ", ".join(file_suffixes())
        raise InputError(
            f"cannot draw {path}; expected a file ({kinds}), or -e with an experiment that has a shape of this name"
        )
    if suffix == ".npz":
        return _of_samples(path)
    try:
        mesh = load_mesh(path)
    except NoFacesError as error:
        with suppress(InputError):  # no points either: report the error of the mesh reader
            return Subject(path.stem, points=load_points(path))
        raise error
    return Subject(path.stem, mesh, field=lambda: MeshSDF(mesh, device=device))


def _of_samples(path: Path) -> Subject:
    """The samples inside, which have the shape's form; if there are none, the tenth nearest to the surface."""
    samples = SDFSamples.load(path)
    if not len(samples):
        raise InputError(f"{path} has no samples to draw")
    shown = samples.neg[:, :3]
    if not len(shown):
        shown = samples.points[np.argsort(samples.distances)[: max(1, len(samples) // 10)]]

    def between() -> Field:
        tree, signed = KDTree(samples.points), samples.distances
        ranks = range(1, min(NEIGHBOURS, len(signed)) + 1)

        def field(points: np.ndarray) -> np.ndarray:
            """Mean of the nearest samples, weighted by inverse squared distance: the nearest alone gives a mosaic."""
            away, found = tree.query(points, ranks, workers=-1)  # pyright: ignore[reportArgumentType]
            weights = 1 / np.maximum(away, 1e-9) ** 2
            return (weights * signed[found]).sum(axis=1) / weights.sum(axis=1)

        return field

    return Subject(path.stem, points=shown, field=between, unit=True)


def of_shape(name: str, shape: Shape, resolution: int) -> Subject:
    """A learned shape and its mesh."""
    try:
        mesh = shape.mesh(resolution)
    except NoSurfaceError:
        mesh = None
    return Subject(name, mesh, field=lambda: shape, unit=True)
