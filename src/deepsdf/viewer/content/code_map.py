"""Two-dimensional map of the codes. Independent of the page."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from deepsdf.errors import DeepSDFError, InputError
from deepsdf.figures.latent_map import Colouring, colouring, principal_plane, spread_out, variance_shares
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import KnownShape
from deepsdf.splits import ShapeName
from deepsdf.viewer.content.catalogue import MAX_TABLE_BYTES, RECONSTRUCTED, TRAINING, Catalogue, Entry
from deepsdf.workspace import Experiment

BOARD_HALF_SIZE = 0.85
"""Half the side length of the board, unit frame: slightly smaller than a shape, so that both fit into the window."""

BOARD_CENTRE = np.array([-1.95, -0.02, -0.3])
"""Centre of the board (right, up, towards the visitor), unit frame: the board ends left of the unit sphere."""

MAX_TABLES, MAX_COLUMNS = 20, 40
"""Limits of the .csv files and columns offered for colours, so that the menu stays usable."""


@dataclass(frozen=True)
class CodeMap:
    """Positions of the catalogue's codes in the plane of largest variance.

    The plane is that of `deepsdf map`: it is computed from the training codes and the codes of reconstructed shapes
    that are not training shapes. Other shapes are projected onto it, so that adding one does not move the others.

    Attributes:
        mean, directions: (L,) and (2, L), the plane.
        positions: (n, 2), in units of the codes.
        shares: (2,), share of the variance along each axis.
        centre, scale: map positions to the square from -1 to 1: `(position - centre) * scale`.
    """

    entries: list[Entry]
    codes: list[Tensor]
    mean: np.ndarray
    directions: np.ndarray
    positions: np.ndarray
    shares: np.ndarray
    centre: np.ndarray
    scale: float

    @classmethod
    def of(cls, catalogue: Catalogue, space: ShapeSpace) -> CodeMap:
        """The map of all entries whose codes can be read. Raises InputError if fewer than 3 codes define the plane."""
        entries, codes = [], []
        for kind in catalogue.kinds():
            for entry in list(catalogue.entries[kind].values()):
                try:
                    codes.append(entry.code(space))
                    entries.append(entry)
                except (DeepSDFError, OSError):  # from another checkpoint, or the file is missing
                    continue
        rows = np.array([code.double().cpu().numpy() for code in codes])
        trained = {entry.shape for entry in entries if entry.kind == TRAINING}
        defining = [
            entry.kind == TRAINING or (entry.kind == RECONSTRUCTED and entry.shape not in trained) for entry in entries
        ]
        if sum(defining) < 3 or rows.shape[1] < 2:
            raise InputError(f"{sum(defining)} codes cannot be mapped; expected at least 3, of length 2 or more")
        mean, directions = principal_plane(rows[defining])
        positions = (rows - mean) @ directions.T
        low, high = positions.min(axis=0), positions.max(axis=0)
        scale = 2.0 / max(float((high - low).max()), 1e-12)
        return cls(
            entries, codes, mean, directions, positions, variance_shares(rows[defining]), (low + high) / 2, scale
        )  # fmt: skip

    def project(self, code: Tensor) -> np.ndarray:
        """Position (2,) of a code (L,)."""
        return self.directions @ (code.double().cpu().numpy() - self.mean)

    def on_board(self, positions: np.ndarray, frame: np.ndarray, offset: float = 0.0) -> np.ndarray:
        """Scene points (n, 3) of positions (n, 2) on the board.

        Args:
            frame: (3, 3), see `upright`.
            offset: distance in front of the board, towards the visitor.
        """
        flat = BOARD_HALF_SIZE * self.scale * (np.atleast_2d(positions) - self.centre)
        return (np.column_stack([flat, np.full(len(flat), offset)]) + BOARD_CENTRE) @ frame.T

    def spread(self, count: int, distance: float) -> list[int]:
        """At most `count` entries that are at least `distance` apart (in the square from -1 to 1)."""
        chosen: list[int] = []
        for row in spread_out(self.positions, count).tolist():  # in descending order of distance to earlier ones
            gaps = np.linalg.norm(self.positions[chosen] - self.positions[row], axis=1)
            if chosen and gaps.min() * self.scale < distance:
                break
            chosen.append(row)
        return chosen


def nearest_to_ray(points: np.ndarray, origin: Sequence[float], direction: Sequence[float]) -> int:
    """Row of the point (n, 3) that is nearest to a ray."""
    unit = np.asarray(direction, float) / np.linalg.norm(direction)
    offsets = points - np.asarray(origin, float)
    return int(np.linalg.norm(offsets - np.outer(offsets @ unit, unit), axis=1).argmin())


def colour_columns(experiment: Experiment, entries: Sequence[Entry]) -> list[str]:
    """Columns of the .csv files below an experiment's folder that shapes can be coloured by, as "FILE.csv:COLUMN".

    The first column of such a file contains names of shapes, and the values of a column differ between shapes.
    """
    shapes = [entry.shape for entry in entries if entry.shape is not None]
    known = {name for s in shapes for name in (str(s), f"{s.category}/{s.instance}", s.instance)}
    found: list[str] = []
    for path in sorted(experiment.root.rglob("*.csv"))[:MAX_TABLES]:
        try:
            if path.stat().st_size > MAX_TABLE_BYTES:
                continue
            with path.open(newline="", encoding="utf-8") as file:
                header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file)] or [[]]
        except (OSError, UnicodeDecodeError, csv.Error):
            continue
        rows = [row for row in rows if row and row[0] in known]
        for at, column in enumerate(header[1 : 1 + MAX_COLUMNS], start=1):
            if column and len({row[at] for row in rows if len(row) > at and row[at]}) > 1:
                found.append(f"{path.relative_to(experiment.root).as_posix()}:{column}")
    return found


def map_colours(experiment: Experiment, entries: Sequence[Entry], by: str, checkpoint: str | int) -> Colouring:
    """Colours by "class", "set" (the kind of entry), "error", or one of `colour_columns`.

    Raises:
        InputError: as `latent_map.colouring`.
    """
    if by == "set":
        return Colouring("set", [entry.kind for entry in entries])
    unnamed = ShapeName("", "", "")
    named = [KnownShape(entry.shape or unnamed, None, True) for entry in entries]  # pyright: ignore[reportArgumentType]
    if ".csv:" in by:
        by = str(experiment.root / by)
    return colouring(experiment, named, by, checkpoint)
