"""Pictures put together: contact sheets, labels, files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepsdf.errors import InputError
from deepsdf.files import atomic_path
from deepsdf.geometry.render_camera import INK, WHITE, Colour


def grid_image(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    pad: int = 8,
    background: Colour = WHITE,
) -> np.ndarray:
    """Contact sheet of pictures (h, w, 3) uint8; None, or a row that ends early, leaves a hole.

    Columns are as wide, and rows as high, as their largest picture; `pad` pixels lie between and round them.
    Row labels stand on their side at the left. A label too long for its place is set smaller, then cut.
    """
    columns = max((len(row) for row in rows), default=0)
    if not any(cell is not None for row in rows for cell in row):
        raise InputError("a grid needs at least one picture")
    for name, labels, count in (("row", row_labels, len(rows)), ("column", column_labels, columns)):
        if labels is not None and len(labels) != count:
            raise InputError(f"{len(labels)} {name} labels for {count} {name}s")
    heights, widths = np.zeros(len(rows), int), np.zeros(columns, int)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            if cell is not None:
                heights[r], widths[c] = max(heights[r], cell.shape[0]), max(widths[c], cell.shape[1])
    letter = int(np.clip(max(widths.max(), heights.max()) / 20, 10, 28))
    strip = letter + letter // 2  # the height of a label
    top = pad + (strip if column_labels else 0)
    left = pad + (strip if row_labels else 0)
    tops = top + np.cumsum([0, *(heights + pad)])
    lefts = left + np.cumsum([0, *(widths + pad)])
    sheet = np.empty((tops[-1], lefts[-1], 3), np.uint8)
    sheet[:] = background
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            if cell is not None:
                h, w = cell.shape[:2]
                y, x = tops[r] + (heights[r] - h) // 2, lefts[c] + (widths[c] - w) // 2
                sheet[y : y + h, x : x + w] = cell[..., :3]
    edge = slice(pad // 2, pad // 2 + strip)
    for c, text in enumerate(column_labels or ()):
        place = slice(lefts[c], lefts[c] + widths[c])
        sheet[edge, place] = line_of_text(text, widths[c], letter, background)
    for r, text in enumerate(row_labels or ()):
        place = slice(tops[r], tops[r] + heights[r])
        sheet[place, edge] = np.rot90(line_of_text(text, heights[r], letter, background))
    return sheet


def save_image(path: str | Path, array: np.ndarray) -> None:
    """Write a picture (h, w), (h, w, 3) or (h, w, 4) uint8 as PNG, whole or not at all; makes the folder."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: pictures are saved as PNG; end the name in .png")
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise InputError(f"{path}: a picture is (h, w, 3) uint8, not {array.shape} {array.dtype}")
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")


def line_of_text(text: str, length: int, letter: int, background: Colour) -> np.ndarray:
    """One line of text in the middle of a strip (1.5 letters high, length, 3)."""
    image = Image.new("RGB", (int(length), letter + letter // 2), background)
    sizes = range(letter, min(letter, 9) - 1, -1)
    fonts = [font(size) for size in sizes]
    chosen = next((one for one in fonts if one.getlength(text) <= length), fonts[-1])
    while len(text) > 1 and chosen.getlength(text) > length:
        text = text[:-2] + "…"
    ink = INK if sum(background) > 380 else WHITE
    ImageDraw.Draw(image).text((length / 2, image.height / 2), text, fill=ink, font=chosen, anchor="mm")
    return np.asarray(image)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings: Pillow's own font has ASCII alone, and names have more."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
