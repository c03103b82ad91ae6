"""Distances between surfaces."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.stats
import trimesh
from corruptions import concatenate
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, directed_hausdorff
from trimesh.proximity import closest_point_naive

from deepsdf.errors import InputError, MeshError
from deepsdf.geometry.primitives import Sphere
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples, sample_surface
from deepsdf.metrics.fields import SDFError, sdf_error
from deepsdf.metrics.options import EXACT_EMD_POINTS, PAPER_POINTS, MetricOptions
from deepsdf.metrics.registry import METRICS
from deepsdf.metrics.surfaces import Chamfer, chamfer, compare
from deepsdf.metrics.transport import assign

FAST = MetricOptions(points=3000, emd_points=0, volume_points=0)

LENGTHS, SQUARES, RATIOS = (
    [metric.name for metric in METRICS.values() if metric.unit == unit and metric.of_surfaces]
    for unit in ("length", "squared length", "ratio")
)
OTHER_WAY = {"chamfer_to_reference": "chamfer_to_surface", "cosine_to_reference": "cosine_to_surface"}


def brute(reference: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    squared = ((reference[:, None] - points[None]) ** 2).sum(axis=2)
    return float(squared.min(axis=0).mean()), float(squared.min(axis=1).mean())


def motion() -> np.ndarray:
    move = np.asarray(trimesh.transformations.rotation_matrix(1.1, (1, 2, 3)))
    move[:3, 3] = (4, -5, 6)
    return move


def moved(mesh: trimesh.Trimesh, offset: tuple[float, float, float]) -> trimesh.Trimesh:
    return mesh.copy().apply_translation(offset)


@cache
def icosphere(radius: float = 1.0, subdivisions: int = 5) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions, radius)


def box(*extents: float) -> trimesh.Trimesh:
    return trimesh.creation.box(extents)


def plane(z: float = 0.0) -> trimesh.Trimesh:
    """A unit square, which has no inside."""
    return trimesh.Trimesh([[0, 0, z], [1, 0, z], [1, 1, z], [0, 1, z]], [[0, 1, 2], [0, 2, 3]], process=False)


def on_sphere(count: int, radius: float, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return radius * points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 3)), rng.normal(size=(200, 3)) + 0.2


# chamfer distance


def test_chamfer_equals_brute_force(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    found = chamfer(*clouds)
    to_reference, to_surface = brute(*clouds)
    assert found.to_reference == pytest.approx(to_reference, rel=1e-12)
    assert found.to_surface == pytest.approx(to_surface, rel=1e-12)
    assert found.chamfer == found.to_reference + found.to_surface
    assert found.points == (300, 200)


def test_shifted_lattice_is_twice_the_shift_squared() -> None:
    lattice = np.stack(np.meshgrid(*[np.arange(8.0)] * 3), -1).reshape(-1, 3)
    shift = np.array([0.1, -0.2, 0.3])
    assert chamfer(lattice, lattice + shift).chamfer == pytest.approx(2 * 0.14, rel=1e-12)
    assert chamfer(lattice, lattice).chamfer == 0


def test_both_directions_have_the_right_names() -> None:
    near, both = np.zeros((1, 3)), np.array([[0.0, 0, 0], [3.0, 0, 0]])
    # Every point of `near` is in `both`; one of `both` is 3 from `near`.
    assert chamfer(both, near) == Chamfer(4.5, 0.0, 4.5, (2, 1))
    assert chamfer(near, both) == Chamfer(4.5, 4.5, 0.0, (1, 2))


def test_chamfer_of_meshes_equals_that_of_their_samples() -> None:
    """One generator draws the reference first, then the surface; given points are not drawn again."""
    one, other, rng = box(1, 1.5, 2), icosphere(), np.random.default_rng(5)
    expected = chamfer(sample_surface(one, 3000, seed=rng), sample_surface(other, 3000, seed=rng))
    found = compare(one, other, replace(FAST, seed=5))
    assert (found.chamfer, found.chamfer_to_reference) == (expected.chamfer, expected.to_reference)
    points = sample_surface(other, 3000, seed=5)
    expected = chamfer(points, sample_surface(one, 3000, seed=5))
    assert compare(points, one, replace(FAST, seed=5)).chamfer == expected.chamfer


def test_a_seed_draws_the_same_points_in_every_version() -> None:
    """Values of 2026-11, so that tables stay comparable across versions of deepsdf."""
    found = compare(box(1, 1.5, 2), icosphere(), replace(FAST, seed=5))
    assert found.chamfer == pytest.approx(0.09360753402327569, rel=1e-9)
    assert found.chamfer_to_reference == pytest.approx(0.053037013800789165, rel=1e-9)


def test_a_mesh_against_itself() -> None:
    """The chamfer distance is at the sampling floor; metrics to the surface are perfect."""
    for mesh in (icosphere(), box(1.0, 0.5, 2.0)):
        found = compare(mesh, mesh, MetricOptions(emd_points=0))
        assert found.chamfer == pytest.approx(2 * mesh.area / (math.pi * PAPER_POINTS), rel=0.04)
        assert max(found.chamfer_l1, found.mesh_accuracy, found.hausdorff, found.hausdorff_95) < 1e-6
        assert found.mesh_completion == found.f_score_half_percent == found.volumetric_iou == 1
        assert min(found.cosine_to_reference or 0, found.cosine_to_surface or 0) > 0.9999


# closed forms


@pytest.mark.parametrize("gap", [0.015, 0.1, 0.5])
def test_concentric_spheres(gap: float) -> None:
    ball, larger = icosphere(), icosphere(1 + gap)
    found = compare(ball, larger, MetricOptions(emd_points=0))
    # Straight below lies a sample within rho²: n rho² pi / area is 1 on average. Seen from a point at
    # radius R towards the sphere r, the squared distance grows by R / r of that.
    floor = 4 * (1 + gap) / PAPER_POINTS
    assert found.chamfer_to_reference == pytest.approx(gap**2 + floor, rel=0.02)
    assert found.chamfer_to_surface == pytest.approx(gap**2 + floor, rel=0.02)
    assert found.chamfer == found.chamfer_to_reference + found.chamfer_to_surface
    # To the surface, nothing is left of the floor.
    assert found.chamfer_l1 == pytest.approx(gap, rel=2e-3)
    assert found.mesh_accuracy == pytest.approx(gap, rel=2e-3)
    assert found.hausdorff_95 == pytest.approx(gap, rel=2e-3)
    assert found.hausdorff == pytest.approx(gap, rel=1e-4)  # from vertex to vertex
    assert found.mesh_completion == 0
    assert compare(ball, larger, replace(FAST, completion_delta=1.01 * gap)).mesh_completion == 1
    assert min(found.cosine_to_reference or 0, found.cosine_to_surface or 0) > 0.999
    assert found.volumetric_iou == pytest.approx((1 + gap) ** -3, abs=0.004)
    # of a side of 2, the thresholds are 0.01, 0.02, 0.04
    scores = (found.f_score_half_percent, found.f_score_one_percent, found.f_score_two_percent)
    assert scores == ((0, 1, 1) if gap < 0.02 else (0, 0, 0))
    assert found.f_score_side == pytest.approx(2, rel=1e-3)
    assert (found.reference_points, found.surface_points) == (PAPER_POINTS, PAPER_POINTS)


def test_parallel_planes() -> None:
    gap = 0.03
    found = compare(plane(), plane(gap), MetricOptions(completion_delta=gap + 1e-6, emd_points=0))
    for name in ("chamfer_l1", "mesh_accuracy", "hausdorff", "hausdorff_95"):
        assert getattr(found, name) == pytest.approx(gap, rel=1e-5), name
    assert found.mesh_completion == 1
    assert compare(plane(), plane(gap), replace(FAST, completion_delta=gap - 1e-6)).mesh_completion == 0
    assert found.cosine_to_reference == found.cosine_to_surface == 1
    assert (found.volumetric_iou, found.volume_points) == (None, 0)
    assert found.chamfer == pytest.approx(2 * (gap**2 + 1 / (math.pi * PAPER_POINTS)), rel=0.01)


def test_half_a_plane() -> None:
    """One direction is perfect, the other measures the missing half."""
    half = plane().copy().apply_scale((0.5, 1, 1))
    found = compare(plane(), half, FAST)
    assert found.mesh_accuracy < 1e-6
    assert found.mesh_completion == pytest.approx(0.51, abs=0.03)
    assert found.hausdorff == pytest.approx(0.5, rel=1e-6)  # the far vertices
    assert found.hausdorff_95 == pytest.approx(0.45, abs=0.01)  # half the points lie evenly 0 ... 0.5 away
    assert found.f_score_two_percent == pytest.approx(2 * 0.52 / 1.52, abs=0.03)
    other_way = compare(half, plane(), FAST)
    assert other_way.mesh_accuracy == pytest.approx(0.4, abs=0.02)
    assert other_way.mesh_completion == 1


@pytest.mark.parametrize("angle", [0.3, 1.0])
def test_the_cosine_ignores_the_sign_of_the_normals(angle: float) -> None:
    tilted = plane().copy().apply_transform(trimesh.transformations.rotation_matrix(angle, (1, 0, 0)))
    for mesh in (tilted, trimesh.Trimesh(tilted.vertices, tilted.faces[:, ::-1], process=False)):
        found = compare(plane(), mesh, FAST)
        assert found.cosine_to_surface == pytest.approx(math.cos(angle), rel=1e-6)
        assert found.cosine_to_reference == pytest.approx(math.cos(angle), rel=1e-6)


def test_shifted_boxes() -> None:
    """A unit box moved by s along x: every distance by integration over its faces."""
    s = 0.2
    found = compare(box(1, 1, 1), moved(box(1, 1, 1), (s, 0, 0)), MetricOptions(emd_points=0))
    # 4 faces that stick out by s, one that is s outside, one inside: min(s, distance to its edge)
    expected = (4 * s * s / 2 + s + (1 - (1 - 2 * s) ** 3) / 6) / 6
    assert found.chamfer_l1 == pytest.approx(expected, rel=0.015)
    assert found.hausdorff == pytest.approx(s, rel=1e-5)
    assert found.hausdorff_95 == pytest.approx(s, rel=1e-5)
    within = 4 * (1 - s + 0.01) + (1 - (1 - 2 * 0.01) ** 2)
    assert found.mesh_completion == pytest.approx(within / 6, abs=0.01)
    assert found.volumetric_iou == pytest.approx((1 - s) / (1 + s), abs=0.004)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (moved(box(1, 1, 1), (0.5, 0.25, 0)), 0.375 / 1.625),
        (box(0.5, 0.5, 0.5), 0.125),
        (moved(box(1, 1, 1), (3, 0, 0)), 0.0),
        # the square and itself turned by 45 degrees share an octagon of 2 (sqrt 2 - 1)
        (
            box(1, 1, 1).apply_transform(trimesh.transformations.rotation_matrix(math.pi / 4, (0, 0, 1))),
            2 * (math.sqrt(2) - 1) / (2 - 2 * (math.sqrt(2) - 1)),
        ),
    ],
)
def test_iou_of_boxes(other: trimesh.Trimesh, expected: float) -> None:
    for one in (box(1, 1, 1), MeshSDF(box(1, 1, 1))):
        found = compare(one, other, MetricOptions(points=1, emd_points=0, volume_points=50_000))
        assert found.volumetric_iou == pytest.approx(expected, abs=0.005)
        assert found.volume_points == 50_000


def test_earth_movers_distance_of_a_shift_is_the_shift(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    """A lower bound: every bijection moves the mean by the shift."""
    shift = np.array([0.3, -0.4, 1.2])
    found = compare(clouds[0], clouds[0] + shift, MetricOptions(emd_points=100))
    assert found.earth_mover_distance == pytest.approx(1.3, rel=1e-12)
    assert (found.emd_points, found.emd_method) == (100, "exact")


def test_earth_movers_distance_of_concentric_spheres() -> None:
    """At least the gap, since |x| has slope 1; random samples add less than a tenth."""
    gap = compare(icosphere(), icosphere(2.0), MetricOptions(points=500)).earth_mover_distance
    assert gap is not None
    assert 1 <= gap < 1.1


# against other implementations


def test_hausdorff_equals_scipy(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    expected = max(directed_hausdorff(a, b)[0] for a, b in (clouds, clouds[::-1]))
    assert compare(*clouds).hausdorff == pytest.approx(expected, rel=1e-12)


def test_distances_between_samples_equal_brute_force(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    found = compare(*clouds, MetricOptions(completion_delta=0.4, f_score_side=25))
    distances = cdist(*clouds)
    to_reference, to_surface = np.sort(distances.min(axis=0)), np.sort(distances.min(axis=1))
    assert found.chamfer_l1 == pytest.approx((to_reference.mean() + to_surface.mean()) / 2, rel=1e-12)
    assert found.mesh_accuracy == pytest.approx(to_reference[179], rel=1e-12)  # the 180th of 200
    assert found.mesh_completion == (to_surface <= 0.4).mean()
    assert found.hausdorff_95 == pytest.approx(max(to_reference[189], to_surface[284]), rel=1e-12)
    for share, score in ((0.125, "half"), (0.25, "one"), (0.5, "two")):
        precision, recall = (to_reference <= share).mean(), (to_surface <= share).mean()
        expected = scipy.stats.hmean([precision, recall])
        assert getattr(found, f"f_score_{score}_percent") == pytest.approx(expected, rel=1e-12)


def test_distances_to_the_surface_equal_trimesh_closest_point() -> None:
    mesh, points = trimesh.creation.annulus(0.4, 1.0, 0.5, sections=16), on_sphere(300, 0.9, seed=2)
    distances = np.sort(closest_point_naive(mesh, points)[1])
    found = compare(mesh, points, FAST)
    assert found.mesh_accuracy == pytest.approx(distances[269], abs=1e-6)
    assert found.distances_to_reference == "to the surface"
    assert found.distances_to_surface == "between samples"
    found = compare(points, mesh, replace(FAST, completion_delta=0.1))
    assert found.mesh_completion == (distances <= 0.1).mean()
    assert found.distances_to_surface == "to the surface"


def test_metrics_of_two_meshes_equal_trimesh() -> None:
    """Hausdorff, L1 and cosines of two meshes, from the same points by another library's closest faces."""
    one, other = box(1.0, 1.2, 0.8), icosphere(0.7, 1)
    rng = np.random.default_rng(0)
    x, y = sample_surface(one, 400, seed=rng), sample_surface(other, 400, seed=rng)
    to_surface, to_reference = closest_point_naive(other, x)[1], closest_point_naive(one, y)[1]
    found = compare(one, other, MetricOptions(points=400, volume_points=0))
    assert found.chamfer_l1 == pytest.approx((to_reference.mean() + to_surface.mean()) / 2, rel=1e-5)
    assert found.hausdorff_95 == pytest.approx(max(np.sort(to_reference)[379], np.sort(to_surface)[379]), rel=1e-5)
    corners = [closest_point_naive(a, b.vertices)[1].max() for a, b in ((one, other), (other, one))]
    assert found.hausdorff == pytest.approx(max(to_reference.max(), to_surface.max(), *corners), rel=1e-5)
    for cosine, bounds in (
        (found.cosine_to_surface, cosines(x, one, other)),
        (found.cosine_to_reference, cosines(y, other, one)),
    ):
        assert bounds[0] - 1e-6 <= (cosine or 0) <= bounds[1] + 1e-6
        assert bounds[1] - bounds[0] < 0.01


