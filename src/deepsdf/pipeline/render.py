"""Render shapes as a picture or a film."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import trimesh

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.figures.layout import CLAMP, Plane, Style, sections_of, sheet
from deepsdf.figures.subjects import Subject, is_file, of_file, of_shape
from deepsdf.geometry.fields import Field
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import sample_surface
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import find_code
from deepsdf.pipeline.options import RenderOptions
from deepsdf.progress import OnProgress, ProgressCounter
from deepsdf.rendering.camera import PictureOptions
from deepsdf.rendering.colours import nice_maximum, sdf_colours
from deepsdf.rendering.film import FILM_SUFFIXES, check_film
from deepsdf.rendering.render import PROBES, error_colours, legend, save_film, save_image
from deepsdf.workspace import Experiment

T = TypeVar("T")


def render(
    what: Sequence[str],
    out: str | os.PathLike[str],
    options: RenderOptions = RenderOptions(),
    picture: PictureOptions = PictureOptions(),
    *,
    experiment: Experiment | None = None,
    checkpoint: str | int = "latest",
    plane: Plane | None = None,
    truth: str | os.PathLike[str] | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> list[str]:
    """Draw shapes side by side, or as a film, into `out` (.png, .gif or .mp4), which is never written in part.

    With an experiment or a plane, the picture shows the unit frame: meshes of files are normalized, by the true shape's
    normalization if `truth` is given, else each by its own.

    Args:
        what: files (a mesh, a point cloud, an .npz of SDF samples), or, with an experiment, names of its shapes
            (instance, class/instance or dataset/class/instance) and code files (.pth).
        options: films, error colours and resolution. A film of an interpolation goes to the last shape and back.
        picture: camera and colours.
        plane: draw the signed distance on a plane of the unit frame too, such as ("z", 0.1), and its line on meshes.
        truth: mesh file; meshes are coloured by the distance of their points to its surface.
        on_progress: called with each shape that was read and each frame that was drawn.
    Returns:
        Names of the shapes without a surface, whose places in the picture are empty.
    Raises:
        InputError: a file or shape cannot be read, or the options do not fit together. Nothing is written.
        NoSurfaceError: no shape has a surface.
    """
    film = Path(out).suffix.lower() in FILM_SUFFIXES
    _check(what, out, experiment, picture, options)
    error_max = options.error_max
    if error_max is not None and (truth is None or not 0 < error_max < np.inf):
        raise InputError(f"error_max is {error_max}; expected a positive length, together with a true mesh (--error)")
    reference = None if truth is None else load_mesh(Path(truth))
    if experiment is None:
        makers = [partial(of_file, Path(name), device) for name in what]
    else:
        makers = _of_experiment(what, experiment, checkpoint, options, device)
    frames = (options.turntable or 2 * len(makers) - 2) if film else 0
    progress = ProgressCounter(len(makers) + frames, on_progress)
    subjects = list(_counted((maker() for maker in makers), progress))
    empty = [each.name or f"step {k}" for k, each in enumerate(subjects) if each.mesh is None and each.points is None]
    if len(empty) == len(subjects):
        raise NoSurfaceError("none of the shapes has a surface; the network may not be trained enough")
    style = Style(picture, device, plane)
    if options.steps is not None:
        style = replace(style, columns=len(subjects))
    subjects, style = _styled(subjects, style, reference, error_max, unit=experiment is not None or plane is not None)
    if not film:
        save_image(Path(out), sheet(subjects, sections_of(subjects, style), style))
    elif options.turntable:
        save_film(out, _counted(_turning(subjects, style, options.turntable), progress), fps=options.fps)
    else:
        save_film(out, _counted(_there_and_back(subjects, style), progress), fps=options.fps)
    return empty


def _check(
    what: Sequence[str],
    out: str | os.PathLike[str],
    experiment: Experiment | None,
    picture: PictureOptions,
    options: RenderOptions,
) -> None:
    turntable, steps = options.turntable, options.steps
    suffix = Path(out).suffix.lower()
    if suffix not in (".png", *FILM_SUFFIXES):
        raise InputError(f"{out}: unknown format; pictures are written as .png, .gif or .mp4")
    if not what:
        raise InputError("there is nothing to draw; give a file, or a shape of an experiment")
    if turntable is not None and steps is not None:
        raise InputError("--turntable and --interpolate cannot be combined; choose one of them")
    if turntable is not None and turntable < 2:
        raise InputError(f"a turntable needs at least 2 frames; {turntable} were given")
    if steps is not None and (experiment is None or len(what) < 2 or steps < 2):
        raise InputError("an interpolation needs an experiment, at least 2 of its shapes and at least 2 steps")
    if suffix == ".png" and turntable is not None:
        raise InputError(f"{out}: a turntable is a film; end the file name in .gif or .mp4")
    if suffix != ".png":
        if turntable is None and steps is None:
            raise InputError(f"{out}: a film needs --turntable or --interpolate; a picture needs a name in .png")
        if picture.background is None:
            raise InputError(f"{out}: a film cannot be transparent; pass a background colour, or write a .png")
        check_film(out)


def _of_experiment(
    what: Sequence[str],
    experiment: Experiment,
    checkpoint: str | int,
    options: RenderOptions,
    device: str,
) -> list[Callable[[], Subject]]:
    """Functions that create the subjects. All names are looked up first, because meshing takes time."""
    steps, resolution = options.steps, options.resolution
    space = ShapeSpace.load(experiment, checkpoint, device)
    if steps is not None:
        codes = [find_code(experiment, space, name) for name in what]
        sequence = [(_short(what[0]), space.shape(codes[0]))]
        for name, (a, b) in zip(what[1:], pairwise(codes), strict=True):
            names = [""] * (steps - 2) + [_short(name)]
            sequence += zip(names, space.interpolate(a, b, steps)[1:], strict=True)
        return [partial(of_shape, name, shape, resolution or PREVIEW.resolution) for name, shape in sequence]
    makers: list[Callable[[], Subject]] = []
    for name in what:
        if is_file(name):
            makers.append(partial(of_file, Path(name), device))
        else:
            shape = space.shape(find_code(experiment, space, name))
            makers.append(partial(of_shape, _short(name), shape, resolution or Meshing().resolution))
    return makers


def _short(name: str) -> str:
    return Path(name).name.removesuffix(".pth")


def _counted(items: Iterable[T], progress: ProgressCounter) -> Iterator[T]:
    for item in items:
        progress.advance()
        yield item


def _styled(
    subjects: list[Subject], style: Style, truth: trimesh.Trimesh | None, error_max: float | None, *, unit: bool
) -> tuple[list[Subject], Style]:
    """Subjects in one frame, and the style with legends and error colours."""
    picture = style.picture
    if unit:
        normalization = None if truth is None else Normalization.fit(truth)
        truth = None if normalization is None or truth is None else normalization.apply_mesh(truth)
        subjects = [subject.in_unit_frame(style.device, normalization) for subject in subjects]
    bars = []
    if style.plane is not None:
        scale = partial(sdf_colours, clamp=CLAMP)
        title = "signed distance"
        bars += [
            legend(
                CLAMP, minimum=-CLAMP, height=picture.size, title=title, colours=scale, background=picture.background
            )
        ]
    if truth is not None:
        distance, known = _errors(subjects, truth, style.device)
        top = error_max or nice_maximum(known)
        title = "distance (unit frame)" if unit else "distance (file's unit)"
        over = bool(known.max() > top)
        bars += [legend(top, height=picture.size, title=title, over=over, background=picture.background)]
        style = replace(style, colours=lambda points: error_colours(distance(points), top))
    return subjects, replace(style, bars=tuple(bars))


def _errors(subjects: list[Subject], truth: trimesh.Trimesh, device: str) -> tuple[Field, np.ndarray]:
    """The distance to the true surface as a field, and its values at points of the subjects' surfaces."""
    distance = MeshSDF(truth, device=device).distance
    known = []
    for subject in subjects:
        if subject.points is not None:
            raise InputError(f"{subject.name} is a point cloud; error colours need a mesh")
        if subject.mesh is not None:
            _warn_of_frames(subject.name, subject.mesh, truth)
            known.append(distance(sample_surface(subject.mesh, PROBES)))
    return distance, np.concatenate(known)


