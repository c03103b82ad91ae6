"""Colour maps of errors and signed distances, legends, and slices of a field."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from deepsdf.errors import InputError
from deepsdf.geometry.fields import Field
from deepsdf.rendering.camera import CLAY, FRAMES, INK, WHITE, Axis, Colour
from deepsdf.rendering.sheet import blank, font, ink_on

PAPER, INSIDE, OUTSIDE = (np.array(rgb, float) for rgb in ((250, 249, 247), (88, 138, 194), (235, 163, 142)))
UNKNOWN: Colour = (170, 170, 170)
"""Colour of NaN errors."""

ERROR_MAP, ERROR_RANGE = "magma_r", (0.04, 0.85)
"""Matplotlib colour map and its used part, from pale to dark: shading stays visible on small errors, and large errors
stand out on white."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def parse_colour(text: str) -> Colour:
    """Parse a colour: `clay`, `164,190,216`, a CSS name or `#a4bed8`.

    Raises:
        InputError: not a colour.
    """
    given = text.strip().lower()
    try:
        if given == "clay":
            return CLAY
        found = ImageColor.getrgb(f"rgb({given})" if given[:1].isdigit() else given)[:3]
        if max(found) > 255:
            raise ValueError
    except ValueError:
        raise InputError(
            f"{text!r} is not a colour; expected R,G,B (0 to 255), #a4bed8 or a CSS name such as teal"
        ) from None
    return (found[0], found[1], found[2])


def error_colours(values: np.ndarray, maximum: float) -> np.ndarray:
    """Colours (n, 3) uint8 sRGB of errors (n,) from 0 to `maximum`; larger errors have the last colour, NaN is grey.

    Lightness is monotonic, so that the order of errors stays visible in print and to colour-blind readers.

    Raises:
        InputError: a maximum that is not positive and finite.
    """
    if not 0 < maximum < np.inf:
        raise InputError(f"the end of the error scale is {maximum}; expected a positive finite length")
    values = np.asarray(values, np.float64)
    share = np.clip(np.nan_to_num(values / maximum, posinf=1.0), 0, 1)
    known = _error_table()[np.round(share * 1023).astype(int)]
    return np.where(np.isnan(values)[..., None], np.array(UNKNOWN, np.uint8), known)


@cache
def _error_table() -> np.ndarray:
    import matplotlib

    return matplotlib.colormaps[ERROR_MAP](np.linspace(*ERROR_RANGE, 1024), bytes=True)[:, :3]


def sdf_colours(values: np.ndarray, clamp: float) -> np.ndarray:
    """Colours (..., 3) float of signed distances (...,): blue inside, red outside, constant beyond ±`clamp`."""
    t = np.clip(np.asarray(values, np.float64) / clamp, -1, 1)[..., None]
    return PAPER + np.abs(t) ** 0.8 * (np.where(t < 0, INSIDE, OUTSIDE) - PAPER)


def nice_maximum(values: np.ndarray) -> float:
    """End of a colour scale for errors (n,): their 99th percentile, rounded up to 1, 2, 3, 5 or 8 × a power of 10."""
    finite = np.abs(values[np.isfinite(values)])
    high = float(np.percentile(finite, 99)) if len(finite) else 0.0
    if high <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(high))
    return float(next(step for step in (1, 2, 3, 5, 8, 10) if step * power >= high * (1 - 1e-9)) * power)


def ticks(low: float, high: float) -> tuple[list[float], list[str], int]:
    """Tick values from `low` to `high`, both included, their labels, and the power of ten that labels leave out."""
    from matplotlib.ticker import MaxNLocator

    size = max(abs(low), abs(high))
    exponent = int(np.floor(np.log10(size)))
    power = exponent if not -3 <= exponent <= 3 else 0
    spread = high - low
    inner = [t for t in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low < t < high]
    room = 0.09 * spread  # for the labels of both ends
    inner = [float(t) for t in inner if t - low > room and high - t > room]
    values = [low, *inner, high]
    shown = [float(f"{value / 10.0**power:.3g}") for value in values]
    decimals = next((d for d in range(7) if all(abs(round(v, d) - v) < 1e-9 for v in shown)), 7)
    return values, [f"{value + 0.0:.{decimals}f}".replace("-", "−") for value in shown], power


