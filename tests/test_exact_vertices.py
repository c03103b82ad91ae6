"""Meshes with their vertices on the level set: dual contouring, normals, closing at the cube."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from deepsdf.geometry.fields import Field
from deepsdf.geometry.isosurface.cells import EDGE_ENDS, component_table
from deepsdf.geometry.isosurface.intersections import intersecting_pairs
from deepsdf.geometry.isosurface.options import Meshing, Vertices
from deepsdf.geometry.isosurface.polygonize import polygonize
from deepsdf.geometry.meshes import save_mesh
from deepsdf.geometry.primitives import (
    Box,
    Capsule,
    Cylinder,
    Difference,
    Rotated,
    Sphere,
    Torus,
    Translated,
    Union,
)

TURNED = ((1.0, 2.0, 3.0), 0.7)


def moved(field: Field) -> Field:
    return Translated(Rotated(field, *TURNED), (0.03, -0.05, 0.02))


class Foam:
    """A field of many handles and cavities: interpolated random values; with `wall`, all inside the cube."""

    def __init__(self, seed: int, cells: int, *, wall: bool) -> None:
        values = 0.1 * np.random.default_rng(seed).standard_normal((cells,) * 3)
        axis = np.abs(np.linspace(-1, 1, cells))
        outer = np.maximum.reduce(np.meshgrid(axis, axis, axis, indexing="ij")) - 0.8
        self.values = np.maximum(values, outer) if wall else values

    def __call__(self, points: np.ndarray) -> np.ndarray:
        places = (points.astype(np.float64) + 1) / 2 * (len(self.values) - 1)
        return map_coordinates(self.values, places.T, order=3, mode="nearest").astype(np.float32)


def fans(mesh: trimesh.Trimesh) -> int:
    """Number of closed rings of triangles around vertices: one for each vertex of a manifold."""
    faces = np.asarray(mesh.faces)
    corner = np.arange(faces.size).reshape(faces.shape)
    ends = np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2)
    owners = np.stack([corner, np.roll(corner, -1, axis=1)], -1).reshape(-1, 2)
    turn = np.argsort(ends, axis=1)
    ends, owners = np.take_along_axis(ends, turn, 1), np.take_along_axis(owners, turn, 1)
    order = np.lexsort(ends.T)
    ends, owners = ends[order], owners[order]
    same = np.flatnonzero((ends[1:] == ends[:-1]).all(axis=1))
    links = np.stack([owners[same], owners[same + 1]], -1).reshape(-1, 2)
    graph = coo_array((np.ones(len(links)), links.T), shape=(faces.size,) * 2)
    return connected_components(graph, directed=False)[0]


def assert_manifold(mesh: trimesh.Trimesh) -> None:
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert fans(mesh) == len(mesh.vertices) == len(np.unique(mesh.faces))


def on_surface(mesh: trimesh.Trimesh, field: Field, count: int = 20_000) -> np.ndarray:
    """|distance| of random points of a mesh, for fields that are exact distances near their surface."""
    points = trimesh.sample.sample_surface(mesh, count, seed=0)[0]
    return np.abs(field(points.astype(np.float32)))


SOLIDS: dict[str, tuple[Field, float, int]] = {
    "sphere": (Sphere(0.6), 4 / 3 * math.pi * 0.6**3, 2),
    "torus": (Torus(0.6, 0.2), 2 * math.pi**2 * 0.6 * 0.04, 0),
    "box": (Box((0.5, 0.3, 0.4)), 0.48, 2),
    "cylinder": (Cylinder(0.4, 0.5), math.pi * 0.16, 2),
    "capsule": (Capsule(0.3, 0.4), math.pi * 0.09 * 1.2, 2),
    "shell": (Difference(Sphere(0.8), Sphere(0.5)), 4 / 3 * math.pi * (0.8**3 - 0.5**3), 4),
}
"""A field, its exact volume and its Euler number."""


@pytest.mark.parametrize("place", [lambda field: field, moved], ids=["straight", "moved"])
@pytest.mark.parametrize("name", SOLIDS)
def test_solids(name: str, place: Callable[[Field], Field]) -> None:
    field, volume, euler = SOLIDS[name]
    field = place(field)
    mesh = polygonize(field, 40)
    assert_manifold(mesh)
    assert mesh.euler_number == euler
    assert mesh.volume == pytest.approx(volume, rel=2e-3)
    # At half the resolution, in mean and 99th percentile at least as close as marching cubes.
    twice = on_surface(polygonize(field, Meshing(resolution=80, vertices="linear")), field)
    ours = on_surface(mesh, field)
    assert ours.mean() <= max(twice.mean(), 1e-6)
    assert np.quantile(ours, 0.99) <= max(np.quantile(twice, 0.99), 1e-6)


def test_the_error_of_a_ball_falls_fourfold_as_the_resolution_doubles() -> None:
    """The error of flat triangles between vertices on the surface is quadratic in their size."""
    meshes = [polygonize(Sphere(0.6), resolution) for resolution in (17, 33, 65)]
    off = [on_surface(mesh, Sphere(0.6)).mean() for mesh in meshes]
    assert off[0] / off[1] == pytest.approx(4, rel=0.25)
    assert off[1] / off[2] == pytest.approx(4, rel=0.25)
    for mesh in meshes:
        np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.6, atol=2e-4)


def test_a_box_keeps_its_corners() -> None:
    """Approximately: the vertex for a corner in a cell that is not active lies in the next cell."""
    half = np.array([0.5, 0.3, 0.4])
    box = Rotated(Box(tuple(half)), *TURNED)
    mesh = polygonize(box, 64)
    cube = np.stack(np.meshgrid(*[[-1, 1]] * 3, indexing="ij"), -1).reshape(-1, 3) * half
    turn = np.asarray(trimesh.transformations.rotation_matrix(TURNED[1], TURNED[0]))[:3, :3]
    away = np.linalg.norm((cube @ turn.T)[:, None] - mesh.vertices, axis=-1).min(axis=1)
    blunt = polygonize(box, Meshing(resolution=64, vertices="linear")).vertices
    blunted = np.linalg.norm((cube @ turn.T)[:, None] - blunt, axis=-1).min(axis=1)
    cell = 2 / 63
    assert away.max() < 0.5 * cell
    assert away.mean() < 0.6 * blunted.mean()


@pytest.mark.parametrize("seed", range(3))
def test_the_mesh_of_a_rough_field_is_a_manifold(seed: int) -> None:
    """Ambiguous faces, several components in a cell, tunnels: far rougher than the grid."""
    assert_manifold(polygonize(Foam(seed, 13 + 4 * seed, wall=True), 16))


ROUGH: dict[str, Field] = {
    "box": moved(Box((0.5, 0.3, 0.4))),
    "cylinder": moved(Cylinder(0.4, 0.5)),
    "plate": moved(Box((0.6, 0.02, 0.6))),
    "pierced box": moved(Difference(Box((0.5, 0.3, 0.4)), Cylinder(0.25, 0.6))),
}


@pytest.mark.parametrize("name", ROUGH)
def test_a_mesh_does_not_intersect_itself(name: str) -> None:
    for resolution in (20, 48):
        mesh = polygonize(ROUGH[name], resolution)
        assert not len(intersecting_pairs(mesh.vertices, mesh.faces, np.arange(len(mesh.faces))))


@pytest.mark.parametrize("seed", range(2))
def test_a_mesh_of_a_field_far_rougher_than_the_grid_does_not_intersect_itself(seed: int) -> None:
    mesh = polygonize(Foam(seed, 9 + 4 * seed, wall=True), 9)
    assert not len(intersecting_pairs(mesh.vertices, mesh.faces, np.arange(len(mesh.faces))))


def test_intersecting_triangles() -> None:
    flat = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]
    others = {
        "through it": ([[0.2, 0.2, -1], [0.2, 0.3, 1], [5, 5, 1]], True),
        "an edge of the first through the other": ([[0.5, -0.5, -1], [0.5, -0.5, 1], [0.5, 0.5, 0]], True),
        "beside it": ([[0.8, 0.8, -1], [0.8, 0.9, 1], [5, 5, 1]], False),
        "above it": ([[0.2, 0.2, 0.1], [0.2, 0.3, 1], [5, 5, 1]], False),
        "in its plane": ([[0.2, 0.2, 0], [0.7, 0.7, 0], [5, 5, 0]], False),
    }
    turn = np.asarray(trimesh.transformations.rotation_matrix(0.7, (1, 2, 3)))[:3, :3]
    for name, (other, cross) in others.items():
        points = 3 * np.array(flat + other) @ turn.T + 0.3
        for order in ([0, 1, 2], [1, 2, 0], [2, 1, 0]):
            faces = np.array([order, np.add(order, 3)])
            assert len(intersecting_pairs(points, faces, np.arange(2))) == 2 * cross, name
            assert len(intersecting_pairs(points, faces, np.arange(1))) == cross, name
    # with a corner in common, and an edge
    points = np.array([*flat, [0.2, 0.3, 1], [0.5, 0.1, -1], [0, 0, 1]])
    assert len(intersecting_pairs(points, np.array([[0, 1, 2], [0, 3, 4]]), np.arange(2))) == 2
    assert not len(intersecting_pairs(points, np.array([[0, 1, 2], [0, 1, 5]]), np.arange(2)))
    assert not len(intersecting_pairs(points, np.zeros((0, 3), int), np.arange(0)))


def test_points_of_thin_parts_lie_on_the_surface() -> None:
    """Fins and a sharp crease, where one Newton step goes wrong: the gradient turns within a cell."""
    fins = moved(Union((Box((0.6, 0.02, 0.6)), Capsule(0.02, 0.8), Torus(0.6, 0.03))))
    mesh = polygonize(fins, 48)
    off = np.abs(fins(np.asarray(mesh.vertices, np.float32))) / (2 / 47)
    assert off.max() < 0.1
    assert np.quantile(off, 0.99) < 0.01


@pytest.mark.parametrize("vertices", ["exact", "linear"])
@pytest.mark.parametrize("resolution", [20, 33])
def test_closed_at_the_cube(resolution: int, vertices: Vertices) -> None:
    cuts: dict[str, tuple[Field, float]] = {
        "ball": (Translated(Sphere(0.5), (0.8, 0, 0)), math.pi * 0.7**2 * (3 * 0.5 - 0.7) / 3),
        "all": (Sphere(3.0), 8.0),
    }
    for field, volume in cuts.values():
        mesh = polygonize(field, Meshing(resolution=resolution, vertices=vertices, closed=True))
        assert_manifold(mesh)
        assert mesh.volume == pytest.approx(volume, rel=0.03)
        assert mesh.bounds[1, 0] == 1.0
    foam = polygonize(Foam(5, 9, wall=False), Meshing(resolution=resolution // 2, vertices=vertices, closed=True))
    assert foam.is_watertight
    assert foam.is_winding_consistent
    assert np.abs(foam.vertices).max() <= 1.0


def test_closing_changes_nothing_inside_the_cube() -> None:
    field = moved(Torus(0.6, 0.2))
    mesh, closed = (polygonize(field, Meshing(resolution=40, closed=closed)) for closed in (False, True))
    assert len(mesh.faces) == len(closed.faces)
    assert mesh.volume == pytest.approx(closed.volume, rel=1e-6)


def test_normals_are_the_fields() -> None:
    mesh = polygonize(Sphere(0.6), 33)
    np.testing.assert_allclose(mesh.vertex_normals, mesh.vertices / 0.6, atol=1e-2)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb", ".stl"])
def test_normals_are_written(tmp_path: Path, suffix: str) -> None:
    mesh = polygonize(Sphere(0.6), 17)
    bare, full = tmp_path / f"bare{suffix}", tmp_path / f"full{suffix}"
    save_mesh(mesh, bare)
    save_mesh(mesh, full, normals=True)
    read = trimesh.load(full, force="mesh", process=False)
    assert len(read.faces) == len(mesh.faces)  # pyright: ignore[reportAttributeAccessIssue]
    if suffix == ".ply":
        rows = read.metadata["_ply_raw"]["vertex"]["data"]
        np.testing.assert_allclose(np.stack([rows["nx"], rows["ny"], rows["nz"]], -1), mesh.vertex_normals, atol=1e-6)
    elif suffix == ".obj":
        rows = [line.split()[1:] for line in full.read_text().splitlines() if line.startswith("vn ")]
        np.testing.assert_allclose(np.array(rows, float), mesh.vertex_normals, atol=1e-6)
    elif suffix == ".glb":
        assert b'"NORMAL"' in full.read_bytes()


class WithGradient:
    """A ball with its own gradient that counts its evaluations."""

    def __init__(self) -> None:
        self.values, self.gradients = 0, 0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        self.values += len(points)
        return Sphere(0.6)(points)

    def sdf_and_gradient(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.gradients += len(points)
        return Sphere(0.6)(points), points / np.linalg.norm(points, axis=1)[:, None]


def test_a_gradient_field_supplies_its_own_gradients() -> None:
    field = WithGradient()
    mesh = polygonize(field, 49)
    by_differences = polygonize(Sphere(0.6), 49)
    assert field.gradients > 0
    assert field.values < 49**3 / 5  # differences would take six more for each gradient
    np.testing.assert_allclose(mesh.volume, by_differences.volume, rtol=1e-5)


def test_every_crossed_edge_of_every_cell_belongs_to_one_component() -> None:
    table = component_table()
    inside = ((np.arange(256)[:, None] >> np.arange(8)) & 1).astype(bool)
    crossed = inside[:, EDGE_ENDS[:, 0]] != inside[:, EDGE_ENDS[:, 1]]
    assert ((table < 12) == crossed[:, None]).all()
    sizes = (table[..., None] == np.arange(12)).sum(axis=2)
    assert set(np.unique(sizes)) <= {0, 3, 4, 5, 6, 7, 8, 9, 12}  # rings of at least a corner's three
    # Swapping inside and outside and the joined corners leaves the components as they are.
    np.testing.assert_array_equal(table[::-1, ::-1], table)


def test_an_integer_is_the_resolution_and_the_tolerance_defaults_to_a_400th_of_a_cell() -> None:
    short, full, coarse = (
        polygonize(Sphere(0.6), meshing)
        for meshing in (17, Meshing(resolution=17, tolerance=1 / 400), Meshing(resolution=17, tolerance=1 / 64))
    )
    np.testing.assert_array_equal(short.vertices, full.vertices)
    np.testing.assert_array_equal(short.faces, full.faces)
    assert len(coarse.faces) < len(full.faces)
