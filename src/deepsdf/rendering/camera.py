"""What every picture shares: the camera, where the lights stand, colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from deepsdf.errors import InputError

Colour = tuple[int, int, int]
Axis = Literal["x", "y", "z"]

WHITE: Colour = (255, 255, 255)
CLAY: Colour = (164, 190, 216)
INK: Colour = (40, 44, 52)

FIELD_OF_VIEW = float(np.radians(20.0))
MARGIN = 1.1  # > 1 leaves air between the framed sphere and the picture's edge
KEY_LIGHT, FILL_LIGHT = (-0.65, 0.95, 0.55), (0.85, 0.25, 0.55)  # right, above, towards the camera

# Rows: which of the mesh's axes become the picture's x, y (up) and z (towards a camera at azimuth 0).
FRAMES = {
    "x": np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], float),
    "y": np.eye(3),
    "z": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float),
}


@dataclass(frozen=True)
class Camera:
    """Takes a mesh's frame to the picture's frame, where the framed sphere is the unit sphere and y is up."""

    frame: np.ndarray  # (3, 3)
    centre: np.ndarray  # (3,) of the framed sphere, after `frame`
    radius: float
    eye: np.ndarray  # (3,) picture's frame
    axes: np.ndarray  # (3, 3) unit rows: right, above, forward

    @staticmethod
    def fit(points: np.ndarray, azimuth: float, elevation: float, up: str, bound: float | None) -> Camera:
        """Frame the sphere of radius `bound` round the origin, or the points (n, 3) themselves when None."""
        if up not in FRAMES:
            raise InputError(f"up={up!r} is not an axis; say x, y or z")
        if not np.isfinite([azimuth, elevation]).all():
            raise InputError(f"{azimuth=} and {elevation=} must be finite angles")
        if bound is not None and not 0 < bound < np.inf:
            raise InputError(f"bound={bound} cannot frame a picture; give a positive length, or None to fit")
        centre, radius = np.zeros(3), bound
        if radius is None:
            placed = points @ FRAMES[up].T
            centre = (placed.min(axis=0) + placed.max(axis=0)) / 2
            radius = float(np.linalg.norm(placed - centre, axis=1).max()) or 1.0
        a, e = np.radians(azimuth), np.radians(elevation)
        back = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
        right = np.array([np.cos(a), 0.0, -np.sin(a)])
        axes = np.stack([right, np.cross(back, right), -back])
        return Camera(FRAMES[up], centre, radius, back * (MARGIN / np.sin(FIELD_OF_VIEW / 2)), axes)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the mesh's frame in the picture's frame."""
        return (points @ self.frame.T - self.centre) / self.radius

    def back(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the picture's frame in the mesh's frame: undoes `place`."""
        return (points * self.radius + self.centre) @ self.frame

    def pixel(self, width: int) -> float:
        """Size of a pixel at distance 1 from the eye, in a picture `width` pixels wide."""
        return float(2 * np.tan(FIELD_OF_VIEW / 2) / width)

    def light(self, right: float, above: float, towards: float) -> np.ndarray:
        """Unit direction to a light that walks round with the camera but stays level with the ground."""
        side, sky = self.axes[0], np.array([0.0, 1.0, 0.0])
        direction = side * right + sky * above + np.cross(side, sky) * towards
        return direction / np.linalg.norm(direction)


def linear_colours(colors: np.ndarray | None, color: Colour, count: int) -> np.ndarray:
    """sRGB colours as linear light, float32: (count, 3), or (1, 3) when all share `color`."""
    given = np.asarray([color], np.uint8) if colors is None else np.asarray(colors)
    if colors is not None and (given.ndim != 2 or len(given) != count or given.shape[1] not in (3, 4)):
        raise InputError(f"colours {given.shape} do not match: give ({count}, 3), uint8 or float in [0, 1]")
    scaled = given[:, :3] / 255 if given.dtype.kind in "iu" else np.clip(given[:, :3], 0, 1)
    return np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encode(light: np.ndarray) -> np.ndarray:
    """Linear light to sRGB in [0, 1]."""
    x = np.clip(light, 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def developed(light: np.ndarray, supersample: int, background: Colour | None) -> np.ndarray:
    """The picture of rays (h, w, 4), sRGB times opacity and opacity: uint8, on a colour (.., 3), or on none (.., 4)."""
    steps = range(supersample)
    # A sum of slices is several times as fast as a mean over axes.
    total = sum((light[y::supersample, x::supersample] for y in steps for x in steps), np.float32(0))
    mean = total * np.float32(1 / supersample**2)
    shown, opacity = mean[..., :3], mean[..., 3:]
    if background is not None:
        picture = shown + (1 - opacity) * (np.asarray(background, np.float32) / 255)
    else:
        picture = np.concatenate([shown / np.maximum(opacity, 1e-6), opacity], axis=-1)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
