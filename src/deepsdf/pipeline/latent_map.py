"""A map of a space: its codes in the plane, with pictures of the shapes."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.figures.pictures import FRAME
from deepsdf.figures.plots import check_figure, save_figure
from deepsdf.files import csv_text, write_text
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import KnownShape, known_shapes
from deepsdf.progress import OnProgress, ProgressCounter
from deepsdf.rendering.camera import PictureOptions
from deepsdf.rendering.render import render_mesh
from deepsdf.splits import ShapeName
from deepsdf.workspace import Experiment

Method = Literal["pca", "umap"]

RESOLUTION, RENDERED = 64, 128
"""Of a thumbnail's mesh, and its pixels."""

WIDTH, HEIGHT = 11.0, 8.0
"""Of the map, inches."""

COVERED = 0.5
"""Share of the map that thumbnails cover."""

GREY = "#b9b9b9"

RAMP = "viridis"
"""Matplotlib's colours of numbers."""

Values = list[float] | list[str]


def positions(codes: np.ndarray, method: Method = "pca", *, seed: int = 0) -> np.ndarray:
    """Codes (n, L) in the plane: (n, 2) float64.

    "pca": along the two directions of most variance, in the codes' own lengths; each direction points to where its
    greatest number is positive, so that a map does not turn over. "umap" (McInnes et al. 2018): neighbours stay
    neighbours, distances mean little; needs umap-learn.

    Raises:
        InputError: fewer than 3 codes, another method, or umap-learn is missing.
    """
    codes = np.asarray(codes, np.float64)
    if method not in get_args(Method):
        raise InputError(f"method is {method!r}; it may be 'pca' or 'umap'")
    if codes.ndim != 2 or len(codes) < 3 or codes.shape[1] < 2:
        raise InputError(f"codes of shape {codes.shape} make no map; give at least 3 codes of at least 2 numbers")
    if not np.isfinite(codes).all():
        raise InputError(f"{int((~np.isfinite(codes)).any(axis=1).sum())} codes are NaN or infinite")
    if method == "umap":
        return _umap(codes, seed)
    mean, directions = principal_plane(codes)
    return (codes - mean) @ directions.T