def cosines(points: np.ndarray, own: trimesh.Trimesh, goal: trimesh.Trimesh) -> tuple[float, float]:
    """The least and the greatest mean: where an edge is nearest, either of its faces may count."""
    pairs = np.repeat(points, len(goal.faces), axis=0)
    nearest = trimesh.triangles.closest_point(np.tile(goal.triangles, (len(points), 1, 1)), pairs)
    distances = np.linalg.norm(nearest - pairs, axis=1).reshape(len(points), -1)
    tied = distances < distances.min(axis=1, keepdims=True) + 1e-6
    cosine = np.abs(own.face_normals[closest_point_naive(own, points)[2]] @ goal.face_normals.T)
    return np.where(tied, cosine, 2).min(axis=1).mean(), np.where(tied, cosine, -1).max(axis=1).mean()


def test_iou_equals_exact_booleans() -> None:
    torus = trimesh.creation.torus(0.6, 0.25)
    for other in (icosphere(0.7, 3), moved(torus, (0.1, 0, 0.05)), box(1, 1, 0.3)):
        both = trimesh.boolean.intersection([torus, other]).volume
        found = compare(torus, other, MetricOptions(points=1, emd_points=0))
        assert found.volumetric_iou == pytest.approx(both / (torus.volume + other.volume - both), abs=0.006)


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_assignment_equals_the_best_permutation(count: int) -> None:
    rng = np.random.default_rng(count)
    first, second = rng.normal(size=(2, count, 3))
    best = min(
        np.linalg.norm(first - second[list(order)], axis=1).mean() for order in itertools.permutations(range(count))
    )
    assert assign(first, second).distance == pytest.approx(best, rel=1e-12)
    assert compare(first, second).earth_mover_distance == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("limit", [0, EXACT_EMD_POINTS])
