"""The viewer's map without a browser: where codes stand, what they are coloured by, and which one is clicked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FIELDS

from deepsdf.checkpoints import load_code
from deepsdf.errors import InputError
from deepsdf.figures.latent_map import GREY, Colouring, map_positions, painted, variance_shares
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import known_shapes
from deepsdf.splits import ShapeName
from deepsdf.viewer.content.catalogue import OWN, RECONSTRUCTED, TRAINING, Catalogue, Entry, catalogue_of
from deepsdf.viewer.content.code_map import (
    BOARD_CENTRE,
    BOARD_HALF_SIZE,
    CodeMap,
    colour_columns,
    map_colours,
    nearest_to_ray,
)
from deepsdf.viewer.content.exports import code_bytes
from deepsdf.viewer.content.position import LatentPosition
from deepsdf.viewer.scene.map_board import legend
from deepsdf.viewer.scene.stage import upright
from deepsdf.workspace import Experiment


@pytest.fixture
def experiment(trained: Experiment, space: ShapeSpace, tmp_path: Path) -> Experiment:
    """A copy, with two reconstructed shapes, of which one was trained on."""
    shutil.copytree(trained.root, tmp_path / "exp")
    experiment = Experiment.open(tmp_path / "exp")
    for instance, code in (("b0", space.codes[0] + 0.1), ("new", 3 * space.codes[4])):
        path = experiment.reconstructed_code_path(space.epoch, ShapeName("toys", "ball", instance))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(code_bytes(code))
    return experiment


def labels(code_map: CodeMap) -> list[tuple[str, str]]:
    return [(entry.kind, entry.label) for entry in code_map.entries]


def test_shapes_stand_where_the_picture_of_the_map_has_them(experiment: Experiment, space: ShapeSpace) -> None:
    catalogue = catalogue_of(experiment, space)
    catalogue.add(Entry(OWN, "mine", lambda space: 10 * space.codes[1]))
    catalogue.add(Entry(OWN, "gone", lambda space: load_code(experiment.root / "gone.pth")))
    code_map = CodeMap.of(catalogue, space)
    assert labels(code_map)[6:] == [(RECONSTRUCTED, "b0"), (RECONSTRUCTED, "new"), (OWN, "mine")]
    known = known_shapes(experiment, space)
    codes = np.stack([one.code.numpy() for one in known])
    assert [one.shape for one in known] == [code_map.entries[k].shape for k in (0, 1, 2, 3, 4, 5, 7)]
    np.testing.assert_allclose(code_map.positions[[0, 1, 2, 3, 4, 5, 7]], map_positions(codes), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(code_map.shares, variance_shares(codes))


def test_one_stands_on_the_point_of_the_shape_that_is_shown(space: ShapeSpace, trained: Experiment) -> None:
    code_map, position = CodeMap.of(catalogue_of(trained, space), space), LatentPosition(space)
    for row in range(len(space.codes)):
        position.set_code(space.codes[row])
        np.testing.assert_allclose(code_map.project(position.code), code_map.positions[row], atol=1e-12)
    half = code_map.project((space.codes[0].double() + space.codes[5].double()) / 2)
    np.testing.assert_allclose(half, (code_map.positions[0] + code_map.positions[5]) / 2, atol=1e-9)
    # The first slider moves along the map's first axis, by as much.
    start = code_map.project(position.code)
    position.set_coordinate(0, position.coordinates[0] + (1.0 if position.coordinates[0] < 0 else -1.0))
    moved = code_map.project(position.code) - start
    assert abs(moved[0]) == pytest.approx(float(space.prior.std[0]), rel=1e-3)
    assert abs(moved[1]) < 1e-3 * abs(moved[0])


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_the_board_keeps_distances_and_a_click_finds_its_shape(up: Any, trained: Experiment, space: ShapeSpace) -> None:
    code_map, frame = CodeMap.of(catalogue_of(trained, space), space), upright(up)
    points = code_map.on_board(code_map.positions, frame)
    here = points @ frame - BOARD_CENTRE
    np.testing.assert_allclose(here[:, 2], 0, atol=1e-12)
    assert np.ptp(here, axis=0).max() == pytest.approx(2 * BOARD_HALF_SIZE)
    assert np.abs(here).max() == pytest.approx(BOARD_HALF_SIZE)
    ways, flat = points[:, None] - points, code_map.positions[:, None] - code_map.positions
    np.testing.assert_allclose(
        np.linalg.norm(ways, axis=-1), BOARD_HALF_SIZE * code_map.scale * np.linalg.norm(flat, axis=-1), atol=1e-9
    )
    before = code_map.on_board(code_map.positions[2], frame, 0.3)[0] - points[2]
    np.testing.assert_allclose(before, 0.3 * frame[:, 2], atol=1e-12)
    eye = frame @ np.array([0.5, 1.0, 6.0])
    nudge = 0.01 * frame[:, 0]
    assert [nearest_to_ray(points, eye, 3 * (point + nudge - eye)) for point in points] == list(range(len(points)))  # pyright: ignore


def test_small_shapes_do_not_cover_each_other(trained: Experiment, space: ShapeSpace) -> None:
    code_map = CodeMap.of(catalogue_of(trained, space), space)
    assert len(code_map.spread(40, 0.0)) == len(code_map.entries)
    assert len(code_map.spread(2, 0.0)) == 2
    for side in (0.3, 1.0):
        chosen = code_map.spread(40, side)
        gaps = (
            np.linalg.norm(code_map.positions[chosen][:, None] - code_map.positions[chosen], axis=-1) * code_map.scale
        )
        assert (gaps + 9 * np.eye(len(chosen))).min() >= side
    assert len(code_map.spread(40, 1.0)) < len(code_map.entries)


def test_too_few_codes_are_told(space: ShapeSpace) -> None:
    catalogue = Catalogue()
    for row in range(2):
        catalogue.add(Entry(TRAINING, str(row), lambda space, row=row: space.codes[row], row=row))
    catalogue.add(Entry(OWN, "mine", lambda space: torch.ones(space.code_length)))
    with pytest.raises(InputError, match="2 codes cannot be mapped; expected at least 3"):
        CodeMap.of(catalogue, space)


def test_colours_by_set_class_error_and_column(experiment: Experiment, space: ShapeSpace) -> None:
    catalogue = catalogue_of(experiment, space)
    catalogue.add(Entry(OWN, "b1", lambda space: space.codes[1]))  # named as a shape of the split, and another one
    entries = CodeMap.of(catalogue, space).entries
    folder = experiment.evaluation_folder("latest")
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("shape,status,chamfer\ntoys/ball/b1,ok,0.5\ntoys/ball/new,ok,2\ngone,ok,9\n")
    (experiment.root / "notes.csv").write_text("name,age ,empty\nb0,old,\nb2,young,\n")
    (experiment.root / "others.csv").write_text("name,x\nnobody,1\nnone,2\n")
    (experiment.root / "noise.csv").write_bytes(b"\xff\xfe\x00" * 50)
    (experiment.root / "nothing.csv").write_bytes(b"")
    assert colour_columns(experiment, entries) == ["Evaluation/latest/metrics.csv:chamfer", "notes.csv:age"]
    of = {by: map_colours(experiment, entries, by, "latest") for by in ("set", "class", "error", "notes.csv:age")}
    assert of["set"].values == [TRAINING] * 6 + [RECONSTRUCTED] * 2 + [OWN]
    assert of["class"].values == [shape.category for shape in FIELDS] + ["ball", "ball", ""]
    known = {k: value for k, value in enumerate(of["error"].values) if value == value}
    assert known == {1: 0.5, 7: 2.0}
    assert of["notes.csv:age"].values == ["old", "", "young", "", "", "", "old", "", ""]
    same = map_colours(experiment, entries, "Evaluation/latest/metrics.csv:chamfer", "latest")
    np.testing.assert_array_equal(same.values, of["error"].values)


def test_the_legend_tells_colours_and_no_html_of_files() -> None:
    names = Colouring("class", ["<img src=x>", "a", ""])
    paint = painted(names)
    said = legend(names, paint)
    assert "<img" not in said
    assert "&lt;img src=x&gt;" in said
    assert re.findall('<span style="color:(#[0-9a-f]{6})', said) == [
        *(paint.names[name] for name in ("<img src=x>", "a")),
        GREY,
    ]
    numbers = Colouring("<b>", [0.25, float("nan"), 4.0])
    paint = painted(numbers)
    said = legend(numbers, paint)
    assert "<b>" not in said
    assert "<span>0.25</span><span>4</span>" in said
    assert said.index(paint.colours[0]) < said.index(paint.colours[2])
    assert "unknown" in said
