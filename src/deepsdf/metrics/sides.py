"""One side of a comparison: a mesh, a repaired mesh or points, with what can be measured from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import trimesh
from scipy.spatial import KDTree

from deepsdf.errors import InputError, MeshError
from deepsdf.geometry.repair.orientation import OrientedMesh
from deepsdf.geometry.repair.patches import boundary_of, orient_patches, signed_volumes
from deepsdf.geometry.repair.visibility import face_normals
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import sample_surface

TO_THE_SURFACE, BETWEEN_SAMPLES = "to the surface", "between samples"

Surface: TypeAlias = "trimesh.Trimesh | MeshSDF | np.ndarray"
"""A mesh (its faces as stored), a `MeshSDF` (the outer surface of the repaired mesh), or surface points (n, 3)."""


@dataclass(frozen=True)
class Distances:
    """Distances from the points of one side to the other side.

    Attributes:
        each: (n,) distance of each point.
        farthest: largest distance; the vertices of a mesh count as well.
        cosine: mean absolute cosine between the normals of each point and of its nearest face; None without faces.
    """

    each: np.ndarray
    farthest: float
    cosine: float | None

    def quantile(self, share: float) -> float:
        """Smallest distance that at least `share` of the points do not exceed."""
        return float(np.quantile(self.each, share, method="inverted_cdf"))

    def within(self, threshold: float) -> float:
        """Share of the points at most `threshold` away."""
        return float(np.mean(self.each <= threshold))


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two surfaces of a comparison.

    Attributes:
        points: (n, 3) points of the surface.
        surface: the mesh; None where only points are known.
        repaired: the mesh was given as a `MeshSDF`, so that its inside is known.
    """

    points: np.ndarray
    surface: MeshSDF | None = None
    repaired: bool = False

    @classmethod
    def of(cls, given: Surface, name: str, count: int, rng: np.random.Generator, device: str) -> Side:
        """`count` points drawn uniformly by area from a mesh; points are used unchanged.

        Args:
            name: of the side, for error messages.
            device: of the distance queries to a mesh; a `MeshSDF` has its own.
        Raises:
            InputError: neither a mesh nor finite points (n, 3), n > 0.
            MeshError: a mesh without a surface, or with NaN.
        """
        if not isinstance(given, trimesh.Trimesh | MeshSDF):
            return cls(checked_points(given, name))
        try:
            if isinstance(given, MeshSDF):
                return cls(sample_surface(given, count, seed=rng), given, repaired=True)
            if not np.isfinite(_used_vertices(given)).all():
                raise MeshError("the mesh has vertices that are NaN or infinite")
            return cls(sample_surface(given, count, seed=rng), MeshSDF(given, sign="winding", device=device))
        except MeshError as error:
            raise MeshError(f"{name}: {error}") from error

    @property
    def distance_kind(self) -> str:
        """Which distance `distances_to` measures to this side."""
        return BETWEEN_SAMPLES if self.surface is None else TO_THE_SURFACE

    @cached_property
    def tree(self) -> KDTree:
        return KDTree(self.points)

    @property
    def longest_side(self) -> float:
        """Longest side of the bounding box."""
        if self.surface is None:
            return float(np.ptp(self.points, axis=0).max())
        return float(np.ptp(_used_vertices(self.surface.mesh), axis=0).max()) + 2 * self.surface.thicken

    def distances_to(self, other: Side) -> Distances:
        """Distances from the points of this side to `other`."""
        each, normals = other._closest(self.points)
        farthest = max(each.max(), other._closest(self._vertices())[0].max(initial=0))
        # A sample lies on a face of its own mesh: its nearest face there gives its normal.
        own_normals = None if normals is None else self._closest(self.points)[1]
        if normals is None or own_normals is None:
            return Distances(each, float(farthest), None)
        cosines = np.einsum("ij,ij->i", own_normals, normals)
        return Distances(each, float(farthest), float(np.abs(cosines).mean()))

    def squared_sample_distance(self, other: Side) -> float:
        """Mean squared distance from the points of this side to the nearest point of `other`."""
        return float(np.mean(np.square(other.tree.query(self.points, workers=-1)[0])))

    def solid(self) -> MeshSDF | None:
        """The solid that the surface bounds, or None if it has no inside."""
        if self.surface is None or self.surface.sign == "original":  # that vote leaves some signs open
            return None
        trusted = self.repaired or _wound_outward(self.surface.oriented)
        solid = self.surface if trusted else MeshSDF(self.surface.mesh, device=self.surface.device)
        mesh = solid.oriented
        watertight = mesh.sealed or not len(mesh.solid_faces)
        return solid if watertight and (solid.thicken or not mesh.sheets) else None

    def _closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Distances (m,) from points (m, 3) to this side, and unit normals (m, 3) of the nearest faces, if any."""
        if self.surface is None:
            return self.tree.query(points, workers=-1)[0], None
        nearest, faces = self.surface.closest(points)
        distances = np.linalg.norm(points - nearest, axis=1)
        if self.surface.thicken:  # the surface is an offset of the faces, not the faces themselves
            distances = np.abs(self.surface(points).astype(np.float64))
        mesh = self.surface.mesh
        return distances, face_normals(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)[faces])[0]

    def _vertices(self) -> np.ndarray:
        """Vertices (v, 3) that are known to lie on the surface."""
        if self.surface is None or self.surface.thicken:
            return self.points[:0]
        mesh = self.surface.oriented
        # Faces that cross other faces may have corners inside the solid.
        shown = np.unique(mesh.faces[~mesh.crossing])
        return mesh.vertices[shown] / mesh.scale + mesh.center


def checked_points(given: object, name: str) -> np.ndarray:
    """Points (n, 3) as float64.

    Raises:
        InputError: not an array of finite points (n, 3), n > 0.
    """
    try:
        points = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        kind = type(given).__name__
        raise InputError(f"{name} is a {kind}; expected a mesh, a MeshSDF or points (n, 3)") from None
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise InputError(f"{name} has points of shape {points.shape}; expected (n, 3) with n > 0")
    if not np.isfinite(points).all():
        raise InputError(f"{name} has points that are NaN or infinite; expected finite points (n, 3)")
    return points


def _wound_outward(mesh: OrientedMesh) -> bool:
    """Whether all parts are closed and wound outward: then winding numbers are right without the slower repair."""
    flip, patch, number = orient_patches(mesh.faces)
    closed = not flip.any() and not len(boundary_of(mesh.faces, patch))
    return closed and bool((signed_volumes(mesh.vertices, mesh.faces, patch, number) > 0).all())


def _used_vertices(mesh: trimesh.Trimesh) -> np.ndarray:
    """Vertices (v, 3) that belong to a face."""
    return np.asarray(mesh.vertices, np.float64)[np.unique(mesh.faces)]
