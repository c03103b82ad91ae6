"""Verdicts on the signs of a shape's samples, recorded in DATA/preprocess.csv."""

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

# Thresholds of the verdicts; docs/measurements/signs.md lists the verdicts that they give on real meshes.

MIN_INSIDE = 0.01
"""Smallest share of samples inside. Samples are drawn close to the surface, so about half of them are inside a solid;
shapes with fewer are sheets that only appear closed."""

MAX_SHEETS = 0.02
"""Largest share of faces in open surfaces with no interior, which have no samples inside."""

MAX_CAPS = 0.03
"""Largest share of the surface area in caps over holes, whose shape is a guess."""

MAX_UNCERTAIN, REJECTED_UNCERTAIN = 0.01, 0.2
"""Shares of samples on whose sign two methods disagree above which a shape is doubtful, and above which it is rejected.
Two independent random signs would disagree on half of the samples."""

CHECKED_SAMPLES = 10_000
"""Samples that both methods sign: the standard error of a share of 1 % is then 0.1 %."""

_FLUSH_INTERVAL = 5.0  # seconds between writes of the table, each of which copies all of its rows


class Quality(NamedTuple):
    """One row of preprocess.csv.

    Attributes:
        shape: name of the shape.
        verdict: "ok"; "doubtful": some signs may be wrong; "rejected": no samples were written.
        reason: explanation of the verdict.
        uncertain: share of the samples on whose sign two methods disagree (see `MeshSDF.uncertain`).
        inside: share of the samples that are inside.
        closed: the mesh bounds a solid without holes, so signs are exact.
        faces: number of faces of the outer surface, after repair.
        dropped: number of removed faces: degenerate, duplicate, or buried inside.
        flipped: number of faces that were turned outward.
        sheets: number of faces in open surfaces with no interior.
        holes, capped: number of boundary loops, and of those that were closed.
        caps: share of the surface area in caps over holes.
        seconds: duration.
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
"""From worst to best."""

_KINDS: tuple[Callable[[str], Any], ...] = (
    str, {verdict: verdict for verdict in VERDICTS}.__getitem__, str, float, float,
    {"True": True, "False": False}.__getitem__, int, int, int, int, int, int, float, float,
)  # fmt: skip


def assess(shape: ShapeName, field: MeshSDF, samples: SDFSamples) -> Quality:
    """The verdict on a shape's samples.

    Raises:
        MeshError: no sample is inside, none is outside, or signs are arbitrary. No shape can be learned from these.
    """
    mesh = field.oriented
    if not len(samples.neg) or not len(samples.pos):
        raise MeshError(_one_sided(field, "inside" if not len(samples.neg) else "outside"))
    points = np.random.default_rng(0).permutation(samples.points)[:CHECKED_SAMPLES]
    uncertain = float(field.uncertain(points).mean())
    if uncertain > REJECTED_UNCERTAIN and field.sign == "auto" and not field.thicken:
        raise MeshError(
            f"the sign is arbitrary for {uncertain:.0%} of the samples: the faces do not enclose a volume; pass "
            "--thicken 0.02 to give them a thickness, or choose a --sign"
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
            "no sample is inside: the faces form open surfaces with no interior; pass --thicken 0.02 to turn them "
            "into plates of that half thickness (unit frame)"
        )
    return f"no sample is {side} with --sign {field.sign}, so there is no surface to learn"


def _doubts(field: MeshSDF, uncertain: float, caps: float, inside: float) -> list[str]:
    mesh = field.oriented
    open_loops = mesh.holes - mesh.capped
    doubts = []
    if uncertain > MAX_UNCERTAIN:
        doubts.append(f"the signs of {uncertain:.1%} of the samples are uncertain")
    if open_loops > 0:
        doubts.append(f"{open_loops} holes are too large to close; signs there follow the winding number")
    if not mesh.closed and not mesh.holes and not mesh.sheets:
        doubts.append("the mesh has open edges, where signs depend on --sign")
    if caps > MAX_CAPS:
        doubts.append(f"{caps:.0%} of the surface is caps that close {mesh.capped} holes")
    if mesh.sheets > MAX_SHEETS * len(mesh.faces) and not field.thicken:
        doubts.append(
            f"{mesh.sheets} of {len(mesh.faces)} faces form open surfaces with no interior; they are lost unless you "
            "pass --thicken"
        )
    if inside < MIN_INSIDE:
        doubts.append(f"only {inside:.2%} of the samples are inside")
    return doubts


class QualityFile:
    """The table preprocess.csv, updated while shapes are processed. Rows of other shapes and runs are kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: dict[str, list[str]] = {}
        self._written = time.monotonic()

    def add(self, quality: Quality) -> None:
        """Add or replace the row of a shape. It is written within a few seconds, or by `flush`."""
        self._waiting[quality.shape] = [str(value) for value in quality]
        if time.monotonic() - self._written > _FLUSH_INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Write pending rows. The table is sorted by shape."""
        if self._waiting:
            with locked(self.path.parent):
                rows = self._rows() | self._waiting
                write_text(self.path, csv_text([Quality._fields, *(rows[shape] for shape in sorted(rows))]))
        self._waiting = {}
        self._written = time.monotonic()

    def read(self) -> dict[str, Quality]:
        """Rows of the file by shape; malformed rows are left out."""
        found = {}
        for shape, row in self._rows().items():
            with suppress(ValueError, KeyError):
                found[shape] = Quality(*(kind(text) for kind, text in zip(_KINDS, row, strict=True)))
        return found

    def _rows(self) -> dict[str, list[str]]:
        """Cells of the rows by shape; empty if the file is missing or has other columns."""
        if not self.path.is_file():
            return {}
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                header, *rows = [*csv.reader(file)] or [[]]
        except (UnicodeDecodeError, csv.Error):
            return {}
        width = len(Quality._fields)
        return {row[0]: row for row in rows if len(row) == width} if header == list(Quality._fields) else {}
