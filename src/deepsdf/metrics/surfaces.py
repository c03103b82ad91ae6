"""How close two surfaces are, and a field to samples: the metrics of the DeepSDF paper and of its field."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import trimesh
from scipy.spatial import KDTree

from deepsdf.errors import InputError, MeshError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.repair.orientation import OrientedMesh
from deepsdf.geometry.repair.patches import boundary_of, orient_patches, signed_volumes
from deepsdf.geometry.repair.visibility import face_normals
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples, sample_surface
from deepsdf.metrics.transport import assign

POINTS = 30_000
"""Points a surface, as in the paper."""

EMD_POINTS = 500
"""Points of the earth mover's distance, as in the paper."""

VOLUME_POINTS = 30_000
"""Points of the volumetric IoU; with so many its standard error is about 0.002 on a thin shape, 0.0005 on a ball."""

ACCURACY_SHARE = 0.9
"""Share of the points within the mesh accuracy, as in the paper."""

COMPLETION_DELTA = 0.01
"""Δ of the mesh completion, as in the paper, whose lengths are the unit frame's."""

F_SCORE_SHARES = (0.005, 0.01, 0.02)
"""Thresholds of the F-scores, as shares of `f_score_side`."""

_CELLS = 20  # along each side of the box whose volume is measured

TO_THE_SURFACE, BETWEEN_SAMPLES = "to the surface", "between samples"

Surface: TypeAlias = "trimesh.Trimesh | MeshSDF | np.ndarray"
"""A mesh's faces as they are stored; a repaired mesh's outer surface; or points (n, 3) on a surface."""


@dataclass(frozen=True)
class SurfaceMetrics:
    """Every metric of two surfaces, R the reference and S the surface that is judged by it.

    All lengths are those of the frame that R and S were given in; squared lengths are marked. x runs over points
    drawn evenly by area from R, y over those of S (given points are taken as they are).

    d(y, R) is the distance of y to R. *To the surface* it is to the nearest point of any face, exact to float32;
    *between samples* to the nearest x. `distances_to_reference` and `distances_to_surface` say which of the two it
    was: to the surface wherever a mesh was given. The chamfer distances and the earth mover's distance are between
    samples always, as the paper's are.

    **Paper**: Park et al., DeepSDF, CVPR 2019, supplementary material. It draws 1 000 points for the mesh accuracy and
    completion, 2 500 for the cosine similarity; here all of them count.

    Attributes:
        chamfer: `mean_y min_x |x - y|² + mean_x min_y |x - y|²`. Squared length, between samples. The paper's, with
            means for sums as its code has it and its tables print it, × 10³. Two samplings by n points of one surface
            of area A are about 2 A / (π n) apart, the sampling floor.
        chamfer_to_reference: its first term.
        chamfer_to_surface: its second term.
        chamfer_l1: `(mean_y d(y, R) + mean_x d(x, S)) / 2`. Length. Mescheder et al., Occupancy Networks, CVPR 2019,
            who print it in tenths of the longest side of the bounding box, and between samples.
        earth_mover_distance: `min_φ mean_x |x - φ(x)|` over all bijections φ of `emd_points` x and as many y, at
            random from those above. Length, between samples. The paper's, divided by the number of points as its
            tables have it. Two samplings of one surface are as far apart as points lie sparsely: compare values of
            equal `emd_points` only. None: left out.
        mesh_accuracy: the least d for which d(y, R) <= d for `accuracy_share` of the y. Length. Paper, after Seitz et
            al., CVPR 2006. Small is good.
        mesh_completion: share of the x with d(x, S) <= `completion_delta`. Paper, after Seitz et al.
        cosine_to_surface: `mean_x |n(x) · n(f)|`, f the face of S nearest to x and n unit normals. The paper's mesh
            cosine similarity. Absolute, since the faces of ground truth are wound either way: 1 is best, ½ is what
            directions at random give, 0 is worst. None: of points alone no normals are known.
        cosine_to_reference: the same from the y to R.
        f_score_half_percent, f_score_one_percent, f_score_two_percent: `2 P C / (P + C)`, with the precision P the
            share of the y with d(y, R) <= τ, the recall C the share of the x with d(x, S) <= τ, and τ 0.5, 1 and 2 %
            of `f_score_side`; 0 where both are 0. Knapitsch et al., Tanks and Temples, SIGGRAPH 2017; τ as a share of
            the shape's volume: Tatarchenko et al., CVPR 2019.
        hausdorff: `max(max_y d(y, R), max_x d(x, S))`, the vertices of meshes among the x and y. Length. To the
            surface it is at most the true one, whose ends may lie between the points. Cignoni et al., Metro, 1998.
        hausdorff_95: `max(q_y d(y, R), q_x d(x, S))`, q the 95 % quantile, without the vertices. Length. Taha &
            Hanbury, 2015.
        volumetric_iou: `|R ∩ S| / |R ∪ S|`, volumes of the solids. Of the 20³ cells of the box around both, those
            that no surface meets count whole; in the others `volume_points` uniform points are asked for the signs.
            Overlapping parts count once, small holes are closed (see `MeshSDF`). None: left out, or one has no
            inside: points, open sheets, holes too large to close, signs by the original's vote.
        reference_points, surface_points: how many x and y.
        emd_points: pairs of the earth mover's distance.
        emd_method: "exact", or "approximate" (an upper bound, see `assignment.assign`). None: left out.
        volume_points: of the IoU; 0 where it is None.
        seed: of all draws.
        accuracy_share: of the mesh accuracy.
        completion_delta: Δ of the mesh completion. Length.
        f_score_side: what the F-scores' percentages are of. Length.
        distances_to_reference: how d(y, R) was taken, "to the surface" or "between samples".
        distances_to_surface: the same of d(x, S).
    """

    chamfer: float
    chamfer_to_reference: float
    chamfer_to_surface: float
    chamfer_l1: float
    earth_mover_distance: float | None
    mesh_accuracy: float
    mesh_completion: float
    cosine_to_reference: float | None
    cosine_to_surface: float | None
    f_score_half_percent: float
    f_score_one_percent: float
    f_score_two_percent: float
    hausdorff: float
    hausdorff_95: float
    volumetric_iou: float | None
    reference_points: int
    surface_points: int
    emd_points: int
    emd_method: str | None
    volume_points: int
    seed: int
    accuracy_share: float
    completion_delta: float
    f_score_side: float
    distances_to_reference: str
    distances_to_surface: str

    def as_dict(self) -> dict[str, float | int | str | None]:
        """The fields by name, in this order: a row of a table."""
        return asdict(self)


