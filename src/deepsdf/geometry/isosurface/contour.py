"""Points of a surface from a field's values and gradients: one on every crossed edge, one for every sheet of a cell.

Dual contouring (Ju et al., 2002): the point of a sheet is where the tangent planes at its edges' points meet, so edges
and corners of the surface stay sharp. A cell has as many points as the surface has sheets in it (Nielson, 2004), so the
mesh is a manifold. Each point stays in its own cell, so sheets do not meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deepsdf.geometry.isosurface.cells import EDGE_AXIS, EDGE_BASE, EDGE_ENDS, FACE_CORNERS, is_ambiguous, sheets
from deepsdf.geometry.isosurface.hermite import unit
from deepsdf.geometry.isosurface.search import Crossing

Hermite = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Points (n, 3) to values (n,) and gradients (n, 3), float64."""

MARGIN = 1e-3
"""Of a cell: points keep this far from its walls, and from the ends of edges, so that no two fall together."""

_PULL = 0.02  # towards the middle of the edges' points, beside each of which the planes count 1
_PULLS = 4
_SWEEPS = 60
_LONG = 0.05  # of a cell: a Newton step after which another is taken,
_ROUNDS = 4  # so many at most
_NEAR = 2e-3  # of a cell: a value that counts as on the surface


@dataclass(frozen=True)
class Sheets:
    """How the surface passes through the cells that it crosses.

    Attributes:
        base, axis: (e, 3), (e,): where each crossed edge begins, in cells, and along which axis it runs.
        ends: (e, 2) float64, the field at its ends.
        cell_edges: (c, 12), which of these each edge of a cell is, -1 where it is not crossed.
        cell_sheets: (c, 12), the sheet that crosses it there, or -1.
        sheet_cell: (s,), the cell of each sheet.
        ambiguous, joined: (c, 6), whether the surface crosses all four edges of a face, and if so, whether the face's
            inside corners hang together.
    """

    base: np.ndarray
    axis: np.ndarray
    ends: np.ndarray
    cell_edges: np.ndarray
    cell_sheets: np.ndarray
    sheet_cell: np.ndarray
    ambiguous: np.ndarray
    joined: np.ndarray

    @property
    def outward(self) -> np.ndarray:
        """(e,), whether an edge leaves the inside at its beginning."""
        return self.ends[:, 0] <= 0


@dataclass(frozen=True)
class Contour:
    """Points (n, 3) with unit normals (n, 3): sheets' first, then edges'."""

    points: np.ndarray
    normals: np.ndarray


def find_sheets(crossing: Crossing) -> Sheets:
    """The sheets of crossed cells."""
    inside = crossing.values <= 0
    ambiguous = is_ambiguous(inside[:, FACE_CORNERS])
    joined = np.zeros_like(ambiguous)
    row, face = np.nonzero(ambiguous)
    ring = crossing.values.astype(np.float64)[row[:, None], FACE_CORNERS[face]]
    # The sign of the bilinear field's saddle, the same seen from both cells of the face.
    even, odd = ring[:, 0] * ring[:, 2], ring[:, 1] * ring[:, 3]
    joined[row, face] = np.where(ring[:, 0] <= 0, even > odd, odd > even)
    first = sheets()[inside @ (1 << np.arange(8)), joined @ (1 << np.arange(6))]

    row, edge = np.nonzero(first < 12)
    own = first[row, edge]
    cell_sheets = np.full(first.shape, -1)
    leading = own == edge
    cell_sheets[row[leading], edge[leading]] = np.arange(leading.sum())
    cell_sheets[row, edge] = cell_sheets[row, own]

    base = crossing.cells[row] + EDGE_BASE[edge]
    keys = crossing.grid.key(base) * 3 + EDGE_AXIS[edge]
    _, at, number = np.unique(keys, return_index=True, return_inverse=True)
    cell_edges = np.full(first.shape, -1)
    cell_edges[row, edge] = number
    ends = crossing.values[row[at, None], EDGE_ENDS[edge[at]]].astype(np.float64)
    return Sheets(base[at], EDGE_AXIS[edge[at]], ends, cell_edges, cell_sheets, row[leading], ambiguous, joined)


