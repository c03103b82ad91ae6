"""From a field to a mesh: its zero level set, evaluated coarse to fine."""

from __future__ import annotations

from typing import Literal

import numpy as np
import trimesh

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.isosurface.boundary import close, flatten, press, walled
from deepsdf.geometry.isosurface.contour import find_points, find_sheets
from deepsdf.geometry.isosurface.hermite import values_and_gradients
from deepsdf.geometry.isosurface.refine import subdivide
from deepsdf.geometry.isosurface.search import Crossing, Grid, crossing_dense, crossing_sparse
from deepsdf.geometry.isosurface.triangulate import triangulate
from deepsdf.geometry.primitives import Field

Method = Literal["sparse", "dense"]
Vertices = Literal["exact", "linear"]

TOLERANCE = 1 / 400
"""Of a cell: how far the middle of a mesh's edge may lie off the surface before the edge is split."""

FLAT = 1 / 400
"""Of a cell: points of edges are left out where the points around them lie in one plane to within this."""

GRADIENT_STEP = 5e-3
"""Of a cell: over which differences are taken for the gradient of a field that does not know its own."""

_LEAST_STEP = 3e-5  # of the bound: below, float32 leaves too little of a difference


def polygonize(
    field: Field,
    *,
    resolution: int = 256,
    bound: float = 1.0,
    method: Method = "sparse",
    vertices: Vertices = "exact",
    tolerance: float = TOLERANCE,
    lipschitz: float | None = None,
    closed: bool = False,
) -> trimesh.Trimesh:
    """The zero level set of a field inside the cube [-bound, bound]³, faces outward.

    Args:
        field: points (n, 3) float32 -> signed distance (n,), negative inside. Where it has a method
            `sdf_and_gradient(points) -> (n,), (n, 3)`, that gives the gradients; otherwise differences do.
        resolution: samples an axis, at -bound + 2 · bound · i / (resolution - 1) exactly. Evaluations and memory grow
            about as its square; with "dense" the evaluations as its cube.
        bound: half the cube's side, in the field's frame.
        method: "sparse" evaluates near the surface alone; "dense" evaluates every sample, as the original.
        vertices: "exact" puts points on the level set by the field's gradient, keeps sharp edges, splits what is still
            farther off than `tolerance`, and gives vertex normals (dual contouring); "linear" is marching cubes on
            the samples, as the original.
        tolerance: of "exact", as a share of a cell. Six times as large halves triangles and time of a decoder's shape,
            and is still closer than "linear" of twice the resolution.
        lipschitz: a bound of the field's slope, |f(p) - f(q)| <= lipschitz · |p - q|, with which "sparse" provably
            loses nothing: 1 for exact distances. By default it is measured while the surface is found.
        closed: close the mesh where the cube's walls cut it; otherwise it is open there.
    Returns:
        A mesh in the field's frame. It is watertight where the field is closed in the cube.
    Raises:
        NoSurfaceError: the field has one sign everywhere; the message gives its least and greatest value.
        InputError: a resolution below 2, a bound or lipschitz that is not positive and finite, a tolerance that is not
            positive, an unknown method or kind of vertices, a field that is not a number somewhere or steeper than
            `lipschitz`.
    """
    _check(resolution, bound, method, vertices, lipschitz, tolerance)
    grid = Grid(resolution, bound)
    if method == "dense":
        crossing = crossing_dense(field, grid)
    else:
        crossing = crossing_sparse(field, grid, lipschitz=lipschitz)
    if closed:
        crossing = close(crossing)
    if not len(crossing.cells):
        side = "outside" if crossing.high > 0 else "inside"
        raise NoSurfaceError(
            f"the field has no surface in the cube of half side {bound:g}: its values lie between "
            f"{crossing.low:.4g} and {crossing.high:.4g}, so everything is {side}"
        )
    return _linear(crossing, bound) if vertices == "linear" else _exact(field, crossing, bound, tolerance, closed)


def _check(
    resolution: int, bound: float, method: str, vertices: str, lipschitz: float | None, tolerance: float
) -> None:
    if resolution < 2 or not 0 < bound < np.inf or method not in ("sparse", "dense"):
        raise InputError(
            f"resolution {resolution} must be at least 2, bound {bound} positive and finite, and method {method!r} "
            "'sparse' or 'dense'"
        )
    if vertices not in ("exact", "linear") or not (lipschitz is None or 0 < lipschitz < np.inf):
        raise InputError(
            f"vertices {vertices!r} must be 'exact' or 'linear', and lipschitz {lipschitz} positive and finite, or None"
        )
    if not tolerance > 0:
        raise InputError(f"tolerance is {tolerance}; it is a share of a cell and must be positive")


def _linear(crossing: Crossing, bound: float) -> trimesh.Trimesh:
    from deepsdf.geometry.isosurface.marching import marching_cubes

    points, triangles = press(*marching_cubes(crossing), bound)
    mesh = trimesh.Trimesh(points, triangles, process=False)
    mesh.remove_unreferenced_vertices()
    return mesh


def _exact(field: Field, crossing: Crossing, bound: float, tolerance: float, closed: bool) -> trimesh.Trimesh:
    cell = crossing.grid.cell
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
