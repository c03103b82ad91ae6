"""Verbs for training: train, plot."""

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

from deepsdf.cli.console import Bar, Quiet, command, common_options, count, finish, interruptible, say
from deepsdf.cli.options import RegistryChoice, RegistryOption, device_option, experiment_option


def _presets() -> dict[str, str]:
    from deepsdf.presets import PRESETS

    return {name: (preset.__doc__ or "").partition("\n")[0].rstrip(".") for name, preset in PRESETS.items()}


@click.command()
@click.option(
    "--experiment", "-e", "-o", required=True, type=click.Path(path_type=Path), help="Folder of the experiment."
)
@click.option(
    "--continue",
    "-c",
    "resume",
    metavar="CHECKPOINT",
    help="Continue from a checkpoint: latest, or the epoch of a snapshot.",
)
@click.option(
    "--batch-split",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Split each batch into this number of parts to save memory.",
)
@click.option(
    "--memory",
    type=click.FloatRange(min=0),
    metavar="GB",
    help="Memory for samples; larger data is mapped from a file, which is only slightly slower. "
    " [default: 60 % of the machine's memory]",
)
@click.option("--force", is_flag=True, help="Continue even if settings or data have changed.")
@click.option(
    "--on-nan",
    type=click.Choice(["stop", "rollback"]),
    default="stop",
    show_default=True,
    help="What to do when the loss diverges: stop, or go back one epoch and halve the learning rates.",
)
@click.option("--overwrite", is_flag=True, help="Discard the existing training and start again.")
@click.option(
    "--preset",
    cls=RegistryOption,
    registry=_presets,
    help="Settings for a new EXP/specs.json (needs --data and --split; default: fast).",
)
@click.option("--data", "-d", type=click.Path(path_type=Path), help="Data source, for a new specs.json.")
@click.option("--split", "-s", type=click.Path(path_type=Path), help="Training split file, for a new specs.json.")
@click.option("--test-split", type=click.Path(path_type=Path), help="Test split file, for a new specs.json.")
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Number of epochs, for a new specs.json.  [default: that of the preset]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=None,
    help="Random seed. The same seed gives the same weights on the CPU.  [default: Seed in specs.json, or 0]",
)
@click.option(
    "--tensorboard", is_flag=True, help="Write scalars and pictures to EXP/TensorBoard; needs deepsdf[tensorboard]."
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
    """Train the network described by EXP/specs.json.

    With --data and --split, EXP/specs.json is first written from a preset. Paths in specs.json are relative to the
    current folder. Ctrl-C and SIGTERM save a checkpoint and stop after the current epoch; if an epoch takes long,
    training stops at once and saves the state after the previous epoch. A second Ctrl-C stops without saving.
    """
    first = os.environ.get("RANK", "0") == "0"  # with torchrun, only the first process writes and prints
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

    again = f"continue with {command('deepsdf', 'train', '-e', experiment, '-c', 'latest')}"
    with (
        _events(experiment, tensorboard and first) as write_events,
        Bar("Training") as bar,
        interruptible(f"the last checkpoint is unchanged; {again}"),
        _StopOnSignal(stop),
    ):

        def on_epoch(report: EpochReport) -> None:
            last[:] = [report]
            bar.show(
                report.epoch,
                report.num_epochs,
                f"loss {report.loss:.5f}  {report.samples_per_second / 1e3:,.0f}k samples/s",
            )
            if write_events:
                write_events(report)

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
        say(f"Stopped before the end of an epoch; {again}")
    elif not last:
        say(f"Nothing to do: the checkpoint has reached NumEpochs ({done.specs.num_epochs})")
    else:
        early = " (stopped early)" if last[0].epoch < last[0].num_epochs else ""
        say(f"Trained to epoch {last[0].epoch}{early}, loss {last[0].loss:.6f}; wrote {done.root / 'ModelParameters'}")
    if failures:
        say(f"{count(len(failures), 'shape')} could not be used:")
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

    with TensorBoard(Experiment.open(experiment)) as write_events:
        yield write_events


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
            "a new EXP/specs.json needs both --data and --split; --preset, --test-split and --epochs apply only to it"
        )
    preset = preset or "fast"
    path = experiment / "specs.json"
    if path.exists():
        raise InputError(f"{path} exists; omit --preset, --data and --split, or remove the file")
    specs = PRESETS[preset](
        data_source=str(data),
        train_split=str(split),
        test_split=None if test_split is None else str(test_split),
        scenes=len(read_split(split)),
        epochs=epochs,
        seed=seed,
    )
    specs.save(path)
    say(f"Wrote {path} from the preset {preset}")


class _StopOnSignal:
    """Context in which Ctrl-C and SIGTERM set an event; a second one interrupts at once."""

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


def _plots() -> list[str]:
    from deepsdf.figures.plots import PLOTS

    return list(PLOTS)


@click.command()
@experiment_option
@click.option(
    "--type",
    "-t",
    "kind",
    type=RegistryChoice(_plots),
    default="loss",
    show_default=True,
    help="Quantity to plot.",
)
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Picture to write.  [default: EXP/Plots/TYPE.png]")
@click.option("--show", is_flag=True, help="Also open the picture.")
@common_options
def plot(experiment: Path, kind: str, out: Path | None, show: bool) -> None:
    """Plot the training log: loss, learning rates, time, or magnitudes of codes and weights."""
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

    # The system's picture viewer needs no GUI toolkit in this package.
    if click.launch(str(path)) != 0:
        raise InputError(f"no picture viewer could be opened; the picture is at {path}")
