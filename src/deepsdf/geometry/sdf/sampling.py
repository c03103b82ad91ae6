"""Samples of shapes: signed distances for training, surface points for evaluation."""

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

# The original's PreprocessMesh: number of samples, variance of the noise, and factor of the second, smaller variance.
TRAIN_COUNT, TRAIN_VARIANCE, TRAIN_SECOND_FACTOR = 500_000, 0.005, 0.1
TEST_COUNT, TEST_VARIANCE, TEST_SECOND_FACTOR = 250_000, 0.05, 0.01


@dataclass(frozen=True, eq=False)
class SDFSamples:
    """Signed distance samples of one shape, in the unit frame.

    Attributes:
        pos: (n, 4) float32, rows x y z sdf with sdf > 0 (outside).
        neg: (m, 4) float32, rows x y z sdf with sdf <= 0 (inside or on the surface).
    """

    pos: np.ndarray
    neg: np.ndarray

    def __post_init__(self) -> None:
        for name in ("pos", "neg"):
            rows = np.asarray(getattr(self, name))
            if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "fiu":
                raise InputError(
                    f"{name} is {rows.dtype} of shape {rows.shape}; expected numbers (n, 4), rows x y z sdf"
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
        """Write an .npz with the arrays `pos` and `neg`, never a partial file; returns its path."""
        path = Path(path)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, pos=self.pos, neg=self.neg)
        return path

    @classmethod
    def load(cls, path: str | Path) -> SDFSamples:
        """Read an .npz written by `save` or by the original. Rows with NaN or infinite numbers are dropped.

        Raises:
            InputError: the file does not exist, is no .npz or truncated, or `pos` or `neg` is missing or misshapen.
        """
        path = Path(path)
        wanted = "an .npz with float arrays pos (n, 4) and neg (m, 4), rows x y z sdf"
        advice = "`deepsdf preprocess` makes it again"
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected {wanted}; {advice}")
        try:
            if not is_zipfile(path):  # NumPy's own message would advise to allow pickles
                raise InputError("is not an .npz, or truncated")
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                missing = [name for name in ("pos", "neg") if name not in archive.files]
                if missing:
                    raise InputError(
                        f"has no array {' and no '.join(missing)}, only {', '.join(archive.files) or 'nothing'}"
                    )
                samples = cls(archive["pos"], archive["neg"])
        except Exception as error:  # readers may raise anything on a damaged file
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
    """Signed distance samples drawn like those of the original DeepSDF, in the unit frame.

    Half of the near-surface samples are random surface points plus Gaussian noise, the other half the same points plus
    smaller noise; the rest of the samples are uniform in [-1, 1]^3. Points where the field is NaN (sign unknown) are
    dropped, so there may be fewer samples than `count`.

    Args:
        field: a MeshSDF, or any field together with `mesh`.
        count: number of samples.
        surface_share: share of the samples near the surface.
        variance: of the noise, per coordinate, in squared lengths of the unit frame.
        second_variance_factor: variance of the smaller noise over `variance`.
        mesh: surface from which points are drawn; None: that of the field.
    Raises:
        InputError: the field has no mesh and none is given; or count, share or variance is out of range.
    """
    if count < 1 or not 0 <= surface_share <= 1 or not variance >= 0 or not second_variance_factor >= 0:
        raise InputError(
            f"count {count} must be at least 1, surface_share {surface_share} within 0 and 1, "
            f"variance {variance} and second_variance_factor {second_variance_factor} not negative"
        )
    source = mesh if mesh is not None else field
    if not isinstance(source, MeshSDF | trimesh.Trimesh):
        raise InputError("sample_sdf needs a surface to sample near: pass a MeshSDF as the field, or mesh=")
    rng = np.random.default_rng(seed)
    # 1e-9: products such as 0.94 * 100 that are integers may be represented just below
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
    """Uniform random points (count, 3) float64 on a surface, in the mesh's frame.

    For a MeshSDF, points lie on its outer surface: buried faces are left out, and where parts overlap, points with the
    solid on both sides are replaced. If it is thickened, points lie on the offset faces, on both sides of a sheet, but
    not on the rounded rims along edges.

    Raises:
        MeshError: no face has an area.
    """
    rng = np.random.default_rng(seed)
    if isinstance(mesh, MeshSDF):
        return _outer_points(mesh, count, rng)
    return area_points(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces), count, rng)[0]


def area_points(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Uniform random points (count, 3) on faces, and the rows (count,) and unit normals (count, 3) of these faces."""
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
    """Points (count, 3) on the outer surface, by rejection: points inside the solid are drawn again."""
    oriented = field.oriented
    vertices = oriented.vertices / oriented.scale + oriented.center
    kept: list[np.ndarray] = []
    missing = count
    for _ in range(20):  # even if 1 in 5 points is accepted, 20 rounds leave 1 % of them missing
        points, rows, normals = area_points(vertices, oriented.faces, missing, rng)
        if field.thicken:
            points += rng.choice([-field.thicken, field.thicken], (missing, 1)) * normals
            # An offset point lies on the thickened surface unless it is within the solid or another plate.
            points = points[field(points) > -0.01 * field.thicken]
        else:
            unsure = np.flatnonzero(oriented.crossing[rows])  # faces that may be partly inside
            near, off = points[unsure], 1e-4 / oriented.scale * normals[unsure]
            hidden = (field(near + off) < 0) & (field(near - off) < 0)
            points = np.delete(points, unsure[hidden], axis=0)
        kept.append(points)
        missing -= len(points)
        if missing == 0:
            break
    else:  # nearly the whole surface lies inside: accept such points rather than return too few
        kept.append(area_points(vertices, oriented.faces, missing, rng)[0])
    return np.concatenate(kept)
