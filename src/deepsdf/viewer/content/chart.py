"""Codes in the plane, as the map of a viewer shows them. Knows no page."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from deepsdf.errors import DeepSDFError, InputError
from deepsdf.inference.space import ShapeSpace
from deepsdf.library import names as explore
from deepsdf.pipeline.latent_map import Colouring, colouring, principal_plane, spread_out, variance_shares
from deepsdf.splits import ShapeName
from deepsdf.viewer.content.catalogue import RECONSTRUCTED, TRAINING, Catalogue, Entry
from deepsdf.workspace import Experiment

HALF = 0.85
"""Half the side of the board that a map hangs on."""

MIDDLE = np.array([-1.95, -0.02, -0.3])
"""Of the board: to the right, up, and towards the visitor."""

TABLES, COLUMNS, LARGEST = 20, 40, 2**24
"""Csv files that colours are taken from at most, columns of each, and bytes."""


@dataclass(frozen=True)
class Chart:
    """Where every shape of a list stands.

    The plane is that of `deepsdf map`: of the training codes and the reconstructed ones that are none of those. Other
    shapes are seen from it, so that one that is added moves none.

    Attributes:
        places: (n, 2), in the codes' own lengths.
        shares: (2,), of the variance, along each axis.
        middle, scale: what takes places to -1 to 1.
    """

    entries: list[Entry]
    codes: list[Tensor]
    mean: np.ndarray
    directions: np.ndarray
    places: np.ndarray
    shares: np.ndarray
    middle: np.ndarray
    scale: float

    @classmethod
    def of(cls, catalogue: Catalogue, space: ShapeSpace) -> Chart:
        """Raises InputError: fewer than 3 codes that the plane can be made of."""
        entries, codes = [], []
        for kind in catalogue.kinds():
            for entry in list(catalogue.entries[kind].values()):
                try:
                    codes.append(entry.code(space))
                    entries.append(entry)
                except (DeepSDFError, OSError):  # of another checkpoint, or its file is gone
                    continue
        rows = np.array([code.double().cpu().numpy() for code in codes])
        trained = {entry.shape for entry in entries if entry.kind == TRAINING}
        made_of = [
            entry.kind == TRAINING or (entry.kind == RECONSTRUCTED and entry.shape not in trained) for entry in entries
        ]
        if sum(made_of) < 3 or rows.shape[1] < 2:
            raise InputError(f"{sum(made_of)} codes make no map; it needs at least 3, of at least 2 numbers")
        mean, directions = principal_plane(rows[made_of])
        places = (rows - mean) @ directions.T
        low, high = places.min(axis=0), places.max(axis=0)
        scale = 2.0 / max(float((high - low).max()), 1e-12)
        return cls(
            entries, codes, mean, directions, places, variance_shares(rows[made_of]), (low + high) / 2, scale
        )  # fmt: skip

    def place(self, code: Tensor) -> np.ndarray:
        """(2,) of a code (L,)."""
        return self.directions @ (code.double().cpu().numpy() - self.mean)

    def on_board(self, places: np.ndarray, frame: np.ndarray, before: float = 0.0) -> np.ndarray:
        """Places (n, 2) as points (n, 3) of the scene, `before` the board; see `upright` for `frame`."""
        flat = HALF * self.scale * (np.atleast_2d(places) - self.middle)
        return (np.column_stack([flat, np.full(len(flat), before)]) + MIDDLE) @ frame.T

    def apart(self, count: int, side: float) -> list[int]:
        """Shapes that stand at least `side` of the board's half from each other; `count` at most."""
        chosen: list[int] = []
        for one in spread_out(self.places, count).tolist():  # each is nearer to the others than the one before
            if chosen and np.linalg.norm(self.places[chosen] - self.places[one], axis=1).min() * self.scale < side:
                break
            chosen.append(one)
        return chosen


def met(points: np.ndarray, origin: Sequence[float], way: Sequence[float]) -> int:
    """Which of points (n, 3) a ray passes nearest to."""
    towards = np.asarray(way, float) / np.linalg.norm(way)
    off = points - np.asarray(origin, float)
    return int(np.linalg.norm(off - np.outer(off @ towards, towards), axis=1).argmin())


def tables(experiment: Experiment, entries: Sequence[Entry]) -> list[str]:
    """What shapes can be coloured by of the csv files in an experiment's folder: "FILE.csv:COLUMN".

    Files are relative to that folder, and name some of the shapes in their first column; a column differs among those.
    """
    shapes = [entry.shape for entry in entries if entry.shape is not None]
    known = {name for s in shapes for name in (str(s), f"{s.category}/{s.instance}", s.instance)}
    found: list[str] = []
    for path in sorted(experiment.root.rglob("*.csv"))[:TABLES]:
        try:
            if path.stat().st_size > LARGEST:
                continue
            with path.open(newline="", encoding="utf-8") as file:
                header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file)] or [[]]
        except (OSError, UnicodeDecodeError, csv.Error):
            continue
        rows = [row for row in rows if row and row[0] in known]
        for at, column in enumerate(header[1 : 1 + COLUMNS], start=1):
            if column and len({row[at] for row in rows if len(row) > at and row[at]}) > 1:
                found.append(f"{path.relative_to(experiment.root).as_posix()}:{column}")
    return found


def coloured(experiment: Experiment, entries: Sequence[Entry], by: str, checkpoint: str | int) -> Colouring:
    """By "class", "set", "error", or one of `tables`. Raises InputError: as `latent_map.colouring`."""
    if by == "set":
        return Colouring("set", [entry.kind for entry in entries])
    nobody = ShapeName("", "", "")
    named = [explore.KnownShape(entry.shape or nobody, None, True) for entry in entries]  # pyright: ignore[reportArgumentType]
    if ".csv:" in by:
        by = str(experiment.root / by)
    return colouring(experiment, named, by, checkpoint)