def test_on_a_line_it_equals_scipy_wasserstein_distance(limit: int) -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=900), rng.exponential(2, 900)
    along = np.array([2.0, -1.0, 2.0]) / 3
    found = assign(one[:, None] * along, other[:, None] * along, exact_limit=limit)
    # on a line many bijections are the best: the blocks find one of them
    assert found.distance == pytest.approx(
        scipy.stats.wasserstein_distance(one, other), rel=1e-3 if limit == 0 else 1e-9
    )


@pytest.mark.skipif(not hasattr(scipy.stats, "wasserstein_distance_nd"), reason="SciPy before 1.13")
def test_in_space_it_equals_scipy_wasserstein_distance() -> None:
    first, second = np.random.default_rng(3).normal(size=(2, 30, 3))
    expected = scipy.stats.wasserstein_distance_nd(first, second)
    assert assign(first, second).distance == pytest.approx(expected, rel=1e-9)


# the approximation for many points


@pytest.mark.parametrize(
    ("first", "second", "within"),
    [
        (on_sphere(1200, 1, 0), on_sphere(1200, 1, 1), 1.02),
        (on_sphere(1200, 1, 0), on_sphere(1200, 0.8, 1), 1.01),
        (on_sphere(1200, 1, 0), on_sphere(1200, 1, 1) * (1, 1, 2), 1.01),
        (np.zeros((1200, 3)), np.ones((1200, 3)), 1 + 1e-12),
    ],
)
def test_the_approximation_is_slightly_above_the_optimum(first: np.ndarray, second: np.ndarray, within: float) -> None:
    found = assign(first, second, exact_limit=0)
    assert found.method == "approximate"
    np.testing.assert_array_equal(np.sort(found.partner), np.arange(1200))
    assert found.distance == np.linalg.norm(first - second[found.partner], axis=1).mean()
    costs = cdist(first, second)
    best = costs[linear_sum_assignment(costs)].mean()
    assert best * (1 - 1e-12) <= found.distance <= best * within
    assert assign(first, second, exact_limit=0, seed=1).distance <= best * within


