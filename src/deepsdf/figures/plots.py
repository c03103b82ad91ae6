"""Plots of the training log (matplotlib without a window)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepsdf.errors import InputError
from deepsdf.files import atomic_path, check_folder
from deepsdf.training.logs import TrainingLogs, running_mean
from deepsdf.workspace import Experiment

WINDOWS = {41: "#2a9edd", 1601: "#16628b"}
"""Window of each running mean in steps, as in the original, and its colour."""


def _loss(axes: Axes, logs: TrainingLogs) -> None:
    steps_per_epoch = len(logs.loss) / max(1, len(logs.learning_rate))
    losses = np.asarray(logs.loss)
    axes.plot((np.arange(len(losses)) + 1) / steps_per_epoch, losses, "#82c6eb", linewidth=0.8, label="each step")
    for window, colour in WINDOWS.items():
        means = running_mean(losses, window)
        if len(means):
            epochs = (np.arange(len(means)) + window // 2 + 1) / steps_per_epoch
            axes.plot(epochs, means, colour, label=f"mean of {window} steps")
    axes.set(ylabel="loss", title="Training loss", yscale="log")
    axes.legend()


def _learning_rate(axes: Axes, logs: TrainingLogs) -> None:
    rates = np.asarray(logs.learning_rate)
    for rate, name in zip(rates.T, ("decoder", "codes", "hidden matrices"), strict=False):
        axes.plot(np.arange(1, len(rate) + 1), rate, label=name)
    axes.set(ylabel="learning rate", title="Learning rates")
    axes.legend()


def _time(axes: Axes, logs: TrainingLogs) -> None:
    axes.plot(np.arange(1, len(logs.timing) + 1), logs.timing, "#833eb7")
    axes.set(ylabel="seconds", title="Time per epoch")


def _lat_mag(axes: Axes, logs: TrainingLogs) -> None:
    magnitudes = [float(value) for value in logs.latent_magnitude]
    axes.plot(np.arange(1, len(magnitudes) + 1), magnitudes)
    axes.set(ylabel="mean norm", title="Norm of the codes")


def _param_mag(axes: Axes, logs: TrainingLogs) -> None:
    for name, magnitudes in logs.param_magnitude.items():
        axes.plot(np.arange(1, len(magnitudes) + 1), magnitudes, label=name)
    axes.set(ylabel="norm", title="Norm of the parameters")
    axes.legend(fontsize="x-small", ncols=2)


PLOTS: dict[str, Callable[[Axes, TrainingLogs], None]] = {
    "loss": _loss,
    "learning_rate": _learning_rate,
    "time": _time,
    "lat_mag": _lat_mag,
    "param_mag": _param_mag,
}


def plot_logs(experiment: Experiment, kind: str = "loss") -> Figure:
    """A figure of the training log of an experiment.

    Args:
        kind: name in `PLOTS`.
    Raises:
        InputError: the log is missing, broken or empty, or the kind is unknown.
    """
    if kind not in PLOTS:
        raise InputError(f"unknown plot {kind!r}; expected one of {', '.join(PLOTS)}")
    logs = TrainingLogs.load(experiment.logs_path)
    if not logs.loss:
        raise InputError(f"{experiment.logs_path} has no epochs yet")
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    PLOTS[kind](axes, logs)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    return figure


def check_figure(path: str | os.PathLike[str]) -> None:
    """Check that `save_figure` can write a figure, before the work is done.

    Raises:
        InputError: a suffix that matplotlib does not support, or a file in the place of the folder.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(f".{kind}" for kind in FigureCanvasBase.get_supported_filetypes())
    if Path(path).suffix.lower() not in known:
        raise InputError(f"{path}: unknown picture format; expected .png, or one of {', '.join(known)}")
    check_folder(Path(path).parent)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format of the path's suffix.

    Raises:
        InputError: see `check_figure`.
    """
    check_figure(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
