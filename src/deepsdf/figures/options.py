"""Options of figures, in a module that imports quickly."""

from __future__ import annotations

from dataclasses import dataclass

from deepsdf.options import Options, option


@dataclass(frozen=True)
class ReportOptions(Options):
    """Options of `deepsdf report`."""

    max_mb: float = option(
        30.0, "Maximum size of the page in MB. Pictures and meshes are reduced until it fits.", above=0.0
    )
    faces: int = option(12_000, "Maximum number of faces of each mesh in the 3D view; 0 omits the 3D view.", minimum=0)
    error_max: float | None = option(
        None,
        "Upper end of the error colours (unit frame).",
        above=0.0,
        default_text="error that nine tenths of the shapes stay below",
    )