def test_the_method_of_the_approximation_is_reported() -> None:
    found = compare(on_sphere(2500, 1, 0), on_sphere(2500, 1.5, 1), MetricOptions(emd_points=2500))
    assert (found.emd_method, found.emd_points) == ("approximate", 2500)
    assert 0.5 <= (found.earth_mover_distance or 0) < 0.54


# laws


def test_swapping_the_sides_swaps_the_directions(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    one, other = (
        compare(*pair, options=MetricOptions(f_score_side=20, emd_points=150)).as_dict()
        for pair in (clouds, clouds[::-1])
    )
    for name in (
        *SQUARES,
        *LENGTHS,
        "f_score_side",
        "f_score_half_percent",
        "f_score_one_percent",
        "f_score_two_percent",
    ):
        if name != "mesh_accuracy":
            swapped = OTHER_WAY.get(name, name)
            swapped = {way: back for back, way in OTHER_WAY.items()}.get(name, swapped)
            assert one[name] == pytest.approx(other[swapped], rel=1e-12), name


def test_swapping_meshes_changes_only_the_random_points() -> None:
    pair = box(1.0, 1.5, 2.0), icosphere()
    one, other = (
        compare(*pair, options=MetricOptions(points=10_000)),
        compare(*pair[::-1], options=MetricOptions(points=10_000)),
    )
    for name in ("chamfer", "chamfer_l1", "earth_mover_distance", "hausdorff_95"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=0.05), name
    assert one.hausdorff == pytest.approx(other.hausdorff, rel=1e-4)
    assert one.cosine_to_reference == pytest.approx(other.cosine_to_surface, abs=0.01)
    assert one.volumetric_iou == pytest.approx(other.volumetric_iou, abs=1e-5)


def test_rigid_motion_changes_nothing() -> None:
    """Points depend only on the seed and the shares of the areas, so only rounding differs; the IoU's box turns."""
    pair = icosphere(), box(1.0, 1.5, 2.0)
    before = compare(*pair, options=MetricOptions(points=3000, f_score_side=3))
    after = compare(
        *(mesh.copy().apply_transform(motion()) for mesh in pair), options=MetricOptions(points=3000, f_score_side=3)
    )
    for name in (*SQUARES, *LENGTHS, "f_score_side"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-5), name
    for name in RATIOS:
        if name != "volumetric_iou":
            assert getattr(after, name) == pytest.approx(getattr(before, name), abs=2e-3), name
    assert after.volumetric_iou == pytest.approx(before.volumetric_iou, abs=0.006)


def test_units() -> None:
    """Lengths scale with the frame, squared lengths with its square; ratios do not change."""
    pair = icosphere(), box(1.0, 1.5, 2.0)
    before = compare(*pair, options=MetricOptions(points=3000, completion_delta=0.2))
    after = compare(
        *(mesh.copy().apply_scale(3.0) for mesh in pair), options=MetricOptions(points=3000, completion_delta=0.6)
    )
    for names, factor in (([*LENGTHS, "f_score_side"], 3), (SQUARES, 9)):
        for name in names:
            assert getattr(after, name) == pytest.approx(factor * getattr(before, name), rel=1e-5), name
    for name in RATIOS:
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=1e-3), name
    assert 0 < before.mesh_completion < 1


