"""Shapes side by side in one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from deepsdf.errors import InputError
from deepsdf.figures.pictures import FRAME
from deepsdf.figures.subjects import Subject
from deepsdf.rendering.camera import Axis, Colour, PictureOptions
from deepsdf.rendering.colours import slice_image
from deepsdf.rendering.render import render_mesh, render_points
from deepsdf.rendering.sheet import blank, grid_image

Plane = tuple[Axis, float]

CLAMP = 0.1
"""Distance at which the colours of a slice end, unit frame: the paper's clamping distance δ."""


@dataclass(frozen=True)
class Style:
    """Everything about a picture of several shapes except the shapes.

    Attributes:
        picture: of every shape. Shapes of the unit frame are framed by the unit sphere where `picture.bound` is None.
        device: on which meshes are drawn.
        plane: draw the signed distance on this plane too, and its line on meshes; None: no slice.
        colours: maps surface points (n, 3) to colours (n, 3); None: `picture.color`.
        bars: legends, drawn on the right.
        columns: shapes per row.
    """

    picture: PictureOptions
    device: str = "auto"
    plane: Plane | None = None
    colours: Callable[[np.ndarray], np.ndarray] | None = None
    bars: tuple[np.ndarray, ...] = ()
    columns: int = 5


def sections_of(subjects: Sequence[Subject], style: Style) -> list[np.ndarray]:
    """The slice of each subject; empty without a plane.

    Raises:
        InputError: a subject is a point cloud.
    """
    if style.plane is None:
        return []
    (axis, offset), picture = style.plane, style.picture
    found = []
    for subject in subjects:
        if subject.field is None:
            raise InputError(
                f"cannot slice the point cloud {subject.name}; expected a mesh or SDF samples, which have an inside"
            )
        bound = FRAME if picture.bound is None else picture.bound
        found.append(
            slice_image(subject.field(), axis=axis, offset=offset, bound=bound, size=picture.size, clamp=CLAMP)
        )
    return found


def sheet(subjects: Sequence[Subject], sections: Sequence[np.ndarray], style: Style) -> np.ndarray:
    """Shapes side by side with their names, the slice under each, legends on the right."""
    background = style.picture.background
    grid = partial(grid_image, background=background)
    pictures = [_drawn(subject, style) for subject in subjects]
    if len(subjects) == 1 and not sections:
        return np.hstack([*pictures, *style.bars])
    caption = "" if style.plane is None else "{} = {:g}".format(*style.plane).replace("-", "−")
    if len(subjects) == 1:
        labels = [subjects[0].name, caption, *[""] * len(style.bars)]
        return grid([[*pictures, *sections, *style.bars]], column_labels=labels)
    rows = []
    for start in range(0, len(subjects), style.columns):
        few = slice(start, start + style.columns)
        names = [subject.name for subject in subjects[few]]
        lines = [pictures[few], sections[few]] if sections else [pictures[few]]
        labels, side = names if any(names) else None, ["", caption] if sections else None
        rows.append(grid(lines, column_labels=labels, row_labels=side, pad=4))
    width = max(row.shape[1] for row in rows)
    rows = [_widened(row, width, background) for row in rows]
    return grid([[np.vstack(rows), *style.bars]])


def _widened(picture: np.ndarray, width: int, background: Colour | None) -> np.ndarray:
    """Pad a picture with background on the right."""
    wide = np.array(blank(width, len(picture), background))
    wide[:, : picture.shape[1]] = picture
    return wide


def _drawn(subject: Subject, style: Style) -> np.ndarray:
    picture = style.picture
    if picture.bound is None and subject.unit:
        picture = replace(picture, bound=FRAME)
    if subject.mesh is not None:
        return render_mesh(subject.mesh, picture, surface_colors=style.colours, cut=style.plane, device=style.device)
    if subject.points is not None:
        return render_points(subject.points, picture)
    return np.array(blank(picture.size, picture.size, picture.background))
