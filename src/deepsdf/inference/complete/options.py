"""How a scan is completed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from deepsdf.options import Options, option, seed_option

Pose = Literal["none", "yaw", "rigid", "similarity"]
Axis = Literal["x", "y", "z"]


@dataclass(frozen=True)
class CompletionOptions(Options):
    """Options of `ShapeSpace.complete` and `deepsdf complete`."""

    pose: Pose = option(
        "none",
        "Quantities to estimate besides the code. 'none': the scan is in the unit frame. 'yaw': rotation about the up "
        "axis and translation. 'rigid': any rotation and translation. 'similarity': rotation, translation and scale.",
        choices=get_args(Pose),
    )
    up: Axis = option("y", "Up axis, in the scan and in the unit frame.", choices=("x", "y", "z"))
    any_way_up: bool = option(False, "Search all orientations, not only rotations about the up axis (slower).")
    eta: float = option(
        0.01, "Offset along the normals at which signed distances are imposed (unit frame).", above=0.0, maximum=0.2
    )
    noise: float | None = option(
        None,
        "Standard deviation of the noise of the scan's points, in the scan's units.",
        minimum=0.0,
        default_text="estimated from the residuals",
    )
    free_space: float = option(
        1.0, "Weight of points observed to be empty, relative to surface points; 0 ignores them.", minimum=0.0
    )
    points: int = option(500, "Number of scan points used by the fit.", minimum=20)
    seed: int = seed_option()
