"""How sure the signs of a shape's samples are: a record of each shape, in DATA/preprocess.csv."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from deepsdf.errors import MeshError
from deepsdf.files import csv_text, locked, write_text
from deepsdf.geometry.repair.visibility import face_normals
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.splits import ShapeName

FEW_INSIDE = 0.01
"""A solid shape has more of its samples inside than this; thinner ones are sheets that look closed."""

SHEETS = 0.02
"""Share of the faces that may enclose nothing before that is worth a word."""

CAPS = 0.03
"""Share of the surface that caps on holes may be before that is worth a word."""

UNSURE, HOPELESS = 0.01, 0.2
"""Shares of samples on which two methods disagree: worth a word; no inside at all."""

CHECKED = 10_000
"""Samples that both methods sign."""

_FLUSH = 5.0  # seconds


class Quality(NamedTuple):
    """One row of preprocess.csv.

    Attributes:
        verdict: "ok"; "doubtful": signs may be wrong somewhere; "rejected": no samples were written.
        reason: the verdict in words.
        uncertain: share of the samples whose sign a second method contradicts (see `MeshSDF.uncertain`).
        inside: share of the samples.
        closed: the mesh bounds a solid without any hole, so the sign is exact.
        faces: of the outer surface, after repair.
        dropped: faces that were degenerate, doubled or buried inside.
        flipped: faces that were turned outward.
        sheets: faces of open parts that enclose nothing.
        holes, capped: boundary loops, and how many of them could be closed.
        caps: share of the closed surface's area.
        seconds: of work.
    """

    shape: str
    verdict: Literal["ok", "doubtful", "rejected"]
    reason: str
    uncertain: float = 0.0
    inside: float = 0.0
    closed: bool = False
    faces: int = 0
    dropped: int = 0
    flipped: int = 0
    sheets: int = 0
    holes: int = 0
    capped: int = 0
    caps: float = 0.0
    seconds: float = 0.0


VERDICTS = ("rejected", "doubtful", "ok")
"""Worst first."""

_KINDS: tuple[Callable[[str], Any], ...] = (
    str, {verdict: verdict for verdict in VERDICTS}.__getitem__, str, float, float,
    {"True": True, "False": False}.__getitem__, int, int, int, int, int, int, float, float,
)  # fmt: skip


def assess(shape: ShapeName, field: MeshSDF, samples: SDFSamples) -> Quality:
    """The verdict on a shape's samples.

    Raises:
        MeshError: nothing lies inside, or nothing outside, or the signs are a matter of chance: such samples teach
            nothing, or what is wrong.
    """
    mesh = field.oriented
    if not len(samples.neg) or not len(samples.pos):
        raise MeshError(_one_sided(field, "inside" if not len(samples.neg) else "outside"))
    points = np.random.default_rng(0).permutation(samples.points)[:CHECKED]
    uncertain = float(field.uncertain(points).mean())
    if uncertain > HOPELESS and field.sign == "auto" and not field.thicken:
        raise MeshError(
            f"inside and outside are a matter of chance for {uncertain:.0%} of the samples: these faces enclose "
            f"nothing; --thicken makes plates of them, or choose a --sign yourself"
        )
    area = face_normals(mesh.vertices.astype(np.float64), mesh.shell_faces)[1]
    caps = float(area[mesh.shell_own :].sum() / max(area.sum(), 1e-12))
    inside = len(samples.neg) / len(samples)
    doubts = _doubts(field, uncertain, caps, inside)
    repaired = f"closed after capping {mesh.capped} holes" if mesh.capped else "closed"
    return Quality(
        str(shape),
        "doubtful" if doubts else "ok",
        "; ".join(doubts) or repaired,
        uncertain=round(uncertain, 4),
        inside=round(inside, 4),
        closed=mesh.closed,
        faces=len(mesh.faces),
        dropped=mesh.dropped,
        flipped=mesh.flipped,
        sheets=mesh.sheets,
        holes=mesh.holes,
        capped=mesh.capped,
        caps=round(caps, 4),
    )


def _one_sided(field: MeshSDF, side: str) -> str:
    if side == "inside" and field.sign == "auto" and not field.thicken:
        return (
            "no sample lies inside: the faces are open sheets, which have no inside to learn; --thicken 0.02 makes "
            "plates of that half thickness (unit frame) of them"
        )
    return f"no sample lies {side}; with --sign {field.sign} there is nothing to learn"


def _doubts(field: MeshSDF, uncertain: float, caps: float, inside: float) -> list[str]:
    mesh = field.oriented
    open_loops = mesh.holes - mesh.capped
    doubts = []
    if uncertain > UNSURE:
        doubts.append(f"the signs of {uncertain:.1%} of the samples are uncertain")
    if open_loops > 0:
        doubts.append(f"{open_loops} holes are too large to close; the winding number decides there")
    if not mesh.closed and not mesh.holes and not mesh.sheets:
        doubts.append("the mesh has open edges, and its signs rest on --sign alone")
    if caps > CAPS:
        doubts.append(f"{caps:.0%} of the surface are caps on {mesh.capped} holes, a guess")
    if mesh.sheets > SHEETS * len(mesh.faces) and not field.thicken:
        doubts.append(
            f"{mesh.sheets} of {len(mesh.faces)} faces are open sheets, which enclose nothing and vanish; "
            f"--thicken keeps them"
        )
    if inside < FEW_INSIDE:
        doubts.append(f"only {inside:.2%} of the samples lie inside")
    return doubts


class QualityFile:
    """preprocess.csv, amended as shapes are done; rows of other shapes, and of other runs, stay."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: dict[str, list[str]] = {}
        self._written = time.monotonic()

    def add(self, quality: Quality) -> None:
        """Note a row; written within seconds, and by `flush`."""
        self._waiting[quality.shape] = [str(value) for value in quality]
        if time.monotonic() - self._written > _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what is not yet in the file, rows sorted by shape."""
        if self._waiting:
            with locked(self.path.parent):
                rows = self._rows() | self._waiting
                write_text(self.path, csv_text([Quality._fields, *(rows[shape] for shape in sorted(rows))]))
        self._waiting = {}
        self._written = time.monotonic()

    def read(self) -> dict[str, Quality]:
        """The records in the file by shape; rows that are none are left out."""
        found = {}
        for shape, row in self._rows().items():
            with suppress(ValueError, KeyError):
                found[shape] = Quality(*(kind(text) for kind, text in zip(_KINDS, row, strict=True)))
        return found

    def _rows(self) -> dict[str, list[str]]:
        """Rows by shape; none where the file is not there, or of another form and so not ours to keep up."""
        if not self.path.is_file():
            return {}
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                header, *rows = [*csv.reader(file)] or [[]]
        except (UnicodeDecodeError, csv.Error):
            return {}
        width = len(Quality._fields)
        return {row[0]: row for row in rows if len(row) == width} if header == list(Quality._fields) else {}
