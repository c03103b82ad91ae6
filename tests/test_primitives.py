"""Primitive fields against closed forms, against trimesh, and against the laws of distances."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import trimesh

from deepsdf.errors import InputError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.primitives import (
    Box,
    Capsule,
    Cylinder,
    Difference,
    Intersection,
    Rotated,
    Scaled,
    Sphere,
    Torus,
    Translated,
    Union,
)

SOLIDS = [
    Sphere(0.7),
    Box((0.5, 0.3, 0.7)),
    Torus(0.6, 0.2),
    Cylinder(0.4, 0.6),
    Capsule(0.3, 0.4),
    Translated(Sphere(0.5), (0.2, -0.1, 0.3)),
    Rotated(Box((0.5, 0.3, 0.7)), (1.0, 2.0, 3.0), 0.8),
    Scaled(Torus(0.6, 0.2), 1.5),
]
FLOAT32 = 2e-6  # rounding of a float32 distance of order 1


def random_points(count: int, *, bound: float = 1.5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-bound, bound, (count, 3)).astype(np.float32)


def gradient(field: Field, points: np.ndarray, step: float = 2e-3) -> np.ndarray:
    offsets = (step * np.eye(3)).astype(np.float32)
    columns = [(field(points + offset) - field(points - offset)) / (2.0 * step) for offset in offsets]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize(
    ("field", "point", "distance"),
    [
        (Sphere(2.0), (0, 0, 0), -2.0),
        (Sphere(2.0), (0, 3, 4), 3.0),
        (Box((1, 2, 3)), (0, 0, 0), -1.0),
        (Box((1, 2, 3)), (0.5, 1.9, 0), -0.1),
        (Box((1, 2, 3)), (4, 6, 3), 5.0),
        (Box((1, 2, 3)), (2, 3, 4), math.sqrt(3.0)),
        (Torus(2.0, 0.5), (0, 0, 0), 1.5),
        (Torus(2.0, 0.5), (0, 0, 2), -0.5),
        (Torus(2.0, 0.5), (2, 2, 0), 1.5),
        (Cylinder(1.0, 2.0), (0, 0, 0), -1.0),
        (Cylinder(1.0, 2.0), (0, 1.75, 0), -0.25),
        (Cylinder(1.0, 2.0), (4, 6, 0), 5.0),
        (Cylinder(1.0, 2.0), (0, 2.5, 0.5), 0.5),
        (Capsule(0.5, 1.0), (0, 0.7, 0), -0.5),
        (Capsule(0.5, 1.0), (0, 2, 0), 0.5),
        (Capsule(0.5, 1.0), (3, 5, 0), 4.5),
        (Translated(Sphere(1.0), (1, 2, 3)), (1, 2, 5), 1.0),
        (Rotated(Translated(Sphere(1.0), (5, 0, 0)), (0, 0, 2), math.pi / 2), (0, 5, 0), -1.0),
        (Scaled(Sphere(1.0), 3.0), (0, 0, 4), 1.0),
    ],
)
def test_closed_form(field: Field, point: tuple[float, float, float], distance: float) -> None:
    assert field(np.array([point], dtype=np.float32)) == pytest.approx(distance, abs=FLOAT32)


@pytest.mark.parametrize("field", SOLIDS, ids=repr)
def test_shapes_types_and_purity(field: Field) -> None:
    points = random_points(50)
    before = points.copy()
    distances = field(points)
    assert distances.shape == (50,)
    assert distances.dtype == np.float32
    np.testing.assert_array_equal(points, before)
    assert field(np.zeros((0, 3), dtype=np.float32)).shape == (0,)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(field))(points), distances)
    assert hash(field) == hash(pickle.loads(pickle.dumps(field)))


@pytest.mark.parametrize("field", SOLIDS, ids=repr)
def test_gradient_has_unit_length_off_the_medial_axis(field: Field) -> None:
    # Central differences lose length only where the nearest surface point jumps: a thin set of the points.
    length = np.linalg.norm(gradient(field, random_points(4000)), axis=1)
    assert np.mean(np.abs(length - 1.0) < 2e-3) > 0.97
    assert length.max() < 1.0 + 2e-3


@pytest.mark.parametrize("field", SOLIDS, ids=repr)
def test_a_step_along_the_gradient_lands_on_the_surface(field: Field) -> None:
    points = random_points(4000)
    slope = gradient(field, points)
    smooth = np.abs(np.linalg.norm(slope, axis=1) - 1.0) < 1e-3
    landed = (points - field(points)[:, None] * slope)[smooth].astype(np.float32)
    assert np.median(np.abs(field(landed))) < 1e-3
    assert np.mean(np.abs(field(landed)) < 5e-3) > 0.97


@pytest.mark.parametrize("field", SOLIDS, ids=repr)
def test_no_two_distances_differ_by_more_than_their_points(field: Field) -> None:
    a, b = random_points(4000, seed=1), random_points(4000, seed=2)
    assert np.all(np.abs(field(a) - field(b)) <= np.linalg.norm(a - b, axis=1) + FLOAT32)


def surface_distance(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Unsigned distance (n,) to every triangle in turn, so that no spatial index is needed."""
    nearest = np.full(len(points), np.inf)
    for triangle in mesh.triangles:
        closest = trimesh.triangles.closest_point(np.broadcast_to(triangle, (len(points), 3, 3)), points)
        nearest = np.minimum(nearest, np.linalg.norm(closest - points, axis=1))
    return nearest