@dataclass(frozen=True)
class Chamfer:
    """The chamfer distance of two point sets, squared lengths of their frame; see `SurfaceMetrics`.

    Attributes:
        chamfer: `to_reference + to_surface`. The paper prints it × 10³.
        to_reference: mean squared distance of the surface's points to the nearest reference point.
        to_surface: mean squared distance of the reference's points to the nearest surface point.
        points: how many points of (reference, surface) were compared.
    """

    chamfer: float
    to_reference: float
    to_surface: float
    points: tuple[int, int]


@dataclass(frozen=True)
class SDFError:
    """How far a field is from known signed distances s, in the samples' frame.

    Attributes:
        clamped_l1: `mean |clamp(f(p), ±clamp) - clamp(s, ±clamp)|`, the paper's equation 4 without the prior. Length.
        wrong_signs: share of the samples off the surface (s ≠ 0) whose sign the field has not; 0 is no sign.
        clamp: the clamping distance δ. Length.
        samples: how many.
    """

    clamped_l1: float
    wrong_signs: float
    clamp: float
    samples: int

    def as_dict(self) -> dict[str, float | int]:
        """The fields by name, in this order: a row of a table."""
        return asdict(self)


def chamfer(reference: np.ndarray, points: np.ndarray) -> Chamfer:
    """Chamfer distance of two point sets (n, 3), (m, 3): the sum of both mean squared nearest distances.

    DeepSDF, supplementary material, equation 1, with means for sums, as its code computes it.

    Raises:
        InputError: an empty set, or NaN in one.
    """
    return _chamfer(_Side(_cloud(reference, "reference")), _Side(_cloud(points, "surface")))


