"""What every picture shares: its options, the camera, the lights, and colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from deepsdf.errors import InputError
from deepsdf.options import Options, option

Colour = tuple[int, int, int]
"""sRGB, 0 to 255."""

Axis = Literal["x", "y", "z"]

WHITE: Colour = (255, 255, 255)
CLAY: Colour = (164, 190, 216)
INK: Colour = (40, 44, 52)

FIELD_OF_VIEW = float(np.radians(20.0))
"""Vertical angle of the camera: a long lens, so that shapes are hardly distorted by perspective."""

MARGIN = 1.1
"""Radius of the sphere that exactly fits the picture, in radii of the framed sphere."""

KEY_LIGHT, FILL_LIGHT = (-0.65, 0.95, 0.55), (0.85, 0.25, 0.55)
"""Directions to the lights as (right, up, towards the camera): the key light from the upper left, the fill light from
the right. assets/viewer.js of the report repeats them."""


@dataclass(frozen=True)
class PictureOptions(Options):
    """Options of pictures of meshes and points."""

    size: int = option(512, "Width and height in pixels.", minimum=1)
    azimuth: float = option(
        35.0, "Azimuth of the camera in degrees: 0 is the front; positive values move it to its right."
    )
    elevation: float = option(20.0, "Elevation of the camera above the ground in degrees.")
    up: Axis = option("y", "Axis that points up.", choices=("x", "y", "z"))
    color: Colour = option(CLAY, "Colour of the surface.")
    bound: float | None = option(
        None,
        "Radius of the framed sphere around the origin; pictures with the same radius have the same scale.",
        above=0.0,
        default_text="fitted to the shape",
    )
    ground: bool = option(True, "Draw a soft shadow on the ground.")
    background: Colour | None = option(WHITE, "Background colour; None for a transparent picture.")
    supersample: int = option(2, "Rays per pixel along each axis.", minimum=1)


def _frame(right: str, up: str, towards: str) -> np.ndarray:
    """Rotation (3, 3) whose rows are axes of the mesh, such as "x" or "-y"."""
    axes = dict(zip("xyz", np.eye(3), strict=True))
    return np.stack([-axes[name[1:]] if name[0] == "-" else axes[name] for name in (right, up, towards)])


FRAMES = {"x": _frame("z", "x", "y"), "y": _frame("x", "y", "z"), "z": _frame("x", "z", "-y")}
"""By the axis that points up: which axes of the mesh point right, up, and towards a camera at azimuth 0."""


@dataclass(frozen=True)
class Camera:
    """The map from the mesh's frame to the picture's frame, in which the framed sphere is the unit sphere and y is up.

    Attributes:
        frame: (3, 3) rotation of the mesh's axes, a value of `FRAMES`.
        centre: (3,) centre of the framed sphere after `frame`.
        radius: of the framed sphere, in the mesh's frame.
        eye: (3,) position of the camera, picture's frame.
        axes: (3, 3) unit rows: right, above, forward; picture's frame.
    """

    frame: np.ndarray
    centre: np.ndarray
    radius: float
    eye: np.ndarray
    axes: np.ndarray

    @staticmethod
    def fit(points: np.ndarray, options: PictureOptions) -> Camera:
        """Frame the sphere of radius `options.bound` around the origin, or the points (n, 3) if it is None."""
        centre, radius = np.zeros(3), options.bound
        if radius is None:
            placed = points @ FRAMES[options.up].T
            centre = (placed.min(axis=0) + placed.max(axis=0)) / 2
            radius = float(np.linalg.norm(placed - centre, axis=1).max()) or 1.0
        a, e = np.radians(options.azimuth), np.radians(options.elevation)
        back = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
        right = np.array([np.cos(a), 0.0, -np.sin(a)])
        axes = np.stack([right, np.cross(back, right), -back])
        # At this distance the sphere of radius MARGIN touches the edges of the field of view.
        return Camera(FRAMES[options.up], centre, radius, back * (MARGIN / np.sin(FIELD_OF_VIEW / 2)), axes)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the mesh's frame in the picture's frame."""
        return (points @ self.frame.T - self.centre) / self.radius

    def back(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the picture's frame in the mesh's frame: the inverse of `place`."""
        return (points * self.radius + self.centre) @ self.frame

    def pixel(self, width: int) -> float:
        """Size of a pixel at distance 1 from the eye, in a picture `width` pixels wide."""
        return float(2 * np.tan(FIELD_OF_VIEW / 2) / width)

    def light(self, right: float, up: float, towards: float) -> np.ndarray:
        """Unit direction to a light that turns with the camera's azimuth and ignores its elevation."""
        side, sky = self.axes[0], np.array([0.0, 1.0, 0.0])
        direction = side * right + sky * up + np.cross(side, sky) * towards
        return direction / np.linalg.norm(direction)


def linear_colours(colors: np.ndarray | None, color: Colour, count: int) -> np.ndarray:
    """sRGB colours as linear light, float32: (count, 3) from `colors`, or (1, 3) from `color` if `colors` is None."""
    given = np.asarray([color], np.uint8) if colors is None else np.asarray(colors)
    if colors is not None and (given.ndim != 2 or len(given) != count or given.shape[1] not in (3, 4)):
        raise InputError(f"colours have shape {given.shape}; expected ({count}, 3), uint8 or float in [0, 1]")
    scaled = given[:, :3] / 255 if given.dtype.kind in "iu" else np.clip(given[:, :3], 0, 1)
    return np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encode(light: np.ndarray) -> np.ndarray:
    """Linear light as sRGB in [0, 1] (IEC 61966-2-1)."""
    x = np.clip(light, 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def developed(light: np.ndarray, supersample: int, background: Colour | None) -> np.ndarray:
    """The picture of rays (h, w, 4): mean of the rays of each pixel, over the background, as uint8.

    Args:
        light: sRGB premultiplied by opacity, then opacity, in [0, 1].
        background: None leaves the picture transparent, (.., 4); else it is (.., 3).
    """
    steps = range(supersample)
    # A sum of slices is several times faster than a mean over axes.
    total = sum((light[y::supersample, x::supersample] for y in steps for x in steps), np.float32(0))
    mean = total * np.float32(1 / supersample**2)
    shown, opacity = mean[..., :3], mean[..., 3:]
    if background is not None:
        picture = shown + (1 - opacity) * (np.asarray(background, np.float32) / 255)
    else:
        picture = np.concatenate([shown / np.maximum(opacity, 1e-6), opacity], axis=-1)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