def test_box_agrees_with_the_distance_to_its_mesh() -> None:
    points = random_points(3000)
    mesh = trimesh.creation.box(extents=(1.0, 0.6, 1.4))
    distances = Box((0.5, 0.3, 0.7))(points)
    np.testing.assert_allclose(np.abs(distances), surface_distance(mesh, points), atol=FLOAT32)
    np.testing.assert_array_equal(distances < 0.0, np.all(np.abs(points) < [0.5, 0.3, 0.7], axis=1))


def test_sphere_agrees_with_the_distance_to_its_mesh_within_the_chord() -> None:
    points = random_points(300)
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.7)
    # The flat faces lie inside the sphere, the deepest of them at its middle.
    chord = 0.7 - np.linalg.norm(mesh.triangles_center, axis=1).min()
    error = surface_distance(mesh, points) - np.abs(Sphere(0.7)(points))
    assert np.abs(error).max() <= chord + FLOAT32


def test_rotated_box_agrees_with_its_rotated_mesh() -> None:
    points = random_points(1000)
    axis, angle = (1.0, -2.0, 0.5), 1.1
    mesh = trimesh.creation.box(extents=(1.0, 0.6, 1.4))
    mesh.apply_transform(trimesh.transformations.rotation_matrix(angle, axis))
    distances = Rotated(Box((0.5, 0.3, 0.7)), axis, angle)(points)
    np.testing.assert_allclose(np.abs(distances), surface_distance(mesh, points), atol=FLOAT32)


def test_boolean_fields_combine_their_parts() -> None:
    points = random_points(2000)
    a, b = Sphere(0.8), Translated(Box((0.4, 0.4, 0.4)), (0.5, 0.0, 0.0))
    np.testing.assert_array_equal(Union((a, b))(points), np.minimum(a(points), b(points)))
    np.testing.assert_array_equal(Intersection((a, b))(points), np.maximum(a(points), b(points)))
    np.testing.assert_array_equal(Difference(a, b)(points), np.maximum(a(points), -b(points)))


def test_booleans_are_exact_where_they_say_so_and_bounds_elsewhere() -> None:
    points = random_points(3000)
    # Two half boxes overlap in a slab, and their union, intersection and difference are boxes again.
    left = Translated(Box((0.6, 0.5, 0.5)), (-0.2, 0.0, 0.0))
    right = Translated(Box((0.6, 0.5, 0.5)), (0.2, 0.0, 0.0))
    union, both = Box((0.8, 0.5, 0.5)), Box((0.4, 0.5, 0.5))
    rest = Translated(Box((0.2, 0.5, 0.5)), (-0.6, 0.0, 0.0))
    for built, true in (
        (Union((left, right)), union),
        (Intersection((left, right)), both),
        (Difference(left, right), rest),
    ):
        bound, exact = built(points), true(points)
        inside = exact < 0.0
        np.testing.assert_array_equal(bound < 0.0, inside)
        assert np.all(np.abs(bound) <= np.abs(exact) + FLOAT32)
        sure = ~inside if isinstance(built, Union) else inside
        np.testing.assert_allclose(bound[sure], exact[sure], atol=FLOAT32)


def test_invalid_sizes_and_shapes_are_rejected_by_name() -> None:
    with pytest.raises(InputError, match=r"^radius is -1\.0; it must be positive and finite$"):
        Sphere(-1.0)
    with pytest.raises(InputError, match=r"^half_extents_y is 0\.0; it must be positive and finite$"):
        Box((1.0, 0.0, 1.0))
    with pytest.raises(InputError, match=r"^factor is nan; it must be positive and finite$"):
        Scaled(Sphere(), float("nan"))
    with pytest.raises(InputError, match=r"^a torus has minor=0\.5 and major=0\.2; minor must be smaller than major$"):
        Torus(0.2, 0.5)
    with pytest.raises(InputError, match=r"^axis_length is 0\.0; it must be positive and finite$"):
        Rotated(Sphere(), (0.0, 0.0, 0.0), 1.0)
    with pytest.raises(InputError, match=r"^parts is empty; give at least one field$"):
        Union(())
    with pytest.raises(InputError, match=r"^points have shape \(3,\); a field takes \(n, 3\)$"):
        Sphere()(np.zeros(3, dtype=np.float32))
