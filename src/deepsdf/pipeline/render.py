"""Any shapes as a picture or a film."""

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
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import sample_surface
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import find_code
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
    *,
    experiment: Experiment | None = None,
    checkpoint: str | int = "latest",
    picture: PictureOptions = PictureOptions(),
    device: str = "auto",
    plane: Plane | None = None,
    truth: str | os.PathLike[str] | None = None,
    error_max: float | None = None,
    turntable: int | None = None,
    steps: int | None = None,
    fps: float = 20.0,
    resolution: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[str]:
    """Draw shapes side by side, or as a film, to `out`: a .png, .gif or .mp4, whole or not at all.

    Args:
        what: files (a mesh, a point cloud, an .npz of SDF samples), or, with an experiment, names of its shapes:
            instance, class/instance or dataset/class/instance, or a code file (.pth).
        plane: ("z", 0.1) draws the signed distance on that plane of the unit frame as well, and its line on meshes.
        truth: a mesh; colours meshes by the distance of their points to its surface.
        error_max: where error colours end; None: the 99th percentile, rounded up.
        turntable: frames of one whole turn.
        steps: shapes on the way from each named shape to the next, ends included: a strip in a .png; a film goes
            there and back.
        resolution: of an experiment's meshes; None: 256, or 128 on the way between shapes.
        on_progress: called with each shape that was read and each frame that was drawn.

    With an experiment or a plane the picture is of the unit frame: meshes of files are moved there, by the truth's
    normalisation where there is a truth, else each by its own.

    Returns:
        the names of shapes without a surface, whose places are empty.
    Raises:
        InputError: what cannot be read, found, or drawn so; nothing is written then.
        NoSurfaceError: no shape has a surface.
    """
    film = Path(out).suffix.lower() in FILM_SUFFIXES
    _check_request(what, out, experiment, picture, turntable, steps)
    if error_max is not None and (truth is None or not 0 < error_max < np.inf):
        raise InputError(f"the greatest error to colour, {error_max}, must be a positive length, and needs a truth")
    reference = None if truth is None else load_mesh(Path(truth))
    if experiment is None:
        makers = [partial(of_file, Path(name), device) for name in what]
    else:
        makers = _of_experiment(what, experiment, checkpoint, steps, resolution, device)
    frames = (turntable or 2 * len(makers) - 2) if film else 0
    progress = ProgressCounter(len(makers) + frames, on_progress)
    subjects = list(_counted((maker() for maker in makers), progress))
    empty = [each.name or f"step {k}" for k, each in enumerate(subjects) if each.mesh is None and each.points is None]
    if len(empty) == len(subjects):
        raise NoSurfaceError("none of the shapes has a surface; is the network trained?")
    style = Style(picture, device, plane)
    if steps is not None:
        style = replace(style, columns=len(subjects))
    subjects, style = _styled(subjects, style, reference, error_max, unit=experiment is not None or plane is not None)
    if not film:
        save_image(Path(out), sheet(subjects, sections_of(subjects, style), style))
    elif turntable:
        save_film(out, _counted(_turning(subjects, style, turntable), progress), fps=fps)
    else:
        save_film(out, _counted(_there_and_back(subjects, style), progress), fps=fps)
    return empty


def _check_request(
    what: Sequence[str],
    out: str | os.PathLike[str],
    experiment: Experiment | None,
    picture: PictureOptions,
    turntable: int | None,
    steps: int | None,
) -> None:
    suffix = Path(out).suffix.lower()
    if suffix not in (".png", *FILM_SUFFIXES):
        raise InputError(f"{out}: pictures are saved as .png, .gif or .mp4; end the name in one of these")
    if not what:
        raise InputError("there is nothing to draw; name a file, or a shape of an experiment")
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
        if picture.background is None:
            raise InputError(f"{out}: a film cannot be transparent; give a background colour, or end the name in .png")
        check_film(out)


def _of_experiment(
    what: Sequence[str],
    experiment: Experiment,
    checkpoint: str | int,
    steps: int | None,
    resolution: int | None,
    device: str,
) -> list[Callable[[], Subject]]:
    """What makes each subject. All names are looked up at once, since meshing takes a while."""
    space = ShapeSpace.load(experiment, checkpoint, device)
    if steps is not None:
        codes = [find_code(experiment, space, name) for name in what]
        way = [(_short(what[0]), space.shape(codes[0]))]
        for name, (a, b) in zip(what[1:], pairwise(codes), strict=True):
            names = [""] * (steps - 2) + [_short(name)]
            way += zip(names, space.interpolate(a, b, steps)[1:], strict=True)
        return [partial(of_shape, name, shape, resolution or 128) for name, shape in way]
    makers: list[Callable[[], Subject]] = []
    for name in what:
        if is_file(name):
            makers.append(partial(of_file, Path(name), device))
        else:
            shape = space.shape(find_code(experiment, space, name))
            makers.append(partial(of_shape, _short(name), shape, resolution or 256))
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
    """Subjects in one frame, and a style with what its legends tell."""
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
    """The distance to the truth, and what it is at some points of the subjects' surfaces."""
    distance = MeshSDF(truth, device=device).distance
    known = []
    for subject in subjects:
        if subject.points is not None:
            raise InputError(f"{subject.name} is a set of points without faces; error colours are for meshes")
        if subject.mesh is not None:
            _warn_of_frames(subject.name, subject.mesh, truth)
            known.append(distance(sample_surface(subject.mesh, PROBES)))
    return distance, np.concatenate(known)


def _warn_of_frames(name: str, mesh: trimesh.Trimesh, truth: trimesh.Trimesh) -> None:
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


def _turning(subjects: list[Subject], style: Style, count: int) -> Iterator[np.ndarray]:
    sections, picture = sections_of(subjects, style), style.picture
    for k in range(count):
        turned = replace(picture, azimuth=picture.azimuth + 360 * k / count)
        yield sheet(subjects, sections, replace(style, picture=turned))


def _there_and_back(subjects: list[Subject], style: Style) -> Iterator[np.ndarray]:
    ahead = []
    for subject in subjects:
        ahead.append(sheet([subject], sections_of([subject], style), style))
        yield ahead[-1]
    yield from ahead[-2:0:-1]
