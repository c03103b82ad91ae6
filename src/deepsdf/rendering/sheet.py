"""Pictures put together: contact sheets, labels, files."""

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
    """Contact sheet of pictures (h, w, 3) or (h, w, 4) uint8; None, or a row that ends early, leaves a hole.

    Columns are as wide, and rows as high, as their largest picture; `pad` pixels lie between and round them.
    Row labels stand on their side at the left. Where one is too long for its place all are set smaller, then cut.
    `background` None makes a transparent sheet, (h, w, 4).
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
    """Write a picture (h, w), (h, w, 3) or (h, w, 4) uint8 as PNG, whole or not at all; makes the folder."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: pictures are saved as PNG; end the name in .png")
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise InputError(f"{path}: a picture is (h, w, 3) uint8, not {array.shape} {array.dtype}")
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")


def blank(width: int, height: int, background: Colour | None) -> Image.Image:
    """Paper to write on: RGB, or RGBA where it is transparent."""
    if background is None:
        return Image.new("RGBA", (width, height), (*INK, 0))  # letters' soft edges take this colour
    return Image.new("RGB", (width, height), background)


def ink_on(background: Colour | None) -> Colour:
    """The colour of letters."""
    return INK if background is None or sum(background) > 380 else WHITE


def _labels(texts: Sequence[str], lengths: np.ndarray, letter: int, background: Colour | None) -> list[Image.Image]:
    """Each text in the middle of a strip of its length, 1.5 letters high; all in one size of letters."""
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
    """DejaVu Sans, which matplotlib brings: Pillow's own font has ASCII alone, and names have more."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