def principal_plane(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (L,) and two directions (2, L) of the "pca" map of codes (n, L).

    A code stands at `directions @ (code - mean)`.
    """
    mean = codes.mean(axis=0)
    directions = np.linalg.svd(codes - mean, full_matrices=False)[2][:2]
    greatest = directions[np.arange(2), np.abs(directions).argmax(axis=1)]
    return mean, directions * np.sign(greatest)[:, None]


def variance_shares(codes: np.ndarray) -> np.ndarray:
    """(2,): of the codes' variance, along each axis of the "pca" map."""
    centred = np.asarray(codes, np.float64) - np.mean(codes, axis=0)
    variance = np.linalg.svd(centred, compute_uv=False) ** 2
    return variance[:2] / max(variance.sum(), 1e-300)


def _umap(codes: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("the method umap needs umap-learn: pip install umap-learn; or use pca") from None
    neighbours = min(15, len(codes) - 1)
    found: Any = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(codes)
    return np.asarray(found, np.float64)


def slots(places: np.ndarray, side: float, width: float, height: float) -> np.ndarray:
    """Where to put squares so that none covers another: centres (n, 2), each as near to its place as can be.

    Squares stand on a grid over [0, width] × [0, height]; the sum of squared moves is the least.

    Raises:
        InputError: more squares than the grid holds.
    """
    columns, rows = int(width // side), int(height // side)
    if columns * rows < len(places):
        raise InputError(f"{len(places)} squares of side {side:.3g} do not fit into {width:.3g} × {height:.3g}")
    x = (np.arange(columns) + 0.5) * (width / columns)
    y = (np.arange(rows) + 0.5) * (height / rows)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    moves = np.square(places[:, None] - grid[None]).sum(axis=-1)
    return grid[linear_sum_assignment(moves)[1]]


def spread_out(places: np.ndarray, count: int) -> np.ndarray:
    """Numbers (count,) of places (n, 2) that stand for all: each the farthest from those before, from the middle on."""
    away = np.linalg.norm(places - places.mean(axis=0), axis=1)
    chosen = [int(away.argmin())]
    nearest = np.full(len(places), np.inf)
    while len(chosen) < min(count, len(places)):
        nearest = np.minimum(nearest, np.linalg.norm(places - places[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    return np.array(chosen)


@dataclass(frozen=True)
class Colouring:
    """Values of the shapes by which they are coloured: numbers (NaN: not known) or words ("": not known)."""

    title: str
    values: Values

    @property
    def numeric(self) -> bool:
        return not isinstance(self.values[0], str)


def colouring(experiment: Experiment, shapes: Sequence[KnownShape], colour_by: str, checkpoint: str | int) -> Colouring:
    """By "class", "set", "error" (the chamfer distances of `deepsdf evaluate`), or FILE.csv:COLUMN.

    A csv's first column names shapes, as dataset/class/instance, class/instance or instance.

    Raises:
        InputError: none of these; no such file or column, or a file that names none of the shapes.
    """
    if colour_by == "class":
        return Colouring("class", [one.shape.category for one in shapes])
    if colour_by == "set":
        return Colouring("set", ["training" if one.trained else "reconstructed" for one in shapes])
    if colour_by == "error":
        path = experiment.evaluation_folder(checkpoint) / "metrics.csv"
        if not path.is_file():
            raise InputError(f"there are no errors at {path}; `deepsdf evaluate -e {experiment.root} ...` makes them")
        return _column(path, "chamfer", shapes)
    name, colon, column = colour_by.rpartition(":")
    if not colon or not name.lower().endswith(".csv") or not column:
        raise InputError(f"colour by {colour_by!r}? It may be class, set, error or FILE.csv:COLUMN")
    return _column(Path(name), column, shapes)


def _column(path: Path, column: str, shapes: Sequence[KnownShape]) -> Colouring:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file)] or [[]]
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a csv: {error}") from None
    if column not in header[1:]:
        raise InputError(f"{path} has no column {column!r}; it has {', '.join(header[1:]) or 'none'}")
    at = header.index(column)
    known = {row[0]: row[at] for row in rows if len(row) > at}
    words = [next((known[name] for name in _names(one.shape) if name in known), "") for one in shapes]
    if not any(words):
        raise InputError(
            f"{path} names none of the {len(shapes)} shapes in its first column, as {shapes[0].shape} or "
            f"{shapes[0].shape.instance}"
        )
    try:
        values: Values = [float(word) if word else float("nan") for word in words]
    except ValueError:
        values = words
    return Colouring(column, values)


@dataclass(frozen=True)
class Paint:
    """Colours of shapes by their values, as "#rrggbb".

    Attributes:
        names: of words, what each of the ten most frequent is painted with; others, and what is not known, are grey.
        others: whether any is grey.
        ends: of numbers, those at the ends of the colours `RAMP`.
    """

    colours: list[str]
    names: dict[str, str]
    others: bool
    ends: tuple[float, float] = (0.0, 1.0)


def painted(colours: Colouring) -> Paint:
    """A colour of each shape."""
    import matplotlib
    from matplotlib.colors import to_hex

    if colours.numeric:
        values = np.array(colours.values, float)
        known = values[np.isfinite(values)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        high = high if high > low else low + 1e-9
        ramp = matplotlib.colormaps[RAMP]
        found = [to_hex(ramp((value - low) / (high - low))) if np.isfinite(value) else GREY for value in values]
        return Paint(found, {}, GREY in found, (low, high))
    palette = [to_hex(rgb) for rgb in matplotlib.colormaps["tab10"].colors]  # pyright: ignore[reportAttributeAccessIssue]
    often = [word for word, _ in Counter(word for word in colours.values if word).most_common(len(palette))]
    names = dict(zip(sorted(map(str, often)), palette, strict=False))
    found = [names.get(str(value), GREY) for value in colours.values]
    return Paint(found, names, GREY in found)


def _names(shape: ShapeName) -> tuple[str, str, str]:
    return str(shape), f"{shape.category}/{shape.instance}", shape.instance


def latent_map(
    experiment: Experiment,
    out: str | os.PathLike[str],
    *,
    checkpoint: str | int = "latest",
    method: Method = "pca",
    colour_by: str = "class",
    thumbnails: int = 60,
    device: str = "auto",
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Path:
    """Draw the training codes and the reconstructed ones in the plane, with pictures of some of the shapes.

    Writes `out` (.png or another format of matplotlib's), and beside it a .csv of names, places and colours' values.

    Args:
        colour_by: see `colouring`.
        thumbnails: pictures at most; of more shapes those that are farthest apart are shown.
        on_progress: called with each drawn thumbnail.
    Raises:
        InputError: fewer than 3 shapes, a name that is no picture's, or what `positions` and `colouring` refuse.
    """
    out = Path(out)
    check_figure(out)
    space = ShapeSpace.load(experiment, checkpoint, device)
    shapes = known_shapes(experiment, space)
    codes = np.stack([one.code.cpu().numpy() for one in shapes]) if shapes else np.zeros((0, space.code_length))
    places = positions(codes, method, seed=seed)
    colours = colouring(experiment, shapes, colour_by, checkpoint)
    shown = spread_out(places, thumbnails) if thumbnails else np.zeros(0, int)
    pictures, progress = [], ProgressCounter(len(shown), on_progress)
    for one in shown:
        pictures.append(_thumbnail(space, shapes[one]))
        progress.advance()
    labels = ("", "")
    if method == "pca":
        labels = tuple(f"direction {k + 1}: {share:.0%} of variance" for k, share in enumerate(variance_shares(codes)))
    save_figure(_figure(places, shapes, colours, shown, pictures, labels), out)
    _write_csv(out.with_suffix(".csv"), shapes, places, colours)
    return out


def _thumbnail(space: ShapeSpace, one: KnownShape) -> np.ndarray | None:
    try:
        mesh = space.shape(one.code).mesh(Meshing(resolution=RESOLUTION, vertices="linear"))
    except NoSurfaceError:
        return None
    return render_mesh(mesh, PictureOptions(size=RENDERED, bound=FRAME * 0.9, ground=False, background=None))


def _write_csv(path: Path, shapes: Sequence[KnownShape], places: np.ndarray, colours: Colouring) -> None:
    lines: list[list[Any]] = [["shape", "set", "x", "y", colours.title]]
    for one, (x, y), value in zip(shapes, places, colours.values, strict=True):
        told = "" if value != value else value  # NaN
        lines.append([one.shape, "training" if one.trained else "reconstructed", f"{x:.6g}", f"{y:.6g}", told])
    write_text(path, csv_text(lines))


def _figure(
    places: np.ndarray,
    shapes: Sequence[KnownShape],
    colours: Colouring,
    shown: np.ndarray,
    pictures: Sequence[np.ndarray | None],
    labels: Sequence[str],
) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0.04, 0.05, 0.82, 0.92))
    width, height = 0.82 * WIDTH, 0.92 * HEIGHT
    low, span = places.min(axis=0), np.maximum(np.ptp(places, axis=0), 1e-12)
    margin = 0.06
    at = (margin + (1 - 2 * margin) * (places - low) / span) * (width, height)
    axes.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[], xlabel=labels[0], ylabel=labels[1])
    shades = _painted(figure, axes, colours)
    if len(shown):
        side = min(1.4, float(np.sqrt(COVERED * width * height / len(shown))))
        for one, (x, y), picture in zip(shown, slots(at[shown], side, width, height), pictures, strict=True):
            axes.plot([at[one, 0], x], [at[one, 1], y], color=shades[one], linewidth=0.7, alpha=0.7, zorder=1)
            if picture is not None:
                box = (x - side / 2, x + side / 2, y - side / 2, y + side / 2)
                axes.imshow(picture, extent=box, zorder=2, aspect="auto", interpolation="antialiased")
    trained = np.array([one.trained for one in shapes])
    edge: dict[str, Any] = {"edgecolors": "#303030", "linewidths": 0.5, "zorder": 3}
    for marker, which, size in (("o", trained, 26), ("D", ~trained, 34)):
        some = np.flatnonzero(which)
        axes.scatter(*at[some].T, s=size, c=[shades[k] for k in some], marker=marker, **edge)
    if trained.any() and not trained.all():
        axes.set_title("● training   ◆ reconstructed", fontsize=9, loc="right")
    return figure


def _painted(figure: Any, axes: Any, colours: Colouring) -> list[Any]:
    """A colour of each shape, and the legend."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    paint = painted(colours)
    if colours.numeric:
        scale = ScalarMappable(Normalize(*paint.ends), RAMP)
        figure.colorbar(scale, cax=figure.add_axes((0.875, 0.2, 0.018, 0.6)), label=colours.title)
        return paint.colours
    named = [*paint.names.items(), *([("others", GREY)] if paint.others else [])]
    handles = [Line2D([], [], linestyle="", marker="o", color=colour, label=name) for name, colour in named]
    axes.legend(handles=handles, title=colours.title, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return paint.colours
