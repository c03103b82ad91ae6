"""How sure the signs of a shape's samples are: a record of each shape, in DATA/preprocess.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from deepsdf.files import write_text
from deepsdf.geometry.orientation import OrientedMesh
from deepsdf.geometry.sampling import SDFSamples
from deepsdf.splits import ShapeName

FEW_INSIDE = 0.01
"""A solid shape has more of its samples inside than this; thinner ones are sheets that look closed."""

SHEETS = 0.02
"""Share of the faces that may enclose nothing before that is worth a word."""


class Quality(NamedTuple):
    """One row of preprocess.csv.

    Attributes:
        verdict: "ok"; "doubtful": signs may be wrong somewhere; "rejected": no samples were written.
        reason: the verdict in words.
        faces: of the outer surface, after repair.
        closed: the mesh bounds a solid without any hole, so the sign is exact.
        dropped: faces that were degenerate, doubled or buried inside.
        flipped: faces that were turned outward.
        sheets: faces of open parts that enclose nothing.
        holes, capped: boundary loops, and how many of them could be closed.
        inside: share of the samples.
        seconds: of work.
    """

    shape: str
    verdict: Literal["ok", "doubtful", "rejected"]
    reason: str
    faces: int = 0
    closed: bool = False
    dropped: int = 0
    flipped: int = 0
    sheets: int = 0
    holes: int = 0
    capped: int = 0
    inside: float = 0.0
    seconds: float = 0.0


def assess(shape: ShapeName, mesh: OrientedMesh, samples: SDFSamples, seconds: float) -> Quality:
    """The verdict on a shape whose samples were written."""
    inside = len(samples.neg) / max(1, len(samples))
    open_loops = mesh.holes - mesh.capped
    doubts = []
    if open_loops > 0:
        doubts.append(f"{open_loops} holes are too large to close; the winding number decides there")
    if not mesh.closed and not mesh.holes and not mesh.sheets:
        doubts.append("the mesh has open edges, and its signs rest on --sign alone")
    if mesh.sheets > SHEETS * len(mesh.faces):
        doubts.append(f"{mesh.sheets} of {len(mesh.faces)} faces are open sheets, which enclose nothing")
    if inside < FEW_INSIDE:
        doubts.append(f"only {inside:.2%} of the samples lie inside")
    repaired = f"closed after capping {mesh.capped} holes" if mesh.capped else "closed"
    return Quality(
        str(shape),
        "doubtful" if doubts else "ok",
        "; ".join(doubts) or repaired,
        faces=len(mesh.faces),
        closed=mesh.closed,
        dropped=mesh.dropped,
        flipped=mesh.flipped,
        sheets=mesh.sheets,
        holes=mesh.holes,
        capped=mesh.capped,
        inside=round(inside, 4),
        seconds=round(seconds, 3),
    )


def write_qualities(path: Path, qualities: Sequence[Quality]) -> None:
    """Write rows, sorted by shape; rows of other shapes that are there stay."""
    rows = _read(path) | {quality.shape: [str(value) for value in quality] for quality in qualities}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Quality._fields)
    writer.writerows(rows[shape] for shape in sorted(rows))
    write_text(path, text.getvalue())


def _read(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = [*csv.reader(file)] or [[]]
    except (UnicodeDecodeError, csv.Error):
        return {}
    # A file of another form is not ours to keep up.
    return {row[0]: row for row in rows if row} if header == list(Quality._fields) else {}
