"""Map of a shape space: projection of codes onto the plane, colours, and the figure with pictures of shapes."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment

from deepsdf.errors import InputError
from deepsdf.library.names import KnownShape
from deepsdf.splits import ShapeName
from deepsdf.workspace import Experiment

Method = Literal["pca", "umap"]

WIDTH, HEIGHT = 11.0, 8.0  # of the figure, in inches

COVERED = 0.5
"""Share of the map that pictures of shapes cover; the rest stays free for points and their connecting lines."""

GREY = "#b9b9b9"
"""Colour of shapes without a value, and of values that are not among the most frequent."""

RAMP = "viridis"
"""Matplotlib colour map of numbers."""

Values = list[float] | list[str]


def map_positions(codes: np.ndarray, method: Method = "pca", *, seed: int = 0) -> np.ndarray:
    """Project codes (n, L) onto the plane: (n, 2) float64.

    "pca" projects onto the two directions of largest variance; each is oriented so that its component of largest
    magnitude is positive, because the sign of a singular vector is arbitrary. "umap" (McInnes et al. 2018) keeps
    neighbours together, while distances mean little; it needs umap-learn.

    Raises:
        InputError: fewer than 3 codes, codes that are not finite, an unknown method, or umap-learn is missing.
    """
    codes = np.asarray(codes, np.float64)
    if method not in get_args(Method):
        raise InputError(f"method is {method!r}; expected 'pca' or 'umap'")
    if codes.ndim != 2 or len(codes) < 3 or codes.shape[1] < 2:
        raise InputError(f"codes have shape {codes.shape}; a map needs at least 3 codes of at least 2 numbers")
    if not np.isfinite(codes).all():
        raise InputError(f"{int((~np.isfinite(codes)).any(axis=1).sum())} codes are NaN or infinite")
    if method == "umap":
        return _umap(codes, seed)
    mean, directions = principal_plane(codes)
    return (codes - mean) @ directions.T


def principal_plane(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (L,) and two directions (2, L) of the "pca" map of codes (n, L).

    The position of a code is `directions @ (code - mean)`.
    """
    mean = codes.mean(axis=0)
    directions = np.linalg.svd(codes - mean, full_matrices=False)[2][:2]
    greatest = directions[np.arange(2), np.abs(directions).argmax(axis=1)]
    return mean, directions * np.sign(greatest)[:, None]


def variance_shares(codes: np.ndarray) -> np.ndarray:
    """Shares (2,) of the variance of the codes along the axes of the "pca" map."""
    centred = np.asarray(codes, np.float64) - np.mean(codes, axis=0)
    variance = np.linalg.svd(centred, compute_uv=False) ** 2
    return variance[:2] / max(variance.sum(), 1e-300)


def _umap(codes: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("the method umap needs umap-learn (pip install umap-learn); or use pca") from None
    neighbours = min(15, len(codes) - 1)
    found: Any = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(codes)
    return np.asarray(found, np.float64)


def slots(positions: np.ndarray, side: float, width: float, height: float) -> np.ndarray:
    """Centres (n, 2) of squares that do not overlap, near the given positions.

    Squares lie on a grid over [0, width] × [0, height]. The assignment minimises the sum of squared displacements.

    Args:
        positions: (n, 2), desired centres.
        side: side of the squares.
    Raises:
        InputError: more squares than cells of the grid.
    """
    columns, rows = int(width // side), int(height // side)
    if columns * rows < len(positions):
        raise InputError(f"{len(positions)} squares of side {side:.3g} do not fit into {width:.3g} × {height:.3g}")
    x = (np.arange(columns) + 0.5) * (width / columns)
    y = (np.arange(rows) + 0.5) * (height / rows)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    displacements = np.square(positions[:, None] - grid[None]).sum(axis=-1)
    return grid[linear_sum_assignment(displacements)[1]]


def spread_out(positions: np.ndarray, count: int) -> np.ndarray:
    """Farthest point sampling: rows (count,) of positions (n, 2), beginning with the one nearest to their mean."""
    distances = np.linalg.norm(positions - positions.mean(axis=0), axis=1)
    chosen = [int(distances.argmin())]
    nearest = np.full(len(positions), np.inf)
    while len(chosen) < min(count, len(positions)):
        nearest = np.minimum(nearest, np.linalg.norm(positions - positions[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    return np.array(chosen)


@dataclass(frozen=True)
class Colouring:
    """Values that colour the shapes: numbers (NaN if unknown) or words (empty if unknown)."""

    title: str
    values: Values

    @property
    def numeric(self) -> bool:
        return not isinstance(self.values[0], str)


def colouring(experiment: Experiment, shapes: Sequence[KnownShape], colour_by: str, checkpoint: str | int) -> Colouring:
    """Values by "class", "set", "error" (the chamfer distances of `deepsdf evaluate`), or FILE.csv:COLUMN.

    The first column of a CSV file names shapes: dataset/class/instance, class/instance or instance.

    Raises:
        InputError: another text, no such file or column, or a file that names none of the shapes.
    """
    if colour_by == "class":
        return Colouring("class", [one.shape.category for one in shapes])
    if colour_by == "set":
        return Colouring("set", ["training" if one.trained else "reconstructed" for one in shapes])
    if colour_by == "error":
        path = experiment.evaluation_folder(checkpoint) / "metrics.csv"
        if not path.is_file():
            raise InputError(f"no such file: {path}; run `deepsdf evaluate -e {experiment.root} ...` to create it")
        return _column(path, "chamfer", shapes)
    name, colon, column = colour_by.rpartition(":")
    if not colon or not name.lower().endswith(".csv") or not column:
        raise InputError(f"unknown colouring {colour_by!r}; expected class, set, error or FILE.csv:COLUMN")
    return _column(Path(name), column, shapes)


def _column(path: Path, column: str, shapes: Sequence[KnownShape]) -> Colouring:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file)] or [[]]
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV file: {error}") from None
    if column not in header[1:]:
        raise InputError(f"{path} has no column {column!r}; it has {', '.join(header[1:]) or 'none'}")
    at = header.index(column)
    known = {row[0]: row[at] for row in rows if len(row) > at}
    words = [next((known[name] for name in _names(one.shape) if name in known), "") for one in shapes]
    if not any(words):
        raise InputError(
            f"{path} names none of the {len(shapes)} shapes in its first column; expected names such as "
            f"{shapes[0].shape} or {shapes[0].shape.instance}"
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
        names: for words, the colours of the ten most frequent; all others are grey.
        others: whether any shape is grey.
        ends: for numbers, the values at the ends of the colour map `RAMP`.
    """

    colours: list[str]
    names: dict[str, str]
    others: bool
    ends: tuple[float, float] = (0.0, 1.0)


def painted(colours: Colouring) -> Paint:
    """Colour of each shape."""
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


def map_figure(
    positions: np.ndarray,
    shapes: Sequence[KnownShape],
    colours: Colouring,
    shown: np.ndarray,
    pictures: Sequence[np.ndarray | None],
    labels: Sequence[str],
) -> Any:
    """The map as a matplotlib figure.

    Args:
        positions: (n, 2) in the plane.
        shown: rows of the shapes that have a picture.
        pictures: picture of each of them; None for a shape without a surface.
        labels: labels of the two axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0.04, 0.05, 0.82, 0.92))
    width, height = 0.82 * WIDTH, 0.92 * HEIGHT
    low, span = positions.min(axis=0), np.maximum(np.ptp(positions, axis=0), 1e-12)
    margin = 0.06
    at = (margin + (1 - 2 * margin) * (positions - low) / span) * (width, height)
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
    """Draw the legend; returns the colour of each shape."""
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
