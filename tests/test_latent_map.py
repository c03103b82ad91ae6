"""The map of a space."""

from __future__ import annotations

import builtins
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import TRAIN, World, is_picture, run

from deepsdf.errors import InputError
from deepsdf.figures.latent_map import (
    GREY,
    Colouring,
    colouring,
    map_positions,
    painted,
    principal_plane,
    slots,
    spread_out,
    variance_shares,
)
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import known_shapes

pytest_plugins = ("helpers",)


def test_pca_finds_the_plane_that_codes_lie_in() -> None:
    """Distances in the plane are kept, the first axis has more variance, and order and shift do not matter."""
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(30, 2)) * (3, 1)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0][:2]
    codes = flat @ basis + 5
    found = map_positions(codes)
    np.testing.assert_allclose(
        np.linalg.norm(found[:, None] - found, axis=-1), np.linalg.norm(flat[:, None] - flat, axis=-1), atol=1e-9
    )
    assert found[:, 0].var() > found[:, 1].var()
    assert variance_shares(codes).sum() == pytest.approx(1)
    order = rng.permutation(30)
    np.testing.assert_allclose(map_positions(codes[order] - 3), found[order], atol=1e-9)


def test_any_code_has_a_place_in_the_plane() -> None:
    codes = np.random.default_rng(1).normal(size=(20, 5))
    mean, directions = principal_plane(codes)
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose([directions @ (code - mean) for code in codes], map_positions(codes), atol=1e-12)


def test_colours_of_values() -> None:
    numbers = painted(Colouring("x", [3.0, 1.0, float("nan"), 2.0]))
    assert numbers.ends == (1.0, 3.0)
    assert numbers.colours[2] == GREY
    assert painted(Colouring("x", [30.0, 10.0, 0.0])).colours[:2] != numbers.colours[:2]
    assert painted(Colouring("x", [1.0, 2.0, 3.0])).colours == [numbers.colours[k] for k in (1, 3, 0)]
    assert painted(Colouring("x", [5.0, 5.0])).ends[0] == 5.0
    words = painted(Colouring("x", ["b", "a", "", "b"]))
    assert list(words.names) == ["a", "b"]
    assert words.colours == [words.names["b"], words.names["a"], GREY, words.names["b"]]
    many = painted(Colouring("x", [*map(str, range(12)), "11"]))
    assert len(many.names) == 10
    assert many.colours.count(GREY) == 2
    assert many.colours[11] == many.names["11"] != GREY
    assert many.others
    assert not painted(Colouring("x", ["a"])).others


def test_wrong_codes_and_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="codes have shape \\(2, 4\\); a map needs at least 3 codes"):
        map_positions(np.zeros((2, 4)))
    with pytest.raises(InputError, match="1 codes are NaN or infinite"):
        map_positions(np.array([[0, 0], [1, np.nan], [2, 0]]))
    with pytest.raises(InputError, match="method is 'tsne'; expected 'pca' or 'umap'"):
        map_positions(np.zeros((3, 4)), "tsne")  # pyright: ignore[reportArgumentType]
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "umap":
            raise ImportError
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"the method umap needs umap-learn \(pip install umap-learn\); or use pca"):
        map_positions(np.eye(4), "umap")


def test_squares_do_not_cover_each_other() -> None:
    rng = np.random.default_rng(0)
    places = rng.normal(size=(40, 2)) * 0.3 + (5, 4)  # all in one heap
    found = slots(places, 1.0, 11, 8)
    gaps = np.abs(found[:, None] - found).max(axis=-1) + 9 * np.eye(40)
    assert gaps.min() >= 1.0 - 1e-9
    assert (found >= 0.5).all()
    assert (found <= (10.5, 7.5)).all()
    alone = slots(np.array([[2.5, 3.5], [7.5, 0.5]]), 1.0, 10, 8)
    np.testing.assert_allclose(alone, [[2.5, 3.5], [7.5, 0.5]])
    with pytest.raises(InputError, match="40 squares of side 2 do not fit into 10 × 8"):
        slots(places, 2.0, 10, 8)


def test_those_shown_are_far_apart() -> None:
    line = np.stack([np.arange(9.0), np.zeros(9)], axis=1)
    assert sorted(spread_out(line, 3)) == [0, 4, 8]
    assert sorted(spread_out(line, 99)) == list(range(9))


def test_the_verb(reconstructed: World) -> None:
    result = run("map", "-e", "exp", "--thumbnails", 2)
    assert "Wrote exp/Map/pca.png and exp/Map/pca.csv" in result.stdout
    assert is_picture(reconstructed.root / "exp/Map/pca.png")
    with Path("exp/Map/pca.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["shape"] for row in rows[:4]] == [str(shape) for shape in TRAIN]
    assert [row["class"] for row in rows] == ["box", "box", "egg", "egg", "box", "egg"]
    assert [row["set"] for row in rows] == ["training"] * 4 + ["reconstructed"] * 2
    space = ShapeSpace.load(reconstructed.experiment, device="cpu")
    codes = np.stack([one.code.numpy() for one in known_shapes(reconstructed.experiment, space)])
    np.testing.assert_allclose([(float(r["x"]), float(r["y"])) for r in rows], map_positions(codes), atol=1e-4)


@pytest.mark.parametrize("name", ["a.docx", "a.csv", "a"])
def test_a_name_that_is_no_pictures_is_told_before_the_work(world: World, name: str) -> None:
    result = run("map", "-e", "exp", "-o", name, status=2)
    assert f"{name}: unknown picture format; expected .png" in result.stderr
    assert "Drawing" not in result.stderr
    assert not list(world.root.glob("*a*.png"))
    assert not (world.root / name).exists()


def test_colours_by_a_column(reconstructed: World) -> None:
    Path("ages.csv").write_text("name, age, kind\ncube, 3, a\ntoys/box/tall, 5.5, b\negg/long, , a\n")
    space = ShapeSpace.load(reconstructed.experiment, device="cpu")
    shapes = known_shapes(reconstructed.experiment, space)
    ages = colouring(reconstructed.experiment, shapes, "ages.csv:age", "latest")
    assert ages.numeric
    np.testing.assert_array_equal(ages.values, [3, np.nan, np.nan, np.nan, 5.5, np.nan])
    kinds = colouring(reconstructed.experiment, shapes, "ages.csv:kind", "latest")
    assert kinds.values == ["a", "", "", "a", "b", ""]
    run("map", "-e", "exp", "--thumbnails", 0, "--colour-by", "ages.csv:age", "-o", "ages.png")
    assert is_picture(Path("ages.png"))


@pytest.mark.parametrize(
    ("colour_by", "message"),
    [
        ("mood", "unknown colouring 'mood'; expected class, set, error or FILE.csv:COLUMN"),
        ("none.csv:age", "no such file: none.csv"),
        ("ages.csv:size", "ages.csv has no column 'size'; it has age"),
        (
            "others.csv:age",
            "others.csv names none of the 4 shapes in its first column; expected names such as toys/box/cube or cube",
        ),
        ("error", "no such file: exp/Evaluation/latest/metrics.csv; run `deepsdf evaluate"),
    ],
)
def test_wrong_colours(world: World, colour_by: str, message: str) -> None:
    Path("ages.csv").write_text("name,age\ncube,3\n")
    Path("others.csv").write_text("name,age\nsofa,3\n")
    result = run("map", "-e", "exp", "--colour-by", colour_by, status=2)
    assert message in result.stderr
    assert not Path("exp/Map").exists()
