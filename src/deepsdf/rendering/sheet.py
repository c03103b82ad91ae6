"""Grids of pictures, labels, and PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepsdf.errors import InputError
from deepsdf.files import atomic_path
from deepsdf.rendering.camera import INK, WHITE, Colour


def grid_image(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    pad: int = 8,
    background: Colour | None = WHITE,
) -> np.ndarray:
    """Grid of pictures (h, w, 3) or (h, w, 4) uint8.

    Args:
        rows: None, or a row that is shorter than others, leaves a gap. Columns have the width and rows the height of
            their largest picture.
        row_labels: written upwards on the left. If a label is too long, all are set smaller, then it is cut.
        pad: pixels between and around the pictures.
        background: None makes the grid transparent, (h, w, 4).
    Raises:
        InputError: no picture, or not one label per row or column.
    """
    columns = max((len(row) for row in rows), default=0)
    if not any(cell is not None for row in rows for cell in row):
        raise InputError("cannot draw a grid without pictures; expected at least one")
    for name, labels, count in (("row", row_labels, len(rows)), ("column", column_labels, columns)):
        if labels is not None and len(labels) != count:
            raise InputError(f"there are {len(labels)} {name} labels for {count} {name}s; expected one per {name}")
    heights, widths = np.zeros(len(rows), int), np.zeros(columns, int)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            if cell is not None:
                heights[r], widths[c] = max(heights[r], cell.shape[0]), max(widths[c], cell.shape[1])
    letter = int(np.clip(max(widths.max(), heights.max()) / 20, 10, 28))
    strip = letter + letter // 2  # height of a label
    top = pad + (strip if column_labels else 0)
    left = pad + (strip if row_labels else 0)
    tops = top + np.cumsum([0, *(heights + pad)])
    lefts = left + np.cumsum([0, *(widths + pad)])
    sheet = blank(int(lefts[-1]), int(tops[-1]), background)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            if cell is not None:
                picture = Image.fromarray(cell)
                see_through = picture.mode == "RGBA" and sheet.mode == "RGB"
                x, y = lefts[c] + (widths[c] - picture.width) // 2, tops[r] + (heights[r] - picture.height) // 2
                sheet.paste(picture, (int(x), int(y)), picture if see_through else None)
    if column_labels:
        for x, label in zip(lefts, _labels(column_labels, widths, letter, background), strict=False):
            sheet.paste(label, (int(x), pad // 2))
    if row_labels:
        for y, label in zip(tops, _labels(row_labels, heights, letter, background), strict=False):
            sheet.paste(label.transpose(Image.Transpose.ROTATE_90), (pad // 2, int(y)))
    return np.array(sheet)


def save_image(path: str | Path, array: np.ndarray) -> None:
    """Write a picture (h, w), (h, w, 3) or (h, w, 4) uint8 as PNG. Creates the folder; never leaves a partial file.

    Raises:
        InputError: a suffix other than .png, or an array that is not a picture.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: unknown picture format; expected .png")
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise InputError(f"{path}: the picture is {array.shape} {array.dtype}; expected (h, w, 3) uint8")
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")


def blank(width: int, height: int, background: Colour | None) -> Image.Image:
    """An empty image: RGB, or RGBA if the background is None."""
    if background is None:
        return Image.new("RGBA", (width, height), (*INK, 0))  # the soft edges of letters blend with this colour
    return Image.new("RGB", (width, height), background)


def ink_on(background: Colour | None) -> Colour:
    """Colour of text on a background: dark unless the background is dark."""
    return INK if background is None or sum(background) > 380 else WHITE


def _labels(texts: Sequence[str], lengths: np.ndarray, letter: int, background: Colour | None) -> list[Image.Image]:
    """Strips of the given lengths, 1.5 `letter` high, with one text centred in each; all in one font size."""
    places = list(zip(texts, map(int, lengths), strict=True))
    fonts = [font(size) for size in range(letter, min(letter, 9) - 1, -1)]
    chosen = next((f for f in fonts if all(f.getlength(text) <= length for text, length in places)), fonts[-1])
    strips = []
    for text, length in places:
        while len(text) > 1 and chosen.getlength(text) > length:
            text = text[:-2] + "…"
        strip = blank(length, letter + letter // 2, background)
        middle = (length / 2, strip.height / 2)
        ImageDraw.Draw(strip).text(middle, text, fill=ink_on(background), font=chosen, anchor="mm")
        strips.append(strip)
    return strips


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans from matplotlib: Pillow's own font has only ASCII characters, names of shapes have others."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
