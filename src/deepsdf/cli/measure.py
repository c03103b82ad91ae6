"""The verb that measures: evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from rich.table import Table

from deepsdf.cli.common import (
    Bar,
    Quiet,
    common_options,
    console,
    data_option,
    finish,
    interruptible,
    say,
    seed_option,
    split_option,
)
from deepsdf.splits import Failure, ShapeName

if TYPE_CHECKING:
    from deepsdf.metrics.registry import Column, Metric
    from deepsdf.pipeline.evaluate import Evaluation, Metrics
    from deepsdf.workspace import DataSource, Experiment


Columns = Sequence["tuple[Metric, Column]"]
"""Columns of the table: each a statistic of a metric."""

Shown = Mapping[str, "set[ShapeName]"]
"""By metric: the shapes that count."""


class Run(NamedTuple):
    """One row of the table."""

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
    help="The experiment's folder; several are set side by side.",
)
@click.option(
    "--checkpoint",
    "-c",
    "checkpoints",
    default=["latest"],
    multiple=True,
    help="An epoch with a snapshot, or latest; several are set side by side.  [default: latest]",
)
@data_option
@split_option
@click.option(
    "--metrics",
    type=click.Choice(["all", "chamfer"]),
    default="all",
    show_default=True,
    help="chamfer: the original's chamfer.csv alone, quickly.",
)
@click.option(
    "--emd-points",
    default=500,
    show_default=True,
    type=click.IntRange(min=0),
    help="Of the earth mover's distance; approximate above 2000; 0 leaves it out.",
)
@click.option(
    "--points", default=30_000, show_default=True, type=click.IntRange(min=1), help="Of each surface (metrics.csv)."
)
@click.option(
    "--threads",
    default=0,
    type=click.IntRange(min=0),
    help="Worker processes.  [default: one a core, at most 8; none with --metrics chamfer]",
)
@click.option("--picture/--no-picture", default=True, show_default=True, help="Draw truth beside reconstruction.")
@click.option(
    "--completion",
    is_flag=True,
    help="Complete one virtual depth view of each shape instead, beside two baselines (the paper's Table 4).",
)
@seed_option
@common_options
def evaluate(
    experiments: Sequence[Path],
    checkpoints: Sequence[str],
    data: Path,
    split: Path,
    metrics: Metrics,
    emd_points: int,
    points: int,
    threads: int,
    picture: bool,
    completion: bool,
    seed: int,
) -> None:
    """Measure reconstructions against the truth: every metric of the paper.

    Writes into EXP/Evaluation/<checkpoint>: metrics.csv, a row a shape, and summary.json, their statistics (unit
    frame: 1 is about the shape's radius, so figures compare across shapes and data sets); and chamfer.csv as the
    original does (mesh frame, squared lengths). The truth are the meshes that were preprocessed, where they are
    still there, and the surface samples of `deepsdf preprocess --surface`. comparison.png shows the worst shapes
    first, 24 at most.

    --completion needs the meshes alone: completion.csv, completion.json and completion.png tell how close the whole
    shape comes to the truth from one view of it.

    Reconstructions that are missing or broken count as failed. Several -e or -c make a row each, the best figures
    marked with *, over the shapes that all of them have.
    """
    from deepsdf.checkpoints import resolve_epoch
    from deepsdf.kernels.launch import cpu_threads
    from deepsdf.metrics.pair import MetricOptions
    from deepsdf.workspace import DataSource, Experiment

    opened = {path: Experiment.open(path) for path in experiments}
    pairs = list(product(opened, dict.fromkeys(checkpoints)))
    source = DataSource.open(data)
    for path, checkpoint in pairs:  # better now than after an hour
        resolve_epoch(opened[path], checkpoint)
    if completion:
        from deepsdf.cli.complete import evaluate_completions

        evaluate_completions(
            [(opened[path], checkpoint) for path, checkpoint in pairs], source, split,
            points=points, emd_points=emd_points, picture=picture, seed=seed,
        )  # fmt: skip
        return
    options = {
        "metrics": metrics,
        "options": MetricOptions(points=points, emd_points=emd_points, seed=seed),
        "workers": threads or (cpu_threads() if metrics == "all" else 0),
    }
    several = len(pairs) > 1
    runs = []
    for path, checkpoint in pairs:
        name = f"{path}, {checkpoint}" if len(set(checkpoints)) > 1 else str(path)
        result = _run(opened[path], source, split, checkpoint, f" {name}" if several else "", options)
        runs.append(Run(name, result))
        _tell(opened[path], source, checkpoint, result, picture)
    if not Quiet.on:
        _show(runs, points if metrics == "all" else 30_000, _columns(metrics))
    finish([_named(failure, run.name if several else "") for run in runs for failure in run.result.failures])


def _run(
    experiment: Experiment, data: DataSource, split: Path, checkpoint: str, name: str, options: Mapping[str, Any]
) -> Evaluation:
    from deepsdf.pipeline.evaluate import evaluate as run

    with Bar(f"Evaluating{name}") as bar, interruptible("nothing of this evaluation was written"):
        return run(experiment, data, split, checkpoint=checkpoint, **options, on_progress=bar.update)


def _tell(experiment: Experiment, data: DataSource, checkpoint: str, result: Evaluation, picture: bool) -> None:
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


def _columns(metrics: Metrics) -> Columns:
    from deepsdf.metrics.registry import METRICS, Column

    if metrics == "all":
        return [(metric, column) for metric in METRICS.values() for column in metric.columns]
    chamfer = METRICS["chamfer"]
    worst = Column("chamfer\nworst", statistic="max")
    return [(chamfer, column) for column in (*chamfer.columns, worst)]


def _show(runs: Sequence[Run], points: int, columns: Columns) -> None:
    """The table; of several runs also one over the shapes that all have, where some lack some."""
    from deepsdf.metrics.tables import factors

    own = [_shapes_with(run, columns) for run in runs]
    shared = {metric.name: set.intersection(*(shapes[metric.name] for shapes in own)) for metric, _ in columns}
    fair = all(shapes == shared for shapes in own)
    scaled = factors(dict.fromkeys(metric for metric, _ in columns))
    say(f"Unit frame, {points} points per surface; means unless noted; {scaled}")
    _print(_score_table(runs, columns, mark=fair and len(runs) > 1))
    if len(runs) == 1:
        say("Worst of chamfer.csv, unit frame, × 10³")
        _print(_worst(runs[0].result))
    elif not fair:
        common = shared["chamfer"]
        total = len({row.shape for run in runs for row in run.result.rows})
        if not common:
            say("No shape was evaluated for all of them: no figures compare")
            return
        say(f"Over the {len(common)} of {total} shapes that all have")
        _print(_score_table(runs, columns, shared, mark=True))
        for metric, shapes in shared.items():
            if 0 < len(shapes) < len(common):
                say(f"{metric}: of the {len(shapes)} shapes where all have one")


def _shapes_with(run: Run, columns: Columns) -> dict[str, set[ShapeName]]:
    rows = run.result.rows
    metrics = [metric.name for metric, _ in columns]
    return {metric: {row.shape for row in rows if row.metrics.get(metric) is not None} for metric in metrics}


def _score_table(runs: Sequence[Run], columns: Columns, shown: Shown | None = None, *, mark: bool) -> Table:
    """A row a run.

    Args:
        shown: the shapes that count; None: each run's own, and how many failed.
        mark: the best figures.
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


def _print(table: Table) -> None:
    """A table as wide as it is: figures that are cut short to fit a narrow terminal, or a file, are none."""
    options = console.options.update(width=10_000)
    wide = console.options.update(width=console.measure(table, options=options).maximum)
    lines = ["".join(piece.text for piece in line).rstrip() for line in console.render_lines(table, wide)]
    say("\n".join(lines))
