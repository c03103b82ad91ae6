"""Active cells found coarse to fine, from a small fraction of the grid's samples.

A cell whose corners all have the same sign may still contain part of the surface. How steep the field would have to be
for that is its *critical slope* (`slopes.critical_slopes`). The octants of a cell are refined where their critical
slope is at most the slope of the field, which the user gives (`lipschitz`) or which is estimated from the values: one
slope for all large cells, in which a whole part could be lost, and a local one for each cell of the last levels,
because parts that are connected to surface already found are followed afterwards.

    level 0               level 1                        the grid
    +-------+-------+     +---+---+                      +-+-+
    |       | . . . |     | . |   |   refined octants    | | |   cells whose corners are evaluated; the active ones
    |       |. . . .|     +---+---+   become cells of    +-+-+   are the result
    +-------+-------+         |   |   the next level
    all cells                 +---+
"""

from __future__ import annotations

import logging

import numpy as np

from deepsdf.errors import InputError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.isosurface.active_cells import ActiveCells, Evaluator, Grid, fill_unknown, is_active, unique
from deepsdf.geometry.isosurface.bricks import Bricks
from deepsdf.geometry.isosurface.cells import CORNERS
from deepsdf.geometry.isosurface.slopes import critical_slopes, near_surface

logger = logging.getLogger(__name__)

COARSE_CELLS = 8
"""Least number of cells per axis on the coarsest level, which then has 8 to 14 and at most 15³ = 3375 samples: about
1 % of the evaluations at resolution 256."""

SAFETY, _QUANTILE = 1.1, 0.99
"""The slope of the field is taken to be 1.1 times the 0.99 quantile of the slopes of cells at the surface. With these,
no active cell of fifty learned fields was missed at resolution 129 (docs/measurements/meshing.md, "Nothing lost")."""

_LAST_SAFETY = 0.9
"""The same factor for the last level before the grid, where following the surface finds what is connected. Measured in
the same place: with 0.8 specks of a few cells were missed, 1.1 costs 10 to 20 % more evaluations."""

_LOCAL_LEVELS = 2
"""Levels before the grid that use the local slope. Their octants measure one and two cells of the grid: only isolated
parts smaller than that can be missed."""

_MAX_INCREASE = 2.0
"""Limit of the slope as a multiple of the estimate. Without it, a field with jumps, which no slope bounds, would be
evaluated everywhere."""

_CHUNK = 1 << 17
"""Cells processed together: their corner values and critical slopes, 64 bytes each, then take 8 MiB."""

_FLAT_FRACTION, _FLAT_SAMPLES = 0.4, 2_000_000
"""Fraction of the samples near zero, and their number, beyond which a warning is logged. Two million evaluations of a
decoder take about 45 s on one core (22 µs each: docs/measurements/meshing.md)."""


def find_sparse(field: Field, grid: Grid, *, lipschitz: float | None = None) -> ActiveCells:
    """Active cells found by evaluating the field near the surface only.

    Args:
        lipschitz: an upper bound of the field's slope, |f(p) - f(q)| <= lipschitz · |p - q|. With a true bound no
            active cell is missed. Without one, the slope is estimated at the surface during the search, and all surface
            connected to what was found is followed to its end.
    Raises:
        InputError: the field is NaN or infinite at a sample, or steeper than `lipschitz`.
    """
    search = _Search(field, grid, lipschitz)
    search.refine()
    while search.follow_surface():
        search.refine()
    return search.result()


