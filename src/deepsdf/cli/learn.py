"""Verbs of training: train, plot."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import click

from deepsdf.cli.common import (
    Bar,
    Quiet,
    RegistryOption,
    command,
    common_options,
    count,
    device_option,
    experiment_option,
    finish,
    interruptible,
    say,
)


def _presets() -> dict[str, str]:
    from deepsdf.presets import PRESETS

    return {name: (preset.__doc__ or "").partition("\n")[0].rstrip(".") for name, preset in PRESETS.items()}


@click.command()
@click.option(
    "--experiment", "-e", "-o", required=True, type=click.Path(path_type=Path), help="The experiment's folder."
)
@click.option(
    "--continue", "-c", "resume", metavar="CHECKPOINT", help="Continue from latest, or from an epoch's snapshot."
)
@click.option(
    "--batch-split",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Work on a batch in so many parts, for less memory.",
)
@click.option(
    "--memory",
    type=click.FloatRange(min=0),
    metavar="GB",
    help="Samples to keep in memory; more than that are mapped from a file, which costs little speed. "
    " [default: 60 % of the machine's]",
)
@click.option("--force", is_flag=True, help="Continue although settings or data have changed.")
@click.option(
    "--on-nan",
    type=click.Choice(["stop", "rollback"]),
    default="stop",
    show_default=True,
    help="When the loss breaks: stop, or go back an epoch and halve the step.",
)
@click.option("--overwrite", is_flag=True, help="Begin anew although the experiment was trained before.")
@click.option(
    "--preset",
    cls=RegistryOption,
    registry=_presets,
    help="Settings to write to EXP/specs.json first, for --data and --split (then fast by default).",
)
@click.option("--data", "-d", type=click.Path(path_type=Path), help="For a new specs.json: the data source.")
@click.option("--split", "-s", type=click.Path(path_type=Path), help="For a new specs.json: the training split.")
@click.option("--test-split", type=click.Path(path_type=Path), help="For a new specs.json: the test split, for later.")
@click.option("--epochs", type=click.IntRange(min=1), help="For a new specs.json: how many.  [default: the preset's]")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=None,
    help="Same seed, same bits on a CPU.  [default: Seed in specs.json, or 0]",
)
@click.option(
    "--tensorboard", is_flag=True, help="Write EXP/TensorBoard: scalars, pictures. Needs deepsdf[tensorboard]."
)
@device_option
@common_options
def train(
    experiment: Path,
    resume: str | None,
    batch_split: int,
    memory: float | None,
    force: bool,
    on_nan: Literal["stop", "rollback"],
    overwrite: bool,
    preset: str | None,
    data: Path | None,
    split: Path | None,
    test_split: Path | None,
    epochs: int | None,
    seed: int | None,
    tensorboard: bool,
    device: str,
) -> None:
    """Train the network that EXP/specs.json describes.

    With --data and --split, EXP/specs.json is written first, from a preset. Paths in specs.json are relative to the
    current folder. Ctrl-C and SIGTERM save and end: after the current epoch, or at the end of the one before where an
    epoch takes long. A second Ctrl-C ends at once.
    """
    first = os.environ.get("RANK", "0") == "0"  # of the processes of torchrun, one writes and tells
    Quiet.on |= not first
    if first and (preset or data or split or test_split or epochs):
        _write_specs(experiment, preset, data, split, test_split, epochs, seed or 0)
    from deepsdf.splits import Failure
    from deepsdf.training.options import TrainingOptions
    from deepsdf.training.train import EpochReport
    from deepsdf.training.train import train as run

    failures: list[Failure] = []
    last: list[EpochReport] = []
    stop = threading.Event()

    again = f"go on with {command('deepsdf', 'train', '-e', experiment, '-c', 'latest')}"
    with (
        _events(experiment, tensorboard and first) as tell,
        Bar("Training") as bar,
        interruptible(f"the last checkpoint is as it was; {again}"),
        _stop_on_signal(stop),
    ):

        def on_epoch(report: EpochReport) -> None:
            last[:] = [report]
            bar.show(
                report.epoch,
                report.num_epochs,
                f"loss {report.loss:.5f}  {report.samples_per_second / 1e3:,.0f}k samples/s",
            )
            if tell:
                tell(report)

        done = run(
            experiment,
            device=device,
            resume=resume,
            overwrite=overwrite,
            options=TrainingOptions(
                seed=seed,
                on_nan=on_nan,
                batch_split=batch_split,
                memory_limit=None if memory is None else int(memory * 1e9),
                force=force,
            ),
            on_epoch=on_epoch,
            on_failure=failures.append,
            should_stop=stop.is_set,
        )
    if not last and stop.is_set():
        say(f"Stopped before an epoch was done; {again}")
    elif not last:
        say(f"Nothing to do: the checkpoint is at NumEpochs ({done.specs.num_epochs}), or beyond it")
    else:
        early = " (stopped early)" if last[0].epoch < last[0].num_epochs else ""
        say(f"Trained to epoch {last[0].epoch}{early}, loss {last[0].loss:.6f}; see {done.root / 'ModelParameters'}")
    if failures:
        say(f"Trained without {count(len(failures), 'shape')}:")
    test = done.specs.test_split or "TEST.json"
    if stop.is_set():
        following = command("deepsdf", "train", "-e", experiment, "-c", "latest")
    else:
        following = command("deepsdf", "reconstruct", "-e", experiment, "-d", done.specs.data_source, "-s", test)
    finish(failures, following)


@contextmanager
def _events(experiment: Path, wanted: bool) -> Iterator[Callable[[Any], None] | None]:
    if not wanted:
        yield None
        return
    from deepsdf.figures.tensorboard import TensorBoard
    from deepsdf.workspace import Experiment

    with TensorBoard(Experiment.open(experiment)) as tell:
        yield tell


def _write_specs(
    experiment: Path,
    preset: str | None,
    data: Path | None,
    split: Path | None,
    test_split: Path | None,
    epochs: int | None,
    seed: int,
) -> None:
    from deepsdf.errors import InputError
    from deepsdf.presets import PRESETS
    from deepsdf.splits import read_split

    if data is None or split is None:
        raise InputError(
            "--data and --split go together: they make EXP/specs.json, from the preset fast or another --preset; "
            "--test-split and --epochs belong to them"
        )
    preset = preset or "fast"
    path = experiment / "specs.json"
    if path.exists():
        raise InputError(f"{path} is there already; leave --preset, --data and --split out, or remove it")
    specs = PRESETS[preset](
        data_source=str(data),
        train_split=str(split),
        test_split=None if test_split is None else str(test_split),
        scenes=len(read_split(split)),
        epochs=epochs,
        seed=seed,
    )
    specs.save(path)
    say(f"Wrote {path}: the preset {preset}")


class _stop_on_signal:
    """Ctrl-C and SIGTERM set an event; a second Ctrl-C interrupts at once."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        self._stop.set()

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@click.command()
@experiment_option
@click.option(
    "--type",
    "-t",
    "kind",
    type=click.Choice(["loss", "learning_rate", "time", "lat_mag", "param_mag"]),
    default="loss",
    show_default=True,
    help="What to plot.",
)
@click.option("--out", "-o", type=click.Path(path_type=Path), help="The picture.  [default: EXP/Plots/TYPE.png]")
@click.option("--show", is_flag=True, help="Open a window as well.")
@common_options
def plot(experiment: Path, kind: str, out: Path | None, show: bool) -> None:
    """Plot a training's log: loss, learning rates, time, or magnitudes."""
    from deepsdf.figures.plots import plot_logs, save_figure
    from deepsdf.workspace import Experiment

    opened = Experiment.open(experiment)
    figure = plot_logs(opened, kind)
    path = out or opened.root / "Plots" / f"{kind}.png"
    save_figure(figure, path)
    say(f"Wrote {path}")
    if show:
        _show(path)


def _show(path: Path) -> None:
    from deepsdf.errors import InputError

    # The picture in the system's own viewer: no toolkit of ours, and nothing where there is no display.
    if click.launch(str(path)) != 0:
        raise InputError(f"no viewer could be opened; the picture is {path}")