def compare(
    reference: Surface,
    surface: Surface,
    *,
    points: int = POINTS,
    emd_points: int = EMD_POINTS,
    volume_points: int = VOLUME_POINTS,
    completion_delta: float = COMPLETION_DELTA,
    f_score_side: float | None = None,
    seed: int = 0,
    device: str = "auto",
) -> SurfaceMetrics:
    """Every metric of a surface against a reference, both in one frame; `SurfaceMetrics` defines them.

    Of a mesh all faces count, as they are stored, only its inside (for the IoU) is that of a repaired copy. Of a
    MeshSDF the outer surface counts: give one for a reference with inner walls, or that many surfaces are compared
    with, since it repairs once. Point sets lack normals and inside.

    Args:
        points: how many to draw from each mesh, evenly by area; point sets are taken as they are.
        emd_points: of the earth mover's distance, at most as many as there are points; above 2 000 it is an
            approximation. 0 leaves it out.
        volume_points: of the volumetric IoU; 0 leaves it out.
        completion_delta: Δ of the mesh completion. The paper's 0.01 is a length of the unit frame.
        f_score_side: length that the F-scores' percentages are of; None: the longest side of the reference's bounding
            box.
        seed: of the draws.
        device: "auto", "cpu" or a CUDA device, for the distances to meshes; a MeshSDF has its own.
    Raises:
        InputError: neither mesh nor points (n, 3), no points, NaN, or a setting out of range.
        MeshError: a mesh without a surface, or with NaN.
    """
    _check_settings(points, emd_points, volume_points, seed, completion_delta, f_score_side)
    rng = np.random.default_rng(seed)
    one = _side(reference, "reference", points, rng, device)
    other = _side(surface, "surface", points, rng, device)
    sampled = _chamfer(one, other)
    to_reference, to_surface = other.towards(one), one.towards(other)
    side = one.longest if f_score_side is None else f_score_side
    scores = [_f_score(to_reference.distances, to_surface.distances, share * side) for share in F_SCORE_SHARES]
    emd, emd_method, emd_count = _earth_mover(one.points, other.points, emd_points, seed)
    iou = _iou(one, other, volume_points, seed)
    return SurfaceMetrics(
        chamfer=sampled.chamfer,
        chamfer_to_reference=sampled.to_reference,
        chamfer_to_surface=sampled.to_surface,
        chamfer_l1=float(to_reference.distances.mean() + to_surface.distances.mean()) / 2,
        earth_mover_distance=emd,
        mesh_accuracy=_quantile(to_reference.distances, ACCURACY_SHARE),
        mesh_completion=float(np.mean(to_surface.distances <= completion_delta)),
        cosine_to_reference=to_reference.cosine,
        cosine_to_surface=to_surface.cosine,
        f_score_half_percent=scores[0],
        f_score_one_percent=scores[1],
        f_score_two_percent=scores[2],
        hausdorff=max(to_reference.farthest, to_surface.farthest),
        hausdorff_95=max(_quantile(to_reference.distances, 0.95), _quantile(to_surface.distances, 0.95)),
        volumetric_iou=iou,
        reference_points=len(one.points),
        surface_points=len(other.points),
        emd_points=emd_count,
        emd_method=emd_method,
        volume_points=0 if iou is None else volume_points,
        seed=seed,
        accuracy_share=ACCURACY_SHARE,
        completion_delta=float(completion_delta),
        f_score_side=float(side),
        distances_to_reference=one.kind,
        distances_to_surface=other.kind,
    )


def sdf_error(field: Field, samples: SDFSamples, clamp: float = 0.1) -> SDFError:
    """How far a field is from samples of the true signed distance, in their frame; see `SDFError`.

    Raises:
        InputError: no samples, a clamp that is not positive, or a field that is not finite on the samples.
    """
    if not len(samples):
        raise InputError("there are no samples to compare the field with")
    if not clamp > 0:
        raise InputError(f"clamp {clamp} is no clamping distance; give a positive length of the samples' frame")
    truth = samples.distances.astype(np.float64)
    found = np.asarray(field(samples.points), np.float64)
    if found.shape != truth.shape:
        raise InputError(f"the field gave shape {found.shape} for {len(truth)} samples; (n,) was expected")
    broken = int((~np.isfinite(found)).sum())
    if broken:
        raise InputError(f"the field is NaN or infinite at {broken} of {len(truth)} samples")
    off = truth != 0
    wrong = float(np.mean(np.sign(found[off]) != np.sign(truth[off]))) if off.any() else 0.0
    gap = np.abs(np.clip(found, -clamp, clamp) - np.clip(truth, -clamp, clamp))
    return SDFError(float(gap.mean()), wrong, float(clamp), len(truth))


