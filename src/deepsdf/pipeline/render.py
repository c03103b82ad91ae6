"""Any shape, from a file or an experiment, as a picture or a film."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import KDTree

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.distance import MeshSDF
from deepsdf.geometry.meshes import MESH_SUFFIXES, Normalization, load_mesh
from deepsdf.geometry.points import load_points
from deepsdf.geometry.render_colours import nice_maximum, sdf_colours
from deepsdf.geometry.render_film import FILM_SUFFIXES, check_film
from deepsdf.geometry.rendering import (
    CLAY,
    PROBES,
    Axis,
    Colour,
    error_colours,
    grid_image,
    legend,
    render_mesh,
    render_points,
    save_film,
    save_image,
    slice_image,
)
from deepsdf.geometry.sampling import SDFSamples, sample_surface
from deepsdf.inference.shapespace import Shape, ShapeSpace
from deepsdf.pipeline.explore import find_code
from deepsdf.pipeline.pictures import FRAME
from deepsdf.splits import ShapeName, read_split
from deepsdf.workspace import Experiment

Field = Callable[[np.ndarray], np.ndarray]
"""Of points (n, 3)."""

Plane = tuple[Axis, float]

COLUMNS = 5
"""Shapes in a row."""

CLAMP = 0.1
"""Distance at which a slice's colours end, unit frame."""


@dataclass(frozen=True)
class View:
    """How every shape of a picture is looked at; see `render_mesh`. `bound` None fits each shape of a file."""

    size: int = 512
    azimuth: float = 35.0
    elevation: float = 20.0
    up: Axis = "y"
    color: Colour = CLAY
    bound: float | None = None


@dataclass(frozen=True)
class Subject:
    """What is drawn: a mesh, else points, else nothing (a shape without a surface leaves its place empty).

    `unit`: it is of the unit frame, and the picture frames the unit sphere. `field` makes its signed distance.
    """

    name: str
    mesh: trimesh.Trimesh | None = None
    points: np.ndarray | None = None
    field: Callable[[], Field] | None = None
    unit: bool = False
    colours: Field | None = None
    section: np.ndarray | None = None  # picture of the plane


def render(
    what: Sequence[str],
    out: str | os.PathLike[str],
    *,
    experiment: Experiment | None = None,
    checkpoint: str | int = "latest",
    view: View | None = None,
    plane: Plane | None = None,
    truth: str | os.PathLike[str] | None = None,
    error_max: float | None = None,
    turntable: int | None = None,
    steps: int | None = None,
    fps: float = 20.0,
    resolution: int | None = None,
    device: str = "auto",
    on_frame: Callable[[int, int], None] | None = None,
) -> None:
    """Draw shapes side by side, or as a film, to `out`: a .png, .gif or .mp4, whole or not at all.

    Args:
        what: files (a mesh, a point cloud .ply, an .npz of SDF samples), or, with an experiment, names of its
            shapes: instance, class/instance or dataset/class/instance, or a code file (.pth).
        plane: ("z", 0.1) draws the signed distance on that plane of the unit frame as well, and its line on meshes.
            A mesh of a file is moved to the unit frame for it.
        truth: a mesh; colours meshes by the distance of their points to its surface. With an experiment or
            a plane, it and meshes of files are moved to the unit frame first, else all are taken as they are.
        error_max: where error colours end; None: the 99th percentile, rounded up.
        turntable: frames of one whole turn.
        steps: shapes on the way from each named shape to the next, ends included: a strip in a .png; a film goes
            there and back.
        resolution: of an experiment's meshes; None: 256, or 128 for many of them.
        on_frame: told the number of frames done and of all.
    Raises:
        InputError: what cannot be read, found, or drawn so; nothing is written then.
        NoSurfaceError: no shape of the experiment has a surface.
    """
    view = view or View()
    _check_request(what, out, experiment, view, turntable, steps)
    subjects = list(_subjects(what, experiment, checkpoint, steps, resolution, device))
    if plane is not None:
        subjects = [_sliced(subject, plane, view, device) for subject in subjects]
    bars = []
    if plane is not None:
        scale = partial(sdf_colours, clamp=CLAMP)
        bars += [legend(CLAMP, minimum=-CLAMP, height=view.size, title="signed distance", colours=scale)]
    if truth is not None:
        unit = experiment is not None or plane is not None
        subjects, bar = _coloured(subjects, Path(truth), error_max, view.size, unit, device)
        bars += [bar]
    columns = COLUMNS if steps is None else len(subjects)
    draw = partial(_sheet, bars=bars, plane=plane, columns=columns, device=device)
    if Path(out).suffix.lower() == ".png":
        save_image(Path(out), draw(subjects, view))
        return
    if turntable:
        turns = [replace(view, azimuth=view.azimuth + 360 * k / turntable) for k in range(turntable)]
        frames = [partial(draw, subjects, turn) for turn in turns]
    else:
        frames = [partial(draw, [subject], view) for subject in [*subjects, *subjects[-2:0:-1]]]
    save_film(out, _told(frames, on_frame), fps=fps)


