"""Which cells of a grid a surface crosses, found coarse to fine from a small share of the grid's samples.

A cell whose corners all have one sign may still hold a part of the surface. How steep the field would have to be for
that is its *critical slope*: a field of slope L has no zero nearer than |f| / L to a sample of value f, so balls of
these radii around the corners cover whatever is free of the surface. Cells are opened where the critical slope is at
most the field's own, which the user gives or the values themselves tell: one for all large cells, where a whole part
could be lost, and its own for each of the last, where whatever hangs together with surface that was found is followed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deepsdf.errors import InputError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.isosurface.bricks import Bricks
from deepsdf.geometry.isosurface.cells import CORNERS
from deepsdf.geometry.isosurface.steepness import critical, mixed, nearest

logger = logging.getLogger(__name__)

COARSE_CELLS = 8
"""Cells an axis, at least, to begin with."""

SAFETY = 1.1
"""How much steeper than nearly all cells at the surface the field is taken to be."""

_QUANTILE = 0.99
_RAISE = 2.0  # A field that jumps is steeper than any slope: following its surface must do.
_LOCAL = 2  # levels before the grid's own whose cells are opened by the slope around them,
_LAST = 0.9  # and the last of them by less: what hangs together with the surface is found by following it
_CHUNK = 1 << 17  # cells worked on at once
_MANY = 0.4  # share of the samples near the surface that is worth a warning,
_LARGE = 2_000_000  # where that is so many


@dataclass(frozen=True)
class Grid:
    """Samples of a cube: `resolution` an axis, at -bound + 2 bound i / (resolution - 1)."""

    resolution: int
    bound: float

    @property
    def cell(self) -> float:
        """Side of a cell."""
        return 2.0 * self.bound / (self.resolution - 1)

    @cached_property
    def axis(self) -> np.ndarray:
        """Coordinates (resolution,) float64 of the samples."""
        return np.linspace(-self.bound, self.bound, self.resolution)

    def position(self, places: np.ndarray) -> np.ndarray:
        """Where places (..., 3) are, counted in cells from the lowest corner; they need not be whole."""
        return self.cell * places - self.bound

    def key(self, places: np.ndarray) -> np.ndarray:
        """One number (n,) int64 for each place (n, 3), in lexicographic order."""
        i, j, k = places.astype(np.int64).T
        return (i * self.resolution + j) * self.resolution + k

    def place(self, keys: np.ndarray) -> np.ndarray:
        """The way back from `key`: (n, 3) int32."""
        rest, k = np.divmod(keys, self.resolution)
        return np.stack([*np.divmod(rest, self.resolution), k], -1).astype(np.int32)


@dataclass(frozen=True)
class Crossing:
    """The cells that a field's zero level set crosses: those with corners of both signs.

    Attributes:
        grid: of the samples.
        cells: (c, 3) int32, lowest corners, in lexicographic order.
        values: (c, 8) float32, the field at the corners, ordered as CORNERS. Zero counts as inside.
        walls: (3, 2, resolution, resolution) float32, the field on the walls of the cube, by axis, side, and the two
            other axes in order. Far from the surface only the sign is right.
        low, high: the least and the greatest value met.
        queries: how often the field was evaluated.
    """

    grid: Grid
    cells: np.ndarray
    values: np.ndarray
    walls: np.ndarray
    low: float
    high: float
    queries: int


def crossing_dense(field: Field, grid: Grid) -> Crossing:
    """Evaluate every sample, a layer at a time."""
    samples = _Samples(field)
    n = grid.resolution
    side = np.stack(np.meshgrid(grid.axis, grid.axis, indexing="ij"), -1).reshape(-1, 2)
    walls = np.empty((3, 2, n, n), np.float32)
    cells, values, before = [], [], None
    for i, x in enumerate(grid.axis):
        layer = samples(np.column_stack([np.full(len(side), x), side])).reshape(n, n)
        walls[1, :, i], walls[2, :, i] = layer[[0, -1]], layer[:, [0, -1]].T
        if before is None:
            walls[0, 0] = layer
        else:
            pair = np.stack([before, layer])
            corners = np.stack([pair[a, b : n - 1 + b, c : n - 1 + c] for a, b, c in CORNERS], -1)
            j, k = np.nonzero(mixed(corners))
            cells.append(np.column_stack([np.full(len(j), i - 1), j, k]).astype(np.int32))
            values.append(corners[j, k])
        before = walls[0, 1] = layer
    return Crossing(
        grid, np.concatenate(cells), np.concatenate(values), walls, samples.low, samples.high, samples.queries
    )


def crossing_sparse(field: Field, grid: Grid, *, lipschitz: float | None = None) -> Crossing:
    """Evaluate near the surface alone, coarse to fine.

    Args:
        lipschitz: a bound of the field's slope: |f(p) - f(q)| <= lipschitz · |p - q|. With a true one nothing is
            lost. Without, the slope is measured at the surface while it is found, and a surface that was found is
            followed to its end.
    Raises:
        InputError: the field is not a number somewhere, or steeper than `lipschitz`.
    """
    search = _Search(field, grid, lipschitz)
    search.open()
    while search.follow():
        search.open()
    return search.result()


class _Samples:
    """A field, and what its values were so far."""

    def __init__(self, field: Field) -> None:
        self.field, self.queries, self.low, self.high = field, 0, np.inf, -np.inf

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Values (n,) float32 at points (n, 3)."""
        points = points.astype(np.float32)
        if not len(points):
            return np.zeros(0, np.float32)
        found = np.asarray(self.field(points), np.float32).reshape(-1)
        if not np.isfinite(found).all():
            raise InputError(f"the field is not a number at {points[~np.isfinite(found)][0].tolist()}")
        self.queries += len(points)
        self.low, self.high = min(self.low, float(found.min())), max(self.high, float(found.max()))
        return found


