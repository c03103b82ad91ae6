"""The zero level set of a field as a triangle mesh.

The steps, and the modules that take them:

    search, active_cells     cells of the grid through which the surface passes (boundary.close adds a layer)
    "linear":  marching      marching cubes
    "exact":   contour       vertices on edges and in cells
               triangulate   triangles between them
               refine        more triangles where edges are off the surface
"""

from __future__ import annotations

import numpy as np
import trimesh

from deepsdf.errors import NoSurfaceError
from deepsdf.geometry.fields import Field, values_and_gradients
from deepsdf.geometry.isosurface.active_cells import ActiveCells, Grid, find_dense
from deepsdf.geometry.isosurface.boundary import clipped_to_cube, close, collapse_layer, snap_to_cube
from deepsdf.geometry.isosurface.contour import find_components, place_vertices
from deepsdf.geometry.isosurface.options import TOLERANCE, Meshing
from deepsdf.geometry.isosurface.refine import subdivide
from deepsdf.geometry.isosurface.search import find_sparse
from deepsdf.geometry.isosurface.triangulate import triangulate

_GRADIENT_STEP = 5e-3
"""Step, in cells, of the central differences h for fields without gradients. Their error h² f''' / 6 is below 1e-5 for
features of the size of a cell, where f''' is about 1 / cell²."""

_LEAST_GRADIENT_STEP = 3e-5
"""The same as a fraction of the bound, at least: float32 rounds coordinates near it by 6e-8, a 500th of this step."""


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
        active = find_dense(field, grid)
    else:
        active = find_sparse(field, grid, lipschitz=meshing.lipschitz)
    if meshing.closed:
        active = close(active)
    if not len(active.cells):
        side = "outside" if active.high > 0 else "inside"
        raise NoSurfaceError(
            f"the field has no surface in the cube of half side {meshing.bound:g}: its values lie between "
            f"{active.low:.4g} and {active.high:.4g}, so everything is {side}"
        )
    return _linear(active, meshing.bound) if meshing.vertices == "linear" else _exact(field, active, meshing)


def _linear(active: ActiveCells, bound: float) -> trimesh.Trimesh:
    from deepsdf.geometry.isosurface.marching import marching_cubes

    points, triangles = snap_to_cube(*marching_cubes(active), bound)
    mesh = trimesh.Trimesh(points, triangles, process=False)
    mesh.remove_unreferenced_vertices()
    return mesh


def _exact(field: Field, active: ActiveCells, meshing: Meshing) -> trimesh.Trimesh:
    cell, bound, closed = active.grid.cell, meshing.bound, meshing.closed
    tolerance = TOLERANCE if meshing.tolerance is None else meshing.tolerance
    step = max(_GRADIENT_STEP * cell, _LEAST_GRADIENT_STEP * bound)

    def hermite(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return values_and_gradients(field, points, step)

    components = find_components(active)
    clipped, limit = (clipped_to_cube(hermite, bound), bound) if closed else (hermite, np.inf)
    contour = place_vertices(active, components, clipped, limit)
    # Vertices are left out of flat parts to the default tolerance, whatever the tolerance of the edges.
    triangles = triangulate(active, components, contour, TOLERANCE * cell)
    if closed:
        contour, triangles = collapse_layer(active, components, contour, triangles, bound)
    contour, triangles = subdivide(contour, triangles, hermite, tolerance * cell, bound)
    return trimesh.Trimesh(contour.points, triangles, vertex_normals=contour.normals, process=False)