def _check_request(
    what: Sequence[str],
    out: str | os.PathLike[str],
    experiment: Experiment | None,
    view: View,
    turntable: int | None,
    steps: int | None,
) -> None:
    suffix = Path(out).suffix.lower()
    if suffix not in (".png", *FILM_SUFFIXES):
        raise InputError(f"{out}: pictures are saved as .png, .gif or .mp4; end the name in one of these")
    if not what:
        raise InputError("there is nothing to draw; name a file, or a shape of an experiment")
    if view.size < 1:
        raise InputError(f"size={view.size} must be at least 1")
    if turntable is not None and steps is not None:
        raise InputError("a film is a turntable or an interpolation; choose one of them")
    if turntable is not None and turntable < 2:
        raise InputError(f"a turntable of {turntable} frames does not turn; give at least 2")
    if steps is not None and (experiment is None or len(what) < 2 or steps < 2):
        raise InputError("an interpolation needs an experiment, at least 2 of its shapes and at least 2 steps")
    if suffix == ".png" and turntable is not None:
        raise InputError(f"{out}: a turntable is a film; end the name in .gif or .mp4")
    if suffix != ".png":
        if turntable is None and steps is None:
            raise InputError(f"{out}: a film needs a turntable or an interpolation; or end the name in .png")
        check_film(out)


def _subjects(
    what: Sequence[str],
    experiment: Experiment | None,
    checkpoint: str | int,
    steps: int | None,
    resolution: int | None,
    device: str,
) -> Iterator[Subject]:
    """Everything to be drawn, in order."""
    if experiment is None:
        yield from (_of_file(Path(name), device) for name in what)
        return
    space = ShapeSpace.load(experiment, checkpoint, device)
    if steps is None:
        shapes = {
            name: space.shape(find_code(experiment, space, _full_name(experiment, space, name)))
            for name in what
            if not _is_file(name)
        }
        made = (
            _of_shape(_short(name), shapes[name], resolution or 256)
            if name in shapes
            else _in_unit_frame(_of_file(Path(name), device))
            for name in what
        )
        yield from _with_surface(made)
        return
    codes = [find_code(experiment, space, _full_name(experiment, space, name)) for name in what]
    way = []
    for a, b in pairwise(codes):
        way += space.interpolate(a, b, steps)[bool(way) :]  # a corner of the way is drawn once
    yield from _with_surface(_of_shape("", shape, resolution or 128) for shape in way)


def _with_surface(subjects: Iterator[Subject]) -> Iterator[Subject]:
    """All of them; but an error if nothing would be seen."""
    found = list(subjects)
    if all(subject.mesh is None and subject.points is None for subject in found):
        raise NoSurfaceError("none of the shapes has a surface; is the network trained?")
    yield from found


