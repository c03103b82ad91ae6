"""From fields to meshes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.isosurface.active_cells import Grid, find_dense
from deepsdf.geometry.isosurface.options import Meshing, Method
from deepsdf.geometry.isosurface.polygonize import polygonize
from deepsdf.geometry.isosurface.search import COARSE_CELLS, find_sparse
from deepsdf.geometry.primitives import (
    Box,
    Capsule,
    Cylinder,
    Difference,
    Rotated,
    Scaled,
    Sphere,
    Torus,
    Translated,
    Union,
)

TURNED = ((1.0, 2.0, 3.0), 0.7)
ROD = Capsule(0.03, 0.7)
PLATE = Box((0.6, 0.02, 0.6))
SOLIDS: dict[str, tuple[Field, float, float]] = {
    "sphere": (Sphere(0.6), 4 / 3 * math.pi * 0.6**3, 4 * math.pi * 0.36),
    "box": (Box((0.5, 0.3, 0.4)), 0.48, 8 * (0.15 + 0.12 + 0.2)),
    "torus": (Torus(0.6, 0.2), 2 * math.pi**2 * 0.6 * 0.04, 4 * math.pi**2 * 0.12),
    "cylinder": (Cylinder(0.4, 0.5), math.pi * 0.16, 2 * math.pi * 0.4 * 1.4),
    "capsule": (Capsule(0.3, 0.4), math.pi * 0.09 * (0.8 + 0.4), 4 * math.pi * 0.3 * (0.3 + 0.4)),
    "two balls": (
        Union((Translated(Sphere(0.3), (0.5, 0, 0)), Translated(Sphere(0.25), (-0.5, 0.1, 0.2)))),
        4 / 3 * math.pi * (0.3**3 + 0.25**3),
        4 * math.pi * (0.3**2 + 0.25**2),
    ),
}
"""A field, its exact volume and its exact area."""


class Recorded:
    """A field that records the points at which it is evaluated."""

    def __init__(self, field: Field) -> None:
        self.field, self.recorded = field, []

    def __call__(self, points: np.ndarray) -> np.ndarray:
        self.recorded.append(points.copy())
        return self.field(points)

    @property
    def points(self) -> np.ndarray:
        return np.concatenate(self.recorded)


def moved(field: Field) -> Field:
    return Translated(Rotated(field, *TURNED), (0.03, -0.05, 0.02))


@pytest.mark.parametrize("place", [lambda field: field, moved], ids=["straight", "moved"])
@pytest.mark.parametrize("name", SOLIDS)
def test_solids_have_their_volume_and_area(name: str, place: Callable[[Field], Field]) -> None:
    field, volume, area = SOLIDS[name]
    field = place(field)
    mesh = polygonize(field, Meshing(resolution=97, vertices="linear"))
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(volume, rel=0.01)
    assert mesh.area == pytest.approx(area, rel=0.02)
    cell = 2 / 96
    # A vertex lies on a grid edge; off the creases the field is near linear there, and at a crease within a cell.
    distance = np.abs(field(np.asarray(mesh.vertices, np.float32)))
    assert distance.max() < 0.5 * cell
    assert np.median(distance) < 0.02 * cell


def test_the_error_falls_fourfold_as_the_resolution_doubles() -> None:
    """Of smooth solids: linear interpolation errs by the square of a cell."""
    for field, volume, area in (SOLIDS["sphere"], SOLIDS["torus"]):
        meshes = [polygonize(field, Meshing(resolution=2**k + 1, vertices="linear")) for k in (5, 6, 7)]
        off = [np.abs(field(np.asarray(mesh.vertices, np.float32))).mean() for mesh in meshes]
        lost = [volume - mesh.volume for mesh in meshes]
        short = [area - mesh.area for mesh in meshes]
        for errors in (off, lost, short):
            assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
            assert errors[1] / errors[2] == pytest.approx(4, rel=0.2)


def test_faces_look_outward_and_hollows_inward() -> None:
    shell = polygonize(Difference(Sphere(0.8), Sphere(0.5)), 65)
    outer, inner = sorted(shell.split(only_watertight=False), key=lambda part: -part.area)
    assert outer.volume > 0 > inner.volume
    assert shell.volume == pytest.approx(4 / 3 * math.pi * (0.8**3 - 0.5**3), rel=0.01)
    assert ((outer.face_normals * outer.triangles_center).sum(axis=1) > 0).all()


@pytest.mark.parametrize("method", ["dense", "sparse"])
@pytest.mark.parametrize(("resolution", "bound"), [(9, 1.0), (33, 1.0), (50, 1.3), (64, 0.7), (100, 1.0)])
def test_samples_lie_where_documented(resolution: int, bound: float, method: Method) -> None:
    field = Recorded(Sphere(0.5))
    polygonize(field, Meshing(resolution=resolution, bound=bound, method=method, vertices="linear"))
    exact = -bound + 2 * bound * np.arange(resolution) / (resolution - 1)
    places = np.rint((field.points + bound) / (2 * bound) * (resolution - 1)).astype(int)
    assert field.points.dtype == np.float32
    np.testing.assert_allclose(field.points, exact[places], rtol=2e-7, atol=1e-8)
    assert field.points.min() == -np.float32(bound)
    assert field.points.max() == np.float32(bound)
    assert len(np.unique(places, axis=0)) == len(places)
    if method == "dense":
        assert len(places) == resolution**3


FIELDS: dict[str, Field] = {
    **{name: moved(solid[0]) for name, solid in SOLIDS.items()},
    "ball on the grid": Sphere(0.5),
    "box on the grid": Box((0.5, 0.5, 0.5)),
    "shell": Difference(Sphere(0.8), Sphere(0.75)),
    "far corner": Translated(Sphere(0.12), (0.86, 0.86, 0.86)),
    "cut by the walls": Sphere(1.2),
    "half a distance": lambda points: 0.5 * Torus(0.6, 0.2)(points),
}


@pytest.mark.parametrize("name", FIELDS)
def test_sparse_equals_dense(name: str) -> None:
    for resolution in (2, 5, 9, 33, 50, 64):
        try:
            dense = polygonize(FIELDS[name], Meshing(resolution=resolution, method="dense", vertices="linear"))
        except NoSurfaceError:
            with pytest.raises(NoSurfaceError):
                polygonize(FIELDS[name], Meshing(resolution=resolution, vertices="linear"))
            continue
        sparse = polygonize(FIELDS[name], Meshing(resolution=resolution, vertices="linear"))
        np.testing.assert_array_equal(sparse.faces, dense.faces)
        np.testing.assert_array_equal(sparse.vertices, dense.vertices)


@pytest.mark.parametrize("turn", [(0.0, 0.0, 1.0), (1.0, 2.0, 3.0)], ids=["straight", "askew"])
@pytest.mark.parametrize("thin", [PLATE, ROD], ids=["plate", "rod"])
def test_thin_parts_are_not_missed(thin: Field, turn: tuple[float, float, float]) -> None:
    """Thicker than a cell, far thinner than a coarse one."""
    field = Translated(Rotated(thin, turn, 0.4), (0.011, 0.007, 0.013))
    resolution = 100
    assert 2 / 99 < 0.04 < 2 / COARSE_CELLS / 2
    sparse = polygonize(field, resolution)
    dense = polygonize(field, Meshing(resolution=resolution, method="dense"))
    np.testing.assert_array_equal(sparse.faces, dense.faces)
    np.testing.assert_array_equal(sparse.vertices, dense.vertices)
    assert sparse.is_watertight
    assert sparse.body_count == 1


@pytest.mark.parametrize("slope", [0.6, 1.0, 1.3])
@pytest.mark.parametrize("turn", [((0.0, 0.0, 1.0), 0.0), ((0.0, 0.0, 1.0), 0.4), TURNED], ids=["grid", "z", "askew"])
def test_parts_thinner_than_a_cell(turn: tuple[tuple[float, float, float], float], slope: float) -> None:
    """Plates and needles of about half a cell break up on the grid; no fragment is missed."""
    grid = Grid(50, 1.0)
    thick = grid.cell / 4
    active = 0
    for thin in (Box((0.6, thick, 0.5)), Box((0.6, 2 * thick, 0.5)), Capsule(thick, 0.7), Capsule(1.6 * thick, 0.7)):
        placed = Translated(Rotated(thin, *turn), (0.011, 0.007, 0.013))

        def field(points: np.ndarray, placed: Field = placed) -> np.ndarray:
            return slope * placed(points)

        sparse, dense = find_sparse(field, grid), find_dense(field, grid)
        np.testing.assert_array_equal(sparse.cells, dense.cells)
        np.testing.assert_array_equal(sparse.values, dense.values)
        active += len(dense.cells)
    assert active > 1000


@pytest.mark.parametrize("slope", [1.0, 1.2])
def test_a_speck_in_the_middle_of_a_coarse_cell_is_found(slope: float) -> None:
    """The point farthest from all coarse samples, in a field slightly steeper than a distance."""
    middle = -1 + 4 * 2 / 64
    speck = Translated(Sphere(0.04), (middle, middle, middle))
    sparse, dense = (
        polygonize(lambda points: slope * speck(points), Meshing(resolution=65, method=how))
        for how in ("sparse", "dense")
    )
    np.testing.assert_array_equal(sparse.vertices, dense.vertices)
    assert sparse.is_watertight


@pytest.mark.parametrize(("resolution", "share"), [(129, 20), (200, 30), (257, 40)])
def test_sparse_evaluates_few_samples(resolution: int, share: int) -> None:
    field = Recorded(Sphere(0.6))
    found = find_sparse(field, Grid(resolution, 1.0))
    assert len(field.points) == found.evaluations
    assert found.evaluations * share <= resolution**3


@pytest.mark.parametrize("name", FIELDS)
def test_active_cells_and_boundary_equal_the_dense_ones(name: str) -> None:
    for resolution in (5, 50, 65):
        grid = Grid(resolution, 1.0)
        sparse, dense = find_sparse(FIELDS[name], grid), find_dense(FIELDS[name], grid)
        np.testing.assert_array_equal(sparse.cells, dense.cells)
        np.testing.assert_array_equal(sparse.values, dense.values)
        np.testing.assert_array_equal(sparse.boundary > 0, dense.boundary > 0)
        assert dense.evaluations == resolution**3


def scattered(points: np.ndarray) -> np.ndarray:
    """200 specks, each in the middle of a coarse cell or not, of radius 0.03; a distance."""
    centres = np.random.default_rng(3).uniform(-0.9, 0.9, (200, 3))
    return (KDTree(centres).query(points)[0] - 0.03).astype(np.float32)


@pytest.mark.parametrize("slope", [1.0, 2.5])
def test_a_true_bound_of_the_slope_misses_nothing(slope: float) -> None:
    def field(points: np.ndarray) -> np.ndarray:
        return slope * scattered(points)

    grid = Grid(80, 1.0)
    sparse, dense = find_sparse(field, grid, lipschitz=slope), find_dense(field, grid)
    np.testing.assert_array_equal(sparse.cells, dense.cells)
    np.testing.assert_array_equal(sparse.values, dense.values)
    assert sparse.evaluations < 0.5 * dense.evaluations


def test_a_field_steeper_than_its_bound_is_rejected() -> None:
    with pytest.raises(InputError, match=r"^the field is steeper than lipschitz=1: 2(\.\d+)? near .*; give a larger"):
        polygonize(lambda points: 2 * Box((0.5, 0.5, 0.5))(points), Meshing(resolution=33, lipschitz=1.0))


def test_the_surface_of_a_discontinuous_field_is_followed_to_its_end() -> None:
    """A field of signs without distances."""

    def sign(points: np.ndarray) -> np.ndarray:
        return np.where(moved(Torus(0.6, 0.2))(points) > 0, 1.0, -1.0).astype(np.float32)

    grid = Grid(65, 1.0)
    np.testing.assert_array_equal(find_sparse(sign, grid).cells, find_dense(sign, grid).cells)


@pytest.mark.parametrize("resolution", [20, 33, 70])
@pytest.mark.parametrize("name", ["torus", "cut by the walls", "shell"])
def test_linear_is_marching_cubes_of_the_whole_grid(name: str, resolution: int) -> None:
    from skimage.measure import marching_cubes

    axis = np.linspace(-1, 1, resolution)
    every = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
    values = FIELDS[name](every).reshape((resolution,) * 3)
    vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="descent")
    mesh = polygonize(FIELDS[name], Meshing(resolution=resolution, vertices="linear"))
    away, same = KDTree(mesh.vertices).query(vertices * (2 / (resolution - 1)) - 1)
    assert away.max() < 1e-5

    def rings(triangles: np.ndarray) -> set[tuple[int, ...]]:
        first = triangles.argmin(axis=1)[:, None]
        return set(map(tuple, np.take_along_axis(triangles, (first + np.arange(3)) % 3, axis=1).tolist()))

    theirs = np.asarray(same)[faces]
    proper = (theirs != np.roll(theirs, 1, axis=1)).all(axis=1)
    assert rings(theirs[proper]) == rings(np.asarray(mesh.faces))


def test_box_on_the_grid_is_closed_and_exact() -> None:
    """Samples that are exactly zero make degenerate faces; they are removed without opening holes."""
    mesh = polygonize(Box((0.5, 0.25, 0.5)), Meshing(resolution=65, vertices="linear"))
    assert mesh.is_watertight
    assert (mesh.area_faces > 0).all()
    np.testing.assert_allclose(mesh.bounds, [[-0.5, -0.25, -0.5], [0.5, 0.25, 0.5]], atol=1e-6)


def test_bound_is_the_cube() -> None:
    unit = polygonize(Sphere(0.6), Meshing(resolution=65, vertices="linear"))
    large = polygonize(Scaled(Sphere(0.6), 50.0), Meshing(resolution=65, bound=50.0, vertices="linear"))
    np.testing.assert_array_equal(large.faces, unit.faces)
    np.testing.assert_allclose(large.vertices, 50 * unit.vertices, rtol=1e-4, atol=1e-4)
    tight = polygonize(Sphere(0.6), Meshing(resolution=65, bound=0.7))
    assert tight.volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.005)


def test_a_field_cut_by_the_cube_is_open_there_and_still_oriented() -> None:
    ball = Translated(Sphere(0.5), (0.8, 0, 0))
    mesh = polygonize(ball, 65)
    assert not mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.bounds[1, 0] == pytest.approx(1.0)
    outward = mesh.triangles_center - (0.8, 0, 0)
    assert ((mesh.face_normals * outward).sum(axis=1) > 0).all()
    edges = trimesh.grouping.group_rows(mesh.edges_sorted, require_count=1)
    assert (mesh.vertices[mesh.edges[edges]][..., 0] == 1.0).all()


@pytest.mark.parametrize("method", ["dense", "sparse"])
def test_without_a_surface_the_error_gives_the_range(method: Method) -> None:
    with pytest.raises(NoSurfaceError) as outside:
        polygonize(Translated(Sphere(0.5), (3, 0, 0)), Meshing(resolution=17, method=method))
    assert str(outside.value) == (
        "the field has no surface in the cube of half side 1: its values lie between 1.5 and 3.743, "
        "so everything is outside"
    )
    with pytest.raises(NoSurfaceError, match=r"half side 0\.5: .* between -2 and -1\.1\d+, so everything is inside"):
        polygonize(Sphere(2.0), Meshing(resolution=17, bound=0.5, method=method))


def test_a_field_that_is_nan_somewhere_is_rejected() -> None:
    def broken(points: np.ndarray) -> np.ndarray:
        return np.where(points[:, 0] == 1, np.nan, Sphere(0.5)(points))

    with pytest.raises(InputError, match=r"^the field is nan at \[1\.0, -1\.0, -1\.0\]; expected a number$"):
        polygonize(broken, 17)


@pytest.mark.parametrize(
    "arguments",
    [
        {"resolution": 1},
        {"bound": 0.0},
        {"bound": -1.0},
        {"method": "octree"},
        {"vertices": "snapped"},
        {"lipschitz": 0.0},
        {"lipschitz": -1.0},
    ],
)
def test_invalid_options_are_shown(arguments: dict) -> None:
    with pytest.raises(InputError) as error:
        polygonize(Sphere(0.5), Meshing(**arguments))
    assert str(*arguments.values()) in str(error.value)


@pytest.mark.parametrize("bound", [float("nan"), float("inf")])
def test_a_bound_that_is_not_finite_is_rejected(bound: float) -> None:
    with pytest.raises(InputError, match="bound"):
        polygonize(Sphere(0.5), Meshing(resolution=9, bound=bound))
