"""The contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from helpers import is_picture
from PIL import Image

from deepsdf.figures.contact import COLUMNS, ROWS, SIZE, TINTS, contact_sheet, shape_picture
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.library.quality import Quality
from deepsdf.rendering.render import save_image
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource

PAD = 8


def name(number: int) -> ShapeName:
    return ShapeName("d", "c", f"{number:03}")


def tile_colours(page: Path) -> list[tuple[int, ...]]:
    """The colour in a corner of each tile, row by row."""
    with Image.open(page) as image:
        pixels = np.asarray(image)
    height, width = SIZE + 4 + 14 * 5, 2 * SIZE + 8
    corners = [(PAD + r * (height + PAD), PAD + c * (width + PAD)) for r in range(ROWS) for c in range(COLUMNS)]
    return [tuple(pixels[y, x]) for y, x in corners if y < len(pixels) and x < pixels.shape[1]]


def test_a_picture_shows_the_shape_and_its_inside(tmp_path: Path) -> None:
    picture = shape_picture(MeshSDF(trimesh.creation.box((1, 0.3, 1))))
    assert picture.shape == (SIZE, 2 * SIZE, 3)
    save_image(tmp_path / "a.png", picture)
    assert is_picture(tmp_path / "a.png")
    # The plane across the thin axis cuts a square of edge 1 of the 2 x 2 shown: a quarter is blue, inside.
    field = picture[:, SIZE:].astype(int)
    assert abs((field[..., 2] > field[..., 0] + 5).mean() - 0.25) < 0.05


def test_doubtful_shapes_come_first_and_old_pages_are_removed(tmp_path: Path) -> None:
    data = DataSource(tmp_path)
    qualities = {name(k): Quality(str(name(k)), "ok", "closed") for k in range(COLUMNS * ROWS)}
    qualities[name(90)] = Quality("d/c/090", "doubtful", "a hole", uncertain=0.02)
    qualities[name(91)] = Quality("d/c/091", "doubtful", "two holes", uncertain=0.03)
    qualities[name(92)] = Quality("d/c/092", "rejected", "no faces " * 40)
    save_image(data.picture_path(name(91)), np.zeros((SIZE, 2 * SIZE, 3), np.uint8))
    data.picture_path(name(90)).write_bytes(b"no picture")
    pages = contact_sheet(data, "train", qualities)
    assert pages == [tmp_path / "Pictures" / "train-1.png", tmp_path / "Pictures" / "train-2.png"]
    colours = tile_colours(pages[0])
    assert colours[:3] == [TINTS["rejected"], TINTS["doubtful"], TINTS["doubtful"]]
    assert set(colours[3:]) == {TINTS["ok"]}
    with Image.open(pages[0]) as image:  # the second tile is the more doubtful one: it has the black picture
        pixels = np.asarray(image)
    second = pixels[PAD : PAD + SIZE, PAD + 2 * SIZE + 8 + PAD : PAD + 2 * (2 * SIZE + 8)]
    assert (second == 0).all(axis=2).mean() > 0.8
    assert contact_sheet(data, "train", {name(0): qualities[name(0)]}) == pages[:1]
    assert not pages[1].exists()
    assert contact_sheet(data, "train", {}) == []
