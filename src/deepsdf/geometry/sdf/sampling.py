"""Samples of shapes: signed distances for training, points of the surface for evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
import trimesh

from deepsdf.errors import InputError, MeshError
from deepsdf.files import atomic_path
from deepsdf.geometry.fields import Field
from deepsdf.geometry.repair.visibility import points_on
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF

TRAIN_COUNT = 500_000
TRAIN_VARIANCE = 0.005
TRAIN_SECOND_FACTOR = 0.1
TEST_COUNT = 250_000
TEST_VARIANCE = 0.05
"""The original's --test: 250 000 samples, variances 0.05 and 0.0005 (a second factor of 0.01)."""
TEST_SECOND_FACTOR = 0.01

_REDRAWS = 20


@dataclass(frozen=True, eq=False)
class SDFSamples:
    """Signed distance samples of one shape, rows `x y z sdf`, float32, unit frame.

    `pos` (n, 4) holds sdf > 0 (outside), `neg` (m, 4) sdf <= 0.
    """

    pos: np.ndarray
    neg: np.ndarray

    def __post_init__(self) -> None:
        for name in ("pos", "neg"):
            rows = np.asarray(getattr(self, name))
            if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "fiu":
                raise InputError(
                    f"{name} is {rows.dtype} of shape {rows.shape}; samples are rows x y z sdf, (n, 4) numbers"
                )
            object.__setattr__(self, name, np.ascontiguousarray(rows, np.float32))

    @classmethod
    def of(cls, points: np.ndarray, distances: np.ndarray) -> SDFSamples:
        """From points (n, 3) and distances (n,); rows with NaN are dropped."""
        rows = np.column_stack([points, distances]).astype(np.float32)
        rows = rows[np.isfinite(rows).all(axis=1)]
        outside = rows[:, 3] > 0
        return cls(rows[outside], rows[~outside])

    @property
    def points(self) -> np.ndarray:
        """(n + m, 3) float32, those of `pos` first."""
        return np.concatenate([self.pos, self.neg])[:, :3]

    @property
    def distances(self) -> np.ndarray:
        """(n + m,) float32, in the order of `points`."""
        return np.concatenate([self.pos, self.neg])[:, 3]

    def __len__(self) -> int:
        return len(self.pos) + len(self.neg)

    def save(self, path: str | Path) -> Path:
        """Writes an .npz with the arrays `pos` and `neg`, whole or not at all; returns its path."""
        path = Path(path)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, pos=self.pos, neg=self.neg)
        return path

    @classmethod
    def load(cls, path: str | Path) -> SDFSamples:
        """Reads what `save`, or the original, wrote. Rows that are not finite are dropped; the original drops NaN.

        Raises:
            InputError: no such file, not an .npz, cut short, without `pos` or `neg`, or of another shape.
        """
        path = Path(path)
        wanted = "an .npz with float arrays pos (n, 4) and neg (m, 4), rows x y z sdf"
        advice = "`deepsdf preprocess` makes it again"
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected {wanted}; {advice}")
        try:
            if not is_zipfile(path):  # numpy's own advice is to trust the file
                raise InputError("is no .npz, or was cut short")
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                missing = [name for name in ("pos", "neg") if name not in archive.files]
                if missing:
                    raise InputError(
                        f"has no array {' and no '.join(missing)}, only {', '.join(archive.files) or 'nothing'}"
                    )
                samples = cls(archive["pos"], archive["neg"])
        except Exception as error:  # a damaged file makes the reader meet anything
            raise InputError(f"{path}: {error}; expected {wanted}; {advice}") from error
        return cls(*(rows[np.isfinite(rows).all(axis=1)] for rows in (samples.pos, samples.neg)))