def _is_file(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in (*MESH_SUFFIXES, ".npz") and path.is_file()


def _short(name: str) -> str:
    return Path(name).name.removesuffix(".pth")


def _full_name(experiment: Experiment, space: ShapeSpace, name: str) -> str:
    """class/instance as dataset/class/instance where it is one shape's; other names as they are."""
    if name.endswith(".pth") or name.count("/") != 1:
        return name
    codes = experiment.reconstructed_codes_folder(space.epoch)
    known = {ShapeName(*path.relative_to(codes).with_suffix("").parts) for path in codes.glob("*/*/*.pth")}
    split = Path(experiment.specs.train_split)
    known |= set(read_split(split)) if split.is_file() else set()
    matches = [shape for shape in known if f"{shape.category}/{shape.instance}" == name]
    return str(matches[0]) if len(matches) == 1 else name


def _of_shape(name: str, shape: Shape, resolution: int) -> Subject:
    try:
        mesh = shape.mesh(resolution)
    except NoSurfaceError:
        mesh = None
    return Subject(name, mesh, field=lambda: shape, unit=True)


def _of_file(path: Path, device: str) -> Subject:
    suffix = path.suffix.lower()
    if suffix not in (*MESH_SUFFIXES, ".npz"):
        kinds = ", ".join([*MESH_SUFFIXES, ".npz"])
        raise InputError(f"{path}: cannot be drawn; give a file ({kinds}), or an experiment that has a shape so named")
    if suffix == ".npz":
        return _of_samples(path)
    if suffix == ".ply" and path.is_file() and not _has_faces(path):
        return Subject(path.stem, points=load_points(path))
    mesh = load_mesh(path)
    return Subject(path.stem, mesh, field=lambda: MeshSDF(mesh, device=device))


def _has_faces(path: Path) -> bool:
    with path.open("rb") as file:
        header = file.read(1 << 16).partition(b"end_header")[0]
    found = re.search(rb"element\s+face\s+(\d+)", header)
    return found is not None and int(found[1]) > 0


def _of_samples(path: Path) -> Subject:
    """Samples inside, which look like the shape; those nearest to the surface where none is inside."""
    samples = SDFSamples.load(path)
    if not len(samples):
        raise InputError(f"{path} holds no samples to draw")
    inside = samples.neg[:, :3]
    if not len(inside):
        inside = samples.points[np.argsort(samples.distances)[: max(1, len(samples) // 10)]]

    def nearest() -> Field:
        tree = KDTree(samples.points)
        return lambda points: samples.distances[tree.query(points, workers=-1)[1]]

    return Subject(path.stem, points=inside, field=nearest, unit=True)


def _in_unit_frame(subject: Subject, device: str = "auto") -> Subject:
    if subject.unit or subject.mesh is None:
        return subject
    mesh = Normalization.fit(subject.mesh).apply_mesh(subject.mesh)
    return replace(subject, mesh=mesh, field=lambda: MeshSDF(mesh, device=device), unit=True)


def _sliced(subject: Subject, plane: Plane, view: View, device: str) -> Subject:
    subject = _in_unit_frame(subject, device)
    if subject.field is None:
        raise InputError(f"{subject.name} is a point cloud, which has no inside to slice; give its mesh or SDF samples")
    bound = view.bound or FRAME
    picture = slice_image(subject.field(), axis=plane[0], offset=plane[1], bound=bound, size=view.size, clamp=CLAMP)
    return replace(subject, section=picture)


def _coloured(
    subjects: list[Subject], path: Path, error_max: float | None, size: int, unit: bool, device: str
) -> tuple[list[Subject], np.ndarray]:
    """Subjects with error colours, and the legend that all share."""
    if error_max is not None and not 0 < error_max < np.inf:
        raise InputError(f"the greatest error to colour must be a positive length, not {error_max}")
    for subject in subjects:
        if subject.points is not None:
            raise InputError(f"{subject.name} is a set of points without faces; error colours are for meshes")
    truth = load_mesh(path)
    if unit:
        truth = Normalization.fit(truth).apply_mesh(truth)
        subjects = [_in_unit_frame(subject, device) for subject in subjects]
    distance = MeshSDF(truth, device=device).distance
    known = []
    for subject in subjects:
        if subject.mesh is not None:
            _check_frames(subject.name, subject.mesh, truth)
            known.append(distance(sample_surface(subject.mesh, PROBES)))
    every = np.concatenate(known)
    top = error_max or nice_maximum(every)
    title = "distance (unit frame)" if unit else "distance (file's unit)"
    bar = legend(top, height=size, title=title, over=bool(every.max() > top))

    def colours(points: np.ndarray) -> np.ndarray:
        return error_colours(distance(points), top)

    return [replace(subject, colours=colours) for subject in subjects], bar


def _check_frames(name: str, mesh: trimesh.Trimesh, truth: trimesh.Trimesh) -> None:
    (low, high), (least, most) = mesh.bounds, truth.bounds
    ours, theirs = np.ptp(mesh.bounds, axis=0).max(), np.ptp(truth.bounds, axis=0).max()
    if not 0.5 < ours / theirs < 2 or (low > most).any() or (high < least).any():
        logging.getLogger("deepsdf").warning(
            "%s and its truth differ in size or place (extents %.3g and %.3g): are they of one frame? "
            "Meshes of Reconstructions are of the unit frame; name the shape with -e EXP to have the truth moved there",
            name,
            ours,
            theirs,
        )


def _sheet(
    subjects: Sequence[Subject],
    view: View,
    *,
    bars: Sequence[np.ndarray],
    plane: Plane | None,
    columns: int,
    device: str,
) -> np.ndarray:
    """One picture: shapes side by side with their names, the plane's picture under each, legends at the right."""
    pictures = [_drawn(subject, view, plane, device) for subject in subjects]
    if len(subjects) == 1 and plane is None:
        return np.hstack([*pictures, *bars])
    caption = "" if plane is None else f"{plane[0]} = {plane[1]:g}".replace("-", "−")
    if len(subjects) == 1 and subjects[0].section is not None:
        labels = [subjects[0].name, caption, *[""] * len(bars)]
        return grid_image([[*pictures, subjects[0].section, *bars]], column_labels=labels)
    cells: list[np.ndarray | None] = [
        grid_image(
            [[picture], *([[subject.section]] if subject.section is not None else [])],
            column_labels=[subject.name] if any(each.name for each in subjects) else None,
            row_labels=["", caption] if subject.section is not None else None,
            pad=4,
        )
        for subject, picture in zip(subjects, pictures, strict=True)
    ]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    rows[0] = [*rows[0], *bars]
    return grid_image(rows)


def _drawn(subject: Subject, view: View, plane: Plane | None, device: str) -> np.ndarray:
    options = {"size": view.size, "azimuth": view.azimuth, "elevation": view.elevation, "up": view.up}
    options["bound"] = view.bound or (FRAME if subject.unit else None)
    if subject.mesh is not None:
        return render_mesh(
            subject.mesh, color=view.color, surface_colors=subject.colours, cut=plane, device=device, **options
        )
    if subject.points is not None:
        return render_points(subject.points, color=view.color, **options)
    return np.full((view.size, view.size, 3), 255, np.uint8)


def _told(
    frames: Sequence[Callable[[], np.ndarray]], on_frame: Callable[[int, int], None] | None
) -> Iterator[np.ndarray]:
    for number, frame in enumerate(frames, 1):
        yield frame()
        if on_frame is not None:
            on_frame(number, len(frames))
