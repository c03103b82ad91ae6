"""Split files: lists of the shapes of a training or test set.

A split file is JSON, `{dataset: {class: [instance, ...]}}`. The order of the shapes is the order of the codes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepsdf.errors import InputError
from deepsdf.files import read_json, safe_name, write_text


class ShapeName(NamedTuple):
    """Name of a shape in data sources and experiments."""

    dataset: str
    category: str
    instance: str

    def __str__(self) -> str:
        return "/".join(self)

    def path(self, folder: Path, suffix: str) -> Path:
        """`folder/dataset/class/instance<suffix>`."""
        return folder / self.dataset / self.category / (self.instance + suffix)


def read_split(path: str | os.PathLike[str]) -> list[ShapeName]:
    """The shapes of a split file, in the file's order.

    Raises:
        InputError: no such file, not a split file, no shapes, or a name that leads out of its folder.
    """
    content = read_json(path, "a split file")
    form = '{"dataset": {"class": ["instance", ...]}}'
    if not isinstance(content, dict) or not all(isinstance(classes, dict) for classes in content.values()):
        raise InputError(f"{path} is not a split file; expected {form}")
    shapes = []
    for dataset, classes in content.items():
        for category, instances in classes.items():
            if not isinstance(instances, list):
                raise InputError(f"{path}: {dataset}/{category} must be a list of instances; expected {form}")
            for instance in instances:
                names = (safe_name(name, str(path)) for name in (dataset, category, instance))
                shapes.append(ShapeName(*names))
    if not shapes:
        raise InputError(f"{path} contains no shapes; expected {form}")
    return shapes


def shapes_in(folder: Path, suffix: str) -> dict[ShapeName, Path]:
    """Files of a folder that are named as by `ShapeName.path`, sorted by shape."""
    files = folder.glob(f"*/*/*{suffix}")
    return dict(sorted((ShapeName(*path.relative_to(folder).with_suffix("").parts), path) for path in files))


def write_split(path: str | os.PathLike[str], shapes: Iterable[ShapeName]) -> None:
    """Write a split file."""
    content: dict[str, dict[str, list[str]]] = {}
    for shape in shapes:
        content.setdefault(shape.dataset, {}).setdefault(shape.category, []).append(shape.instance)
    write_text(path, json.dumps(content, indent=2) + "\n")


def amount(text: str | int | float, total: int, what: str) -> int:
    """Convert a count (`12`) or a fraction (`0.2`, `20%`) of `total` to a count.

    Args:
        what: name of the quantity, for errors.
    Raises:
        InputError: not a number, negative, or more than `total`.
    """
    written = str(text)
    try:
        value = Fraction(written[:-1]) / 100 if written.endswith("%") else Fraction(written)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{what} is {text!r}; expected a count such as 12, or a fraction such as 0.2 or 20%") from None
    is_fraction = value.denominator != 1 or "." in written or "%" in written
    count = round(value * total) if is_fraction and (value <= 1 or "%" in written) else value
    if value < 0 or count != int(count) or count > total:
        raise InputError(f"{what} is {text!r}, but there are {total} shapes")
    return int(count)


def make_split(
    shapes: Sequence[ShapeName],
    *,
    test: str | int | float = 0.2,
    train: str | int | float | None = None,
    seed: int = 0,
) -> tuple[list[ShapeName], list[ShapeName]]:
    """Divide shapes at random into training and test shapes, with the same proportions in each class.

    Args:
        shapes: all shapes, in any order.
        test: number or fraction of test shapes.
        train: number or fraction of training shapes; None: all others.
        seed: random seed. The same seed and shapes give the same split.
    Returns:
        Training shapes and test shapes, both sorted.
    """
    rng = np.random.default_rng(seed)
    ordered = sorted(set(shapes))
    n_test = amount(test, len(ordered), "the number of test shapes")
    n_train = len(ordered) - n_test if train is None else amount(train, len(ordered), "the number of training shapes")
    if n_train + n_test > len(ordered):
        raise InputError(f"{n_train} training and {n_test} test shapes were requested; there are only {len(ordered)}")
    # Each shape gets a random rank in [0, 1) that is evenly spaced within its class, so that the lowest ranks contain
    # the same share of each class. The random offset per class decides how fractions are rounded.
    position: dict[ShapeName, float] = {}
    for group in sorted({shape[:2] for shape in ordered}):
        members = [shape for shape in ordered if shape[:2] == group]
        offset = rng.random()
        for rank, index in enumerate(rng.permutation(len(members))):
            position[members[index]] = (rank + offset) / len(members)
    ranked = sorted(ordered, key=lambda shape: position[shape])
    return sorted(ranked[n_test : n_test + n_train]), sorted(ranked[:n_test])


class Failure(NamedTuple):
    """A shape that failed, and why. Other shapes of the batch are not affected."""

    shape: ShapeName
    reason: str
