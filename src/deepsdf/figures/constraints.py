"""Picture of a shape and the constraints that it was edited with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh

from deepsdf.figures.pictures import FRAME
from deepsdf.inference.edit.constraints import Constraint, Region, Through
from deepsdf.rendering.camera import CLAY, Colour, PictureOptions
from deepsdf.rendering.render import render_mesh

POINT, EMPTY, FULL = (214, 39, 40), (224, 130, 20), (44, 140, 60)
"""Colours of points on the surface, of empty boxes and of filled boxes."""

SIZE = 360  # pixels
BALL, BAR = 0.018, 0.006
"""Radii (unit frame) of the balls and bars that mark points and boxes: about 3 pixels and 1 pixel."""


def constraints_picture(mesh: trimesh.Trimesh, constraints: Sequence[Constraint]) -> np.ndarray:
    """A shape (unit frame) with points drawn as balls and boxes as frames."""
    parts, colours = [mesh], [CLAY]
    for one in constraints:
        if isinstance(one, Through):
            ball = trimesh.creation.icosphere(2, radius=BALL)
            parts.append(ball.apply_translation(one.point))
            colours.append(POINT)
        elif isinstance(one, Region):
            parts.append(_frame(one))
            colours.append(EMPTY if one.kind == "empty" else FULL)
    return _rendered(parts, colours)


def _rendered(parts: Sequence[trimesh.Trimesh], colours: Sequence[Colour]) -> np.ndarray:
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    whole = trimesh.Trimesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([np.asarray(part.faces) + offset for part, offset in zip(parts, offsets, strict=False)]),
        process=False,
    )
    painted = np.repeat(np.array(colours, np.uint8), [len(part.vertices) for part in parts], axis=0)
    return render_mesh(whole, PictureOptions(size=SIZE, bound=FRAME), vertex_colors=painted)


def _frame(box: Region) -> trimesh.Trimesh:
    """The twelve edges of a box as bars."""
    corners = np.array([box.low, box.high])
    bars = []
    for axis in range(3):
        for first in range(2):
            for second in range(2):
                a = np.empty(3)
                a[axis], a[(axis + 1) % 3], a[(axis + 2) % 3] = (
                    corners[0, axis],
                    corners[first, (axis + 1) % 3],
                    corners[second, (axis + 2) % 3],
                )
                b = a.copy()
                b[axis] = corners[1, axis]
                bars.append(trimesh.creation.cylinder(BAR, segment=np.stack([a, b]), sections=8))
    return trimesh.util.concatenate(bars)  # pyright: ignore[reportReturnType]
