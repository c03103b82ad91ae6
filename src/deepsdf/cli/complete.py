"""The verb that completes scans."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from deepsdf.cli.common import (
    SOME_FAILED,
    Bar,
    ListsFormats,
    Quiet,
    checkpoint_option,
    common_options,
    count,
    device_option,
    experiment_option,
    finish,
    interruptible,
    print_wide,
    resolution_option,
    say,
    seed_option,
)

if TYPE_CHECKING:
    from deepsdf.pipeline.evaluate_completion import CompletionEvaluation
    from deepsdf.workspace import DataSource, Experiment


class _Place(click.ParamType):
    """`x,y,z` as three numbers."""

    name = "X,Y,Z"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        try:
            numbers = tuple(float(word) for word in str(value).replace(",", " ").split())
        except ValueError:
            numbers = ()
        if len(numbers) != 3:
            self.fail(f"{value!r} is no place; say three numbers, as 0,1.5,2", param, ctx)
        return numbers


@click.command(cls=ListsFormats)
@experiment_option
@checkpoint_option
@click.argument("scans", nargs=-1, required=True, metavar="SCAN...", type=click.Path(path_type=Path))
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path), help="Mesh file to write ({written_meshes})."
)
@click.option(
    "--pose",
    default="none",
    show_default=True,
    type=click.Choice(["none", "yaw", "rigid", "similarity"]),
    help="What else to find: a turn about the up axis, any turn, or the scale as well; all with a shift.",
)
@click.option(
    "--normalization", type=click.Path(path_type=Path), help="The .npz from the scan's frame to the unit frame."
)
@click.option("--camera", type=_Place(), help="Where the camera stood, where the files do not tell.")
@click.option("--up", default="y", show_default=True, type=click.Choice(["x", "y", "z"]), help="The axis that is up.")
@click.option("--any-way-up", is_flag=True, help="The scan may stand on its head: a longer search.")
@click.option("--samples", default=0, show_default=True, type=click.IntRange(0, 64), help="Other whole shapes to draw.")
@click.option("--eta", default=0.01, show_default=True, help="Of the points beside the surface, unit frame.")
@click.option("--noise", type=float, help="Standard deviation of the points, their own lengths.  [default: found]")
@click.option("--free-space", default=1.0, show_default=True, help="Weight of a point that was seen through; 0: none.")
@click.option("--points", default=500, show_default=True, help="Of the scan, that the fit asks.")
@resolution_option(128)
@click.option("--picture/--no-picture", default=True, show_default=True, help="Draw scan and completion.")
@device_option
@seed_option
@common_options
def complete(
    experiment: Path,
    checkpoint: str,
    scans: tuple[Path, ...],
    out: Path,
    camera: tuple[float, ...] | None,
    **options: Any,
) -> None:
    """Find the whole shape from a partial scan.

    A SCAN is a point cloud or depth maps with their cameras ({scans}), or a partial mesh ({meshes}); several
    of them, in one frame, are joined.

    Shapes of an experiment lie in the unit frame, and what a part of a shape is normalised by cannot be told from
    the part: a scan in its own frame needs --pose similarity, or --normalization of the whole shape, if that is
    known. The result is in the scan's frame; blue was seen, yellow to red is guessed, the redder the less sure.

    \b
    deepsdf complete -e EXP scan.ply -o whole.ply --pose similarity --camera 0,1,3
    deepsdf complete -e EXP views.json -o whole.ply --pose similarity --samples 4
    """
    from deepsdf.inference.complete.completion import badly_explained
    from deepsdf.pipeline.complete import complete as run
    from deepsdf.workspace import Experiment

    found = run(Experiment.open(experiment), scans, out, checkpoint=checkpoint, camera=camera, **options)
    say(f"Explained {found.explained:.0%} of {count(len(found.scan), 'point')}, median distance {found.residual:.4f}")
    if found.freedom.size:
        say(f"Scale {found.scale:.4f} unit lengths per length of the scan; the pose is in {out.with_suffix('.json')}")
    say(f"Wrote {out}")
    if reason := badly_explained(found):
        logging.getLogger("deepsdf").error(reason)
        sys.exit(SOME_FAILED)


def evaluate_completions(
    runs: Sequence[tuple[Experiment, str]], data: DataSource, split: Path, *, picture: bool, **options: Any
) -> None:
    """`deepsdf evaluate --completion`: files and a table for each experiment."""
    from deepsdf.pipeline.evaluate_completion import evaluate_completion

    failures = []
    for experiment, checkpoint in runs:
        with Bar(f"Completing, {experiment.root}") as bar, interruptible("nothing of this evaluation was written"):
            result = evaluate_completion(
                experiment, data, split, checkpoint=checkpoint, picture=picture, **options,
                on_progress=bar.update,
            )  # fmt: skip
        folder = experiment.evaluation_folder(checkpoint)
        for name in ("completion.csv", "completion.json", *(["completion.png"] if picture else [])):
            say(f"Wrote {folder / name}")
        if not Quiet.on:
            print_wide(_table(result))
        failures += result.failures
    finish(failures)


def _table(result: CompletionEvaluation) -> Table:
    """A row a method, the best figures marked."""
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