def find_points(crossing: Crossing, sheets: Sheets, hermite: Hermite, bound: float = np.inf) -> Contour:
    """Two evaluations with gradients, one a crossed edge and one a sheet, and more of the few that are still off.

    Beyond the cube of half side `bound` none is moved again.
    """
    grid = crossing.grid
    edge_points, edge_normals, offsets = _edge_points(grid.position, grid.cell, sheets, hermite, bound)
    rows, names = np.nonzero(sheets.cell_edges >= 0)
    member, of = sheets.cell_edges[rows, names], sheets.cell_sheets[rows, names]
    count = len(sheets.sheet_cell)
    middle = _sums(of, edge_points[member], count) / np.bincount(of, minlength=count)[:, None]
    low = grid.position(crossing.cells[sheets.sheet_cell] + MARGIN)
    high = grid.position(crossing.cells[sheets.sheet_cell] + (1.0 - MARGIN))
    normals = edge_normals[member]
    behind = offsets[member] - (normals * middle[of]).sum(axis=1)
    points = middle + _meet(of, normals, behind, low - middle, high - middle)
    # Planes of several sheets of a cell could meet beyond one another: there the middles must do.
    several = np.bincount(sheets.sheet_cell)[sheets.sheet_cell] > 1
    points[several] = middle[several]
    beyond = np.any((low < -bound) | (high > bound), axis=1)
    points, gradients = _settle(points, middle, several, beyond, low, high, grid.cell, hermite)
    return Contour(np.concatenate([points, edge_points]), np.concatenate([unit(gradients), edge_normals]))


def _settle(
    points: np.ndarray,
    middle: np.ndarray,
    several: np.ndarray,
    beyond: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    cell: float,
    hermite: Hermite,
) -> tuple[np.ndarray, np.ndarray]:
    """Sheets' points moved onto the surface within their cells, and the gradients there.

    One Newton step does for most. Where it was long, and where a cell has several sheets, more are taken, and the best
    point counts: of what was met on the way from the planes' point and, if that does not arrive, from the middle.
    """
    values, gradients = hermite(points)
    step = _short_step(values, gradients, cell)
    moved = np.where((several & beyond)[:, None], points, np.clip(points + step, low, high))
    doubtful = np.flatnonzero((several | (np.linalg.norm(step, axis=1) > _LONG * cell)) & ~beyond)
    best, slopes, off = points[doubtful].copy(), gradients[doubtful].copy(), np.abs(values[doubtful])
    for start in (moved[doubtful], middle[doubtful]):
        rows = np.flatnonzero(off > _NEAR * cell)
        at = start[rows]
        for _ in range(_ROUNDS):
            if not len(rows):
                break
            values, local = hermite(at)
            better = np.abs(values) < off[rows]
            best[rows[better]], slopes[rows[better]] = at[better], local[better]
            off[rows[better]] = np.abs(values[better])
            left = off[rows] > _NEAR * cell
            at = np.clip(at + _short_step(values, local, cell), low[doubtful[rows]], high[doubtful[rows]])[left]
            rows = rows[left]
    moved[doubtful], gradients[doubtful] = best, slopes
    return moved, gradients


def _short_step(values: np.ndarray, gradients: np.ndarray, cell: float) -> np.ndarray:
    step = newton_step(values, gradients)
    return step * np.minimum(1.0, 0.5 * cell / np.maximum(np.linalg.norm(step, axis=1), 1e-300))[:, None]


