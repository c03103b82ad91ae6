"""The contact sheet of a data source: every shape with a slice of its signed distance, doubtful shapes first."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepsdf.figures.pictures import FRAME
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.library.quality import VERDICTS, Quality
from deepsdf.rendering.camera import INK, Axis, Colour, PictureOptions
from deepsdf.rendering.colours import slice_image
from deepsdf.rendering.render import render_mesh
from deepsdf.rendering.sheet import grid_image, save_image
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource

SIZE = 176
"""Pixels per side of a picture and of a slice: a page of 4 shapes per row is 1480 pixels wide, for a full screen."""

COLUMNS, ROWS = 4, 6
"""Shapes per row, and rows per page."""

LINES = 3
"""Lines of the reason under a picture."""

TINTS: dict[str, Colour] = {"rejected": (250, 205, 198), "doubtful": (255, 234, 184), "ok": (255, 255, 255)}
"""Background of a shape by its verdict: red, yellow, white."""

BLANK: Colour = (236, 236, 236)
"""Colour of a picture that is missing."""


def shape_picture(field: MeshSDF, *, size: int = SIZE) -> np.ndarray:
    """A shape of the unit frame as stored, and its signed distance on the plane across its thinnest axis."""
    shown = render_mesh(field.mesh, PictureOptions(size=size, bound=FRAME))
    used = np.asarray(field.mesh.vertices)[np.unique(field.mesh.faces)]
    axes: tuple[Axis, ...] = ("x", "y", "z")
    thinnest = axes[int(np.ptp(used, axis=0).argmin())]
    return np.concatenate([shown, slice_image(field, axis=thinnest, size=size)], axis=1)


def contact_sheet(data: DataSource, split: str, qualities: Mapping[ShapeName, Quality]) -> list[Path]:
    """Write the pages of a split's contact sheet, worst shapes first. Further pages of an earlier sheet are removed.

    Returns:
        paths of the pages.
    """
    ranked = sorted(qualities, key=lambda shape: (*_rank(qualities[shape]), shape))
    pages = []
    for start in range(0, len(ranked), COLUMNS * ROWS):
        tiles = [
            _tile(data.picture_path(shape), shape, qualities[shape]) for shape in ranked[start : start + COLUMNS * ROWS]
        ]
        rows = [tiles[k : k + COLUMNS] for k in range(0, len(tiles), COLUMNS)]
        pages.append(data.sheet_path(split, len(pages) + 1))
        save_image(pages[-1], grid_image(rows))
    beyond = len(pages) + 1
    while data.sheet_path(split, beyond).exists():
        data.sheet_path(split, beyond).unlink()
        beyond += 1
    return pages


def _rank(quality: Quality) -> tuple[int, float]:
    return VERDICTS.index(quality.verdict), -quality.uncertain


def _tile(path: Path, shape: ShapeName, quality: Quality) -> np.ndarray:
    """Name, picture and verdict of one shape, on the colour of the verdict."""
    picture = np.full((SIZE, 2 * SIZE, 3), BLANK, np.uint8)
    with suppress(OSError), Image.open(path) as image:
        picture = np.asarray(image.convert("RGB"))
    tile = Image.new("RGB", (2 * SIZE + 8, SIZE + 4 + 14 * (2 + LINES)), TINTS[quality.verdict])
    tile.paste(Image.fromarray(picture), (4, 22))
    draw = ImageDraw.Draw(tile)
    name, small = ImageFont.load_default(size=14), ImageFont.load_default(size=11)
    draw.text((4, 2), _cut(f"{shape.category}/{shape.instance}", name), fill=INK, font=name)
    words = quality.reason if quality.verdict == "ok" else f"{quality.verdict}: {quality.reason}"
    for line, text in enumerate(_lines(words, small)):
        draw.text((4, SIZE + 25 + 13 * line), text, fill=INK, font=small)
    return np.asarray(tile)


def _lines(text: str, font: Any) -> list[str]:
    """The text in at most `LINES` lines, broken at spaces; the rest is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and len(lines) < LINES and font.getlength(longer) > 2 * SIZE:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_cut(line, font) for line in lines]


def _cut(text: str, font: Any) -> str:
    while font.getlength(text) > 2 * SIZE:
        text = text[:-2] + "…"
    return text
