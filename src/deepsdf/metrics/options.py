"""Options of surface metrics, in a module that imports quickly."""

from __future__ import annotations

from dataclasses import dataclass

from deepsdf.options import Options, option, seed_option

PAPER_POINTS = 30_000
"""Surface points of the chamfer distance in the paper and in its code."""

EXACT_EMD_POINTS = 2_000
"""Points up to which the earth mover's distance is exact: about a second on one core, growing with the cube."""


@dataclass(frozen=True)
class MetricOptions(Options):
    """Options of `deepsdf.compare`."""

    points: int = option(
        PAPER_POINTS, "Points drawn from each mesh, uniformly by area (30 000 in the paper).", minimum=1
    )
    emd_points: int = option(
        500,
        "Points of the earth mover's distance, at most the number of points (500 in the paper); "
        f"approximate above {EXACT_EMD_POINTS}; 0 omits it.",
        minimum=0,
    )
    volume_points: int = option(
        PAPER_POINTS,
        "Sample points of the volumetric IoU; 0 omits it. The default has a standard error of about 0.002 for thin "
        "shapes and 0.0005 for a ball.",
        minimum=0,
    )
    completion_delta: float = option(
        0.01, "Distance threshold of the mesh completion, in the surfaces' frame (0.01 in the paper).", minimum=0.0
    )
    f_score_side: float | None = option(
        None,
        "Length to which the percentages of the F-scores refer.",
        above=0.0,
        default_text="longest side of the reference's bounding box",
    )
    seed: int = seed_option()
