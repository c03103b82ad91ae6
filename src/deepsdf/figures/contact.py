"""The contact sheet of a data source: every shape with a slice of its signed field, doubtful ones first."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.library.quality import VERDICTS, Quality
from deepsdf.rendering.render import INK, Axis, Colour, grid_image, render_mesh, save_image, slice_image
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource

SIZE = 176
COLUMNS, ROWS = 4, 6
LINES = 3  # of the reason under a picture

TINTS: dict[str, Colour] = {"rejected": (250, 205, 198), "doubtful": (255, 234, 184), "ok": (255, 255, 255)}
BLANK: Colour = (236, 236, 236)


def shape_picture(field: MeshSDF, *, size: int = SIZE) -> np.ndarray:
    """A shape of the unit frame as its file has it, and its signed field on the middle plane that cuts most of it."""
    shown = render_mesh(field.mesh, size=size, bound=1.0)
    used = np.asarray(field.mesh.vertices)[np.unique(field.mesh.faces)]
    axes: tuple[Axis, ...] = ("x", "y", "z")
    thinnest = axes[int(np.ptp(used, axis=0).argmin())]
    return np.concatenate([shown, slice_image(field, axis=thinnest, size=size)], axis=1)


def contact_sheet(data: DataSource, split: str, qualities: Mapping[ShapeName, Quality]) -> list[Path]:
    """Write the pages of a split's contact sheet, worst shapes first; pages of an older, longer one are removed.

    Returns:
        the pages' paths.
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
    """Name, picture and verdict of one shape, on the verdict's colour."""
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
    """The text broken at spaces, the last line cut where there is more."""
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
