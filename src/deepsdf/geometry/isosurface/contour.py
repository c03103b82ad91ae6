"""Vertices of a surface from a field's values and gradients: one per crossed edge, one per component in a cell.

Dual contouring (Ju, Losasso, Schaefer and Warren, Dual Contouring of Hermite Data, SIGGRAPH 2002): the vertex of a
component lies where the tangent planes at its edges' vertices meet, so that edges and corners of the surface stay
sharp. A cell has one vertex for each component of the surface in it (as in Nielson, Dual Marching Cubes, IEEE
Visualization 2004), so that the mesh is a manifold. Each vertex stays inside its own cell, so that components do not
intersect.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deepsdf.geometry.isosurface.active_cells import ActiveCells
from deepsdf.geometry.isosurface.cells import (
    EDGE_AXIS,
    EDGE_BASE,
    EDGE_ENDS,
    FACE_CORNERS,
    component_table,
    is_ambiguous,
)
from deepsdf.geometry.isosurface.options import TOLERANCE

Hermite = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Values (n,) and gradients (n, 3), float64, at points (n, 3)."""

MARGIN = 1e-3
"""Distance, in cells, that vertices keep from the faces of their cell and from the ends of their edge, so that no two
coincide. At resolution 1024 it is 16 times the spacing of float32 coordinates near 1."""

# Where the curvature radius is a cell, a Newton step of s cells leaves an error of about s² / 2.
_NEWTON_ROUNDS = 4  # half a cell shrinks to 0.13, 0.008, 3e-5: one round more than needed
_LONG_STEP = math.sqrt(TOLERANCE)  # cells; a step that may leave an error of half the default tolerance
_ON_SURFACE = 0.8 * TOLERANCE  # cells; |value| of a vertex that needs no more steps, safely below the tolerance

_RIDGE = 0.02
_RIDGE_ROUNDS = 4
"""Weight of the pull towards the centre of the edges' vertices, relative to a tangent plane, and rounds of this
iterated Tikhonov regularisation. It ignores singular values well below sqrt(0.02) = 0.14 per plane; Ju et al. cut off
at 0.1."""

_SWEEPS = 60
"""Gauss-Seidel sweeps of the bounded problem. Of 901 cells of a rotated box at resolution 48 and of a random field at
16, the last sweep moved 99 % by less than 2.5e-4 of a cell, a tenth of the default tolerance (2026-11-29)."""

_BOUNDED_RIDGE = 0.05
"""Share of the pull that the bounded problem keeps, so that no pivot is zero."""


@dataclass(frozen=True)
class Components:
    """How the surface passes through the active cells.

    Attributes:
        base, axis: (e, 3), (e,): the lower end of each crossed edge, in grid indices, and the axis along which it runs.
        ends: (e, 2) float64, the field at its lower and upper end.
        cell_edges: (c, 12), number of the crossed edge at each edge of a cell; -1 where the surface does not cross.
        cell_components: (c, 12), number of the component that crosses there, or -1.
        component_cell: (s,), the cell of each component.
        ambiguous, joined: (c, 6), whether the surface crosses all four edges of a face, and if so, whether the inside
            corners of the face are joined.
    """

    base: np.ndarray
    axis: np.ndarray
    ends: np.ndarray
    cell_edges: np.ndarray
    cell_components: np.ndarray
    component_cell: np.ndarray
    ambiguous: np.ndarray
    joined: np.ndarray

    @property
    def outward(self) -> np.ndarray:
        """(e,), whether an edge leads from inside to outside along its axis."""
        return self.ends[:, 0] <= 0


@dataclass(frozen=True)
class Contour:
    """Vertices (n, 3) with unit normals (n, 3): first those of components, then those of edges."""

    points: np.ndarray
    normals: np.ndarray


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) scaled to length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-300)


def find_components(active: ActiveCells) -> Components:
    """The components of the active cells."""
    inside = active.values <= 0
    ambiguous = is_ambiguous(inside[:, FACE_CORNERS])
    joined = np.zeros_like(ambiguous)
    row, face = np.nonzero(ambiguous)
    ring = active.values.astype(np.float64)[row[:, None], FACE_CORNERS[face]]
    # Asymptotic decider (Nielson and Hamann, 1991): the inside corners are joined if the saddle of the bilinear field,
    #     (v0 v2 - v1 v3) / (v0 + v2 - v1 - v3),
    # is inside. The denominator is negative if v0 and v2 are the inside corners. Both cells of the face agree.
    even, odd = ring[:, 0] * ring[:, 2], ring[:, 1] * ring[:, 3]
    joined[row, face] = np.where(ring[:, 0] <= 0, even > odd, odd > even)
    first = component_table()[inside @ (1 << np.arange(8)), joined @ (1 << np.arange(6))]

    # A component is named by its lowest edge in the cell; number those, then copy the number to its other edges.
    row, edge = np.nonzero(first < 12)
    own = first[row, edge]
    cell_components = np.full(first.shape, -1)
    leading = own == edge
    cell_components[row[leading], edge[leading]] = np.arange(leading.sum())
    cell_components[row, edge] = cell_components[row, own]

    # An edge is shared by up to four cells; its key is its lower end and its axis.
    base = active.cells[row] + EDGE_BASE[edge]
    keys = active.grid.key(base) * 3 + EDGE_AXIS[edge]
    _, at, number = np.unique(keys, return_index=True, return_inverse=True)
    cell_edges = np.full(first.shape, -1)
    cell_edges[row, edge] = number
    ends = active.values[row[at, None], EDGE_ENDS[edge[at]]].astype(np.float64)
    return Components(base[at], EDGE_AXIS[edge[at]], ends, cell_edges, cell_components, row[leading], ambiguous, joined)


