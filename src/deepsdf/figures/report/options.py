"""Options of a report."""

from __future__ import annotations

from dataclasses import dataclass

from deepsdf.options import Options, option


@dataclass(frozen=True)
class ReportOptions(Options):
    """Options of `report`."""

    max_mb: float = option(
        30.0, "Largest size of the page in MB; meshes and pictures are made smaller to fit.", above=0.0, flag="--max-mb"
    )
    faces: int = option(
        12_000, "Approximate number of faces of each mesh in the 3D view, at most; 0: no 3D view.", minimum=0
    )
    error_max: float | None = option(
        None,
        "End of the error colour scale (unit frame).",
        above=0.0,
        default_text="the error that nine tenths of the shapes stay below",
        flag="--error-max",
    )