def sample_sdf(
    field: Field,
    count: int = TRAIN_COUNT,
    *,
    seed: int | np.random.Generator = 0,
    surface_share: float = 0.94,
    variance: float = TRAIN_VARIANCE,
    second_variance_factor: float = TRAIN_SECOND_FACTOR,
    mesh: trimesh.Trimesh | None = None,
) -> SDFSamples:
    """Signed distance samples as the original DeepSDF draws them, unit frame.

    `surface_share` of the points are area-weighted points of the outer surface, each moved twice by isotropic Gaussian
    noise, of `variance` and of `variance * second_variance_factor`; the rest are uniform in [-1, 1]^3. Points whose
    sign the field does not know (NaN) are dropped, so fewer than `count` may come back.

    Args:
        field: a MeshSDF, or any field together with `mesh`.
        mesh: where the surface points are drawn; default: the field's own.
    Raises:
        InputError: the field has no mesh and none is given; count, share or variance out of range.
    """
    if count < 1 or not 0 <= surface_share <= 1 or not variance >= 0 or not second_variance_factor >= 0:
        raise InputError(
            f"count {count} must be at least 1, surface_share {surface_share} within 0 and 1, "
            f"variance {variance} and second_variance_factor {second_variance_factor} not negative"
        )
    source = mesh if mesh is not None else field
    if not isinstance(source, MeshSDF | trimesh.Trimesh):
        raise InputError("sample_sdf needs a surface to sample near: give a MeshSDF as the field, or mesh=")
    rng = np.random.default_rng(seed)
    near = int(surface_share * count + 1e-9) // 2
    surface = sample_surface(source, near, seed=rng)
    points = np.concatenate(
        [
            surface + rng.normal(0, variance**0.5, surface.shape),
            surface + rng.normal(0, (variance * second_variance_factor) ** 0.5, surface.shape),
            rng.uniform(-1, 1, (count - 2 * near, 3)),
        ]
    ).astype(np.float32)
    return SDFSamples.of(points, field(points))


def sample_surface(
    mesh: MeshSDF | trimesh.Trimesh, count: int = 30_000, *, seed: int | np.random.Generator = 0
) -> np.ndarray:
    """Area-weighted random points (count, 3) float64 of a surface, in the mesh's frame.

    Of a MeshSDF only the outer surface is drawn: its buried faces are left out, and where parts overlap, points that
    have the solid on both sides are drawn again elsewhere. Of a thickened one the faces' parallels are drawn, on both
    sides of a sheet, but not the rounded rims along edges.

    Raises:
        MeshError: no face with an area.
    """
    rng = np.random.default_rng(seed)
    if isinstance(mesh, MeshSDF):
        return _outer_points(mesh, count, rng)
    return area_points(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces), count, rng)[0]


def area_points(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (count, 3), the rows (count,) and unit normals (count, 3) of the faces they lie on."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    double = np.linalg.norm(normals, axis=1)
    total = np.cumsum(double)
    if len(total) == 0 or not (np.isfinite(total[-1]) and total[-1] > 0):
        raise MeshError("the mesh has no face with an area to draw points from")
    rows = np.minimum(np.searchsorted(total, rng.random(count) * total[-1], side="right"), len(faces) - 1)
    points = points_on(vertices, faces, rows, rng)
    return points, rows, normals[rows] / np.maximum(double[rows], 1e-300)[:, None]


def _outer_points(field: MeshSDF, count: int, rng: np.random.Generator) -> np.ndarray:
    oriented = field.oriented
    vertices = oriented.vertices / oriented.scale + oriented.center
    kept: list[np.ndarray] = []
    missing = count
    for _ in range(_REDRAWS):
        points, rows, normals = area_points(vertices, oriented.faces, missing, rng)
        if field.thicken:
            points += rng.choice([-field.thicken, field.thicken], (missing, 1)) * normals
            points = points[field(points) > -0.01 * field.thicken]  # others lie in the solid
        else:
            unsure = np.flatnonzero(oriented.crossing[rows])  # parts of these faces may lie inside
            near, off = points[unsure], 1e-4 / oriented.scale * normals[unsure]
            hidden = (field(near + off) < 0) & (field(near - off) < 0)
            points = np.delete(points, unsure[hidden], axis=0)
        kept.append(points)
        missing -= len(points)
        if missing == 0:
            break
    else:  # nearly everything lies inside: better such points than too few
        kept.append(area_points(vertices, oriented.faces, missing, rng)[0])
    return np.concatenate(kept)