def place_vertices(active: ActiveCells, components: Components, hermite: Hermite, bound: float = np.inf) -> Contour:
    """Vertices of all edges and components.

    Takes one evaluation with gradient for each edge and each component, and more for the few that are still off the
    surface. Vertices outside the cube of half side `bound` are not moved after the first evaluation.
    """
    grid = active.grid
    edge_points, edge_normals, offsets = _edge_vertices(grid.position, grid.cell, components, hermite, bound)
    rows, edges = np.nonzero(components.cell_edges >= 0)
    member, of = components.cell_edges[rows, edges], components.cell_components[rows, edges]
    count = len(components.component_cell)
    centre = _group_sums(of, edge_points[member], count) / np.bincount(of, minlength=count)[:, None]
    low = grid.position(active.cells[components.component_cell] + MARGIN)
    high = grid.position(active.cells[components.component_cell] + (1.0 - MARGIN))
    # Relative to the centre, where the pull of the regularisation is towards zero and rounding is least.
    normals = edge_normals[member]
    behind = offsets[member] - (normals * centre[of]).sum(axis=1)
    points = centre + _intersect_planes(of, normals, behind, low - centre, high - centre)
    # Intersections of the planes of several components in one cell could lie beyond one another, so that the
    # components would intersect. Their centres are safe.
    several = np.bincount(components.component_cell)[components.component_cell] > 1
    points[several] = centre[several]
    beyond = np.any((low < -bound) | (high > bound), axis=1)
    start = _Start(points, centre, low, high, several, beyond)
    points, gradients = _move_to_surface(start, grid.cell, hermite)
    return Contour(np.concatenate([points, edge_points]), np.concatenate([unit(gradients), edge_normals]))


@dataclass(frozen=True)
class _Start:
    """Components' vertices before they are moved onto the surface.

    Attributes:
        points, centre: (s, 3): intersection of the tangent planes, and mean of the edges' vertices.
        low, high: (s, 3): limits within the cell.
        several: (s,), whether the cell has several components.
        beyond: (s,), whether the cell lies outside the cube.
    """

    points: np.ndarray
    centre: np.ndarray
    low: np.ndarray
    high: np.ndarray
    several: np.ndarray
    beyond: np.ndarray


def _move_to_surface(start: _Start, cell: float, hermite: Hermite) -> tuple[np.ndarray, np.ndarray]:
    """Components' vertices moved onto the surface within their cells, and the gradients there.

    One Newton step suffices for most. After a long step, and in cells with several components, more follow, from the
    first result and, if they do not arrive, from the centre. The point with the smallest |value| of all counts.
    """
    low, high = start.low, start.high
    values, gradients = hermite(start.points)
    step = _limited_step(values, gradients, cell)
    moved = np.where((start.several & start.beyond)[:, None], start.points, np.clip(start.points + step, low, high))
    long = np.linalg.norm(step, axis=1) > _LONG_STEP * cell
    doubtful = np.flatnonzero((start.several | long) & ~start.beyond)
    best, slopes, off = start.points[doubtful].copy(), gradients[doubtful].copy(), np.abs(values[doubtful])
    for first in (moved[doubtful], start.centre[doubtful]):
        rows = np.flatnonzero(off > _ON_SURFACE * cell)
        at = first[rows]
        for _ in range(_NEWTON_ROUNDS):
            if not len(rows):
                break
            values, local = hermite(at)
            better = np.abs(values) < off[rows]
            best[rows[better]], slopes[rows[better]] = at[better], local[better]
            off[rows[better]] = np.abs(values[better])
            left = off[rows] > _ON_SURFACE * cell
            at = np.clip(at + _limited_step(values, local, cell), low[doubtful[rows]], high[doubtful[rows]])[left]
            rows = rows[left]
    moved[doubtful], gradients[doubtful] = best, slopes
    return moved, gradients


def _limited_step(values: np.ndarray, gradients: np.ndarray, cell: float) -> np.ndarray:
    """Newton steps of at most half a cell: where the gradient nearly vanishes they would leave the neighbourhood."""
    step = newton_step(values, gradients)
    return step * np.minimum(1.0, 0.5 * cell / np.maximum(np.linalg.norm(step, axis=1), 1e-300))[:, None]


def newton_step(values: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Steps (n, 3) along the gradient to the zero of the linearised field: -f g / |g|²."""
    return -(values / np.maximum((gradients**2).sum(axis=1), 1e-12))[:, None] * gradients


def _edge_vertices(
    position: Callable[[np.ndarray], np.ndarray], cell: float, components: Components, hermite: Hermite, bound: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices and normals (e, 3) where edges cross the surface, and the offsets (e,) of their tangent planes.

    Newton's method on each edge, safeguarded by bisection: the crossing stays bracketed between `low` and `high`.
    """
    axis, (first, last) = components.axis, components.ends.T
    share = first / (first - last)  # the zero of the linear interpolant, as a fraction of the edge
    low, high = np.zeros(len(axis)), np.ones(len(axis))
    normals, offsets = np.zeros((len(axis), 3)), np.zeros(len(axis))
    rows = np.arange(len(axis))
    for _ in range(1 + _NEWTON_ROUNDS):
        guess = position(components.base[rows] + share[rows, None] * np.eye(3)[axis[rows]])
        values, gradients = hermite(guess)
        length = np.linalg.norm(gradients, axis=1)
        normals[rows] = unit(gradients)
        # Tangent plane n · x = offset of the linearised field's zero, which lies value / |gradient| behind the guess.
        offsets[rows] = (normals[rows] * guess).sum(axis=1) - values / np.where(length > 0, length, 1.0)
        slope = cell * gradients[np.arange(len(rows)), axis[rows]]
        outward = components.outward[rows]
        short = (values <= 0) == outward  # the guess has the sign of the lower end: the crossing lies above it
        low[rows[short]], high[rows[~short]] = share[rows[short]], share[rows[~short]]
        # Newton's step only where the slope has the sign of the crossing and the step stays in the bracket.
        rising = np.where(outward, slope > 0, slope < 0)
        better = share[rows] - np.where(rising, values / np.where(rising, slope, 1.0), 0.0)
        kept = rising & (better >= low[rows]) & (better <= high[rows])
        better = np.where(kept, better, 0.5 * (low[rows] + high[rows]))
        off = np.abs(better - share[rows])
        share[rows] = better
        rows = rows[(off > _LONG_STEP) & (np.abs(guess) <= bound).all(axis=1)]
        if not len(rows):
            break
    share = np.clip(share, MARGIN, 1.0 - MARGIN)
    return position(components.base + share[:, None] * np.eye(3)[axis]), normals, offsets


def _group_sums(of: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Sums (count, k) of rows (n, k) by their group (n,)."""
    return np.stack([np.bincount(of, column, count) for column in rows.T], -1)


def _intersect_planes(
    of: np.ndarray, normals: np.ndarray, offsets: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Points (s, 3) between low and high that minimise the squared distances to planes n · x = d, grouped by `of`.

    This is the quadratic error function of dual contouring, by its normal equations A x = b with A = Σ n nᵀ and
    b = Σ n d. Directions that the planes do not determine (along an edge, on a flat part) stay at zero.
    """
    count = len(low)
    products = normals[:, [0, 0, 0, 1, 1, 2]] * normals[:, [0, 1, 2, 1, 2, 2]]
    matrix = _group_sums(of, products, count)[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    right = _group_sums(of, normals * offsets[:, None], count)
    ridge = _RIDGE * np.bincount(of, minlength=count)[:, None, None] * np.eye(3)
    inverse = _inverse(matrix + ridge)
    # Iterated Tikhonov: each round pulls towards the result of the last one, so that the bias vanishes in directions
    # that the planes determine: by (ridge / (λ + ridge))^rounds for an eigenvalue λ.
    found = np.zeros((count, 3))
    for _ in range(_RIDGE_ROUNDS):
        found += np.einsum("sij,sj->si", inverse, right - np.einsum("sij,sj->si", matrix, found))
    beyond = np.flatnonzero(((found < low) | (found > high)).any(axis=1))
    found[beyond] = _bounded_least_squares(
        matrix[beyond] + _BOUNDED_RIDGE * ridge[beyond], right[beyond], found[beyond], low[beyond], high[beyond]
    )
    return found


def _bounded_least_squares(
    matrix: np.ndarray, right: np.ndarray, start: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Minima (s, 3) within bounds, by projected Gauss-Seidel: clipping the unbounded minimum would not give them."""
    found = np.clip(start, low, high)
    for _ in range(_SWEEPS):
        for axis in range(3):
            rest = right[:, axis] - np.einsum("si,si->s", matrix[:, axis], found)
            found[:, axis] = np.clip(found[:, axis] + rest / matrix[:, axis, axis], low[:, axis], high[:, axis])
    return found


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverses of symmetric positive definite matrices (s, 3, 3) by cofactors: much faster than LAPACK one by one."""
    rows = [np.cross(matrix[:, (k + 1) % 3], matrix[:, (k + 2) % 3]) for k in range(3)]
    return np.stack(rows, axis=1) / (matrix[:, 0] * rows[0]).sum(axis=1)[:, None, None]