def test_point_sets_are_compared_between_samples(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    found = compare(clouds[0].astype(np.float32), clouds[1].tolist())
    assert (found.reference_points, found.surface_points, found.emd_points) == (300, 200, 200)
    assert found.cosine_to_reference is found.cosine_to_surface is found.volumetric_iou is None
    assert found.distances_to_reference == found.distances_to_surface == "between samples"
    assert found.f_score_side == pytest.approx(np.ptp(clouds[0], axis=0).max(), rel=1e-6)
    assert compare(*clouds).chamfer == chamfer(*clouds).chamfer


def test_the_seed_determines_all_values() -> None:
    pair = icosphere(), icosphere(0.8)
    settings = {"points": 500, "volume_points": 500}
    assert compare(*pair, options=MetricOptions(seed=3, **settings)) == compare(
        *pair, options=MetricOptions(seed=3, **settings)
    )
    one, other = (compare(*pair, options=MetricOptions(seed=seed, **settings)).as_dict() for seed in (3, 4))
    assert all(one[name] != other[name] for name in ("chamfer", "earth_mover_distance", "volumetric_iou", "seed"))


def test_a_row_of_a_table() -> None:
    options = MetricOptions(points=100, emd_points=0, volume_points=0, seed=7)
    found = compare(icosphere(), icosphere(), options)
    row = found.as_dict()
    assert list(row) == [*(metric.name for metric in METRICS.values() if metric.of_surfaces), *found.conditions]
    assert all(value is None or type(value) in (float, int, str) for value in row.values())
    assert row["earth_mover_distance"] is row["emd_method"] is row["volumetric_iou"] is None
    assert (row["emd_points"], row["volume_points"], row["seed"], row["reference_points"]) == (0, 0, 7, 100)
    assert (row["accuracy_share"], row["completion_delta"]) == (0.9, 0.01)
    full = compare(icosphere(), icosphere(), MetricOptions(points=100, volume_points=100)).as_dict()
    assert list(full) == list(row)
    assert all(type(value) in (float, int, str) for value in full.values())


def test_metrics_are_attributes() -> None:
    found = compare(icosphere(), icosphere(0.9), FAST)
    for name, value in found.as_dict().items():
        assert getattr(found, name) == value
    assert set(found.as_dict()) < set(dir(found))
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(AttributeError, match=r"^there is no metric 'chamfr'; expected one of chamfer, "):
        _ = found.chamfr


# dirty meshes


def test_all_faces_of_a_mesh_count_but_only_the_outer_surface_of_a_field() -> None:
    """A ball inside a box: it counts for the mesh, and is buried for the field."""
    stuffed = concatenate([box(2, 2, 2), icosphere(0.4, 3)])
    seen = compare(MeshSDF(stuffed), box(2, 2, 2), FAST)
    assert seen.mesh_completion == 1
    assert seen.hausdorff < 1e-6
    stored = compare(stuffed, box(2, 2, 2), FAST)
    assert stored.mesh_completion == pytest.approx(24 / stuffed.area, abs=0.02)
    assert stored.hausdorff == pytest.approx(1 - 0.4 / math.sqrt(3), abs=0.01)  # from the ball's far diagonal


def test_vertices_inside_overlapping_parts_do_not_count() -> None:
    block, bar = box(2, 2, 2), moved(box(0.4, 0.4, 3), (0, 0, 1))
    union = trimesh.boolean.union([block, bar])
    found = compare(MeshSDF(concatenate([block, bar])), union, FAST)
    assert found.hausdorff < 1e-3
    assert found.mesh_completion == 1


def test_a_small_hole_is_closed() -> None:
    """A box without its lid, in a taller one."""
    lidless = box(1, 1, 1)
    lidless.update_faces(lidless.face_normals[:, 2] < 0.5)
    found = compare(lidless, moved(box(1, 1, 1.07), (0, 0, 0.035)), MetricOptions(points=1, emd_points=0))
    assert found.volumetric_iou == pytest.approx(1 / 1.07, abs=0.004)


def test_iou_uses_the_repaired_mesh() -> None:
    """Doubled, inside out, with a missing face: the same solid."""
    clean, small = box(1, 1, 1).subdivide(), MetricOptions(points=1, emd_points=0)
    doubled = concatenate([clean, trimesh.Trimesh(clean.vertices, clean.faces[:, ::-1])])
    broken = trimesh.Trimesh(clean.vertices, clean.faces[1:], process=False)
    inverted = trimesh.Trimesh(clean.vertices, clean.faces[:, ::-1], process=False)
    overlapping = concatenate([clean, moved(box(0.7, 0.5, 0.5), (0.1, 0, 0))])
    for mesh in (doubled, broken, inverted, overlapping):
        assert compare(clean, mesh, small).volumetric_iou == pytest.approx(1, abs=0.003)
        assert compare(MeshSDF(mesh), clean, small).volumetric_iou == pytest.approx(1, abs=0.003)


def test_without_an_inside_there_is_no_iou() -> None:
    ball, small = icosphere(0.5, 2), MetricOptions(points=10, emd_points=0)
    with_sheet = concatenate([ball, moved(plane(), (2, 2, 2))])
    bowl = icosphere(0.5, 3).copy()
    bowl.update_faces(bowl.triangles_center[:, 2] < 0)
    for given in (plane(), MeshSDF(plane()), bowl, with_sheet, ball.vertices, MeshSDF(ball, sign="original")):
        assert compare(given, ball, small).volumetric_iou is None
        assert compare(ball, given, small).volumetric_iou is None


def test_a_thickened_sheet_is_a_plate() -> None:
    """Its surface lies on both sides of the faces, and it has an inside."""
    thick = MeshSDF(plane(), thicken=0.1)
    plate = moved(box(1.2, 1.2, 0.2), (0.5, 0.5, 0))
    found = compare(thick, plate, MetricOptions(points=3000, emd_points=0))
    assert found.f_score_side == pytest.approx(1.2)
    assert found.mesh_completion == 1  # the drawn points, which are not the rims
    assert found.hausdorff == pytest.approx(math.sqrt(3) * 0.1 - 0.1, abs=1e-4)  # the box's corners beyond the rounding
    # the rounded rim is less than the square one: 4 sides and a ball in 4 corners
    volume = 0.2 + 4 * math.pi * 0.1**2 / 2 + 4 / 3 * math.pi * 0.1**3
    assert found.volumetric_iou == pytest.approx(volume / plate.volume, abs=0.006)


# fields against samples


def samples(points: np.ndarray, radius: float = 0.5) -> SDFSamples:
    return SDFSamples.of(points, np.linalg.norm(points, axis=1) - radius)


def test_sdf_error_of_a_sphere_of_another_size() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (20_000, 3))
    truth = samples(points)
    assert sdf_error(Sphere(0.5), truth) == SDFError(pytest.approx(0, abs=1e-7), 0.0, 0.1, 20_000)  # pyright: ignore[reportArgumentType]
    found = sdf_error(Sphere(0.53), truth)
    radius = np.linalg.norm(points, axis=1)
    assert found.wrong_signs == pytest.approx(((radius > 0.5) & (radius < 0.53)).mean(), abs=1e-4)
    gap = np.abs(np.clip(radius - 0.5, -0.1, 0.1) - np.clip(radius - 0.53, -0.1, 0.1)).mean()
    assert found.clamped_l1 == pytest.approx(gap, rel=1e-5)
    assert sdf_error(Sphere(0.53), truth, clamp=10).clamped_l1 == pytest.approx(0.03, rel=1e-5)
    assert found.as_dict() == dataclasses.asdict(found)
    assert list(found.as_dict()) == ["clamped_l1", "wrong_signs", "clamp", "samples"]


