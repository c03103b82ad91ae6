"""The verb that runs the whole pipeline on generated chairs: demo."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import click

from deepsdf.cli.console import SOME_FAILED, Bar, Quiet, chamfer_table, common_options, console, count, say
from deepsdf.cli.options import seed_option

CLASS = "chairs"

SAMPLES = 100_000
"""Samples per chair: enough for shapes this simple, in a fifth of the time of the default."""


@click.command()
@click.option(
    "--out", "-o", default="demo-output", show_default=True, type=click.Path(path_type=Path), help="Folder to write to."
)
@click.option(
    "--train", "training", default=280, show_default=True, type=click.IntRange(min=2), help="Number of training chairs."
)
@click.option(
    "--test", "held_out", default=8, show_default=True, type=click.IntRange(min=1), help="Number of held-out chairs."
)
@click.option("--epochs", default=640, show_default=True, type=click.IntRange(min=1), help="Number of training epochs.")
@click.option(
    "--resolution",
    default=160,
    show_default=True,
    type=click.IntRange(min=8),
    help="Grid resolution (samples per axis).",
)
@seed_option("Random seed. The same seed gives the same chairs.")
@common_options
def demo(out: Path, training: int, held_out: int, epochs: int, resolution: int, seed: int) -> None:
    """Run all steps on generated chairs. Takes a few minutes and ends with a table and pictures."""
    from deepsdf.errors import InputError
    from deepsdf.splits import read_split

    start = time.perf_counter()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; remove it, or pass another folder with --out")
    meshes, splits, data, experiment = out / "meshes", out / "splits", out / "data", out / "experiment"
    _write_chairs(meshes / CLASS, training + held_out, seed)
    say(f"Wrote {count(training + held_out, 'chair')} to {meshes / CLASS}")
    _run("split", "-s", meshes, "-o", splits, "--test", held_out, "--seed", seed)
    train_split, test_split = splits / "meshes_train.json", splits / "meshes_test.json"
    some_failed = False
    for split, what in (
        (train_split, ["--samples", SAMPLES]),
        (test_split, ["--samples", SAMPLES]),
        (test_split, ["--surface"]),
    ):
        some_failed |= _run("preprocess", "-s", meshes, "-d", data, "--split", split, *what)
    settings = ["--preset", "fast", "-d", data, "-s", train_split, "--test-split", test_split, "--epochs", epochs]
    some_failed |= _run("train", "-e", experiment, *settings, "--seed", seed)
    some_failed |= _run("reconstruct", "-e", experiment, "-d", data, "-s", test_split, "--resolution", resolution)
    some_failed |= _run("evaluate", "-e", experiment, "-d", data, "-s", test_split)
    first, second = (shape.instance for shape in (*read_split(test_split), *read_split(train_split))[:2])
    strip = experiment / "Interpolations"
    small = min(128, resolution)
    _run("interpolate", "-e", experiment, first, second, "-o", strip, "--resolution", small, "--film", "none")
    _run("plot", "-e", experiment)
    _print_results(experiment, data, test_split, time.perf_counter() - start)
    if some_failed:
        sys.exit(SOME_FAILED)


def _write_chairs(folder: Path, number: int, seed: int) -> None:
    from deepsdf.geometry.chairs import generate_chairs
    from deepsdf.geometry.meshes import save_mesh
    from deepsdf.progress import ProgressCounter

    with Bar("Generating") as bar:
        progress = ProgressCounter(number, bar.update)
        for name, mesh in generate_chairs(number, seed).items():
            save_mesh(mesh, folder / f"{name}.obj")
            progress.advance(name)


def _run(verb: str, *arguments: object) -> bool:
    """Show and run a verb as a user would type it. Returns whether some of its shapes failed; the verb lists them."""
    from deepsdf.cli import main

    typed = [verb, *map(str, arguments)]
    say()
    say(f"$ deepsdf {shlex.join(typed)}")
    if Quiet.on:
        typed.insert(1, "--quiet")
    try:
        main.main(typed, prog_name="deepsdf", standalone_mode=False)
    except SystemExit as end:
        if end.code != SOME_FAILED:
            raise
        return True
    return False


def _print_results(experiment: Path, data: Path, test_split: Path, seconds: float) -> None:
    if Quiet.on:
        return
    from deepsdf.pipeline.evaluate import evaluate
    from deepsdf.workspace import DataSource, Experiment

    values = (
        evaluate(Experiment.open(experiment), DataSource.open(data), test_split, which="chamfer").unit_frame() * 1e3
    )
    say()
    console.print(
        chamfer_table(values, title=f"Held-out chairs, chamfer distance × 10³, after {seconds / 60:.1f} minutes")
    )
    for what, path in (
        ("true shapes and reconstructions", experiment / "Evaluation" / "latest" / "comparison.png"),
        ("interpolation between two chairs", experiment / "Interpolations" / "strip.png"),
        ("loss curve", experiment / "Plots" / "loss.png"),
        ("chamfer distances", experiment / "Evaluation" / "latest" / "chamfer.csv"),
    ):
        say(f"{what:32} {path}")
