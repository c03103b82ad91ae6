"""Verbs that explore the latent space of an experiment: interpolate, sample, map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from deepsdf.cli.console import (
    Bar,
    Quiet,
    command,
    common_options,
    count,
    finish_empty,
    interruptible,
    print_wide,
    say,
)
from deepsdf.cli.options import (
    ListsFormats,
    RegistryOption,
    checkpoint_option,
    device_option,
    experiment_option,
    meshing_options,
    options,
)
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.pipeline.options import InterpolationOptions, MapOptions, SampleOptions


@click.command(cls=ListsFormats)
@experiment_option
@checkpoint_option
@click.argument("shapes", nargs=-1, required=True, metavar="SHAPE SHAPE...")
@options(InterpolationOptions(), "interpolation", "path", "steps", "film", "frames", "seed")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="Folder to write to.  [default: EXP/Interpolations/A-B]"
)
@meshing_options(PREVIEW)
@device_option
@common_options
def interpolate(
    experiment: Path,
    checkpoint: str,
    shapes: tuple[str, ...],
    interpolation: InterpolationOptions,
    out: Path | None,
    meshing: Meshing,
    device: str,
) -> None:
    """Interpolate between shapes: meshes, a strip (.png) and a film.

    A SHAPE is the name of a training or reconstructed instance, a code file (.pth), a mesh ({meshes}), SDF samples
    (.npz), or a scan ({scans}). A code is fitted to the content of a file.

    \b
    deepsdf interpolate -e EXP chair_7 chair_9
    deepsdf interpolate -e EXP chair_7 chair_9 chair_12 --path prior --film mp4
    deepsdf interpolate -e EXP chair_7 mine.obj -o to_mine
    """
    from deepsdf.library.names import short_name
    from deepsdf.pipeline.interpolate import interpolate as run
    from deepsdf.workspace import Experiment

    folder = out or experiment / "Interpolations" / "-".join(short_name(name) for name in shapes)
    with Bar("Interpolating") as bar, interruptible("no picture was written"):
        pictures = run(
            Experiment.open(experiment),
            shapes,
            folder,
            interpolation,
            meshing,
            checkpoint=checkpoint,
            device=device,
            on_progress=bar.update,
        )
    meshes = (interpolation.steps - 1) * (len(shapes) - 1) + 1
    say(f"Wrote {meshes} meshes and {' and '.join(str(path) for path in pictures)}")


def _priors() -> dict[str, str]:
    from deepsdf.network.priors import PRIORS

    return {name: kind.help for name, kind in PRIORS.items()}


@click.command()
@experiment_option
@checkpoint_option
@click.option(
    "--prior",
    cls=RegistryOption,
    registry=_priors,
    more={"all": "every prior, each in its own folder"},
    default="gaussian",
    show_default=True,
    help="Distribution that codes are drawn from.",
)
@click.option("--reference", type=click.Path(path_type=Path), help="Split file of held-out shapes to compare with.")
@click.option(
    "--data", "-d", type=click.Path(path_type=Path), help="Data source with the surface samples of the held-out shapes."
)
@options(SampleOptions(), "sampling", "count", "distance", "points", "seed")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder to write to.  [default: EXP/Samples]")
@meshing_options(PREVIEW)
@device_option
@common_options
def sample(
    experiment: Path,
    checkpoint: str,
    sampling: SampleOptions,
    prior: str,
    reference: Path | None,
    data: Path | None,
    out: Path | None,
    meshing: Meshing,
    device: str,
) -> None:
    """Sample new shapes from a prior: meshes, codes, and a picture of each beside its nearest training shape.

    With --reference and --data, the set is compared with held-out shapes: coverage, minimum matching distance and
    1-nearest-neighbour accuracy (see docs/space.md). Draw the same number of shapes as there are held-out ones.

    \b
    deepsdf sample -e EXP -n 8
    deepsdf sample -e EXP -n 12 --prior all --reference splits/meshes_test.json -d data
    """
    from deepsdf.errors import InputError
    from deepsdf.pipeline.sample import Reference
    from deepsdf.pipeline.sample import sample as run
    from deepsdf.workspace import DataSource, Experiment

    if (reference is None) != (data is None):
        raise InputError("--reference SPLIT and --data DATA go together; pass both to compare, neither to sample only")
    folder = out or experiment / "Samples"
    held_out = None
    if reference is not None and data is not None:
        held_out = Reference(DataSource.open(data), reference)
    with Bar("Sampling") as bar, interruptible("the samples of this prior were not written"):
        made = run(
            Experiment.open(experiment),
            folder,
            sampling,
            meshing,
            checkpoint=checkpoint,
            priors=tuple(_priors()) if prior == "all" else (prior,),
            reference=held_out,
            device=device,
            on_progress=bar.update,
        )
    written = sum(row.shapes for row in made.rows[: len(made.pictures)])
    say(f"Wrote {count(written, 'shape')} and {', '.join(str(path) for path in made.pictures)}")
    if held_out is not None:
        say(f"Wrote {folder / 'generation.csv'}")
        if not Quiet.on:
            print_wide(_table(made.rows, sampling.distance))
    finish_empty(made.empty)
    first_code = made.pictures[0].parent / "sample_00.pth"
    say(f"Next: {command('deepsdf', 'edit', '-e', experiment, first_code, '--size', 'x=90%')}")


def _table(rows: Any, distance: str) -> Table:
    scale, unit = (1e3, " × 10³") if distance == "chamfer" else (1.0, "")
    references = max((row.references or 0) for row in rows)
    table = Table(title=f"Compared with {count(references, 'held-out shape')}, {distance}{unit}, unit frame")
    table.title_justify = "left"
    table.add_column("shapes from")
    for heading in (
        "shapes",
        "coverage",
        "MMD",
        "1-NNA\n(0.5 is best)",
        "median chamfer × 10³\nto nearest training shape",
    ):
        table.add_column(heading, justify="right")

    def cell(figure: float | None, factor: float, decimals: int) -> str:
        return "-" if figure is None else f"{figure * factor:.{decimals}f}"

    for row in rows:
        table.add_row(
            row.source,
            str(row.shapes),
            cell(row.coverage, 1, 2),
            cell(row.minimum_matching_distance, scale, 3),
            cell(row.one_nn_accuracy, 1, 2),
            cell(row.to_training, 1e3, 3),
        )
    return table


@click.command("map")
@experiment_option
@checkpoint_option
@options(MapOptions(), "map_options", "method", "colour_by", "thumbnails", "seed")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Picture to write.  [default: EXP/Map/<method>.png]")
@device_option
@common_options
def map(experiment: Path, checkpoint: str, map_options: MapOptions, out: Path | None, device: str) -> None:
    """Draw all training and reconstructed shapes on a map, in which similar shapes are close to each other.

    Writes a picture and, beside it, a .csv with the position of each shape.

    \b
    deepsdf map -e EXP
    deepsdf map -e EXP --colour-by error
    deepsdf map -e EXP --colour-by ages.csv:age --thumbnails 120 -o ages.png
    """
    from deepsdf.pipeline.latent_map import latent_map
    from deepsdf.workspace import Experiment

    picture = out or experiment / "Map" / f"{map_options.method}.png"
    with Bar("Drawing") as bar, interruptible("no file was written"):
        latent_map(
            Experiment.open(experiment),
            picture,
            map_options,
            checkpoint=checkpoint,
            device=device,
            on_progress=bar.update,
        )
    say(f"Wrote {picture} and {picture.with_suffix('.csv')}")
