"""Verbs that move through a trained space: interpolate, sample, map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from deepsdf.cli.common import (
    Bar,
    ListsFormats,
    Quiet,
    RegistryOption,
    checkpoint_option,
    command,
    common_options,
    count,
    device_option,
    experiment_option,
    finish_empty,
    interruptible,
    print_wide,
    resolution_option,
    say,
    seed_option,
)


@click.command(cls=ListsFormats)
@experiment_option
@checkpoint_option
@click.argument("shapes", nargs=-1, required=True, metavar="SHAPE SHAPE...")
@click.option(
    "--path",
    default="linear",
    show_default=True,
    type=click.Choice(["linear", "prior"]),
    help="linear: the straight line; prior: over training shapes between, so that none on the way is unlikely.",
)
@click.option(
    "--steps", default=7, show_default=True, type=click.IntRange(min=2), help="Shapes a way, both ends included."
)
@click.option(
    "--film",
    default="gif",
    show_default=True,
    type=click.Choice(["gif", "mp4", "none"]),
    help='A loop, there and back; mp4 needs pip install "deepsdf[video]".',
)
@click.option("--frames", default=16, show_default=True, type=click.IntRange(min=2), help="Of the film, a way.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder.  [default: EXP/Interpolations/A-B]")
@resolution_option(128)
@device_option
@seed_option
@common_options
def interpolate(
    experiment: Path,
    checkpoint: str,
    shapes: tuple[str, ...],
    path: Any,
    steps: int,
    film: str,
    frames: int,
    out: Path | None,
    resolution: int,
    device: str,
    seed: int,
) -> None:
    """Go from shape to shape: meshes, a strip (.png) and a looping film.

    A SHAPE is the name of a training or reconstructed instance, a code file (.pth), a mesh
    ({meshes}), samples (.npz), or a scan ({scans}); a code is fitted to the content of a file.

    \b
    deepsdf interpolate -e EXP chair_7 chair_9
    deepsdf interpolate -e EXP chair_7 chair_9 chair_12 --path prior --film mp4
    deepsdf interpolate -e EXP chair_7 mine.obj -o to_mine
    """
    from deepsdf.library.names import short_name
    from deepsdf.pipeline.interpolate import interpolate as run
    from deepsdf.workspace import Experiment

    folder = out or experiment / "Interpolations" / "-".join(short_name(name) for name in shapes)
    with Bar("Interpolating") as bar, interruptible("pictures were not written"):
        pictures = run(
            Experiment.open(experiment),
            shapes,
            folder,
            checkpoint=checkpoint,
            path=path,
            steps=steps,
            resolution=resolution,
            film=None if film == "none" else film,
            frames=frames,
            device=device,
            seed=seed,
            on_progress=bar.update,
        )
    meshes = (steps - 1) * (len(shapes) - 1) + 1
    say(f"Wrote {meshes} meshes and {' and '.join(str(path) for path in pictures)}")


def _priors() -> dict[str, str]:
    from deepsdf.network.priors import PRIORS

    return {name: kind.help for name, kind in PRIORS.items()}


@click.command()
@experiment_option
@checkpoint_option
@click.option("--number", "-n", default=8, show_default=True, type=click.IntRange(min=1), help="How many shapes.")
@click.option(
    "--prior",
    cls=RegistryOption,
    registry=_priors,
    more={"all": "each in a folder of its name"},
    default="gaussian",
    show_default=True,
    help="Distribution that codes are drawn from.",
)
@click.option("--reference", type=click.Path(path_type=Path), help="A split of held-out shapes to measure by.")
@click.option("--data", "-d", type=click.Path(path_type=Path), help="Their data source, with --surface samples.")
@click.option(
    "--distance",
    default="chamfer",
    show_default=True,
    type=click.Choice(["chamfer", "emd"]),
    help="Of two shapes, in the metrics; emd takes minutes.",
)
@click.option("--points", default=2048, show_default=True, type=click.IntRange(min=8), help="Of each surface compared.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder to write to.  [default: EXP/Samples]")
@resolution_option(128)
@device_option
@seed_option
@common_options
def sample(
    experiment: Path,
    checkpoint: str,
    number: int,
    prior: Any,
    reference: Path | None,
    data: Path | None,
    distance: Any,
    points: int,
    out: Path | None,
    resolution: int,
    device: str,
    seed: int,
) -> None:
    """Draw new shapes from the prior: meshes, codes, and a picture with the nearest training shape beside each.

    With --reference and -d the set is measured against held-out shapes: coverage, minimum matching distance and
    1-nearest-neighbour accuracy (docs/space.md says what they are). Draw as many as there are held-out shapes.

    \b
    deepsdf sample -e EXP -n 8
    deepsdf sample -e EXP -n 12 --prior all --reference splits/meshes_test.json -d data
    """
    from deepsdf.errors import InputError
    from deepsdf.pipeline.sample import Reference
    from deepsdf.pipeline.sample import sample as run
    from deepsdf.workspace import DataSource, Experiment

    if (reference is None) != (data is None):
        raise InputError("to measure, give both --reference SPLIT and --data DATA; to draw only, neither")
    folder = out or experiment / "Samples"
    measured = None
    if reference is not None and data is not None:
        measured = Reference(DataSource.open(data), reference, distance, points)
    with Bar("Sampling") as bar, interruptible("the samples of this prior were not written"):
        made = run(
            Experiment.open(experiment),
            number,
            folder,
            checkpoint=checkpoint,
            priors=tuple(_priors()) if prior == "all" else (prior,),
            reference=measured,
            resolution=resolution,
            device=device,
            seed=seed,
            on_progress=bar.update,
        )
    written = sum(row.shapes for row in made.rows[: len(made.pictures)])
    say(f"Wrote {count(written, 'shape')} and {', '.join(str(path) for path in made.pictures)}")
    if measured is not None:
        say(f"Wrote {folder / 'generation.csv'}")
        if not Quiet.on:
            print_wide(_table(made.rows, distance))
    finish_empty(made.empty)
    say(f"Next: {command('deepsdf', 'edit', '-e', experiment, _first_code(made.pictures[0]), '--size', 'x=90%')}")


def _first_code(picture: Path) -> Path:
    return picture.parent / "sample_00.pth"


def _table(rows: Any, distance: str) -> Table:
    scale, unit = (1e3, " × 10³") if distance == "chamfer" else (1.0, "")
    references = max((row.references or 0) for row in rows)
    table = Table(title=f"Against {count(references, 'held-out shape')}, {distance}{unit}, unit frame")
    table.title_justify = "left"
    table.add_column("shapes from")
    for heading in (
        "shapes",
        "coverage",
        "MMD",
        "1-NNA\n(½ is best)",
        "median chamfer × 10³\nto nearest training shape",
    ):
        table.add_column(heading, justify="right")

    def told(figure: float | None, factor: float, decimals: int) -> str:
        return "-" if figure is None else f"{figure * factor:.{decimals}f}"

    for row in rows:
        table.add_row(
            row.source,
            str(row.shapes),
            told(row.coverage, 1, 2),
            told(row.minimum_matching_distance, scale, 3),
            told(row.one_nn_accuracy, 1, 2),
            told(row.to_training, 1e3, 3),
        )
    return table


@click.command("map")
@experiment_option
@checkpoint_option
@click.option(
    "--method",
    default="pca",
    show_default=True,
    type=click.Choice(["pca", "umap"]),
    help="pca: directions of most variance; umap: neighbours together, needs umap-learn.",
)
@click.option(
    "--colour-by",
    "--color-by",
    default="class",
    show_default=True,
    metavar="class|set|error|FILE.csv:COLUMN",
    help="error: chamfer distances of `deepsdf evaluate`; a csv names shapes in its first column.",
)
@click.option(
    "--thumbnails", default=60, show_default=True, type=click.IntRange(0, 400), help="Pictures of shapes at most."
)
@click.option("--out", "-o", type=click.Path(path_type=Path), help="A picture.  [default: EXP/Map/<method>.png]")
@device_option
@seed_option
@common_options
def map(
    experiment: Path,
    checkpoint: str,
    method: Any,
    colour_by: str,
    thumbnails: int,
    out: Path | None,
    device: str,
    seed: int,
) -> None:
    """Draw all training and reconstructed shapes on a map: near is alike.

    Writes a picture and, beside it, a .csv of every shape's place.

    \b
    deepsdf map -e EXP
    deepsdf map -e EXP --colour-by error
    deepsdf map -e EXP --colour-by ages.csv:age --thumbnails 120 -o ages.png
    """
    from deepsdf.pipeline.latent_map import latent_map
    from deepsdf.workspace import Experiment

    picture = out or experiment / "Map" / f"{method}.png"
    with Bar("Drawing") as bar, interruptible("nothing was written"):
        latent_map(
            Experiment.open(experiment),
            picture,
            checkpoint=checkpoint,
            method=method,
            colour_by=colour_by,
            thumbnails=thumbnails,
            device=device,
            seed=seed,
            on_progress=bar.update,
        )
    say(f"Wrote {picture} and {picture.with_suffix('.csv')}")