def newton_step(values: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Steps (n, 3) along the gradient to where its tangent plane is zero."""
    return -(values / np.maximum((gradients**2).sum(axis=1), 1e-12))[:, None] * gradients


def _edge_points(
    position: Callable[[np.ndarray], np.ndarray], cell: float, sheets: Sheets, hermite: Hermite, bound: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points and normals (e, 3) where edges cross the surface, and the offsets (e,) of their tangent planes."""
    axis, (first, last) = sheets.axis, sheets.ends.T
    share = first / (first - last)
    low, high = np.zeros(len(axis)), np.ones(len(axis))
    normals, offsets = np.zeros((len(axis), 3)), np.zeros(len(axis))
    rows = np.arange(len(axis))
    for _ in range(1 + _ROUNDS):
        guess = position(sheets.base[rows] + share[rows, None] * np.eye(3)[axis[rows]])
        values, gradients = hermite(guess)
        length = np.linalg.norm(gradients, axis=1)
        normals[rows] = unit(gradients)
        offsets[rows] = (normals[rows] * guess).sum(axis=1) - values / np.where(length > 0, length, 1.0)
        slope = cell * gradients[np.arange(len(rows)), axis[rows]]
        outward = sheets.outward[rows]
        short = (values <= 0) == outward  # the crossing lies beyond the guess
        low[rows[short]], high[rows[~short]] = share[rows[short]], share[rows[~short]]
        rising = np.where(outward, slope > 0, slope < 0)
        better = share[rows] - np.where(rising, values / np.where(rising, slope, 1.0), 0.0)
        kept = rising & (better >= low[rows]) & (better <= high[rows])
        better = np.where(kept, better, 0.5 * (low[rows] + high[rows]))
        off = np.abs(better - share[rows])
        share[rows] = better
        rows = rows[(off > _LONG) & (np.abs(guess) <= bound).all(axis=1)]
        if not len(rows):
            break
    share = np.clip(share, MARGIN, 1.0 - MARGIN)
    return position(sheets.base + share[:, None] * np.eye(3)[axis]), normals, offsets


def _sums(of: np.ndarray, what: np.ndarray, count: int) -> np.ndarray:
    """Sums (count, k) of rows (n, k) by where they belong (n,)."""
    return np.stack([np.bincount(of, column, count) for column in what.T], -1)


def _meet(of: np.ndarray, normals: np.ndarray, offsets: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Points (s, 3) between low and high that are nearest to planes normal · x = offset, each belonging to a point.

    Planes that do not determine a point leave it where it is nearest to zero.
    """
    count = len(low)
    products = normals[:, [0, 0, 0, 1, 1, 2]] * normals[:, [0, 1, 2, 1, 2, 2]]
    matrix = _sums(of, products, count)[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    right = _sums(of, normals * offsets[:, None], count)
    pull = _PULL * np.bincount(of, minlength=count)[:, None, None] * np.eye(3)
    inverse = _inverse(matrix + pull)
    # The pull is towards where the last round ended, so that it fades where the planes do determine the point.
    found = np.zeros((count, 3))
    for _ in range(_PULLS):
        found += np.einsum("sij,sj->si", inverse, right - np.einsum("sij,sj->si", matrix, found))
    beyond = np.flatnonzero(((found < low) | (found > high)).any(axis=1))
    found[beyond] = _within(
        matrix[beyond] + 0.05 * pull[beyond], right[beyond], found[beyond], low[beyond], high[beyond]
    )
    return found


def _within(matrix: np.ndarray, right: np.ndarray, start: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The least squares within bounds, an axis at a time."""
    found = np.clip(start, low, high)
    for _ in range(_SWEEPS):
        for axis in range(3):
            rest = right[:, axis] - np.einsum("si,si->s", matrix[:, axis], found)
            found[:, axis] = np.clip(found[:, axis] + rest / matrix[:, axis, axis], low[:, axis], high[:, axis])
    return found


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverses of symmetric positive matrices (s, 3, 3): many times faster than LAPACK one by one."""
    rows = [np.cross(matrix[:, (k + 1) % 3], matrix[:, (k + 2) % 3]) for k in range(3)]
    return np.stack(rows, axis=1) / (matrix[:, 0] * rows[0]).sum(axis=1)[:, None, None]
