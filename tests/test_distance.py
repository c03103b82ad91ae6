"""MeshSDF and signed_distance against closed forms, and their invariances."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import trimesh
from corruptions import concatenate, doubled, flipped, inside_out, soup
from hard_meshes import HARD, parameters, real_meshes

import deepsdf
from deepsdf.errors import InputError, MeshError, NoFacesError
from deepsdf.geometry.meshes import load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.signs import trust_radii, winding

SOME_REAL = [
    path
    for path in real_meshes("hard/meshes")
    if path.stem in ("oded_spot", "oded_wingnut", "trimesh_soup", "pcu_truck")
]


def points_in(bound: float, count: int = 20_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-bound, bound, (count, 3)).astype(np.float32)


def box_sdf(points: np.ndarray, size: tuple[float, float, float]) -> np.ndarray:
    q = np.abs(points.astype(np.float64)) - np.array(size) / 2
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0)


@pytest.mark.parametrize("sign", ["auto", "normal", "winding"])
def test_a_box_is_exact(sign: str) -> None:
    size = (1.0, 0.8, 0.6)
    points = points_in(1)
    sdf = MeshSDF(trimesh.creation.box(size), sign=sign)(points)
    assert sdf.dtype == np.float32
    np.testing.assert_allclose(sdf, box_sdf(points, size), atol=1e-6)


@pytest.mark.parametrize("spoil", [doubled, flipped, inside_out, soup])
def test_the_sign_is_exact_however_the_faces_are_wound(spoil) -> None:
    size = (1.0, 0.8, 0.6)
    points = points_in(1)
    mesh = spoil(trimesh.creation.box(size).subdivide(), np.random.default_rng(3))
    np.testing.assert_allclose(MeshSDF(mesh)(points), box_sdf(points, size), atol=1e-6)


def test_a_sphere_within_its_chords() -> None:
    ball = trimesh.creation.icosphere(5)
    points = points_in(1.5)
    chord = 1 - np.linalg.norm(ball.triangles_center, axis=1).min()
    error = MeshSDF(ball)(points) - (np.linalg.norm(points, axis=1) - 1)
    assert error.min() > -1e-5
    assert error.max() < chord * 1.01 + 1e-5  # an inscribed surface: distances are too large, never too small


def test_a_torus_within_its_chords() -> None:
    points = points_in(1.3)
    exact = np.hypot(np.hypot(points[:, 0], points[:, 1]) - 0.8, points[:, 2]) - 0.3
    sdf = MeshSDF(trimesh.creation.torus(0.8, 0.3, major_sections=256, minor_sections=128))(points)
    assert np.abs(sdf - exact).max() < 2e-4


def test_invariant_under_rotation_and_equivariant_under_scale() -> None:
    mesh = trimesh.creation.torus(0.8, 0.3)
    points = points_in(1.3, 5000)
    sdf = MeshSDF(mesh)(points)
    turn = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])
    turned = trimesh.transformations.transform_points(points, turn)
    np.testing.assert_allclose(MeshSDF(mesh.copy().apply_transform(turn))(turned), sdf, atol=2e-6)
    np.testing.assert_allclose(MeshSDF(mesh.copy().apply_scale(1000))(points * 1000), sdf * 1000, atol=2e-3)


def test_far_from_the_origin_float64_points_keep_their_digits() -> None:
    offset = np.array([1e5, -2e5, 3e5])
    points = points_in(1, 2000).astype(np.float64)
    far = trimesh.creation.box((1, 0.8, 0.6)).apply_translation(offset)
    np.testing.assert_allclose(MeshSDF(far)(points + offset), box_sdf(points, (1, 0.8, 0.6)), atol=1e-6)


def test_the_field_is_1_lipschitz() -> None:
    field = MeshSDF(trimesh.creation.capsule())
    points = points_in(1.5, 5000)
    step = np.random.default_rng(1).normal(0, 0.05, points.shape).astype(np.float32)
    change = np.abs(field(points + step) - field(points))
    assert (change <= np.linalg.norm(step, axis=1) + 1e-5).all()


def test_closest_points_lie_on_their_faces_at_the_distance() -> None:
    mesh = trimesh.creation.annulus(0.5, 1, 1)
    mesh = trimesh.Trimesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]), process=False)
    field = MeshSDF(mesh)
    points = points_in(1.5, 3000)
    closest, faces = field.closest(points)
    distance = field.distance(points)
    np.testing.assert_allclose(np.linalg.norm(points - closest, axis=1), distance, atol=1e-6)
    np.testing.assert_allclose(np.abs(field(points)), distance, atol=1e-6)
    on_face = trimesh.triangles.closest_point(mesh.triangles[faces], closest)
    np.testing.assert_allclose(on_face, closest, atol=1e-6)


def test_all_points_are_outside_an_open_sheet() -> None:
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    field = MeshSDF(sheet)
    assert (field(points_in(1)) > 0).all()
    assert field.closed is False


def test_the_inside_of_overlapping_parts_ends_at_the_outer_surface() -> None:
    """Distances are measured to the outer surface, not to parts inside."""
    outer, inner = trimesh.creation.icosphere(4), trimesh.creation.icosphere(3, radius=0.5)
    mesh = concatenate([outer, inner])
    points = points_in(1.2)
    np.testing.assert_allclose(MeshSDF(mesh)(points), MeshSDF(outer)(points), atol=1e-6)


def test_cavities_are_kept_on_request() -> None:
    outer, inner = trimesh.creation.icosphere(4), trimesh.creation.icosphere(4, radius=0.5)
    inner.invert()
    mesh = concatenate([outer, inner])
    points = points_in(1.2)
    r = np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(MeshSDF(mesh, keep_cavities=True)(points), np.maximum(r - 1, 0.5 - r), atol=5e-3)
    np.testing.assert_allclose(MeshSDF(mesh)(points), r - 1, atol=5e-3)


def square_and_box() -> trimesh.Trimesh:
    """A square sheet beside a box of edge 0.4 at x = 0.6."""
    square = trimesh.Trimesh(
        [[-0.9, 0, -0.3], [-0.3, 0, -0.3], [-0.3, 0, 0.3], [-0.9, 0, 0.3]], [[0, 1, 2], [0, 2, 3]], process=False
    )
    return concatenate([square, trimesh.creation.box((0.4, 0.4, 0.4)).apply_translation((0.6, 0, 0))])


def exact_square_and_box(points: np.ndarray) -> np.ndarray:
    to_square = np.linalg.norm(np.maximum(np.abs(points - (-0.6, 0, 0)) - (0.3, 0, 0.3), 0), axis=1)
    return np.minimum(to_square, box_sdf(points - (0.6, 0, 0), (0.4, 0.4, 0.4)))


def test_thickened_sheets_become_plates_and_solids_grow() -> None:
    points = points_in(1.0)
    exact = exact_square_and_box(points)
    np.testing.assert_allclose(MeshSDF(square_and_box())(points), exact, atol=1e-6)
    thick = MeshSDF(square_and_box(), thicken=0.05)
    np.testing.assert_allclose(thick(points), exact - 0.05, atol=1e-6)
    assert not thick.uncertain(points).any()
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(
            InputError, match=r"thicken is (-0.1|nan|inf); expected a length of at least 0 in the mesh's frame"
        ):
            MeshSDF(square_and_box(), thicken=wrong)


def test_pseudonormals_agree_with_the_winding_number_where_they_are_trusted() -> None:
    """The winding number decides far from the surface and near rims; elsewhere the closest face does."""
    sphere = trimesh.creation.icosphere(4)
    sphere.update_faces(sphere.triangles_center[:, 1] > -0.3)
    mesh = concatenate([sphere, trimesh.creation.box((0.4, 0.4, 0.4)).apply_translation((0, 1, 0))])
    field = MeshSDF(mesh)
    assert not field.oriented.sealed
    trust = trust_radii(field.oriented, "cpu")
    assert (trust == 0).any()
    assert (trust > 0.02).mean() > 0.3
    assert trust.max() < 0.6
    points = points_in(1.2, 50_000)
    local = ((points - field.oriented.center) * field.oriented.scale).astype(np.float32)
    by_winding, _ = winding(field.oriented, "cpu")(local)
    np.testing.assert_array_equal(np.signbit(field(points)), np.signbit(by_winding))


def test_uncertain_points() -> None:
    points = points_in(1, 4000)
    box = trimesh.creation.box((1, 0.8, 0.6))
    for spoil in (doubled, flipped, inside_out, soup):
        assert not MeshSDF(spoil(box, np.random.default_rng(0))).uncertain(points).any()
    turned = MeshSDF(inside_out(box, np.random.default_rng(0)), sign="normal")
    assert turned.uncertain(points).all()
    rng = np.random.default_rng(0)
    chance = trimesh.Trimesh(rng.uniform(-0.9, 0.9, (300, 3)), np.arange(300).reshape(100, 3), process=False)
    assert MeshSDF(chance).uncertain(points).mean() > 0.1
    assert MeshSDF(box).uncertain(np.zeros((0, 3))).shape == (0,)


def test_the_originals_vote_is_exact_where_it_is_unanimous() -> None:
    size = (1.0, 0.8, 0.6)
    points = points_in(1, 5000)
    sdf = MeshSDF(doubled(trimesh.creation.box(size), np.random.default_rng(0)), sign="original")(points)
    known = ~np.isnan(sdf)
    assert known.mean() > 0.99
    np.testing.assert_allclose(sdf[known], box_sdf(points, size)[known], atol=1e-6)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, (0, 0, 0)), (250.0, (1e3, -2e3, 5e2)), (1e-3, (0.3, 0, -0.1))])
def test_signed_distance_in_the_meshs_frame(scale: float, offset: tuple[float, ...], tmp_path: Path) -> None:
    size, shift = (1.0, 0.8, 0.6), np.array(offset)
    points = points_in(1.5, 3000).astype(np.float64)
    box, sphere = trimesh.creation.box(size), trimesh.creation.icosphere(5)
    chord = 1 - np.linalg.norm(sphere.triangles_center, axis=1).min()
    for mesh in (box, sphere):
        mesh.apply_scale(scale).apply_translation(offset)
    placed = points * scale + shift
    found = deepsdf.signed_distance(box, placed)
    assert (found.shape, found.dtype) == ((3000,), np.float32)
    np.testing.assert_allclose(found / scale, box_sdf(points, size), atol=2e-6)
    error = deepsdf.signed_distance(sphere, placed) / scale - (np.linalg.norm(points, axis=1) - 1)
    assert error.min() > -1e-5
    assert error.max() < chord * 1.01 + 1e-5  # an inscribed surface: distances are never too small
    box.export(tmp_path / "box.stl")
    for path in (tmp_path / "box.stl", str(tmp_path / "box.stl")):  # float32 vertices
        by_path = deepsdf.signed_distance(path, placed)
        np.testing.assert_allclose(by_path, found, atol=float(np.abs(box.bounds).max()) * 2e-7)
    np.testing.assert_array_equal(deepsdf.signed_distance(box, placed.tolist()), found)


def test_signed_distance_needs_faces(tmp_path: Path) -> None:
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    with pytest.raises(NoFacesError) as caught:
        deepsdf.signed_distance(tmp_path / "points.obj", np.zeros((1, 3)))
    message = "has no faces; a surface is needed, not a point cloud or an empty file"
    assert str(caught.value) == f"{tmp_path / 'points.obj'}: {message}"
    with pytest.raises(InputError, match=r"points have shape \(3,\); expected \(n, 3\)"):
        deepsdf.signed_distance(trimesh.creation.box(), np.zeros(3))


def test_errors_name_the_expected_values() -> None:
    with pytest.raises(InputError, match="sign is 'parity'; expected one of auto, normal, winding, original"):
        MeshSDF(trimesh.creation.box(), sign="parity")
    with pytest.raises(InputError, match=r"device 'abacus' is not available; expected auto, cpu"):
        MeshSDF(trimesh.creation.box(), device="abacus")
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        MeshSDF(trimesh.creation.box())(np.zeros(3))
    with pytest.raises(MeshError, match="no faces"):
        MeshSDF(trimesh.Trimesh())


def test_no_points_no_distances() -> None:
    field = MeshSDF(trimesh.creation.box())
    assert field(np.zeros((0, 3), np.float32)).shape == (0,)
    assert field.distance(np.zeros((0, 3))).shape == (0,)
    assert field.closest(np.zeros((0, 3)))[0].shape == (0, 3)


def test_pickling_keeps_the_values() -> None:
    field = MeshSDF(trimesh.creation.torus(0.8, 0.3))
    points = points_in(1.5, 2000)
    expected = field(points)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(field))(points), expected)


def test_the_order_of_points_does_not_matter() -> None:
    field = MeshSDF(trimesh.creation.torus(0.8, 0.3))
    points = points_in(1.5, 5000)
    order = np.random.default_rng(0).permutation(len(points))
    np.testing.assert_allclose(field(points[order]), field(points)[order], atol=1e-6)


@pytest.mark.parametrize("name", ["cow", "wingnut", "random_soup", "open_fins"])
def test_generated_hard_meshes_have_an_inside_and_an_outside(name: str, tmp_path: Path) -> None:
    check_both_sides(HARD[name].write(tmp_path / name))


@pytest.mark.parametrize("path", parameters(SOME_REAL))
def test_hard_meshes_have_an_inside_and_an_outside(path: Path) -> None:
    check_both_sides(path)


def check_both_sides(path: Path) -> None:
    mesh = load_mesh(path)
    low, high = mesh.bounds
    grid = np.random.default_rng(0).uniform(low, high, (20_000, 3))
    sdf = MeshSDF(mesh)(grid)
    assert np.isfinite(sdf).all()
    assert 0.005 < (sdf < 0).mean() < 0.95
    far = (low + high) / 2 + 3 * np.ptp(mesh.bounds, axis=0) * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]])
    assert (MeshSDF(mesh)(far) > 0).all()
