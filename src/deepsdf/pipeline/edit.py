"""A shape edited by constraints: mesh, code, and a picture of before and after."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import trimesh

from deepsdf.checkpoints import save_code
from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.figures.pictures import FRAME
from deepsdf.files import check_folder
from deepsdf.geometry.formats import written_suffixes
from deepsdf.geometry.meshes import save_mesh
from deepsdf.geometry.point_clouds import load_points
from deepsdf.inference.edit.constraints import AXES, Box, Constraint, Size, Through, check, extent
from deepsdf.inference.edit.editing import Edit
from deepsdf.inference.encode import EncodeOptions
from deepsdf.inference.space import Shape, ShapeSpace
from deepsdf.library.names import find_or_encode
from deepsdf.rendering.camera import CLAY, Colour, PictureOptions
from deepsdf.rendering.render import grid_image, render_mesh, save_image
from deepsdf.workspace import Experiment

POINT, EMPTY, FULL = (214, 39, 40), (224, 130, 20), (44, 140, 60)
"""Colours of constraints in the picture."""

BALL, BAR, SIZE = 0.018, 0.006, 360

MOST_POINTS = 500
"""Of a file of points to pass through."""

Wish = Constraint | Callable[[Shape], Constraint]
"""A constraint, or one that depends on the shape it starts from."""


def edit(
    experiment: Experiment,
    name: str,
    wishes: Sequence[Wish],
    out: str | os.PathLike[str],
    *,
    checkpoint: str | int = "latest",
    resolution: int = 128,
    anyway: bool = False,
    picture: bool = True,
    device: str = "auto",
    seed: int = 0,
) -> Edit:
    """Change a shape so that it keeps constraints; see `inference.editing`.

    Writes `out`, the new shape's mesh (unit frame), and beside it its code (.pth) and a picture of before and after
    (.png). Where the result is in doubt, mesh and code are written only `anyway`; the picture always is.

    Args:
        name: see `library.names.find_or_encode`.
        seed: of the fit of a file.
    Raises:
        InputError: no such shape, or constraints that cannot be.
        NoSurfaceError: the shape has none, before or after.
    """
    out = Path(out)
    if out.suffix.lower() not in written_suffixes():
        raise InputError(f"{out}: the edited mesh is written there; end the name in {', '.join(written_suffixes())}")
    check_folder(out.parent)
    space = ShapeSpace.load(experiment, checkpoint, device)
    start = space.shape(find_or_encode(experiment, space, name, EncodeOptions(seed=seed)))
    constraints = [wish(start) if callable(wish) else wish for wish in wishes]
    try:
        check(constraints)
    except InputError as error:
        raise InputError(f"{error}. {spans(start)}") from None
    before = start.mesh(resolution)
    found = space.edit(start.code, constraints)
    try:
        after = found.shape.mesh(resolution)
    except NoSurfaceError:
        raise NoSurfaceError("all that keeps these constraints is a shape without a surface; ask for less") from None
    if picture:
        drawn = [_drawn(mesh, constraints) for mesh in (before, after)]
        save_image(out.with_suffix(".png"), grid_image([drawn], column_labels=["before", "after"]))
    if found.doubt is None or anyway:
        save_mesh(after, out)
        save_code(out.with_suffix(".pth"), found.shape.code)
    return found


def through_file(path: str | os.PathLike[str]) -> list[Through]:
    """A point cloud's points (unit frame) to pass through."""
    try:
        points = load_points(path)
    except InputError:
        raise InputError(f"{path} holds no points that can be read; give a point cloud (.ply), or X,Y,Z") from None
    if len(points) > MOST_POINTS:
        raise InputError(f"{path} has {len(points)} points; up to {MOST_POINTS} can be passed through")
    return [Through((float(x), float(y), float(z))) for x, y, z in points]


def relative_size(axis: str, factor: float) -> Callable[[Shape], Size]:
    """The size along an axis as a multiple of what it is."""

    def of(shape: Shape) -> Size:
        ends = extent(shape, axis)
        if ends is None:
            raise InputError("the shape has no surface, so no size that could be changed")
        at = AXES.index(axis)
        return Size(AXES[at], round(float(ends[1, at] - ends[0, at]) * factor, 6))  # pyright: ignore[reportArgumentType]

    return of


def spans(shape: Shape) -> str:
    """In words, where a shape lies: what coordinates of constraints are about."""
    told = []
    for at, axis in enumerate(AXES):
        ends = extent(shape, axis)
        if ends is None:
            return "The shape has no surface."
        told.append(f"{axis} from {ends[0, at]:.2f} to {ends[1, at]:.2f}")
    return f"The shape spans {', '.join(told)} (unit frame)"


def _drawn(mesh: trimesh.Trimesh, constraints: Sequence[Constraint]) -> np.ndarray:
    """The shape with points as balls and boxes as frames."""
    parts, colours = [mesh], [CLAY]
    for one in constraints:
        if isinstance(one, Through):
            ball = trimesh.creation.icosphere(2, radius=BALL)
            parts.append(ball.apply_translation(one.point))
            colours.append(POINT)
        elif isinstance(one, Box):
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


def _frame(box: Box) -> trimesh.Trimesh:
    """Its twelve edges as bars."""
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
