"""Plots of a training's log, and pictures of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SPECS, World, is_picture, run
from PIL import Image

from deepsdf.errors import InputError
from deepsdf.figures.pictures import samples_picture
from deepsdf.figures.plots import PLOTS, plot_logs, save_figure
from deepsdf.geometry.sdf.sampling import SDFSamples

pytest_plugins = ("helpers",)


@pytest.mark.parametrize("kind", PLOTS)
def test_every_plot_is_drawn(world: World, kind: str) -> None:
    result = run("plot", "-e", "exp", "-t", kind)
    assert result.stdout == f"Wrote exp/Plots/{kind}.png\n"
    assert is_picture(world.root / f"exp/Plots/{kind}.png")


def lines(world: World, kind: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    (axes,) = plot_logs(world.experiment, kind).axes
    assert axes.get_xlabel() == "epoch"
    return {str(line.get_label()): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.lines}


def test_plots_show_the_log(world: World) -> None:
    logs = torch.load(world.experiment.logs_path, weights_only=True)
    epochs = np.arange(1, 201)
    loss = lines(world, "loss")
    np.testing.assert_allclose(loss["each step"][1], logs["loss"])
    np.testing.assert_allclose(loss["each step"][0], epochs)  # one step an epoch
    assert list(loss) == ["each step", "mean of 41 steps"]  # too short for 1601
    where, mean = loss["mean of 41 steps"]
    np.testing.assert_allclose(mean[0], np.mean(logs["loss"][:41]))
    assert where[0] == 21
    rates = lines(world, "learning_rate")
    schedule = SPECS["LearningRateSchedule"][0]
    expected = schedule["Initial"] * schedule["Factor"] ** (epochs // schedule["Interval"])
    for name in ("decoder", "codes"):
        np.testing.assert_allclose(rates[name][1], expected)
    ((_, seconds),) = lines(world, "time").values()
    np.testing.assert_allclose(seconds, logs["timing"])
    ((_, magnitudes),) = lines(world, "lat_mag").values()
    np.testing.assert_allclose(magnitudes, [float(value) for value in logs["latent_magnitude"]])
    for name, (_, norms) in lines(world, "param_mag").items():
        np.testing.assert_allclose(norms, logs["param_magnitude"][name])


def test_the_format_follows_the_suffix(world: World) -> None:
    run("plot", "-e", "exp", "-o", "out/loss.svg")
    assert "<svg" in (world.root / "out/loss.svg").read_text()
    result = run("plot", "-e", "exp", "-o", "out/loss.docx", status=2)
    assert "error: out/loss.docx: unknown picture format; expected .png, or one of " in result.stderr
    assert [path.name for path in (world.root / "out").iterdir()] == ["loss.svg"]


def test_missing_and_broken_log(world: World) -> None:
    path = world.experiment.logs_path
    content = path.read_bytes()
    path.write_bytes(content[:200])
    with pytest.raises(InputError, match=r"Logs\.pth is not a training log: it is truncated .*`deepsdf train`"):
        plot_logs(world.experiment)
    torch.save({"loss": [1.0]}, path)
    with pytest.raises(InputError, match=r"Logs\.pth is not a training log: the key 'epoch' is missing"):
        plot_logs(world.experiment)
    path.unlink()
    with pytest.raises(InputError, match=r"^there is no training log at .*Logs\.pth; `deepsdf train` writes it$"):
        plot_logs(world.experiment)
    with pytest.raises(InputError, match=r"^unknown plot 'gradient'; expected one of loss, learning_rate, time"):
        plot_logs(world.experiment, "gradient")


def test_an_interrupted_figure_leaves_no_file(tmp_path: Path, world: World) -> None:
    figure = plot_logs(world.experiment)
    with pytest.raises(InputError):
        save_figure(figure, tmp_path / "a.nope")
    assert not list(tmp_path.glob("*a*nope"))


def test_samples_are_drawn_at_their_positions(tmp_path: Path) -> None:
    """A ball: its slices are round, negative inside."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (40_000, 3))
    SDFSamples.of(points, np.linalg.norm(points, axis=1) - 0.5).save(tmp_path / "ball.npz")
    sentence = samples_picture(tmp_path / "ball.npz", tmp_path / "ball.png", size=128)
    outside = int((np.linalg.norm(points, axis=1) > 0.5).sum())
    assert sentence == f"{outside} samples outside, {40_000 - outside} inside"
    assert is_picture(tmp_path / "ball.png")
    with Image.open(tmp_path / "ball.png") as image:
        assert image.width > 4 * 128


def test_samples_of_one_side(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).uniform(0.1, 1, (100, 4)).astype(np.float32)
    for name, samples in (("out", SDFSamples(rows, rows[:0])), ("in", SDFSamples(rows[:0], -rows))):
        samples.save(tmp_path / f"{name}.npz")
        samples_picture(tmp_path / f"{name}.npz", tmp_path / f"{name}.png", size=64)
        assert (tmp_path / f"{name}.png").is_file()
    SDFSamples(rows[:0], rows[:0]).save(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"none\.npz has no samples to draw$"):
        samples_picture(tmp_path / "none.npz", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
