"""The verb that shows what came of everything: report."""

from __future__ import annotations

from pathlib import Path

import click

from deepsdf.cli.common import (
    Bar,
    checkpoint_option,
    common_options,
    count,
    experiment_option,
    finish,
    interruptible,
    say,
)


@click.command()
@experiment_option
@checkpoint_option
@click.option("--data", "-d", type=click.Path(path_type=Path), help="The data source.  [default: that of specs.json]")
@click.option(
    "--split", "-s", type=click.Path(path_type=Path), help="Only the shapes of this split file.  [default: all]"
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="The page.  [default: EXP/Evaluation/CHECKPOINT/report.html]"
)
@click.option(
    "--max-mb",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Size of the page, at most; pictures and meshes become smaller to fit.",
)
@click.option(
    "--faces",
    default=12_000,
    show_default=True,
    type=click.IntRange(min=0),
    help="Of each mesh in the 3D view, at most; 0: no 3D view.",
)
@click.option(
    "--error-max",
    type=click.FloatRange(min=0, min_open=True),
    help="Where error colours end, unit frame.  [default: what nine tenths of the shapes are wrong by]",
)
@click.option(
    "--threads", default=0, type=click.IntRange(min=0), help="Worker processes.  [default: one a core, at most 8]"
)
@common_options
def report(
    experiment: Path,
    checkpoint: str,
    data: Path | None,
    split: Path | None,
    out: Path | None,
    max_mb: float,
    faces: int,
    error_max: float | None,
    threads: int,
) -> None:
    """Write one HTML page of what `evaluate` found, to look at and to send around.

    It holds the metrics, every shape beside its truth and in 3D, worst first, the training's curves, the verdicts on
    the data, and the settings. It opens in a browser from disk and needs no network.
    """
    from deepsdf.figures.report import report as run
    from deepsdf.figures.report.options import ReportOptions
    from deepsdf.kernels.launch import cpu_threads
    from deepsdf.workspace import DataSource, Experiment

    opened = Experiment.open(experiment)
    with Bar("Drawing") as bar, interruptible("no report was written"):
        done = run(
            opened,
            None if data is None else DataSource.open(data),
            split,
            out,
            ReportOptions(max_mb, faces, error_max),
            checkpoint=checkpoint,
            workers=threads or cpu_threads(),
            on_progress=bar.update,
        )
    say(f"Wrote {done.path}: {count(done.shapes, 'shape')}, {done.size / 1e6:.1f} MB; open it in a browser")
    finish(done.failures)