def legend(
    maximum: float,
    *,
    minimum: float = 0.0,
    height: int = 512,
    title: str = "distance",
    over: bool = False,
    colours: Callable[[np.ndarray], np.ndarray] | None = None,
    background: Colour | None = WHITE,
) -> np.ndarray:
    """Colour bar with ticks for the right side of a picture: (height, about height / 3, 3) uint8.

    Args:
        minimum, maximum: values at the bar's ends.
        title: name and unit of the values.
        over: mark the upper end with "≥".
        colours: values (n,) -> sRGB (n, 3), 0 to 255; None: `error_colours`.
        background: None makes it transparent, (.., 4).
    """
    if height < 1 or not np.isfinite([minimum, maximum]).all() or not minimum < maximum:
        raise InputError(
            f"cannot draw a legend from {minimum} to {maximum}, {height} pixels high; "
            "expected minimum < maximum and height > 0"
        )
    scale = colours or partial(error_colours, maximum=maximum)
    values, labels, power = ticks(minimum, maximum)
    if over:
        labels[-1] = f"≥ {labels[-1]}"
    if power:
        title = f"{title}, × 10{str(power).translate(SUPERSCRIPTS)}"
    letter = font(int(np.clip(height / 26, 7, 40)))
    em = letter.size
    thick, line = round(1.5 * em), max(1, round(em / 14))
    top, bottom = round(3.2 * em), height - round(1.6 * em)
    if bottom - top < 2 * em:
        top, bottom = 0, height
    width = int(max(thick + 0.9 * em + max(map(letter.getlength, labels)), letter.getlength(title)) + 1.2 * em)
    image, ink = blank(width, height, background), ink_on(background)
    share = 1 - (np.arange(bottom - top) + 0.5) / max(bottom - top, 1)
    bar = np.round(scale(minimum + share * (maximum - minimum))).astype(np.uint8)
    image.paste(Image.fromarray(np.repeat(bar[:, None], thick, axis=1)), (0, top))
    draw = ImageDraw.Draw(image)
    draw.text((0, top - 0.9 * em), title, fill=ink, font=letter, anchor="ls")
    for value, label in zip(values, labels, strict=True):
        y = top + (maximum - value) / (maximum - minimum) * (bottom - top - 1)
        draw.line([(thick, y), (thick + 0.4 * em, y)], fill=ink, width=line)
        draw.text((thick + 0.7 * em, y), label, fill=ink, font=letter, anchor="lm")
    return np.asarray(image)


def slice_image(
    field: Field,
    *,
    axis: Axis = "z",
    offset: float = 0.0,
    bound: float = 1.0,
    size: int = 256,
    clamp: float = 0.1,
) -> np.ndarray:
    """Picture of a field on the square [-bound, bound]² of a plane: (size, size, 3) uint8.

    Blue is inside, red outside, with a dark line at zero. Colours end at ±`clamp`; thin isolines between are
    `clamp` / 4 apart, in small pictures `clamp` / 2. The plane is seen from its positive side:

        "z":  y up, x right      "x":  y up, z left      "y":  z down, x right

    Raises:
        InputError: an unknown axis, or a number that is not positive.
    """
    if axis not in FRAMES:
        raise InputError(f"axis is {axis!r}; expected 'x', 'y' or 'z'")
    if not (bound > 0 and clamp > 0):
        raise InputError(f"bound is {bound} and clamp is {clamp}; both must be positive")
    if size < 1:
        raise InputError(f"size is {size}; it must be at least 1")
    step = 2 * bound / size
    line = ((np.arange(size) + 0.5) * step - bound).astype(np.float32)
    right, above = np.meshgrid(line, line[::-1])
    across = np.full_like(right, offset)
    planes = {"x": (across, above, -right), "y": (right, across, -above), "z": (right, above, across)}
    points = np.stack(planes[axis], axis=-1).reshape(-1, 3)
    sdf = np.asarray(field(points), dtype=np.float64).reshape(size, size)
    slope = np.hypot(*np.gradient(sdf))  # change of the distance over one pixel
    colour = sdf_colours(sdf, clamp)
    spacing = clamp / (4 if clamp / 4 >= 5 * step else 2)
    # No isolines where colours are clamped: a learned field is not trained there.
    thin = np.where(np.abs(sdf) < clamp - spacing / 2, np.abs(sdf - np.round(sdf / spacing) * spacing), np.inf)
    for distance, halfwidth, strength in ((thin, 0.4, 0.2), (np.abs(sdf), max(0.8, size / 400), 1.0)):
        # Where a field is flat, such as a clamped one, an isoline would be a wide area: leave it out.
        away = distance / np.maximum(slope, 1e-9)
        ink = np.clip(halfwidth + 0.5 - away, 0, 1) * strength * (slope > 0.05 * step)
        colour += ink[..., None] * (np.array(INK) - colour)
    return np.round(colour).astype(np.uint8)