@dataclass(frozen=True)
class _Way:
    """From the points of one side (n,) to the other side."""

    distances: np.ndarray
    farthest: float
    cosine: float | None


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two surfaces: points (n, 3) of it, and itself, where more than those are known."""

    points: np.ndarray
    surface: MeshSDF | None = None
    repaired: bool = False

    @property
    def kind(self) -> str:
        return BETWEEN_SAMPLES if self.surface is None else TO_THE_SURFACE

    @cached_property
    def tree(self) -> KDTree:
        return KDTree(self.points)

    @property
    def longest(self) -> float:
        """Side of the bounding box."""
        if self.surface is None:
            return float(np.ptp(self.points, axis=0).max())
        return float(np.ptp(_used(self.surface.mesh), axis=0).max()) + 2 * self.surface.thicken

    def distance(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Of points (m, 3) to this side; and unit normals (m, 3) of the nearest faces, where it has faces."""
        if self.surface is None:
            return self.tree.query(points, workers=-1)[0], None
        nearest, faces = self.surface.closest(points)
        distances = np.linalg.norm(points - nearest, axis=1)
        if self.surface.thicken:  # the surface is not the faces then, but their parallels
            distances = np.abs(self.surface(points).astype(np.float64))
        mesh = self.surface.mesh
        return distances, face_normals(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)[faces])[0]

    def towards(self, goal: _Side) -> _Way:
        distances, theirs = goal.distance(self.points)
        farthest = max(distances.max(), goal.distance(self.corners())[0].max(initial=0))
        ours = None if theirs is None else self.distance(self.points)[1]  # of the faces that the points lie on
        if ours is None or theirs is None:
            return _Way(distances, float(farthest), None)
        return _Way(distances, float(farthest), float(np.abs(np.einsum("ij,ij->i", ours, theirs)).mean()))

    def corners(self) -> np.ndarray:
        """Vertices (v, 3) on the surface."""
        if self.surface is None or self.surface.thicken:
            return self.points[:0]
        mesh = self.surface.oriented
        shown = np.unique(mesh.faces[~mesh.crossing])  # faces that cross others may have corners inside the solid
        return mesh.vertices[shown] / mesh.scale + mesh.center

    def solid(self) -> MeshSDF | None:
        """What the surface bounds; None: it has no inside."""
        if self.surface is None or self.surface.sign == "original":  # which leaves signs open
            return None
        ready = self.repaired or _outward(self.surface.oriented)
        solid = self.surface if ready else MeshSDF(self.surface.mesh, device=self.surface.device)
        mesh = solid.oriented
        whole = mesh.sealed or not len(mesh.solid_faces)
        return solid if whole and (solid.thicken or not mesh.sheets) else None


def _outward(mesh: OrientedMesh) -> bool:
    """Only closed parts, each wound outward: the winding number is right without the repair, which takes longer."""
    flip, patch, number = orient_patches(mesh.faces)
    whole = not flip.any() and not len(boundary_of(mesh.faces, patch))
    return whole and bool((signed_volumes(mesh.vertices, mesh.faces, patch, number) > 0).all())


def _side(given: Surface, name: str, count: int, rng: np.random.Generator, device: str) -> _Side:
    if not isinstance(given, trimesh.Trimesh | MeshSDF):
        return _Side(_cloud(given, name))
    try:
        if isinstance(given, MeshSDF):
            return _Side(sample_surface(given, count, seed=rng), given, repaired=True)
        if not np.isfinite(_used(given)).all():
            raise MeshError("the mesh has vertices that are NaN or infinite")
        return _Side(sample_surface(given, count, seed=rng), MeshSDF(given, sign="winding", device=device))
    except MeshError as error:
        raise MeshError(f"the {name}: {error}") from error


def _used(mesh: trimesh.Trimesh) -> np.ndarray:
    """Vertices (v, 3) that some face names."""
    return np.asarray(mesh.vertices, np.float64)[np.unique(mesh.faces)]