class _Level:
    """Every `step`-th sample of the grid along each axis, and the cells between them whose corners were evaluated.

    The last sample of an axis belongs to every level, even if the step does not reach it: the last cells are shorter.

        grid, resolution 12:   0 1 2 3 4 5 6 7 8 9 . 11
        step 4:                0       4       8     11

    Attributes:
        grid: the index arithmetic of this level's samples; its positions are not theirs.
        axis: coordinates of the samples.
        side: of a full cell.
        cells: (c, 3).
        critical: (c, 8), critical slopes of the octants.
        local_slope: (c,), slope of the field over a cell, or over its parents if that is larger.
        refined: (c, 8), octants that are cells of the next level.
    """

    def __init__(self, grid: Grid, step: int) -> None:
        last = grid.resolution - 1
        self.grid = Grid(-(-last // step) + 1, grid.bound)
        self.samples = np.minimum(np.arange(self.grid.resolution) * step, last)
        self.axis = grid.axis[self.samples]
        self.side = step * grid.cell
        self.values = Bricks(self.grid.resolution)
        self.cells = np.zeros((0, 3), np.int32)
        self.critical = np.zeros((0, 8), np.float32)
        self.local_slope = np.zeros(0, np.float32)
        self.refined = np.zeros((0, 8), bool)

    def corners(self, cells: np.ndarray) -> np.ndarray:
        """Known values (n, 8) at the corners of cells (n, 3)."""
        return self.values.get(cells[:, None] + CORNERS)

    def inside(self, cells: np.ndarray) -> np.ndarray:
        """Whether cell indices (n, 3) lie within the cube; there is one cell fewer than samples per axis."""
        return np.all((cells >= 0) & (cells < self.grid.resolution - 1), axis=1)


class _Search:
    """State of one sparse search.

    Attributes:
        slope: bound up to which octants of the large cells are refined.
        estimate: of the field's slope so far; `slope` may be raised above it by `follow_surface`.
        typical: median slope at the surface, the least local slope.
    """

    def __init__(self, field: Field, grid: Grid, lipschitz: float | None) -> None:
        self.evaluate, self.grid, self.lipschitz = Evaluator(field), grid, lipschitz
        self.slope = self.estimate = lipschitz or 0.0
        self.typical = 0.0
        self.warned = False
        # Steps are powers of two, so that every level's samples are samples of the next one too.
        step = 1
        while -(-(grid.resolution - 1) // (2 * step)) >= COARSE_CELLS:
            step *= 2
        self.levels = [_Level(grid, step >> k) for k in range(step.bit_length())]
        first = self.levels[0].grid.resolution
        every = np.stack(np.meshgrid(*[np.arange(first - 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
        self._add(0, every.astype(np.int32))

    def refine(self) -> None:
        """Refine every octant that may contain a part of the surface, down to the grid's own cells."""
        for number, level in enumerate(self.levels[:-1]):
            # Octants refined in an earlier round stay refined; a raised slope only adds some.
            wanted = (level.critical <= self._threshold(number)) & ~level.refined
            level.refined |= wanted
            rows, octants = np.nonzero(wanted)
            self._warn_if_flat(number, len(rows))
            self._copy_to_finer(number, unique(rows))
            children = 2 * level.cells[rows] + CORNERS[octants]
            # The shorter last cells of a level may have no upper octants.
            within = (children < self.levels[number + 1].grid.resolution - 1).all(axis=1)
            self._add(number + 1, children[within], level.local_slope[rows[within]])

    def follow_surface(self) -> bool:
        """Follow the surface from the evaluated cells of the grid into neighbours that were not evaluated.

        Returns whether the slope was raised: it was too small for the ancestors of the cells found here, so that other
        parts may have been missed for the same reason.
        """
        # Breadth first: the front is the cells found in the last round. Active cells whose shared face has both signs
        # are connected by the surface, so that each connected part is found whole from any of its cells.
        level = self.levels[-1]
        known = np.sort(level.grid.key(level.cells))
        front, found = level.cells, []
        while len(front):
            front = self._neighbours_across_surface(front)
            key = unique(level.grid.key(front))
            key = key[~_contains(known, key)]
            known = np.sort(np.append(known, key))
            front = level.grid.indices(key)
            found.append(front)
            self._add(len(self.levels) - 1, front)
        missed = np.concatenate(found) if found else level.cells[:0]
        before = self.slope
        if len(missed) and self.lipschitz is None:
            self.slope = max(self.slope, min(self._slope_to_reach(missed), _MAX_INCREASE * self.estimate))
        return self.slope > before

    def result(self) -> ActiveCells:
        level = self.levels[-1]
        cells, values = [level.cells[:0]], [np.zeros((0, 8), np.float32)]
        for start in range(0, len(level.cells), _CHUNK):
            part = level.cells[start : start + _CHUNK]
            corners = level.corners(part)
            active = is_active(corners)
            cells.append(part[active])
            values.append(corners[active])
        cells, values = np.concatenate(cells), np.concatenate(values)
        # Duplicates: a cell may have been reached by following the surface and, after the slope was raised, from its
        # parent.
        order = np.unique(self.grid.key(cells), return_index=True)[1]
        cells, values = cells[order], values[order]
        evaluate = self.evaluate
        logger.debug(
            "%d of %d samples evaluated, slope at most %.3g, %d active cells",
            evaluate.evaluations, self.grid.resolution**3, self.slope, len(cells),
        )  # fmt: skip
        boundary = self._boundary(cells, values)
        return ActiveCells(self.grid, cells, values, boundary, evaluate.low, evaluate.high, evaluate.evaluations)

    def _threshold(self, number: int) -> float | np.ndarray:
        """The critical slope up to which octants of a level are refined: one, or one per cell (c, 1)."""
        last = len(self.levels) - 2
        if self.lipschitz is not None or number <= last - _LOCAL_LEVELS:
            return self.slope
        # With one or two levels the cells of the last are large, and the full safety factor applies to them.
        safety = _LAST_SAFETY if number == last and number > 1 else SAFETY
        return np.minimum(safety * np.maximum(self.levels[number].local_slope, self.typical), self.slope)[:, None]

    def _add(self, number: int, cells: np.ndarray, parent_slope: np.ndarray | None = None) -> None:
        """Evaluate the corners of new cells of a level, their critical slopes, and the field's slope over them.

        Args:
            parent_slope: (n,), local slope of the parents.
        """
        level = self.levels[number]
        last = number == len(self.levels) - 1
        slopes, around, critical = [], [], []
        for start in range(0, len(cells), _CHUNK):
            part = cells[start : start + _CHUNK]
            corners = self._evaluate_corners(level, part)
            if not last:
                critical.append(critical_slopes(corners, level.side))
            if not last or self.lipschitz is not None:  # on the grid itself slopes only serve to check the bound
                every = self._cell_slopes(level, part, corners)
                around.append(every.astype(np.float32))
                slopes.append(every[near_surface(corners)])
        level.cells = np.concatenate([level.cells, cells])
        if last or not len(cells):
            return
        level.critical = np.concatenate([level.critical, *critical])
        level.refined = np.concatenate([level.refined, np.zeros((len(cells), 8), bool)])
        own = np.concatenate(around)
        own = own if parent_slope is None else np.maximum(own, parent_slope)
        level.local_slope = np.concatenate([level.local_slope, own])
        if self.lipschitz is None:
            found = np.concatenate(slopes)
            # Maxima over all calls: deeper levels resolve slopes that coarse cells average out, never the reverse.
            self.estimate = max(self.estimate, SAFETY * float(np.quantile(found, _QUANTILE)))
            self.typical = max(self.typical, float(np.median(found)))
            self.slope = max(self.slope, self.estimate)

    def _evaluate_corners(self, level: _Level, cells: np.ndarray) -> np.ndarray:
        """Values (n, 8) at the corners of cells; those not known are evaluated, each once."""
        # Neighbouring cells share corners: eight per cell, but about two evaluations.
        corners = (cells[:, None] + CORNERS).reshape(-1, 3)
        values = level.values.get(corners)
        unknown = np.isnan(values)
        new = level.grid.indices(unique(level.grid.key(corners[unknown])))
        level.values.set(new, self.evaluate(level.axis[new]))
        values[unknown] = level.values.get(corners[unknown])
        return values.reshape(-1, 8)

    def _copy_to_finer(self, number: int, rows: np.ndarray) -> None:
        """Copy the corner values of a level's cells to the next level, where the same samples have twice the index."""
        level, finer = self.levels[number], self.levels[number + 1]
        for start in range(0, len(rows), _CHUNK):
            cells = level.cells[rows[start : start + _CHUNK]]
            samples = np.minimum(2 * (cells[:, None] + CORNERS), finer.grid.resolution - 1)
            finer.values.set(samples.reshape(-1, 3), level.corners(cells).reshape(-1))

    def _cell_slopes(self, level: _Level, cells: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """Slopes (n,) of the field over cells: the length of the mean of the difference quotients along the edges."""
        # The mean of the four parallel edges is the gradient's component at the centre, to second order. The true
        # sides are divided by: the last cells of a level are shorter.
        change = corners.reshape(-1, 2, 2, 2).astype(np.float64)
        sides = np.stack([level.axis[cells[:, a] + 1] - level.axis[cells[:, a]] for a in range(3)], -1)
        along = np.stack([np.diff(change, axis=a + 1).reshape(-1, 4) for a in range(3)], -1) / sides[:, None]
        # The allowance is for float32 rounding of a distance field, whose bound 1 is attained.
        if self.lipschitz is not None and np.abs(along).max(initial=0) > 1.001 * self.lipschitz + 1e-6:
            steepest = int(np.abs(along).max(axis=(1, 2)).argmax())
            raise InputError(
                f"the field is steeper than lipschitz={self.lipschitz:g}: {np.abs(along[steepest]).max():.4g} near "
                f"{level.axis[cells[steepest]].tolist()}; give a larger bound"
            )
        return np.sqrt((along.mean(axis=1) ** 2).sum(axis=1))

    def _neighbours_across_surface(self, cells: np.ndarray) -> np.ndarray:
        """Neighbours of cells beyond the faces through which the surface passes."""
        level, found = self.levels[-1], []
        for start in range(0, len(cells), _CHUNK):
            part = cells[start : start + _CHUNK]
            inside = level.corners(part) <= 0
            for axis in range(3):
                for side in (0, 1):
                    face = inside[:, CORNERS[:, axis] == side]
                    active = part[face.any(axis=1) & ~face.all(axis=1)]
                    neighbours = active + (2 * side - 1) * np.eye(3, dtype=np.int32)[axis]
                    found.append(neighbours[level.inside(neighbours)])
        return np.concatenate(found)

    def _slope_to_reach(self, cells: np.ndarray) -> float:
        """The smallest slope at which the large cells would have been refined towards these cells of the grid."""
        # Only the levels that use `slope`; the local slopes of the others are not raised.
        needed = 0.0
        for number, level in enumerate(self.levels[: -1 - _LOCAL_LEVELS]):
            # Indices double with every level: the ancestor and, one bit further, the octant that leads to the cell.
            shift = len(self.levels) - 1 - number
            ancestors, octants = cells >> shift, (cells >> (shift - 1)) & 1
            keys = level.grid.key(level.cells)
            order = np.argsort(keys)
            at = np.minimum(np.searchsorted(keys[order], level.grid.key(ancestors)), len(keys) - 1)
            row, octant = order[at], octants @ np.array([4, 2, 1])
            unrefined = (keys[row] == level.grid.key(ancestors)) & ~level.refined[row, octant]
            needed = max(needed, float(level.critical[row, octant][unrefined].max(initial=0.0)))
        return needed

    def _warn_if_flat(self, number: int, octants: int) -> None:
        if number < len(self.levels) - 2:
            return  # many of the large cells are near the surface of any field
        fraction = octants / (8.0 * (self.levels[number].grid.resolution - 1) ** 3)
        expected = fraction * self.grid.resolution**3
        if fraction > _FLAT_FRACTION and expected > _FLAT_SAMPLES and not self.warned:
            self.warned = True
            logger.warning(
                "the field is near zero in %.0f %% of the cube, like that of a network after little training: about "
                "%.1f of %.1f million samples must be evaluated",
                100 * fraction, expected / 1e6, self.grid.resolution**3 / 1e6,
            )  # fmt: skip

    def _boundary(self, cells: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The field on the faces of the cube: known values, and the sign of the nearest known one elsewhere.

        No sign change is lost or invented: both ends of an edge with a sign change are corners of an active cell, and
        those are all known.
        """
        # The coarsest level covers the whole face: fill_unknown always finds a known sample, and away from active cells
        # the sign cannot change between a sample and the nearest known one.
        n, first = self.grid.resolution, self.levels[0]
        boundary = np.full((3, 2, n, n), np.nan, np.float32)
        coarse = np.stack(np.meshgrid(*[np.arange(first.grid.resolution)] * 2, indexing="ij"), -1).reshape(-1, 2)
        for axis in range(3):
            for side in (0, 1):
                face = boundary[axis, side]
                at = np.insert(coarse, axis, side * (first.grid.resolution - 1), axis=1)
                face[tuple(first.samples[coarse].T)] = first.values.get(at)
                touching = cells[:, axis] == side * (n - 2)
                for corner in np.flatnonzero(CORNERS[:, axis] == side):
                    sample = np.delete(cells[touching] + CORNERS[corner], axis, axis=1)
                    face[tuple(sample.T)] = values[touching, corner]
        return fill_unknown(boundary, (2, 3))


def _contains(known: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Whether each of the keys (n,) is among the known ones, which are sorted."""
    if not len(known):
        return np.zeros(len(keys), bool)
    return known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys
