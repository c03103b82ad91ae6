"""The verb that completes partial scans."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from deepsdf.cli.console import SOME_FAILED, Bar, Quiet, common_options, count, finish, interruptible, print_wide, say
from deepsdf.cli.options import (
    ListsFormats,
    checkpoint_option,
    device_option,
    experiment_option,
    meshing_options,
    options,
)
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.inference.complete.options import CompletionOptions
from deepsdf.metrics.options import MetricOptions
from deepsdf.pipeline.options import CompletionEvaluationOptions

if TYPE_CHECKING:
    from deepsdf.pipeline.evaluate_completion import CompletionEvaluation
    from deepsdf.workspace import DataSource, Experiment


class _Position(click.ParamType):
    """`x,y,z` as three numbers."""

    name = "X,Y,Z"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        try:
            numbers = tuple(float(word) for word in str(value).replace(",", " ").split())
        except ValueError:
            numbers = ()
        if len(numbers) != 3:
            self.fail(f"{value!r} is not a position; expected X,Y,Z, for example 0,1.5,2", param, ctx)
        return numbers


@click.command(cls=ListsFormats)
@experiment_option
@checkpoint_option
@click.argument("scans", nargs=-1, required=True, metavar="SCAN...", type=click.Path(path_type=Path))
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path), help="Mesh file to write ({written_meshes})."
)
@click.option(
    "--normalization",
    "normalization_file",
    type=click.Path(path_type=Path),
    help="Normalization file (.npz) from the scan's frame to the unit frame.",
)
@click.option(
    "--camera", type=_Position(), help="Camera position; replaces the one stored in the file. Ignored for depth maps."
)
@options(
    CompletionOptions(), "completion",
    "pose", "up", "any_way_up", "eta", "noise", "free_space", "points", "seed",
)  # fmt: skip
@click.option(
    "--samples",
    default=0,
    show_default=True,
    type=click.IntRange(0, 64),
    help="Number of alternative shapes to draw from the posterior.",
)
@meshing_options(PREVIEW)
@click.option("--picture/--no-picture", default=True, show_default=True, help="Draw scan and completed shape.")
@device_option
@common_options
def complete(
    experiment: Path,
    checkpoint: str,
    scans: tuple[Path, ...],
    out: Path,
    normalization_file: Path | None,
    camera: tuple[float, ...] | None,
    completion: CompletionOptions,
    samples: int,
    meshing: Meshing,
    picture: bool,
    device: str,
) -> None:
    """Estimate the complete shape from a partial scan.

    A SCAN is a point cloud or depth maps with their cameras ({scans}), or a partial mesh ({meshes}). Several scans must
    have the same frame.

    Shapes of an experiment are in the unit frame, which is defined by the complete shape and cannot be computed from a
    part of it. For a scan in its own frame, pass --pose similarity, or --normalization if the normalization of the
    complete shape is known. The result is in the scan's frame. Observed parts are blue; inferred parts are yellow where
    they are certain and red where they are not.

    \b
    deepsdf complete -e EXP scan.ply -o whole.ply --pose similarity --camera 0,1,3
    deepsdf complete -e EXP views.json -o whole.ply --pose similarity --samples 4
    """
    from deepsdf.inference.complete.completion import misfit
    from deepsdf.pipeline.complete import complete as run
    from deepsdf.pipeline.complete import load_scans
    from deepsdf.workspace import Experiment, read_normalization

    opened = Experiment.open(experiment)
    normalization = None if normalization_file is None else read_normalization(normalization_file)
    scan = load_scans(scans, camera=camera, seed=completion.seed)
    found = run(
        opened,
        scan,
        out,
        completion,
        meshing,
        checkpoint=checkpoint,
        normalization=normalization,
        samples=samples,
        picture=picture,
        device=device,
    )
    say(f"Explained {found.explained:.0%} of {count(len(found.scan), 'point')}, median distance {found.residual:.4f}")
    if found.freedom.size:
        say(f"Scale {found.scale:.4f} unit lengths per length of the scan; the pose is in {out.with_suffix('.json')}")
    say(f"Wrote {out}")
    if reason := misfit(found):
        logging.getLogger("deepsdf").error(reason)
        sys.exit(SOME_FAILED)


def evaluate_completions(
    runs: Sequence[tuple[Experiment, str]], data: DataSource, split: Path, metrics: MetricOptions, *, picture: bool
) -> None:
    """Run `deepsdf evaluate --completion`: files and a table for each experiment and checkpoint."""
    from deepsdf.pipeline.evaluate_completion import evaluate_completion

    failures = []
    for experiment, checkpoint in runs:
        with Bar(f"Completing, {experiment.root}") as bar, interruptible("no file of this evaluation was written"):
            result = evaluate_completion(
                experiment,
                data,
                split,
                CompletionEvaluationOptions(picture=picture),
                metrics,
                checkpoint=checkpoint,
                on_progress=bar.update,
            )
        folder = experiment.evaluation_folder(checkpoint)
        for name in ("completion.csv", "completion.json", *(["completion.png"] if picture else [])):
            say(f"Wrote {folder / name}")
        if not Quiet.on:
            print_wide(_table(result))
        failures += result.failures
    finish(failures)


def _table(result: CompletionEvaluation) -> Table:
    """One row per method, with the best values marked."""
    from deepsdf.metrics.registry import METRICS
    from deepsdf.metrics.tables import cells, factors
    from deepsdf.pipeline.evaluate_completion import METHODS

    metrics = [metric for metric in METRICS.values() if metric.in_completion]
    shapes = len(result.values(METHODS[0], "chamfer"))
    table = Table(
        title=f"{count(shapes, 'shape')} from one depth view each, unit frame; {factors(metrics)}; * is best",
        title_justify="left",
    )
    table.add_column("method", no_wrap=True)
    columns = []
    for metric in metrics:
        found = [result.values(method, metric.name) for method in METHODS]
        for column in metric.columns:
            table.add_column(column.heading, justify="right", no_wrap=True)
            columns.append(cells(metric, column, found, mark=True))
    for number, method in enumerate(METHODS):
        table.add_row(method, *(column[number] for column in columns))
    return table
