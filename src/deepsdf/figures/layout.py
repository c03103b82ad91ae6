"""Subjects side by side in one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from deepsdf.errors import InputError
from deepsdf.figures.pictures import FRAME
from deepsdf.figures.subjects import Subject
from deepsdf.rendering.render import CLAY, WHITE, Axis, Colour, grid_image, render_mesh, render_points, slice_image
from deepsdf.rendering.sheet import blank

Plane = tuple[Axis, float]

COLUMNS = 5
"""Shapes in a row."""

CLAMP = 0.1
"""Distance at which a slice's colours end, unit frame."""


@dataclass(frozen=True)
class View:
    """How every shape is looked at; see `render_mesh`. `bound` None fits each shape that is not of the unit frame."""

    size: int = 512
    azimuth: float = 35.0
    elevation: float = 20.0
    up: Axis = "y"
    color: Colour = CLAY
    bound: float | None = None
    ground: bool = True
    background: Colour | None = WHITE
    device: str = "auto"


@dataclass(frozen=True)
class Style:
    """All but the shapes: the view, a plane and error colours where they are wanted, and their legends."""

    view: View
    plane: Plane | None = None
    colours: Callable[[np.ndarray], np.ndarray] | None = None  # of points (n, 3) of the surface
    bars: tuple[np.ndarray, ...] = ()
    columns: int = COLUMNS


def sections_of(subjects: Sequence[Subject], style: Style) -> list[np.ndarray]:
    """The plane's picture of each subject; none where no plane is wanted."""
    if style.plane is None:
        return []
    (axis, offset), view = style.plane, style.view
    found = []
    for subject in subjects:
        if subject.field is None:
            raise InputError(f"{subject.name} is a point cloud, which has no inside to slice; give its mesh or samples")
        bound = FRAME if view.bound is None else view.bound
        found.append(slice_image(subject.field(), axis=axis, offset=offset, bound=bound, size=view.size, clamp=CLAMP))
    return found


def sheet(subjects: Sequence[Subject], sections: Sequence[np.ndarray], style: Style) -> np.ndarray:
    """Shapes side by side with their names, the plane's picture under each, legends at the right."""
    background = style.view.background
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
    """With paper at its right."""
    wide = np.array(blank(width, len(picture), background))
    wide[:, : picture.shape[1]] = picture
    return wide


def _drawn(subject: Subject, style: Style) -> np.ndarray:
    view = style.view
    options: dict[str, Any] = asdict(view)
    if view.bound is None and subject.unit:
        options["bound"] = FRAME
    if subject.mesh is not None:
        return render_mesh(subject.mesh, surface_colors=style.colours, cut=style.plane, **options)
    if subject.points is not None:
        del options["device"]
        return render_points(subject.points, **options)
    return np.array(blank(view.size, view.size, view.background))
