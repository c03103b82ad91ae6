"""Scans: virtual cameras see the surface, and depth maps give back the points that they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from deepsdf.errors import InputError
from deepsdf.geometry.scanning.depth_camera import DepthCamera
from deepsdf.geometry.scanning.normals import estimate_normals
from deepsdf.geometry.scanning.scan import FEWEST, POINTS, RAYS, Scan, render_depth, scan

EYE = np.array([0.3, 0.5, 2.5])


@pytest.fixture(scope="module")
def sphere() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(4, radius=0.8)


def lengths(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def test_a_camera_sees_the_near_side_of_a_ball(sphere: trimesh.Trimesh) -> None:
    seen = scan(sphere, EYE, 128, device="cpu")
    assert np.abs(lengths(seen.points) - 0.8).max() < 2e-3  # a chord below the sphere
    # The horizon of a ball of radius r, from distance d: points with p · eye > r²
    assert (seen.points @ EYE).min() > 0.64 * 0.97
    assert (seen.points @ EYE).min() < 0.64 * 1.1
    assert np.einsum("ni,ni->n", seen.normals, seen.points / 0.8).min() > 0.98
    assert seen.oriented.all()
    np.testing.assert_array_equal(seen.cameras, np.broadcast_to(EYE, seen.points.shape))
    assert len(seen) == min(POINTS, len(seen))


def test_rays_without_a_hit_pass_the_ball(sphere: trimesh.Trimesh) -> None:
    seen = scan(sphere, EYE, 128, device="cpu")
    origin, direction, way = seen.empty[:, :3], seen.empty[:, 3:6], seen.empty[:, 6]
    assert 0 < len(seen.empty) <= RAYS
    np.testing.assert_allclose(lengths(direction), 1)
    assert lengths(np.cross(direction, origin)).min() > 0.79  # the line's distance from the middle
    beside = lengths(origin + way[:, None] * direction)
    assert np.quantile(beside, 0.4) < 0.9  # many pass close by
    assert beside.min() > 0.79


def test_a_depth_map_by_each_convention_gives_the_same_points(sphere: trimesh.Trimesh) -> None:
    camera = DepthCamera.look_at(EYE, (0.1, 0.0, 0.0), resolution=64)
    depth = render_depth(sphere, camera, device="cpu")
    direct = scan(sphere, camera, device="cpu")
    fx, fy, cx, cy = *camera.focal, *camera.principal
    inverse = np.linalg.inv(camera.pose)
    quaternion = Rotation.from_matrix(inverse[:3, :3]).as_quat()[[3, 0, 1, 2]]
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    ways: list[tuple[Any, Any, Any]] = [
        ((fx, fy, cx - 0.5, cy - 0.5), inverse, "open3d"),
        ([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], inverse[:3], "colmap"),
        ({"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": 64, "height": 64}, [*quaternion, *inverse[:3, 3]], "colmap"),
        ((fx, fy, cx, cy), camera.pose @ flip, "opengl"),
    ]
    for intrinsics, pose, convention in ways:
        found = Scan.from_depth(depth, intrinsics, pose, convention=convention)
        np.testing.assert_allclose(found.points, direct.points, atol=1e-12)
        np.testing.assert_allclose(found.empty, direct.empty, atol=1e-12)


def test_integer_depths_in_millimetres(sphere: trimesh.Trimesh) -> None:
    camera = DepthCamera.look_at(EYE, resolution=64)
    depth = render_depth(sphere, camera, device="cpu")
    whole = np.where(np.isfinite(depth), np.rint(depth * 1000), 0).astype(np.uint16)
    found = Scan.from_depth(whole, (*camera.focal, *camera.principal - 0.5), None, depth_scale=0.001)
    placed = found.moved(camera.pose)
    assert np.abs(lengths(placed.points) - 0.8).max() < 3e-3
    assert len(found.empty) == 0  # 0 means no reading, so no space is known to be free


def test_same_seed_same_scan_and_the_given_noise(sphere: trimesh.Trimesh) -> None:
    one, two, other = (scan(sphere, EYE, 96, 0.01, seed=seed, device="cpu") for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.points, two.points)
    assert not np.array_equal(one.points, other.points)
    along = (one.points - EYE) @ (-EYE / np.linalg.norm(EYE))
    exact = scan(sphere, EYE, 96, device="cpu")
    assert (along - (exact.points - EYE) @ (-EYE / np.linalg.norm(EYE))).std() == pytest.approx(0.01, rel=0.1)
    assert 0.005 < one.noise < 0.012
    assert exact.noise < 0.002


def test_views_join(sphere: trimesh.Trimesh) -> None:
    both = scan(sphere, np.stack([EYE, -EYE]), 64, device="cpu")
    parts = [scan(sphere, eye, 64, device="cpu") for eye in (EYE, -EYE)]
    np.testing.assert_array_equal(both.points, Scan.join(parts).points)
    assert len(both) == len(parts[0]) + len(parts[1])
    assert ((both.points @ EYE < 0) == (both.cameras @ EYE < 0)).all()


def test_a_scan_moves_as_its_points_do(sphere: trimesh.Trimesh) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = 2.5 * Rotation.from_rotvec([0.3, -0.2, 1.0]).as_matrix()
    matrix[:3, 3] = (1.0, -2.0, 0.5)
    seen = scan(sphere, EYE, 64, device="cpu")
    moved = seen.moved(matrix)
    again = moved.moved(np.linalg.inv(matrix))
    for name in ("points", "normals", "cameras", "thickness", "empty"):
        np.testing.assert_allclose(getattr(again, name), getattr(seen, name), atol=1e-12)
    np.testing.assert_allclose(lengths(moved.points - matrix[:3, 3]), 2.5 * lengths(seen.points))
    assert (np.einsum("ni,ni->n", moved.normals, moved.cameras - moved.points) > 0).all()


def test_normals_of_a_noisy_plane() -> None:
    rng = np.random.default_rng(0)
    plane = np.column_stack([rng.uniform(-1, 1, (4000, 2)), np.zeros(4000)])
    normals, thickness = estimate_normals(plane)
    np.testing.assert_allclose(np.abs(normals[:, 2]), 1)
    assert thickness.max() < 1e-12
    noisy, thickness = estimate_normals(plane + rng.normal(0, 0.02, plane.shape))
    assert np.abs(noisy[:, 2]).mean() > 0.97
    assert 0.01 < np.median(thickness) < 0.03


def test_points_without_camera_have_unoriented_normals() -> None:
    points = trimesh.creation.icosphere(3).vertices
    bare = Scan.from_points(points)
    assert not bare.oriented.any()
    assert np.isnan(bare.cameras).all()
    assert np.abs(np.einsum("ni,ni->n", bare.normals, points)).min() > 0.98
    given = Scan.from_points(points, 3.0 * points)
    assert given.oriented.all()
    np.testing.assert_allclose(given.normals, points, atol=1e-12)
    many = Scan.from_points(np.random.default_rng(0).normal(size=(3 * POINTS, 3)))
    assert len(many) == POINTS


def test_points_that_are_not_finite_are_dropped() -> None:
    points = np.random.default_rng(0).normal(size=(100, 3))
    points[::4] = np.nan
    assert len(Scan.from_points(points)) == 75


def clouds() -> list[Any]:
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(100, 3))
    ball /= lengths(ball)[:, None]
    cap = ball[ball[:, 2] > 0.5]
    return [
        ((np.zeros((0, 3)),), rf"0 usable points of 0; it needs at least {FEWEST}"),
        ((np.eye(3),), rf"3 usable points of 3; it needs at least {FEWEST}"),
        ((np.full((50, 3), np.nan),), r"0 usable points of 50"),
        ((np.ones((50, 3)),), r"all 50 points of the scan are the same"),
        ((ball[:, :2],), r"points have shape \(100, 2\); expected \(n, 3\)"),
        ((ball, ball[:50]), r"normals have shape \(50, 3\); expected \(100, 3\)"),
        (("x",), r"points are not numbers; expected \(n, 3\)"),
        ((ball, None, (0, 1)), r"invalid camera of shape \(2,\); expected finite numbers \(3,\), or"),
        ((ball, None, (0, 1, np.nan)), r"invalid camera of shape \(3,\); expected finite"),
        ((cap, -cap, (0, 0, 5)), r"100% of the normals point away from the camera.*negate the normals"),
    ]


@pytest.mark.parametrize(("arguments", "message"), clouds())
def test_invalid_clouds(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scan.from_points(*arguments)


IMAGE = np.full((40, 60), 2.0)
GOOD = (50.0, 50.0, 30.0, 20.0)


@pytest.mark.parametrize(
    ("depth", "intrinsics", "options", "message"),
    [
        (np.full((40, 60), np.nan), GOOD, {}, r"0 of 2400 pixels have a depth \(NaN: 2400, 0: 0, infinite: 0\)"),
        (np.zeros((40, 60)), GOOD, {}, r"NaN: 0, 0: 2400"),
        (-IMAGE, GOOD, {}, r"2400 of 2400 depths are negative, i\.e\. behind the camera"),
        (np.zeros((40, 60, 3)), GOOD, {}, r"invalid depth map: float64 of shape \(40, 60, 3\); expected numbers"),
        (IMAGE, (500.0, 500.0, 320.0, 240.0), {}, r"principal point \[320.0, 240.0\] is not near the centre of the 60"),
        (IMAGE, (50.0, 50.0, 59.5, 39.5), {}, r"to an image of another size"),
        (
            IMAGE,
            {"fx": 1, "fy": 1, "cx": 30, "cy": 20, "width": 40, "height": 60},
            {},
            r"belong to an image of 40 x 60 pixels",
        ),
        (IMAGE, (0.0, 50.0, 30.0, 20.0), {}, r"expected fx > 0, fy > 0"),
        (IMAGE, {"fx": 1}, {}, r"invalid intrinsics \('fy'\); expected fx, fy, cx, cy"),
        (IMAGE, np.ones((3, 3)), {}, r"expected \[\[fx, 0, cx\], \[0, fy, cy\], \[0, 0, 1\]\]"),
        (IMAGE, GOOD, {"pose": np.eye(3)}, r"invalid pose .*; expected a finite matrix \(4, 4\)"),
        (IMAGE, GOOD, {"pose": np.diag([2.0, 2, 2, 1])}, r"is not a rotation \(it mirrors, scales or shears\)"),
        (IMAGE, GOOD, {"pose": np.diag([1.0, 1, -1, 1])}, r"is not a rotation"),
        (IMAGE, GOOD, {"pose": np.eye(4) + np.eye(4)[[3]].T @ [[1, 0, 0, 0]]}, r"is it column-major\?"),
        (IMAGE, GOOD, {"convention": "blender"}, r"convention is 'blender'; expected one of open3d, colmap, opengl"),
        (IMAGE, GOOD, {"depth_scale": 0.0}, r"depth_scale is 0\.0; expected a positive number"),
        (IMAGE, GOOD, {"pose": [0, 0, 0, 0, 1, 1, 1], "convention": "colmap"}, r"qw qx qy qz is zero"),
    ],
)
def test_invalid_depth_maps(depth: Any, intrinsics: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scan.from_depth(depth, intrinsics, **options)


def test_invalid_cameras(sphere: trimesh.Trimesh) -> None:
    for camera, message in (
        ((0, 0), r"numbers of shape \(1, 2\); expected finite positions \(3,\) or \(n, 3\)"),
        ((0, 0, np.nan), r"numbers of shape \(1, 3\); expected finite positions"),
        ((0, 0, 0), r"invalid camera: position \[0\.0, 0\.0, 0\.0\], target"),
        (DepthCamera.look_at((0, 0, 3), (0, 0, 6), resolution=8), r"0 of 64 pixels have a depth"),
    ):
        with pytest.raises(InputError, match=message):
            scan(sphere, camera, device="cpu")
    with pytest.raises(InputError, match=r"noise is -1\.0; expected a standard deviation of at least 0"):
        scan(sphere, EYE, noise=-1.0, device="cpu")
    with pytest.raises(InputError, match="cannot join zero scans"):
        Scan.join([])


def test_a_camera_above_looks_down() -> None:
    camera = DepthCamera.look_at((0, 3, 0), resolution=9)
    np.testing.assert_allclose(camera.rays()[40], [0, -1, 0], atol=1e-12)
    assert np.linalg.det(camera.pose[:3, :3]) == pytest.approx(1)
