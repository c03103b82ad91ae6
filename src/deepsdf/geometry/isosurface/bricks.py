"""A cubic lattice of values of which few are known: memory is used for bricks of 8³ places that hold any."""

from __future__ import annotations

import numpy as np

_BITS = 3  # bricks of 2³ = 8 places per side: a surface fills more of a brick the smaller it is; 8³ float32 are 2 KiB
_SIDE = 1 << _BITS
_SIZE = _SIDE**3


class Bricks:
    """Float32 values at integer places (i, j, k), 0 <= i, j, k < side; NaN where none was set.

    Two levels: a dense table of brick numbers, and the values of the bricks in use, one after the other.

        place (i, j, k):   i = | brick row | row within the brick |     the same for j and k
                               |  i >> 3   |        i & 7         |
        value:             values[512 · brick[i >> 3, j >> 3, k >> 3] + 64 (i & 7) + 8 (j & 7) + (k & 7)]
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self._across = -(-side // _SIDE)
        # Brick 0 stays empty (NaN) and is what all unset entries of the table refer to: `get` needs no test for them.
        self._brick = np.zeros(self._across**3, np.int32)
        self._values = np.full(_SIZE, np.nan, np.float32)
        self._count = 1

    def get(self, places: np.ndarray) -> np.ndarray:
        """Values (...) at places (..., 3)."""
        brick, within = self._split(places)
        return self._values[self._brick[brick].astype(np.int64) * _SIZE + within]

    def set(self, places: np.ndarray, values: np.ndarray) -> None:
        """Store values (n,) at places (n, 3)."""
        brick, within = self._split(places)
        self._allocate(np.unique(brick[self._brick[brick] == 0]))
        self._values[self._brick[brick].astype(np.int64) * _SIZE + within] = values

    def _allocate(self, bricks: np.ndarray) -> None:
        self._brick[bricks] = np.arange(self._count, self._count + len(bricks))
        self._count += len(bricks)
        if self._count * _SIZE > len(self._values):
            # At least doubled, so that the copies cost a constant per value in all.
            grown = np.full(max(2 * len(self._values), self._count * _SIZE), np.nan, np.float32)
            grown[: len(self._values)] = self._values
            self._values = grown

    def _split(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Entries of the brick table, and numbers of the places within their bricks."""
        low = _SIDE - 1
        i, j, k = places[..., 0], places[..., 1], places[..., 2]
        brick = ((i >> _BITS) * self._across + (j >> _BITS)) * self._across + (k >> _BITS)
        return brick, ((i & low) << 2 * _BITS) | ((j & low) << _BITS) | (k & low)