class _Level:
    """The grid's samples at every `step`-th place, and the cells between them that were looked at.

    The last sample of an axis belongs to every level, whether or not the step meets it.
    """

    def __init__(self, grid: Grid, step: int) -> None:
        last = grid.resolution - 1
        self.grid = Grid(-(-last // step) + 1, grid.bound)  # of the places alone: its last cells may be shorter
        self.places = np.minimum(np.arange(self.grid.resolution) * step, last)
        self.axis = grid.axis[self.places]
        self.side = step * grid.cell
        self.values = Bricks(self.grid.resolution)
        self.cells = np.zeros((0, 3), np.int32)
        self.critical = np.zeros((0, 8), np.float32)
        self.steep = np.zeros(0, np.float32)
        self.opened = np.zeros((0, 8), bool)

    def corners(self, cells: np.ndarray) -> np.ndarray:
        return self.values.get(cells[:, None] + CORNERS)


class _Search:
    def __init__(self, field: Field, grid: Grid, lipschitz: float | None) -> None:
        self.samples, self.grid, self.lipschitz = _Samples(field), grid, lipschitz
        self.slope = self.measured = lipschitz or 0.0
        self.usual = 0.0
        self.warned = False
        step = 1
        while -(-(grid.resolution - 1) // (2 * step)) >= COARSE_CELLS:
            step *= 2
        self.levels = [_Level(grid, step >> k) for k in range(step.bit_length())]
        first = self.levels[0].grid.resolution
        every = np.stack(np.meshgrid(*[np.arange(first - 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
        self._add(0, every.astype(np.int32))

    def open(self) -> None:
        """Look into every cell that may hold a part of the surface, down to the grid's own cells."""
        for number, level in enumerate(self.levels[:-1]):
            wanted = (level.critical <= self._limit(number)) & ~level.opened
            level.opened |= wanted
            rows, octants = np.nonzero(wanted)
            self._warn(number, len(rows))
            self._hand_down(number, unique(rows))
            children = 2 * level.cells[rows] + CORNERS[octants]
            within = (children < self.levels[number + 1].grid.resolution - 1).all(axis=1)
            self._add(number + 1, children[within], level.steep[rows[within]])

    def follow(self) -> bool:
        """Follow the surface from the grid's cells that were looked at into those that were not.

        Returns whether there were any: the slope was taken too small for their ancestors, and is raised.
        """
        level = self.levels[-1]
        known = np.sort(level.grid.key(level.cells))
        front, found = level.cells, []
        while len(front):
            front = self._across_faces(front)
            key = unique(level.grid.key(front))
            key = key[~_within(key, known)]
            known = np.sort(np.append(known, key))
            front = level.grid.place(key)
            found.append(front)
            self._add(len(self.levels) - 1, front)
        lost = np.concatenate(found) if found else level.cells[:0]
        before = self.slope
        if len(lost) and self.lipschitz is None:
            self.slope = max(self.slope, min(self._needed(lost), _RAISE * self.measured))
        return self.slope > before

    def result(self) -> Crossing:
        level = self.levels[-1]
        cells, values = [level.cells[:0]], [np.zeros((0, 8), np.float32)]
        for start in range(0, len(level.cells), _CHUNK):
            part = level.cells[start : start + _CHUNK]
            corners = level.corners(part)
            crossed = mixed(corners)
            cells.append(part[crossed])
            values.append(corners[crossed])
        cells, values = np.concatenate(cells), np.concatenate(values)
        # A cell may have been met twice: by following the surface, and from its parent.
        order = np.unique(self.grid.key(cells), return_index=True)[1]
        cells, values = cells[order], values[order]
        logger.debug(
            "%d of %d samples evaluated, slope at most %.3g, %d cells crossed",
            self.samples.queries, self.grid.resolution**3, self.slope, len(cells),
        )  # fmt: skip
        walls = self._walls(cells, values)
        low, high = self.samples.low, self.samples.high
        return Crossing(self.grid, cells, values, walls, low, high, self.samples.queries)

    def _limit(self, number: int) -> float | np.ndarray:
        """The critical slope up to which octants of a level are opened.

        In the last levels that is the slope around each cell: what is lost by it would have to be within a few of the
        grid's cells, in the last within two, apart from all surface that was found.
        """
        last = len(self.levels) - 2
        if self.lipschitz is not None or number <= last - _LOCAL:
            return self.slope
        share = _LAST if number == last and number > 1 else SAFETY  # of few levels all are large
        return np.minimum(share * np.maximum(self.levels[number].steep, self.usual), self.slope)[:, None]

    def _add(self, number: int, cells: np.ndarray, steep: np.ndarray | None = None) -> None:
        """Evaluate the corners of cells of a level, and how steep the field must be for a zero in their octants.

        `steep` (n,) is how steep it is about their parents.
        """
        level = self.levels[number]
        last = number == len(self.levels) - 1
        slopes, around, needed = [], [], []
        for start in range(0, len(cells), _CHUNK):
            part = cells[start : start + _CHUNK]
            corners = self._corners(level, part)
            if not last:
                needed.append(critical(corners, level.side))
            if not last or self.lipschitz is not None:
                every = self._slopes(level, part, corners)
                around.append(every.astype(np.float32))
                slopes.append(every[nearest(corners)])
        level.cells = np.concatenate([level.cells, cells])
        if not last and len(cells):
            level.critical = np.concatenate([level.critical, *needed])
            level.opened = np.concatenate([level.opened, np.zeros((len(cells), 8), bool)])
            own = np.concatenate(around)
            level.steep = np.concatenate([level.steep, own if steep is None else np.maximum(own, steep)])
            if self.lipschitz is None:
                found = np.concatenate(slopes)
                self.measured = max(self.measured, SAFETY * float(np.quantile(found, _QUANTILE)))
                self.usual = max(self.usual, float(np.median(found)))
                self.slope = max(self.slope, self.measured)

    def _corners(self, level: _Level, cells: np.ndarray) -> np.ndarray:
        places = (cells[:, None] + CORNERS).reshape(-1, 3)
        values = level.values.get(places)
        unknown = np.isnan(values)
        new = level.grid.place(unique(level.grid.key(places[unknown])))
        level.values.set(new, self.samples(level.axis[new]))
        values[unknown] = level.values.get(places[unknown])
        return values.reshape(-1, 8)

    def _hand_down(self, number: int, rows: np.ndarray) -> None:
        """Tell the next level the corners of this one's cells."""
        level, finer = self.levels[number], self.levels[number + 1]
        for start in range(0, len(rows), _CHUNK):
            cells = level.cells[rows[start : start + _CHUNK]]
            places = np.minimum(2 * (cells[:, None] + CORNERS), finer.grid.resolution - 1)
            finer.values.set(places.reshape(-1, 3), level.corners(cells).reshape(-1))

    def _slopes(self, level: _Level, cells: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """(n,), slopes of the field over cells."""
        change = corners.reshape(-1, 2, 2, 2).astype(np.float64)
        sides = np.stack([level.axis[cells[:, a] + 1] - level.axis[cells[:, a]] for a in range(3)], -1)
        along = np.stack([np.diff(change, axis=a + 1).reshape(-1, 4) for a in range(3)], -1) / sides[:, None]
        if self.lipschitz is not None and np.abs(along).max(initial=0) > 1.001 * self.lipschitz + 1e-6:
            steep = int(np.abs(along).max(axis=(1, 2)).argmax())
            raise InputError(
                f"the field is steeper than lipschitz={self.lipschitz:g}: {np.abs(along[steep]).max():.4g} near "
                f"{level.axis[cells[steep]].tolist()}; give a larger bound"
            )
        return np.sqrt((along.mean(axis=1) ** 2).sum(axis=1))

    def _across_faces(self, cells: np.ndarray) -> np.ndarray:
        """The cells beyond the faces that the surface passes through."""
        level, found = self.levels[-1], []
        for start in range(0, len(cells), _CHUNK):
            part = cells[start : start + _CHUNK]
            inside = level.corners(part) <= 0
            for axis in range(3):
                for side in (0, 1):
                    face = inside[:, CORNERS[:, axis] == side]
                    crossed = part[face.any(axis=1) & ~face.all(axis=1)]
                    neighbour = crossed + (2 * side - 1) * np.eye(3, dtype=np.int32)[axis]
                    valid = (neighbour[:, axis] >= 0) & (neighbour[:, axis] < level.grid.resolution - 1)
                    found.append(neighbour[valid])
        return np.concatenate(found)

    def _needed(self, cells: np.ndarray) -> float:
        """The slope at which all the grid's cells given would have been looked at."""
        needed = 0.0
        for number, level in enumerate(self.levels[: -1 - _LOCAL]):
            shift = len(self.levels) - 1 - number
            parents, octants = cells >> shift, (cells >> (shift - 1)) & 1
            keys = level.grid.key(level.cells)
            order = np.argsort(keys)
            at = np.minimum(np.searchsorted(keys[order], level.grid.key(parents)), len(keys) - 1)
            row, octant = order[at], octants @ np.array([4, 2, 1])
            closed = (keys[row] == level.grid.key(parents)) & ~level.opened[row, octant]
            needed = max(needed, float(level.critical[row, octant][closed].max(initial=0.0)))
        return needed

    def _warn(self, number: int, octants: int) -> None:
        if number < len(self.levels) - 2:
            return  # of large cells many are near the surface in any field
        share = octants / (8.0 * (self.levels[number].grid.resolution - 1) ** 3)
        expected = share * self.grid.resolution**3
        if share > _MANY and expected > _LARGE and not self.warned:
            self.warned = True
            logger.warning(
                "the field is near zero in %.0f %% of the cube, as a hardly trained network's is: about %.1f of %.1f "
                "million samples must be evaluated",
                100 * share, expected / 1e6, self.grid.resolution**3 / 1e6,
            )  # fmt: skip

    def _walls(self, cells: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The field on the cube's walls: what is known of it there, spread over what is not.

        An edge between a known and an unknown sample is not crossed: all corners of crossed cells are known.
        """
        n, first = self.grid.resolution, self.levels[0]
        walls = np.full((3, 2, n, n), np.nan, np.float32)
        coarse = np.stack(np.meshgrid(*[np.arange(first.grid.resolution)] * 2, indexing="ij"), -1).reshape(-1, 2)
        for axis in range(3):
            for side in (0, 1):
                wall = walls[axis, side]
                at = np.insert(coarse, axis, side * (first.grid.resolution - 1), axis=1)
                wall[tuple(first.places[coarse].T)] = first.values.get(at)
                touching = cells[:, axis] == side * (n - 2)
                for corner in np.flatnonzero(CORNERS[:, axis] == side):
                    place = np.delete(cells[touching] + CORNERS[corner], axis, axis=1)
                    wall[tuple(place.T)] = values[touching, corner]
        return spread(walls, (2, 3))


def spread(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Give every NaN the next known value along the axes, or the last one before it."""
    for axis in axes:
        for _ in range(2):
            values = np.flip(values, axis)
            place = np.arange(values.shape[axis]).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
            last = np.maximum.accumulate(np.where(np.isnan(values), 0, place), axis=axis)
            values = np.take_along_axis(values, last, axis=axis)
    return values


def unique(keys: np.ndarray) -> np.ndarray:
    """Sorted, each once. NumPy's own takes several times as long on many whole numbers."""
    keys = np.sort(keys)
    return keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]


def _within(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether each of the keys is among the known, which are sorted."""
    if not len(known):
        return np.zeros(len(keys), bool)
    return known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys
