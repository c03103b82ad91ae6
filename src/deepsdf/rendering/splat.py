"""A z-buffer of small balls and their shadow on the ground, in NumPy."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from deepsdf.rendering.camera import KEY_LIGHT, Camera

MAP, REACH = 512, 3.0
"""Cells along a side of the shadow map, and half its side in radii of the framed sphere. The key light throws
shadows of the framed sphere at most 2.3 radii from its axis."""

LAYERS = 4
"""Layers of points by height: shadows of higher points are softer."""


def splat(rays: np.ndarray, ball: float, width: int, pixel: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest ball at each pixel.

    Args:
        rays: (n, 3) centres of the balls in camera coordinates: right, above, forward from the eye.
        ball: radius of the balls.
        width: of the picture, in rays.
        pixel: size of a ray's pixel at distance 1.
    Returns:
        index of the ball (w*w,), -1 for none; depth (w, w); unit normals (k, 3) of the k hit pixels as right, above,
        towards the camera.
    """
    z = np.maximum(rays[:, 2], 1e-6)
    x, y = width / 2 + rays[:, 0] / z / pixel, width / 2 - rays[:, 1] / z / pixel
    radius = np.maximum(ball / z / pixel, 0.75)  # at least one pixel centre is covered
    buffer = np.full(width * width, np.iinfo(np.uint64).max)
    reach = int(np.ceil(radius.max()))
    index = np.arange(len(rays), dtype=np.uint64)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            column, row = np.floor(x).astype(np.int64) + dx, np.floor(y).astype(np.int64) + dy
            square = ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2) / radius**2
            ok = (square < 1) & (column >= 0) & (column < width) & (row >= 0) & (row < width)
            near = (z[ok] - ball * np.sqrt(1 - square[ok])).astype(np.float32)
            # The bits of positive floats sort like the floats: depth in the upper half, index in the lower half.
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


def eye_dome_lighting(depth: np.ndarray, ball: float, supersample: int) -> np.ndarray:
    """Factors (w*w,) that darken pixels far behind their neighbours, which makes depth visible (Boucheny, 2009)."""
    width = len(depth)
    hidden = np.zeros_like(depth)
    far = np.where(np.isfinite(depth), depth, 1e6)
    for step in (2 * supersample, 4 * supersample):
        padded = np.pad(far, step, mode="edge")
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            y, x = step * (1 + dy), step * (1 + dx)
            hidden += np.clip((far - padded[y : y + width, x : x + width]) / (16 * ball), 0, 1)
    return np.exp(-0.9 * hidden / 16).ravel()


def ground_shadow(points: np.ndarray, ball: float, camera: Camera, width: int) -> np.ndarray:
    """Darkness (w, w) in [0, 1] of the ground at each pixel, in the shadow of balls at points (n, 3), picture's frame.

    The ground touches the lowest ball. Shadows are drawn into a map of the ground, one layer of points after another:
    the higher the layer, the softer its shadow.
    """
    ground = float(points[:, 1].min()) - ball
    if camera.eye[1] <= ground:
        return np.zeros((width, width))
    key = camera.light(*KEY_LIGHT)
    height = points[:, 1] - ground
    layers = np.minimum((height / (height.max() + 1e-9) * LAYERS).astype(int), LAYERS - 1)
    open_key, open_sky = np.ones((MAP, MAP)), np.ones((MAP, MAP))
    for layer in np.unique(layers):
        mine = points[layers == layer]
        high = float(height[layers == layer].mean())
        thrown = mine - key * ((mine[:, 1] - ground) / key[1])[:, None]
        open_key *= 1 - _cover(thrown, ball, 0.1 * high)
        open_sky *= 1 - _cover(mine, ball, 0.5 * high) * 0.9 ** (10 * high)
    dark = np.maximum(0.45 * (1 - open_sky) + 0.27 * (1 - open_key) - 0.015, 0)
    half = width / 2
    side = (np.arange(width) + 0.5 - half) * camera.pixel(width)
    rays = camera.axes[2] + side[:, None] * camera.axes[0] - side[:, None, None] * camera.axes[1]
    seen = rays[..., 1] < 0
    met = camera.eye + rays * ((ground - camera.eye[1]) / np.where(seen, rays[..., 1], -1))[..., None]
    place = (met[..., [2, 0]] + REACH) * (MAP / (2 * REACH)) - 0.5
    found = map_coordinates(dark, np.moveaxis(place, -1, 0), order=1)
    edge = (np.abs(side / side[-1]) ** 4)[:, None] + np.abs(side / side[-1]) ** 4
    frame = np.clip((1 - edge) / 0.7, 0, 1)
    return found * seen * frame**2 * (3 - 2 * frame)


def _cover(points: np.ndarray, ball: float, blur: float) -> np.ndarray:
    """Covered share of the ground's cells under balls (n, 3): (MAP, MAP), rows along z."""
    cell = 2 * REACH / MAP
    edges = np.linspace(-REACH, REACH, MAP + 1)
    count = np.histogram2d(points[:, 2], points[:, 0], (edges, edges))[0]
    thick = gaussian_filter(count * (np.pi * ball**2 / cell**2), max(ball, blur) / cell)
    return 1 - np.exp(-thick)
