"""The grid of samples, and its active cells: those whose corners have both signs, through which the surface passes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deepsdf.errors import InputError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.isosurface.cells import CORNERS


@dataclass(frozen=True)
class Grid:
    """Samples of the cube [-bound, bound]³: `resolution` per axis, at -bound + 2 bound i / (resolution - 1)."""

    resolution: int
    bound: float

    @property
    def cell(self) -> float:
        """Side of a cell."""
        return 2.0 * self.bound / (self.resolution - 1)

    @cached_property
    def axis(self) -> np.ndarray:
        """Coordinates (resolution,) float64 of the samples along an axis."""
        return np.linspace(-self.bound, self.bound, self.resolution)

    def position(self, indices: np.ndarray) -> np.ndarray:
        """Positions (..., 3) of grid indices (..., 3), which may be fractional."""
        return self.cell * indices - self.bound

    def key(self, indices: np.ndarray) -> np.ndarray:
        """One int64 (n,) for each sample index (n, 3), in lexicographic order."""
        i, j, k = indices.astype(np.int64).T
        return (i * self.resolution + j) * self.resolution + k

    def indices(self, keys: np.ndarray) -> np.ndarray:
        """The inverse of `key`: (n, 3) int32."""
        rest, k = np.divmod(keys, self.resolution)
        return np.stack([*np.divmod(rest, self.resolution), k], -1).astype(np.int32)


@dataclass(frozen=True)
class ActiveCells:
    """The cells of a grid whose corners have both signs.

    Attributes:
        grid: the samples.
        cells: (c, 3) int32, indices of the lowest corners, in lexicographic order.
        values: (c, 8) float32, the field at the corners, in the order of `CORNERS`. Zero counts as inside.
        boundary: (3, 2, resolution, resolution) float32, the field on the faces of the cube, by axis, side, and the two
            other axes in order. Far from the surface only the sign is reliable.
        low, high: the smallest and the largest value found.
        evaluations: number of points at which the field was evaluated.
    """

    grid: Grid
    cells: np.ndarray
    values: np.ndarray
    boundary: np.ndarray
    low: float
    high: float
    evaluations: int


class Evaluator:
    """A field, with the number of its evaluations and the range of its values.

    Raises InputError if a value is NaN or infinite.
    """

    def __init__(self, field: Field) -> None:
        self.field, self.evaluations, self.low, self.high = field, 0, np.inf, -np.inf

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Values (n,) float32 at points (n, 3)."""
        points = points.astype(np.float32)
        if not len(points):  # fields need not accept an empty array
            return np.zeros(0, np.float32)
        values = np.asarray(self.field(points), np.float32).reshape(-1)
        finite = np.isfinite(values)
        if not finite.all():
            raise InputError(f"the field is {values[~finite][0]} at {points[~finite][0].tolist()}; expected a number")
        self.evaluations += len(points)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        return values


def find_dense(field: Field, grid: Grid) -> ActiveCells:
    """Active cells found by evaluating every sample, one layer of the x axis at a time."""
    evaluate = Evaluator(field)
    n = grid.resolution
    side = np.stack(np.meshgrid(grid.axis, grid.axis, indexing="ij"), -1).reshape(-1, 2)
    boundary = np.empty((3, 2, n, n), np.float32)
    cells, values, before = [], [], None
    # Two layers in memory at a time, so that memory grows as the square of the resolution only.
    for i, x in enumerate(grid.axis):
        layer = evaluate(np.column_stack([np.full(len(side), x), side])).reshape(n, n)
        # Every layer contributes a row to the faces across y and z; the first and last are the faces across x.
        boundary[1, :, i], boundary[2, :, i] = layer[[0, -1]], layer[:, [0, -1]].T
        if before is None:
            boundary[0, 0] = layer
        else:
            pair = np.stack([before, layer])
            corners = np.stack([pair[a, b : n - 1 + b, c : n - 1 + c] for a, b, c in CORNERS], -1)
            j, k = np.nonzero(is_active(corners))
            cells.append(np.column_stack([np.full(len(j), i - 1), j, k]).astype(np.int32))
            values.append(corners[j, k])
        before = boundary[0, 1] = layer
    return ActiveCells(
        grid, np.concatenate(cells), np.concatenate(values), boundary,
        evaluate.low, evaluate.high, evaluate.evaluations,
    )  # fmt: skip


def is_active(corners: np.ndarray) -> np.ndarray:
    """Whether cells with these corner values (..., 8) have a sign change; zero counts as inside."""
    # One rule for zero everywhere: otherwise two cells could disagree about the sign of a corner they share.
    inside = corners <= 0
    return np.asarray(inside.any(axis=-1) & ~inside.all(axis=-1))


def fill_unknown(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Replace every NaN by the next known value along each of the given axes, or by the previous one at the end."""
    for axis in axes:
        for _ in range(2):  # on the flipped array the last known value is the next one; the second pass flips back
            values = np.flip(values, axis)
            index = np.arange(values.shape[axis]).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
            last = np.maximum.accumulate(np.where(np.isnan(values), 0, index), axis=axis)
            values = np.take_along_axis(values, last, axis=axis)
    return values


def unique(keys: np.ndarray) -> np.ndarray:
    """The sorted distinct keys. np.unique takes several times longer on many integers."""
    keys = np.sort(keys)
    return keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
