"""Distances between surfaces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import trimesh

from deepsdf.errors import InputError
from deepsdf.geometry.metrics import POINTS, SurfaceMetrics, chamfer, compare


def brute(reference: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    squared = ((reference[:, None] - points[None]) ** 2).sum(axis=2)
    return float(squared.min(axis=0).mean()), float(squared.min(axis=1).mean())


def turn(angle: float) -> np.ndarray:
    return trimesh.transformations.rotation_matrix(angle, (1, 2, 3))


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 3)), rng.normal(size=(200, 3)) + 0.2


@pytest.fixture(scope="module")
def ball() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(5)


def test_chamfer_is_the_brute_force_one(clouds: tuple[np.ndarray, np.ndarray]) -> None:
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


def test_the_two_ways_are_named_rightly() -> None:
    near, both = np.zeros((1, 3)), np.array([[0.0, 0, 0], [3.0, 0, 0]])
    # Every point of `near` is in `both`; one of `both` is 3 from `near`.
    assert chamfer(both, near) == SurfaceMetrics(4.5, 0.0, 4.5, (2, 1))
    assert chamfer(near, both) == SurfaceMetrics(4.5, 4.5, 0.0, (1, 2))


def test_symmetry(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    one, other = chamfer(*clouds), chamfer(*clouds[::-1])
    assert (one.chamfer, one.to_surface, one.to_reference) == (other.chamfer, other.to_reference, other.to_surface)


def test_rigid_motion_changes_nothing_and_scale_goes_squared(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    before = chamfer(*clouds).chamfer
    move = turn(1.1)
    move[:3, 3] = (4, -5, 6)
    moved = [trimesh.transform_points(cloud, move) for cloud in clouds]
    assert chamfer(*moved).chamfer == pytest.approx(before, rel=1e-10)
    assert chamfer(*(7 * cloud for cloud in clouds)).chamfer == pytest.approx(49 * before, rel=1e-12)


def test_meshes_under_motion_and_scale(ball: trimesh.Trimesh) -> None:
    """The draws depend on the seed and the areas' shares alone, so both laws hold to rounding."""
    box = trimesh.creation.box((1.0, 1.5, 2.0))
    before = compare(ball, box, points=2000).chamfer
    move = turn(0.8)
    move[:3, 3] = (1, 2, 3)
    moved = [mesh.copy().apply_transform(move) for mesh in (ball, box)]
    assert compare(*moved, points=2000).chamfer == pytest.approx(before, rel=1e-6)
    scaled = [mesh.copy().apply_scale(3.0) for mesh in (ball, box)]
    assert compare(*scaled, points=2000).chamfer == pytest.approx(9 * before, rel=1e-6)


def test_a_mesh_against_itself_is_at_the_sampling_floor(ball: trimesh.Trimesh) -> None:
    for mesh in (ball, trimesh.creation.box((1.0, 0.5, 2.0))):
        assert compare(mesh, mesh).chamfer == pytest.approx(2 * mesh.area / (math.pi * POINTS), rel=0.04)


def test_concentric_spheres(ball: trimesh.Trimesh) -> None:
    """Radius 1 and 1 + d: d² each way, and a floor: the nearest sample is not straight below."""
    for gap in (0.02, 0.1, 0.5):
        larger = ball.copy().apply_scale(1 + gap)
        found = compare(ball, larger)
        # Straight below lies a sample within rho²: n rho² pi / area is 1 on average. Seen from a point at
        # radius R towards the sphere r, the squared distance grows by R / r of that.
        floor = 4 * (1 + gap) / POINTS
        assert found.to_reference == pytest.approx(gap**2 + floor, rel=0.02)
        assert found.to_surface == pytest.approx(gap**2 + floor, rel=0.02)
        assert found.points == (POINTS, POINTS)


def test_points_are_taken_as_they_are(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    assert compare(*clouds) == chamfer(*clouds)
    assert compare(clouds[0].astype(np.float32), clouds[1]).points == (300, 200)


def test_same_seed_same_number(ball: trimesh.Trimesh) -> None:
    assert compare(ball, ball, points=500, seed=3) == compare(ball, ball, points=500, seed=3)
    assert compare(ball, ball, points=500, seed=3) != compare(ball, ball, points=500, seed=4)


@pytest.mark.parametrize(
    ("reference", "points", "message"),
    [
        (np.zeros((0, 3)), np.zeros((1, 3)), r"the reference's points have shape \(0, 3\); finite points \(n, 3\)"),
        (np.zeros((1, 3)), np.zeros((4, 2)), r"the surface's points have shape \(4, 2\)"),
        (np.zeros((1, 3)), np.full((1, 3), np.nan), r"the surface's points"),
        (np.full((1, 3), np.inf), np.zeros((1, 3)), r"the reference's points"),
        (np.zeros(3), np.zeros((1, 3)), r"the reference's points have shape \(3,\)"),
    ],
)
def test_points_that_cannot_be_compared(reference: np.ndarray, points: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        chamfer(reference, points)
    with pytest.raises(InputError, match=message):
        compare(reference, points)


def test_a_mesh_without_a_surface() -> None:
    flat = trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False)
    with pytest.raises(InputError, match="no face with an area"):
        compare(flat, np.zeros((1, 3)))
