"""Edit a shape by constraints: mesh, code, and a picture of before and after."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from deepsdf.checkpoints import save_code
from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.figures.constraints import constraints_picture
from deepsdf.files import check_folder
from deepsdf.geometry.formats import written_suffixes
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.geometry.meshes import save_mesh
from deepsdf.geometry.point_clouds import load_points
from deepsdf.inference.edit.constraints import AXES, Constraint, Size, Through, check, extreme_points
from deepsdf.inference.edit.editing import Edit
from deepsdf.inference.encode import EncodeOptions
from deepsdf.inference.shape import Shape
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import find_or_encode
from deepsdf.pipeline.options import EditOptions
from deepsdf.rendering.render import grid_image, save_image
from deepsdf.workspace import Experiment

MAX_POINTS = 500
"""Maximum number of points in a file of constraints. `deepsdf complete` is for denser point clouds."""

ConstraintRule = Callable[[Shape], Constraint]
"""A constraint that depends on the shape before the edit, such as a relative size."""


def edit(
    experiment: Experiment,
    name: str,
    constraints: Sequence[Constraint | ConstraintRule],
    out: str | os.PathLike[str],
    options: EditOptions = EditOptions(),
    meshing: Meshing = PREVIEW,
    *,
    checkpoint: str | int = "latest",
    device: str = "auto",
) -> Edit:
    """Change a shape so that it meets constraints; see `deepsdf.inference.edit`.

    Writes `out`, the mesh of the new shape (unit frame), and beside it its code (.pth) and a picture of before and
    after (.png). If the result is in doubt, mesh and code are written only with `options.anyway`.

    Args:
        name: shape or file, see `find_or_encode`.
    Raises:
        InputError: no such shape, or constraints that contradict each other.
        NoSurfaceError: the shape before or after the edit has no surface.
    """
    out = Path(out)
    if out.suffix.lower() not in written_suffixes():
        raise InputError(f"{out}: meshes are written as {', '.join(written_suffixes())}; change the file name")
    check_folder(out.parent)
    space = ShapeSpace.load(experiment, checkpoint, device)
    start = space.shape(find_or_encode(experiment, space, name, EncodeOptions(seed=options.seed)))
    fixed = [rule(start) if callable(rule) else rule for rule in constraints]
    try:
        check(fixed)
    except InputError as error:
        raise InputError(f"{error}. {spans(start)}") from None
    before = start.mesh(meshing)
    found = space.edit(start.code, fixed)
    try:
        after = found.shape.mesh(meshing)
    except NoSurfaceError:
        raise NoSurfaceError("only a shape without a surface meets these constraints; relax them") from None
    if options.picture:
        drawn = [constraints_picture(mesh, fixed) for mesh in (before, after)]
        save_image(out.with_suffix(".png"), grid_image([drawn], column_labels=["before", "after"]))
    if found.doubt is None or options.anyway:
        save_mesh(after, out)
        save_code(out.with_suffix(".pth"), found.shape.code)
    return found


def through_file(path: str | os.PathLike[str]) -> list[Through]:
    """Constraints that the surface passes through the points of a point cloud (unit frame)."""
    try:
        points = load_points(path)
    except InputError:
        raise InputError(f"{path} contains no readable points; expected a point cloud (.ply), or X,Y,Z") from None
    if len(points) > MAX_POINTS:
        raise InputError(f"{path} has {len(points)} points; the surface can pass through at most {MAX_POINTS}")
    return [Through((float(x), float(y), float(z))) for x, y, z in points]


def relative_size(axis: str, factor: float) -> Callable[[Shape], Size]:
    """The size along an axis as a multiple of the current size."""

    def size(shape: Shape) -> Size:
        ends = extreme_points(shape, axis)
        if ends is None:
            raise InputError("the shape has no surface, so its size cannot be changed")
        at = AXES.index(axis)
        return Size(AXES[at], round(float(ends[1, at] - ends[0, at]) * factor, 6))  # pyright: ignore[reportArgumentType]

    return size


def spans(shape: Shape) -> str:
    """Extent of a shape along each axis, in words."""
    texts = []
    for at, axis in enumerate(AXES):
        ends = extreme_points(shape, axis)
        if ends is None:
            return "The shape has no surface."
        texts.append(f"{axis} from {ends[0, at]:.2f} to {ends[1, at]:.2f}")
    return f"The shape spans {', '.join(texts)} (unit frame)"