def _cloud(given: object, name: str) -> np.ndarray:
    try:
        cloud = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        kind = type(given).__name__
        raise InputError(f"the {name} is a {kind}; a mesh, a MeshSDF or points (n, 3) were expected") from None
    if cloud.ndim != 2 or cloud.shape[1] != 3 or not len(cloud) or not np.isfinite(cloud).all():
        raise InputError(f"the {name}'s points have shape {cloud.shape}; finite points (n, 3) were expected")
    return cloud


def _check_settings(points: int, emd: int, volume: int, seed: int, delta: float, side: float | None) -> None:
    if points < 1 or min(emd, volume, seed) < 0:
        raise InputError(
            f"points {points} must be at least 1, emd_points {emd}, volume_points {volume}, seed {seed} not negative"
        )
    if not 0 <= delta < math.inf or (side is not None and not 0 < side < math.inf):
        raise InputError(f"completion_delta {delta} and f_score_side {side} must be lengths of the surfaces' frame")


def _chamfer(one: _Side, other: _Side) -> Chamfer:
    to_reference = float(np.mean(np.square(one.tree.query(other.points, workers=-1)[0])))
    to_surface = float(np.mean(np.square(other.tree.query(one.points, workers=-1)[0])))
    return Chamfer(to_reference + to_surface, to_reference, to_surface, (len(one.points), len(other.points)))


def _quantile(distances: np.ndarray, share: float) -> float:
    """The least distance that `share` of them do not exceed."""
    return float(np.quantile(distances, share, method="inverted_cdf"))


def _f_score(to_reference: np.ndarray, to_surface: np.ndarray, threshold: float) -> float:
    precision, recall = (float(np.mean(way <= threshold)) for way in (to_reference, to_surface))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _earth_mover(one: np.ndarray, other: np.ndarray, count: int, seed: int) -> tuple[float | None, str | None, int]:
    count = min(count, len(one), len(other))
    if not count:
        return None, None, 0
    # from equal seeds, so that points in one order stay pairs, and swapping the sides changes nothing
    rows = (np.random.default_rng([seed, 1]).choice(len(p), count, replace=False) for p in (one, other))
    found = assign(one[next(rows)], other[next(rows)], seed=seed)
    return found.distance, found.method, count


def _iou(one: _Side, other: _Side, count: int, seed: int) -> float | None:
    if not count or one.surface is None or other.surface is None:
        return None
    first, second = one.solid(), other.solid()
    if first is None or second is None:
        return None
    boxes = np.array([_box(first), _box(second)])
    low, size = boxes[:, 0].min(axis=0), np.ptp(boxes.reshape(-1, 3), axis=0)
    rng = np.random.default_rng([seed, 2])
    cells = (np.indices((_CELLS,) * 3).reshape(3, -1).T + 0.5) / _CELLS
    middles, met = _signs((first, second), low + cells * size, np.linalg.norm(size) / _CELLS)
    rows = rng.permutation(np.flatnonzero(met))
    each = rows[np.arange(count) % len(rows)]
    points = cells[each] + (rng.random((count, 3)) - 0.5) / _CELLS
    inside, _ = _signs((first, second), low + points * size, 0)
    share = len(rows) / inside.shape[1]
    both = middles[:, ~met].all(axis=0).sum() + share * inside.all(axis=0).sum()
    either = middles[:, ~met].any(axis=0).sum() + share * inside.any(axis=0).sum()
    return float(both / either) if either else None


def _signs(solids: tuple[MeshSDF, MeshSDF], points: np.ndarray, diagonal: float) -> tuple[np.ndarray, np.ndarray]:
    """Inside of each (2, n), and whether a surface may meet the cells around the points (n,)."""
    signed = np.stack([solid(points) for solid in solids])
    # the distance is to the surface, but the sign changes at caps, too
    reach = np.array([[0.51 * diagonal if solid.closed else np.inf] for solid in solids])
    return signed < 0, np.asarray((np.abs(signed) <= reach).any(axis=0))


def _box(solid: MeshSDF) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest corner (3,) of a box around a solid, its caps included."""
    vertices = solid.oriented.vertices / solid.oriented.scale + solid.oriented.center
    return vertices.min(axis=0) - solid.thicken, vertices.max(axis=0) + solid.thicken
