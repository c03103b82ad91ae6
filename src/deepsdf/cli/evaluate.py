"""The verb that compares reconstructions with the true shapes: evaluate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from rich.table import Table

from deepsdf.cli.console import Bar, Quiet, common_options, finish, interruptible, print_wide, say
from deepsdf.cli.options import data_option, options, split_option, workers_option
from deepsdf.metrics.options import PAPER_POINTS, MetricOptions
from deepsdf.splits import Failure, ShapeName

if TYPE_CHECKING:
    from deepsdf.metrics.registry import Column, Metric
    from deepsdf.pipeline.evaluate import Evaluation, Metrics
    from deepsdf.workspace import DataSource, Experiment


Columns = Sequence["tuple[Metric, Column]"]
"""Columns of the table: each a statistic of a metric."""

Shown = Mapping[str, "set[ShapeName]"]
"""For each metric, the shapes that are included."""


class Run(NamedTuple):
    """One row of the table: an experiment at a checkpoint."""

    name: str
    result: Evaluation


@click.command()
@click.option(
    "--experiment",
    "-e",
    "experiments",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder of the experiment; repeat to compare several.",
)
@click.option(
    "--checkpoint",
    "-c",
    "checkpoints",
    default=["latest"],
    multiple=True,
    help="Checkpoint: latest, or the epoch of a snapshot; repeat to compare several.  [default: latest]",
)
@data_option
@split_option
@click.option(
    "--metrics",
    "which",
    type=click.Choice(["all", "chamfer"]),
    default="all",
    show_default=True,
    help="'chamfer' writes only the original's chamfer.csv, which is fast.",
)
@options(MetricOptions(), "metrics", "emd_points", "points", "seed")
@workers_option("one per core, at most 8; none with --metrics chamfer")
@click.option(
    "--picture/--no-picture", default=True, show_default=True, help="Draw true shapes beside reconstructions."
)
@click.option(
    "--completion",
    is_flag=True,
    help="Complete one virtual depth view of each shape instead, and compare with two baselines (the paper's Table 4).",
)
@common_options
def evaluate(
    experiments: Sequence[Path],
    checkpoints: Sequence[str],
    data: Path,
    split: Path,
    which: Metrics,
    metrics: MetricOptions,
    threads: int,
    picture: bool,
    completion: bool,
) -> None:
    """Compare reconstructions with the true shapes, by every metric of the paper.

    Writes into EXP/Evaluation/<checkpoint>: metrics.csv, one row per shape; summary.json, their statistics;
    chamfer.csv, like the original (mesh frame, squared lengths); and comparison.png, up to 24 shapes, worst first. All
    other values are in the unit frame, whose unit is about the radius of the shape, so they are comparable across
    shapes and datasets. The true shapes are the meshes that were preprocessed, if they still exist, and the surface
    samples of `deepsdf preprocess --surface`.

    --completion needs only the meshes. It writes completion.csv, completion.json and completion.png.

    Missing or damaged reconstructions count as failures. With several -e or -c, each has a row of the table; * marks
    the best values over the shapes that all of them have.
    """
    from deepsdf.checkpoints import resolve_epoch
    from deepsdf.kernels.launch import cpu_threads
    from deepsdf.workspace import DataSource, Experiment

    opened = {path: Experiment.open(path) for path in experiments}
    pairs = list(product(opened, dict.fromkeys(checkpoints)))
    source = DataSource.open(data)
    for path, checkpoint in pairs:  # fail before the first evaluation
        resolve_epoch(opened[path], checkpoint)
    if completion:
        from deepsdf.cli.complete import evaluate_completions

        settings = dataclasses.replace(metrics, volume_points=0)  # the paper's Table 4 has no volumetric metric
        runs = [(opened[path], checkpoint) for path, checkpoint in pairs]
        evaluate_completions(runs, source, split, settings, picture=picture)
        return
    workers = threads or (cpu_threads() if which == "all" else 0)
    several = len(pairs) > 1
    runs = []
    for path, checkpoint in pairs:
        name = f"{path}, {checkpoint}" if len(set(checkpoints)) > 1 else str(path)
        result = _run(opened[path], source, split, checkpoint, f" {name}" if several else "", which, metrics, workers)
        runs.append(Run(name, result))
        _write_picture(opened[path], source, checkpoint, result, picture)
    if not Quiet.on:
        _show(runs, metrics.points if which == "all" else PAPER_POINTS, _columns(which))
    finish([_named(failure, run.name if several else "") for run in runs for failure in run.result.failures])


def _run(
    experiment: Experiment,
    data: DataSource,
    split: Path,
    checkpoint: str,
    name: str,
    which: Metrics,
    metrics: MetricOptions,
    workers: int,
) -> Evaluation:
    from deepsdf.pipeline.evaluate import evaluate as run

    with Bar(f"Evaluating{name}") as bar, interruptible("no file of this evaluation was written"):
        return run(
            experiment,
            data,
            split,
            metrics,
            checkpoint=checkpoint,
            which=which,
            workers=workers,
            on_progress=bar.update,
        )


def _write_picture(
    experiment: Experiment, data: DataSource, checkpoint: str, result: Evaluation, picture: bool
) -> None:
    from deepsdf.figures.pictures import scores_picture

    folder = experiment.evaluation_folder(checkpoint)
    say(f"Wrote {folder / 'chamfer.csv'}")
    if result.summary:
        say(f"Wrote {folder / 'metrics.csv'}")
        say(f"Wrote {folder / 'summary.json'}")
    if picture:
        scores_picture(experiment, data, checkpoint, result.worst(24), folder / "comparison.png")
        say(f"Wrote {folder / 'comparison.png'}")


def _named(failure: Failure, run: str) -> Failure:
    return Failure(failure.shape, f"{run}: {failure.reason}") if run else failure


def _columns(which: Metrics) -> Columns:
    from deepsdf.metrics.registry import METRICS, Column

    if which == "all":
        return [(metric, column) for metric in METRICS.values() for column in metric.columns]
    chamfer = METRICS["chamfer"]
    worst = Column("chamfer\nworst", statistic="max")
    return [(chamfer, column) for column in (*chamfer.columns, worst)]


def _show(runs: Sequence[Run], points: int, columns: Columns) -> None:
    """Print the table, and a second one over the common shapes if several runs have different shapes."""
    from deepsdf.metrics.tables import factors

    own = [_shapes_with(run, columns) for run in runs]
    shared = {metric.name: set.intersection(*(shapes[metric.name] for shapes in own)) for metric, _ in columns}
    fair = all(shapes == shared for shapes in own)
    scaled = factors(dict.fromkeys(metric for metric, _ in columns))
    say(f"Unit frame, {points} points per surface; means unless noted; {scaled}")
    print_wide(_score_table(runs, columns, mark=fair and len(runs) > 1))
    if len(runs) == 1:
        say("Largest chamfer distances, unit frame, × 10³")
        print_wide(_worst(runs[0].result))
    elif not fair:
        common = shared["chamfer"]
        total = len({row.shape for run in runs for row in run.result.rows})
        if not common:
            say("No shape was evaluated in all runs, so their values cannot be compared")
            return
        say(f"Over the {len(common)} of {total} shapes that all runs have")
        print_wide(_score_table(runs, columns, shared, mark=True))
        for metric, shapes in shared.items():
            if 0 < len(shapes) < len(common):
                say(f"{metric}: over the {len(shapes)} shapes for which all runs have it")


def _shapes_with(run: Run, columns: Columns) -> dict[str, set[ShapeName]]:
    rows = run.result.rows
    metrics = [metric.name for metric, _ in columns]
    return {metric: {row.shape for row in rows if row.metrics.get(metric) is not None} for metric in metrics}


def _score_table(runs: Sequence[Run], columns: Columns, shown: Shown | None = None, *, mark: bool) -> Table:
    """One row per run.

    Args:
        shown: shapes that are included, for each metric; None for all shapes of each run, with its number of failures.
        mark: mark the best values.
    """
    table = Table()
    table.add_column("experiment", no_wrap=True)
    headings = ["shapes", *([] if shown else ["failed"]), *(column.heading for _, column in columns)]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    cells = [_cells(runs, metric, column, shown, mark) for metric, column in columns]
    for number, run in enumerate(runs):
        evaluated = len(_values(run, "chamfer", shown))
        counts = [str(evaluated)] if shown else [str(evaluated), str(len(run.result.failures))]
        table.add_row(run.name, *counts, *(column[number] for column in cells))
    return table


def _values(run: Run, metric: str, shown: Shown | None) -> Any:
    return run.result.values(metric, None if shown is None else shown[metric])


def _cells(runs: Sequence[Run], metric: Metric, column: Column, shown: Shown | None, mark: bool) -> list[str]:
    from deepsdf.metrics.tables import cells

    return cells(metric, column, [_values(run, metric.name, shown) for run in runs], mark=mark)


def _worst(result: Evaluation) -> Table:
    table = Table(show_header=False)
    for score in result.worst():
        table.add_row(str(score.shape), f"{score.unit_frame * 1e3:.3f}")
    return table
