"""The verb that writes an HTML page: report."""

from __future__ import annotations

from pathlib import Path

import click

from deepsdf.cli.console import Bar, common_options, count, finish, interruptible, say
from deepsdf.cli.options import checkpoint_option, experiment_option, options, workers_option
from deepsdf.figures.options import ReportOptions


@click.command()
@experiment_option
@checkpoint_option
@click.option(
    "--data", "-d", type=click.Path(path_type=Path), help="Data source.  [default: the one named in specs.json]"
)
@click.option(
    "--split",
    "-s",
    type=click.Path(path_type=Path),
    help="Split file; show only its shapes.  [default: all evaluated shapes]",
)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    help="Page to write.  [default: EXP/Evaluation/CHECKPOINT/report.html]",
)
@options(ReportOptions(), "report_options", "max_mb", "faces", "error_max")
@workers_option()
@common_options
def report(
    experiment: Path,
    checkpoint: str,
    data: Path | None,
    split: Path | None,
    out: Path | None,
    report_options: ReportOptions,
    threads: int,
) -> None:
    """Write one HTML page with the results of `deepsdf evaluate`.

    The page shows the metrics; every shape beside the true one and in 3D, worst first; training curves; the quality of
    the data; and the settings. It is a single file that needs no network.
    """
    from deepsdf.figures.report import report as run
    from deepsdf.kernels.launch import cpu_threads
    from deepsdf.workspace import DataSource, Experiment

    opened = Experiment.open(experiment)
    with Bar("Drawing") as bar, interruptible("no report was written"):
        done = run(
            opened,
            None if data is None else DataSource.open(data),
            split,
            out,
            report_options,
            checkpoint=checkpoint,
            workers=threads or cpu_threads(),
            on_progress=bar.update,
        )
    say(f"Wrote {done.path}: {count(done.shapes, 'shape')}, {done.size / 1e6:.1f} MB; open it in a browser")
    finish(done.failures)
