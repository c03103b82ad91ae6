"""Sample new shapes from a prior: meshes, the nearest training shape of each, and metrics of the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from deepsdf.checkpoints import save_code
from deepsdf.errors import InputError
from deepsdf.figures.pictures import FRAME, unit_picture
from deepsdf.files import check_folder, csv_text, write_text
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.geometry.meshes import save_mesh
from deepsdf.geometry.sdf.sampling import sample_surface
from deepsdf.inference.shape import Shape
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import mesh_shapes, training_names
from deepsdf.library.neighbours import Neighbour, TrainingSurfaces
from deepsdf.metrics.generated_sets import ShapeDistance, generation_metrics
from deepsdf.pipeline.options import SampleOptions
from deepsdf.progress import OnProgress, ProgressCounter
from deepsdf.rendering.camera import PictureOptions
from deepsdf.rendering.render import grid_image, render_mesh, save_image
from deepsdf.splits import read_split
from deepsdf.workspace import DataSource, Experiment

MAX_PICTURED = 24
"""Maximum number of samples in the picture: six rows of pairs."""

PAIRS_PER_ROW, SIZE = 4, 220
"""Samples in a row of the picture, and pixels per side of each shape."""

NEIGHBOUR_COLOUR = (200, 198, 192)
"""Colour of training shapes beside samples."""

TRAINING = "training shapes"
HELD_OUT = "held-out shapes"


@dataclass(frozen=True)
class Reference:
    """Held-out shapes that samples are compared with.

    Attributes:
        data: their data source, with surface samples.
        split: split file with their names.
    """

    data: DataSource
    split: Path

    def surfaces(self, count: int, seed: int) -> list[np.ndarray]:
        """Surface points (count, 3) of each shape, unit frame.

        Raises:
            InputError: surface samples or normalizations are missing, or there are too few samples.
        """
        rng, found = np.random.default_rng(seed), []
        for shape in read_split(self.split):
            points = self.data.load_normalization(shape).apply(self.data.load_surface(shape))
            if len(points) < count:
                raise InputError(f"{shape} has {len(points)} surface samples; {count} are needed (--points)")
            found.append(points[rng.choice(len(points), count, replace=False)])
        return found


@dataclass(frozen=True)
class SetMetrics:
    """Metrics of a set of shapes: one row of generation.csv. Metrics are None without a reference.

    Attributes:
        source: name of a prior, or `TRAINING` or `HELD_OUT`, for comparison.
        shapes: number of shapes with a surface.
        to_training: median chamfer distance to the nearest training shape.
    """

    source: str
    shapes: int
    references: int | None = None
    coverage: float | None = None
    minimum_matching_distance: float | None = None
    one_nn_accuracy: float | None = None
    to_training: float | None = None


@dataclass(frozen=True)
class Samples:
    """Written samples. `empty` lists samples without a surface as "<prior> <number>"."""

    rows: list[SetMetrics]
    pictures: list[Path]
    empty: list[str]


def sample(
    experiment: Experiment,
    folder: Path,
    options: SampleOptions = SampleOptions(),
    meshing: Meshing = PREVIEW,
    *,
    checkpoint: str | int = "latest",
    priors: Sequence[str] = ("gaussian",),
    reference: Reference | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> Samples:
    """Draw, mesh and measure new shapes. With several priors, each has a folder of its name.

    Writes sample_<k>.ply (unit frame) and sample_<k>.pth, its code; samples.png, each sample beside its nearest
    training shape and their chamfer distance × 10³; samples.csv; and, with a reference, generation.csv: coverage,
    minimum matching distance and 1-NN accuracy of each prior and, as a baseline, of the same number of training shapes.

    Args:
        priors: names in `deepsdf.network.priors.PRIORS`.
        on_progress: called with each meshed and each compared shape.
    Raises:
        InputError: no such prior, or a reference that cannot be read.
        NoSurfaceError: none of a prior's shapes has a surface.
    """
    seed, count = options.seed, options.count
    check_folder(folder)
    space = ShapeSpace.load(experiment, checkpoint, device)
    held_out = [] if reference is None else reference.surfaces(options.points, seed)
    drawn = {prior: space.sample(count, prior=prior, seed=seed) for prior in priors}
    training = TrainingSurfaces(space, options.points, seed)
    rows_drawn = [] if reference is None else _some_rows(space, count, seed)
    progress = ProgressCounter(2 * count * len(priors) + len(rows_drawn) + len(held_out), on_progress)
    names = [name.instance for name in training_names(experiment, space)]
    distance = None if reference is None else options.distance
    rows, pictures, empty = [], [], []
    for prior, shapes in drawn.items():
        own_folder = folder if len(drawn) == 1 else folder / prior
        meshes = mesh_shapes(shapes, meshing, progress)
        empty += [f"{prior} {number}" for number, mesh in enumerate(meshes) if mesh is None]
        surfaces = [None if mesh is None else sample_surface(mesh, training.points, seed=seed) for mesh in meshes]
        near = []
        for surface in surfaces:
            near.append(None if surface is None else training.nearest(surface))
            progress.advance()
        _write(own_folder, shapes, meshes, near, names)
        pictures.append(own_folder / "samples.png")
        save_image(pictures[-1], _picture(meshes, near, training, names))
        rows.append(_set_metrics(prior, surfaces, near, held_out, distance))
    if reference is not None:
        rows += _baselines(training, rows_drawn, held_out, options.distance, progress)
        _write_rows(folder / "generation.csv", rows, options)
    return Samples(rows, pictures, empty)


def _baselines(
    training: TrainingSurfaces,
    drawn: Sequence[int],
    held_out: Sequence[np.ndarray],
    distance: ShapeDistance,
    progress: ProgressCounter,
) -> list[SetMetrics]:
    """Metrics of training shapes in the place of samples, and distances of held-out shapes to training shapes."""
    surfaces = []
    for row in drawn:
        surfaces.append(training.surface(row))
        progress.advance()
    near = []
    for surface in held_out:
        near.append(training.nearest(surface))
        progress.advance()
    return [
        _set_metrics(TRAINING, surfaces, [], held_out, distance),
        SetMetrics(HELD_OUT, len(held_out), to_training=_median(near)),
    ]


def _some_rows(space: ShapeSpace, count: int, seed: int) -> list[int]:
    trained = np.flatnonzero(space.is_trained.cpu().numpy())
    return [int(row) for row in np.random.default_rng(seed).permutation(trained)[:count]]


def _set_metrics(
    source: str,
    surfaces: Sequence[np.ndarray | None],
    near: Sequence[Neighbour | None],
    held_out: Sequence[np.ndarray],
    distance: ShapeDistance | None,
) -> SetMetrics:
    known = [surface for surface in surfaces if surface is not None]
    if distance is None:
        return SetMetrics(source, len(known), to_training=_median(near))
    found = generation_metrics(known, held_out, distance=distance)
    return SetMetrics(
        source,
        len(known),
        found.references,
        found.coverage,
        found.minimum_matching_distance,
        found.one_nn_accuracy,
        _median(near),
    )


def _median(near: Sequence[Neighbour | None]) -> float | None:
    known = [one.chamfer for one in near if one is not None]
    return float(np.median(known)) if known else None


def _write(
    folder: Path,
    shapes: Sequence[Shape],
    meshes: Sequence[trimesh.Trimesh | None],
    near: Sequence[Neighbour | None],
    names: Sequence[str],
) -> None:
    lines = [["sample", "nearest_training_shape", "chamfer"]]
    for number, (shape, mesh, neighbour) in enumerate(zip(shapes, meshes, near, strict=True)):
        if mesh is None:
            continue
        save_mesh(mesh, folder / f"sample_{number:02d}.ply")
        save_code(folder / f"sample_{number:02d}.pth", shape.code)
        known = ["", ""] if neighbour is None else [names[neighbour.row], f"{neighbour.chamfer:.6g}"]
        lines.append([f"sample_{number:02d}", *known])
    write_text(folder / "samples.csv", csv_text(lines))


def _write_rows(path: Path, rows: Sequence[SetMetrics], options: SampleOptions) -> None:
    header = ["source", "shapes", "references", "coverage", "minimum_matching_distance", "one_nn_accuracy"]
    lines = [[*header, "median_chamfer_to_training", "distance", "points"]]
    for row in rows:
        figures = (row.coverage, row.minimum_matching_distance, row.one_nn_accuracy, row.to_training)
        cells = ["" if figure is None else f"{figure:.6g}" for figure in figures]
        count = "" if row.references is None else str(row.references)
        lines.append([row.source, str(row.shapes), count, *cells, options.distance, str(options.points)])
    write_text(path, csv_text(lines))


def _picture(
    meshes: Sequence[trimesh.Trimesh | None],
    near: Sequence[Neighbour | None],
    training: TrainingSurfaces,
    names: Sequence[str],
) -> np.ndarray:
    """Each sample beside its nearest training shape, with the chamfer distance × 10³ and the name of that shape."""
    pairs = []
    for number, (mesh, neighbour) in enumerate(zip(meshes[:MAX_PICTURED], near, strict=False)):
        left = None if mesh is None else unit_picture(mesh, SIZE)
        right, label = None, ""
        if neighbour is not None:
            beside = training.mesh(neighbour.row)
            assert beside is not None
            right = render_mesh(beside, PictureOptions(size=SIZE, bound=FRAME, color=NEIGHBOUR_COLOUR))
            label = f"{neighbour.chamfer * 1e3:.2f} {names[neighbour.row]}"
        if left is None:
            pairs.append(None)  # an empty place in the grid
        else:
            pairs.append(grid_image([[left, right]], column_labels=[f"sample {number}", label], pad=4))
    return grid_image([pairs[start : start + PAIRS_PER_ROW] for start in range(0, len(pairs), PAIRS_PER_ROW)], pad=12)
