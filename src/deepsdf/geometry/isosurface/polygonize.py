"""From a field to a mesh: its zero level set, evaluated coarse to fine."""

from __future__ import annotations

import numpy as np
import trimesh

from deepsdf.errors import NoSurfaceError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.isosurface.boundary import close, flatten, press, walled
from deepsdf.geometry.isosurface.contour import find_points, find_sheets
from deepsdf.geometry.isosurface.hermite import values_and_gradients
from deepsdf.geometry.isosurface.options import TOLERANCE, Meshing
from deepsdf.geometry.isosurface.refine import subdivide
from deepsdf.geometry.isosurface.search import Crossing, Grid, crossing_dense, crossing_sparse
from deepsdf.geometry.isosurface.triangulate import triangulate

FLAT = 1 / 400
"""Of a cell: points of edges are left out where the points around them lie in one plane to within this."""

GRADIENT_STEP = 5e-3
"""Of a cell: over which differences are taken for the gradient of a field that does not know its own."""

_LEAST_STEP = 3e-5  # of the bound: below, float32 leaves too little of a difference


def polygonize(field: Field, meshing: Meshing | int = Meshing()) -> trimesh.Trimesh:
    """The zero level set of a field inside the cube [-bound, bound]³ as a triangle mesh, faces outward.

    Args:
        field: signed distances (n,) at points (n, 3) float32, negative inside. A `GradientField` supplies its own
            gradients; those of other fields are central differences.
        meshing: options, or the resolution. Grid samples lie at -bound + 2 · bound · i / (resolution - 1). Evaluations
            and memory grow about with the square of the resolution; evaluations of "dense" with its cube.
    Returns:
        A mesh in the field's frame. It is watertight if the level set is closed inside the cube, or with `closed`;
        otherwise it has boundary edges on the faces of the cube.
    Raises:
        NoSurfaceError: the field has the same sign at all samples.
        InputError: the field is NaN or infinite at a sample, or steeper than `lipschitz`.
    """
    meshing = Meshing.of(meshing)
    grid = Grid(meshing.resolution, meshing.bound)
    if meshing.method == "dense":
        crossing = crossing_dense(field, grid)
    else:
        crossing = crossing_sparse(field, grid, lipschitz=meshing.lipschitz)
    if meshing.closed:
        crossing = close(crossing)
    if not len(crossing.cells):
        side = "outside" if crossing.high > 0 else "inside"
        raise NoSurfaceError(
            f"the field has no surface in the cube of half side {meshing.bound:g}: its values lie between "
            f"{crossing.low:.4g} and {crossing.high:.4g}, so everything is {side}"
        )
    return _linear(crossing, meshing.bound) if meshing.vertices == "linear" else _exact(field, crossing, meshing)


def _linear(crossing: Crossing, bound: float) -> trimesh.Trimesh:
    from deepsdf.geometry.isosurface.marching import marching_cubes

    points, triangles = press(*marching_cubes(crossing), bound)
    mesh = trimesh.Trimesh(points, triangles, process=False)
    mesh.remove_unreferenced_vertices()
    return mesh


def _exact(field: Field, crossing: Crossing, meshing: Meshing) -> trimesh.Trimesh:
    cell, bound, closed = crossing.grid.cell, meshing.bound, meshing.closed
    tolerance = TOLERANCE if meshing.tolerance is None else meshing.tolerance
    step = max(GRADIENT_STEP * cell, _LEAST_STEP * bound)

    def hermite(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return values_and_gradients(field, points, step)

    sheets = find_sheets(crossing)
    asked, within = (walled(hermite, bound), bound) if closed else (hermite, np.inf)
    contour = find_points(crossing, sheets, asked, within)
    triangles = triangulate(crossing, sheets, contour, FLAT * cell)
    if closed:
        contour, triangles = flatten(crossing, sheets, contour, triangles, bound)
    contour, triangles = subdivide(contour, triangles, hermite, tolerance * cell, bound)
    return trimesh.Trimesh(contour.points, triangles, vertex_normals=contour.normals, process=False)
