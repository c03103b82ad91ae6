"""A z-buffer of small balls, in NumPy."""

from __future__ import annotations

import numpy as np


def splat(rays: np.ndarray, ball: float, width: int, pixel: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest ball at each pixel: (owner (w*w,) or -1, depth (w, w), normals of the hit pixels).

    `rays` (n, 3) are the balls' centres as the camera sees them: right, above, forward. Normals: right,
    above, towards the camera.
    """
    z = np.maximum(rays[:, 2], 1e-6)
    x, y = width / 2 + rays[:, 0] / z / pixel, width / 2 - rays[:, 1] / z / pixel
    radius = np.maximum(ball / z / pixel, 0.75)  # a ball never slips between pixels
    buffer = np.full(width * width, np.iinfo(np.uint64).max)
    reach = int(np.ceil(radius.max()))
    index = np.arange(len(rays), dtype=np.uint64)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            column, row = np.floor(x).astype(np.int64) + dx, np.floor(y).astype(np.int64) + dy
            square = ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2) / radius**2
            ok = (square < 1) & (column >= 0) & (column < width) & (row >= 0) & (row < width)
            near = (z[ok] - ball * np.sqrt(1 - square[ok])).astype(np.float32)
            # The bits of a positive float sort as the float does: depth above, index below.
            code = (near.view(np.uint32).astype(np.uint64) << np.uint64(32)) | index[ok]
            np.minimum.at(buffer, row[ok] * width + column[ok], code)
    hit = buffer != np.iinfo(np.uint64).max
    owner = np.where(hit, (buffer & np.uint64(0xFFFFFFFF)).astype(np.int64), -1)
    depth = np.full(width * width, np.inf, np.float32)
    depth[hit] = (buffer[hit] >> np.uint64(32)).astype(np.uint32).view(np.float32)
    place, mine = np.flatnonzero(hit), owner[hit]
    right = (place % width + 0.5 - x[mine]) / radius[mine]
    above = (y[mine] - (place // width + 0.5)) / radius[mine]
    towards = np.sqrt(np.maximum(1 - right**2 - above**2, 0))
    return owner, depth.reshape(width, width), np.stack([right, above, towards], axis=-1)


def open_to_the_eye(depth: np.ndarray, ball: float, supersample: int) -> np.ndarray:
    """Eye-dome lighting: pixels well behind their neighbours grow dark, which tells near points from far."""
    width = len(depth)
    hidden = np.zeros_like(depth)
    far = np.where(np.isfinite(depth), depth, 1e6)
    for step in (2 * supersample, 4 * supersample):
        padded = np.pad(far, step, mode="edge")
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            y, x = step * (1 + dy), step * (1 + dx)
            hidden += np.clip((far - padded[y : y + width, x : x + width]) / (16 * ball), 0, 1)
    return np.exp(-0.9 * hidden / 16).ravel()
