"""What colours stand for: errors, signed distances on a plane, and the legends that tell."""

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

ERROR_MAP, ERROR_RANGE = "magma_r", (0.04, 0.85)
"""From pale to dark: on a pale surface the shading still shows, and what is wrong stands out of white paper."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def parse_colour(text: str) -> Colour:
    """A colour as a person writes it: `clay`, `164,190,216`, a CSS name, `#a4bed8`.

    Raises:
        InputError: none of these.
    """
    given = text.strip().lower()
    try:
        if given == "clay":
            return CLAY
        found = ImageColor.getrgb(f"rgb({given})" if given[:1].isdigit() else given)[:3]
        if max(found) > 255:
            raise ValueError
    except ValueError:
        raise InputError(f"{text!r} is not a colour; say 164,190,216 (0 to 255), #a4bed8 or a name as teal") from None
    return (found[0], found[1], found[2])


def error_colours(values: np.ndarray, maximum: float) -> np.ndarray:
    """Colours of errors (n,), from 0 to `maximum` and alike beyond: (n, 3) uint8 sRGB. NaN is grey.

    Lightness is monotonic, so that the order of errors is seen in print and by colour-blind eyes as well.

    Raises:
        InputError: a maximum that is not positive and finite.
    """
    if not 0 < maximum < np.inf:
        raise InputError(f"the greatest error of a colour map must be positive and finite, not {maximum}")
    values = np.asarray(values, np.float64)
    share = np.clip(np.nan_to_num(values / maximum, posinf=1.0), 0, 1)
    known = _error_table()[np.round(share * 1023).astype(int)]
    return np.where(np.isnan(values)[..., None], np.array(UNKNOWN, np.uint8), known)


@cache
def _error_table() -> np.ndarray:
    import matplotlib

    return matplotlib.colormaps[ERROR_MAP](np.linspace(*ERROR_RANGE, 1024), bytes=True)[:, :3]


def sdf_colours(values: np.ndarray, clamp: float) -> np.ndarray:
    """Colours of signed distances (...,): (..., 3) float. Blue inside, red outside, alike beyond +-`clamp`."""
    t = np.clip(np.asarray(values, np.float64) / clamp, -1, 1)[..., None]
    return PAPER + np.abs(t) ** 0.8 * (np.where(t < 0, INSIDE, OUTSIDE) - PAPER)


def nice_maximum(values: np.ndarray) -> float:
    """The end of a colour map for errors (n,): their 99th percentile, rounded up to 1, 2, 3, 5 or 8 and zeros."""
    finite = np.abs(values[np.isfinite(values)])
    high = float(np.percentile(finite, 99)) if len(finite) else 0.0
    if high <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(high))
    return float(next(step for step in (1, 2, 3, 5, 8, 10) if step * power >= high * (1 - 1e-9)) * power)


def ticks(low: float, high: float) -> tuple[list[float], list[str], int]:
    """Round values between two numbers, both included, their labels, and the power of ten that labels leave out."""
    from matplotlib.ticker import MaxNLocator

    size = max(abs(low), abs(high))
    exponent = int(np.floor(np.log10(size)))
    power = exponent if not -3 <= exponent <= 3 else 0
    spread = high - low
    inner = [t for t in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low < t < high]
    room = 0.09 * spread  # an end's label needs it
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
    """Colour bar with ticks, to stand at the right of a picture: (height, about height / 3, 3) uint8.

    Args:
        minimum, maximum: values at the bar's ends.
        title: what the values are, and their unit.
        over: say at the upper end that colours stand for more as well.
        colours: values (n,) -> sRGB (n, 3), 0 to 255; None: those of errors.
        background: None makes it transparent, (.., 4).
    """
    if height < 1 or not np.isfinite([minimum, maximum]).all() or not minimum < maximum:
        raise InputError(f"a legend from {minimum} to {maximum}, {height} pixels high, cannot be drawn")
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
    """The signed distance on the square [-bound, bound]^2 of a plane: (size, size, 3) uint8.

    Blue inside, red outside, a dark line at zero; colours end at +-`clamp`, and thin lines between there lie
    `clamp` / 4 apart, in small pictures `clamp` / 2. Seen from the plane's positive side: x to the right and y up
    for "z", z to the left and y up for "x", x to the right and z down for "y".
    """
    if axis not in FRAMES:
        raise InputError(f"axis={axis!r} is not an axis; say x, y or z")
    if not (bound > 0 and clamp > 0):
        raise InputError(f"bound={bound} and clamp={clamp} must be positive")
    if size < 1:
        raise InputError(f"size={size} must be at least 1")
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
    # Where colours end so do lines: a learned field means nothing there.
    thin = np.where(np.abs(sdf) < clamp - spacing / 2, np.abs(sdf - np.round(sdf / spacing) * spacing), np.inf)
    for distance, halfwidth, strength in ((thin, 0.4, 0.2), (np.abs(sdf), max(0.8, size / 400), 1.0)):
        # A field that is flat, such as a clamped one, has no lines there, not one wide line.
        away = distance / np.maximum(slope, 1e-9)
        ink = np.clip(halfwidth + 0.5 - away, 0, 1) * strength * (slope > 0.05 * step)
        colour += ink[..., None] * (np.array(INK) - colour)
    return np.round(colour).astype(np.uint8)
