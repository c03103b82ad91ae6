"""Split files and how they are drawn."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from deepsdf.errors import InputError
from deepsdf.splits import ShapeName, amount, make_split, read_split, write_split

COUNTS = {"chair": 60, "lamp": 30, "sofa": 10}
SHAPES = [ShapeName("shapenet", category, f"m{k:03}") for category, count in COUNTS.items() for k in range(count)]


def test_the_order_is_the_files_own(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"z": {"b": ["2", "1"], "a": ["9"]}, "a": {"c": ["0"]}}')
    shapes = read_split(tmp_path / "s.json")
    assert [str(shape) for shape in shapes] == ["z/b/2", "z/b/1", "z/a/9", "a/c/0"]
    write_split(tmp_path / "again.json", shapes)
    assert read_split(tmp_path / "again.json") == shapes
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads((tmp_path / "s.json").read_text())


def test_a_shapes_path() -> None:
    assert ShapeName("d", "c", "i.v1").path(Path("f"), ".npz") == Path("f/d/c/i.v1.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r'is not a split file; expected \{"dataset": \{"class": \["instance", ...\]\}\}'),
        ('{"d": ["a"]}', "is not a split file; expected"),
        ('{"d": {"c": "a"}}', "d/c must be a list of instances"),
        ('{"d": {"c": {"a": 1}}}', "d/c must be a list of instances"),
        ("{}", "contains no shapes"),
        ('{"d": {"c": []}}', "contains no shapes"),
        ('{"d": {"c": [7]}}', "7 is not a name"),
        ('{"d": {"c": ["../../../etc/passwd"]}}', "would leave its folder"),
        ('{"d": {"..": ["a"]}}', "would leave its folder"),
        ('{"/etc": {"c": ["a"]}}', "would leave its folder"),
        ('{"d": {"c": ["a"', "is not valid JSON"),
    ],
)
def test_what_is_no_split(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_split(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("12", 12),
        (12, 12),
        ("0.2", 20),
        (0.2, 20),
        ("20%", 20),
        ("0", 0),
        ("100%", 100),
        ("1.0", 100),
        (1.0, 100),
        (1, 1),
        ("0.5%", 0),
        ("1.5%", 2),
    ],
)
def test_amounts(text: str | int | float, count: int) -> None:
    assert amount(text, 100, "it") == count


@pytest.mark.parametrize("text", ["many", "", "%", "-1", "-10%", "101", "1.5", "200%", "nan", "inf", "1/0", -0.1])
def test_what_is_no_amount(text: str | float) -> None:
    with pytest.raises(InputError, match=f"the number of test shapes is {text!r}"):
        amount(text, 100, "the number of test shapes")


def test_a_split_is_a_partition_in_sorted_order() -> None:
    train, test = make_split(SHAPES, test=0.2)
    assert (len(train), len(test)) == (80, 20)
    assert sorted(train + test) == sorted(SHAPES)
    assert train == sorted(train)
    assert test == sorted(test)


def test_every_class_is_divided_in_proportion() -> None:
    for seed in range(20):
        train, test = make_split(SHAPES, test="20%", train=50, seed=seed)
        for part in (train, test):
            found = Counter(shape.category for shape in part)
            for category, count in COUNTS.items():
                assert abs(found[category] - count * len(part) / 100) <= 1
        assert len(train) == 50
        assert not set(train) & set(test)


def test_the_same_seed_gives_the_same_split_in_whatever_order_shapes_come() -> None:
    shuffled = random.Random(1).sample(SHAPES, len(SHAPES))
    assert make_split(shuffled, seed=3) == make_split(SHAPES, seed=3)
    assert make_split([*SHAPES, *SHAPES[:5]], seed=3) == make_split(SHAPES, seed=3)
    assert make_split(SHAPES, seed=4) != make_split(SHAPES, seed=3)


def test_asking_for_more_shapes_than_there_are() -> None:
    with pytest.raises(InputError, match=r"80 training and 30 test shapes were requested; there are only 100"):
        make_split(SHAPES, test=30, train=80)
    with pytest.raises(InputError, match=r"the number of training shapes is 'all'"):
        make_split(SHAPES, train="all")
