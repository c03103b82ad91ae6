"""The whole pipeline on chairs of our own making, by the verbs a user would type."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import click

from deepsdf.cli.common import SOME_FAILED, Bar, Quiet, chamfer_table, common_options, console, count, say

CLASS = "chairs"

SAMPLES = 100_000
"""Of a chair: plenty for shapes as plain as these, and a fifth of the usual time."""


@click.command()
@click.option("--out", "-o", default="demo-output", show_default=True, type=click.Path(path_type=Path), help="Folder.")
@click.option(
    "--train", "training", default=280, show_default=True, type=click.IntRange(min=2), help="Training chairs."
)
@click.option("--test", "held_out", default=8, show_default=True, type=click.IntRange(min=1), help="Held-out chairs.")
@click.option("--epochs", default=640, show_default=True, type=click.IntRange(min=1), help="Of training.")
@click.option("--resolution", default=160, show_default=True, type=click.IntRange(min=8), help="Of the meshes.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Same seed, same chairs.")
@common_options
def demo(out: Path, training: int, held_out: int, epochs: int, resolution: int, seed: int) -> None:
    """Run everything on generated chairs: a few minutes, ending with a table and pictures."""
    from deepsdf.errors import InputError
    from deepsdf.splits import read_split

    start = time.perf_counter()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already, and not empty; remove it, or choose another folder with --out")
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
    made = ["--preset", "fast", "-d", data, "-s", train_split, "--test-split", test_split, "--epochs", epochs]
    some_failed |= _run("train", "-e", experiment, *made, "--seed", seed)
    some_failed |= _run("reconstruct", "-e", experiment, "-d", data, "-s", test_split, "--resolution", resolution)
    some_failed |= _run("evaluate", "-e", experiment, "-d", data, "-s", test_split)
    first, second = (shape.instance for shape in (*read_split(test_split), *read_split(train_split))[:2])
    strip = experiment / "Interpolations"
    small = min(128, resolution)
    _run("interpolate", "-e", experiment, first, second, "-o", strip, "--resolution", small, "--film", "none")
    _run("plot", "-e", experiment)
    _tell(experiment, data, test_split, time.perf_counter() - start)
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
    """A verb as the user would type it, shown before it runs; whether some of its shapes failed, which it lists."""
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


def _tell(experiment: Path, data: Path, test_split: Path, seconds: float) -> None:
    if Quiet.on:
        return
    from deepsdf.pipeline.evaluate import evaluate
    from deepsdf.workspace import DataSource, Experiment

    values = (
        evaluate(Experiment.open(experiment), DataSource.open(data), test_split, metrics="chamfer").unit_frame() * 1e3
    )
    say()
    console.print(
        chamfer_table(values, title=f"Held-out chairs, chamfer distance × 10³, after {seconds / 60:.1f} minutes")
    )
    for what, path in (
        ("truth beside reconstruction", experiment / "Evaluation" / "latest" / "comparison.png"),
        ("from one chair to another", experiment / "Interpolations" / "strip.png"),
        ("loss curve", experiment / "Plots" / "loss.png"),
        ("chamfer distances", experiment / "Evaluation" / "latest" / "chamfer.csv"),
    ):
        say(f"{what:28} {path}")