def _warn_of_frames(name: str, mesh: trimesh.Trimesh, truth: trimesh.Trimesh) -> None:
    (low, high), (true_low, true_high) = mesh.bounds, truth.bounds
    extent, true_extent = np.ptp(mesh.bounds, axis=0).max(), np.ptp(truth.bounds, axis=0).max()
    if not 0.5 < extent / true_extent < 2 or (low > true_high).any() or (high < true_low).any():
        logging.getLogger("deepsdf").warning(
            "%s and the true mesh differ in size or position (extents %.3g and %.3g); they may be in different frames. "
            "Reconstructed meshes are in the unit frame: pass -e EXP and the shape's name to transform the true mesh",
            name,
            extent,
            true_extent,
        )


def _turning(subjects: list[Subject], style: Style, count: int) -> Iterator[np.ndarray]:
    sections, picture = sections_of(subjects, style), style.picture
    for k in range(count):
        turned = replace(picture, azimuth=picture.azimuth + 360 * k / count)
        yield sheet(subjects, sections, replace(style, picture=turned))


def _there_and_back(subjects: list[Subject], style: Style) -> Iterator[np.ndarray]:
    forward = []
    for subject in subjects:
        forward.append(sheet([subject], sections_of([subject], style), style))
        yield forward[-1]
    yield from forward[-2:0:-1]
