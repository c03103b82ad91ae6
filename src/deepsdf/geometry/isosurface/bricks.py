"""A cubic lattice of values of which few are known: memory for bricks of 8³ that hold any."""

from __future__ import annotations

import numpy as np

_SIDE = 8
_SIZE = _SIDE**3


class Bricks:
    """Float32 values at whole-numbered places (i, j, k), 0 <= i, j, k < side; NaN where none was set."""

    def __init__(self, side: int) -> None:
        self.side = side
        self._across = -(-side // _SIDE)
        # Brick 0 is the one that holds nothing; every place starts in it.
        self._brick = np.zeros(self._across**3, np.int32)
        self._values = np.full(_SIZE, np.nan, np.float32)
        self._count = 1

    def get(self, places: np.ndarray) -> np.ndarray:
        """Values (...) at places (..., 3)."""
        brick, within = self._split(places)
        return self._values[self._brick[brick].astype(np.int64) * _SIZE + within]

    def set(self, places: np.ndarray, values: np.ndarray) -> None:
        """Keep values (n,) at places (n, 3)."""
        brick, within = self._split(places)
        self._make(np.unique(brick[self._brick[brick] == 0]))
        self._values[self._brick[brick].astype(np.int64) * _SIZE + within] = values

    def _make(self, bricks: np.ndarray) -> None:
        self._brick[bricks] = np.arange(self._count, self._count + len(bricks))
        self._count += len(bricks)
        if self._count * _SIZE > len(self._values):
            grown = np.full(max(2 * len(self._values), self._count * _SIZE), np.nan, np.float32)
            grown[: len(self._values)] = self._values
            self._values = grown

    def _split(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        i, j, k = places[..., 0], places[..., 1], places[..., 2]
        brick = ((i >> 3) * self._across + (j >> 3)) * self._across + (k >> 3)
        return brick, ((i & 7) << 6) | ((j & 7) << 3) | (k & 7)