def test_samples_on_the_surface_have_no_sign_and_zero_is_a_wrong_sign() -> None:
    truth = SDFSamples(np.array([[1.0, 0, 0, 0.5]]), np.array([[0.5, 0, 0, 0.0], [0, 0, 0, -0.5]]))
    assert sdf_error(lambda points: np.full(len(points), 0.5), truth).wrong_signs == 0.5
    assert sdf_error(lambda points: np.zeros(len(points)), truth).wrong_signs == 1
    on = SDFSamples(np.zeros((0, 4)), np.array([[0.5, 0, 0, 0.0]]))
    assert sdf_error(Sphere(0.5), on).wrong_signs == 0


@pytest.mark.parametrize(
    ("field", "count", "clamp", "message"),
    [
        (Sphere(), 0, 0.1, "there are no SDF samples to compare the field with; expected at least one"),
        (Sphere(), 3, 0.0, "clamp is 0.0; expected a positive length in the samples' frame"),
        (Sphere(), 3, math.nan, "clamp is nan; expected a positive length"),
        (lambda points: np.where(points[:, 0] > 0.5, np.nan, 0), 3, 0.1, "the field is NaN or infinite at 1 of 3"),
        (lambda points: points, 3, 0.1, r"the field returned shape \(3, 3\) for 3 samples; expected \(3,\)"),
    ],
)
def test_fields_and_samples_that_cannot_be_compared(field, count: int, clamp: float, message: str) -> None:
    truth = samples(np.array([[0.1, 0, 0], [0.2, 0, 0], [0.9, 0, 0]])[:count].reshape(-1, 3))
    with pytest.raises(InputError, match=message):
        sdf_error(field, truth, clamp)


# what cannot be compared


@pytest.mark.parametrize(
    ("reference", "points", "message"),
    [
        (np.zeros((0, 3)), np.zeros((1, 3)), r"^reference has points of shape \(0, 3\); expected \(n, 3\) with n > 0$"),
        (np.zeros((1, 3)), np.zeros((4, 2)), r"^surface has points of shape \(4, 2\); expected \(n, 3\)"),
        (
            np.zeros((1, 3)),
            np.full((1, 3), np.nan),
            r"^surface has points that are NaN or infinite; expected finite points",
        ),
        (
            np.full((1, 3), np.inf),
            np.zeros((1, 3)),
            r"^reference has points that are NaN or infinite; expected finite points",
        ),
        (np.zeros(3), np.zeros((1, 3)), r"^reference has points of shape \(3,\); expected \(n, 3\)"),
        ("chair.obj", np.zeros((1, 3)), r"^reference is a str; expected a mesh, a MeshSDF or points \(n, 3\)$"),
    ],
)
def test_points_that_cannot_be_compared(reference: np.ndarray, points: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        chamfer(reference, points)
    with pytest.raises(InputError, match=message):
        compare(reference, points)


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (np.zeros((3, 3)), [[0, 1, 2]], "the mesh has no face with an area to draw points from"),
        (np.zeros((0, 3)), np.zeros((0, 3), int), "the mesh has no face with an area to draw points from"),
        ([[0, 0, 0], [1, 0, 0], [0, np.nan, 0]], [[0, 1, 2]], "the mesh has vertices that are NaN or infinite"),
    ],
)
def test_a_mesh_without_a_surface(vertices: np.ndarray, faces: np.ndarray, message: str) -> None:
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    with pytest.raises(MeshError, match=f"^reference: {message}$"):
        compare(mesh, np.zeros((1, 3)))
    with pytest.raises(MeshError, match=f"^surface: {message}$"):
        compare(np.zeros((1, 3)), mesh)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"points": 0}, "^points is 0; it must be at least 1$"),
        ({"emd_points": -1}, "^emd_points is -1; it must be at least 0$"),
        ({"volume_points": -5}, "^volume_points is -5; it must be at least 0$"),
        ({"seed": -2}, "^seed is -2; it must be at least 0$"),
        ({"completion_delta": math.nan}, "^completion_delta is nan; expected a finite number$"),
        ({"completion_delta": -0.1}, "^completion_delta is -0.1; it must be at least 0$"),
        ({"f_score_side": 0.0}, "^f_score_side is 0.0; it must be greater than 0$"),
    ],
)
def test_settings_out_of_range(setting: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MetricOptions(**setting)


def test_sets_that_cannot_be_assigned() -> None:
    message = r"^cannot assign point sets of shapes \(2, 3\) and \(3, 3\); expected two of \(n, 3\), n > 0$"
    with pytest.raises(InputError, match=message):
        assign(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(InputError, match=r"^cannot assign point sets of shapes \(0, 3\) and \(0, 3\); expected two"):
        assign(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(InputError, match=r"^cannot assign points that are NaN or infinite$"):
        assign(np.zeros((2, 3)), np.full((2, 3), np.nan))
