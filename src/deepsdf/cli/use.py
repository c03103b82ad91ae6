"""Verbs that turn codes and samples into meshes: reconstruct, mesh."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from deepsdf.cli.common import (
    Bar,
    Quiet,
    checkpoint_option,
    command,
    common_options,
    count,
    data_option,
    device_option,
    experiment_option,
    finish,
    resolution_option,
    say,
    seed_option,
    split_option,
)

linear_option = click.option(
    "--linear", is_flag=True, help="Plain marching cubes, as the original: no vertices on the surface, no normals."
)
closed_option = click.option("--closed", is_flag=True, help="Close meshes where the walls of the cube cut them.")
dense_option = click.option("--dense", is_flag=True, help="Evaluate every sample of the grid, as the original.")


@click.command()
@experiment_option
@checkpoint_option
@data_option
@split_option
@click.option(
    "--optimizer",
    type=click.Choice(["lm", "adam"]),
    default="lm",
    show_default=True,
    help="lm: Gauss-Newton from several starts; adam: the original's, from one.",
)
@click.option("--iters", type=click.IntRange(min=1), help="Steps at most.  [default: 1000 of lm, 800 of adam]")
@click.option(
    "--best-of",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Fit so often, from other seeds, and keep the lowest loss.",
)
@click.option("--skip", is_flag=True, help="Leave shapes alone that were reconstructed before.")
@resolution_option(256)
@linear_option
@closed_option
@dense_option
@device_option
@seed_option
@common_options
def reconstruct(
    experiment: Path,
    checkpoint: str,
    data: Path,
    split: Path,
    optimizer: Any,
    iters: int | None,
    best_of: int,
    skip: bool,
    resolution: int,
    linear: bool,
    closed: bool,
    dense: bool,
    device: str,
    seed: int,
) -> None:
    """Fit codes to unseen shapes' SDF samples, and mesh them.

    Writes EXP/Reconstructions/<epoch>/Codes and Meshes (unit frame), and reconstruct.csv: how good and how sure each
    fit is. Warns of samples that are too few, contradict each other, or are like no shape of the space.
    """
    from deepsdf.pipeline.reconstruct import Reconstruction
    from deepsdf.pipeline.reconstruct import reconstruct as run
    from deepsdf.workspace import DataSource, Experiment

    opened = Experiment.open(experiment)
    doubts: list[str] = []

    def told(fit: Reconstruction) -> None:
        bar.note(f"{fit.shape.instance}: loss {fit.loss:.5f} after {fit.steps} steps")
        doubts.extend(f"{fit.shape}: {warning}" for warning in fit.warnings)

    with Bar("Reconstructing") as bar:
        result = run(
            opened,
            DataSource.open(data),
            split,
            checkpoint=checkpoint,
            optimizer=optimizer,
            steps=iters,
            best_of=best_of,
            resolution=resolution,
            vertices="linear" if linear else "exact",
            method="dense" if dense else "sparse",
            closed=closed,
            skip=skip,
            device=device,
            seed=seed,
            on_fit=told,
            on_progress=bar.update,
        )
    for doubt in [] if Quiet.on else doubts:  # reconstruct.csv keeps them
        logging.getLogger("deepsdf").warning("%s", doubt)
    skipped = f", {len(result.skipped)} were there already" if result.skipped else ""
    best = f" (each the best of {best_of} fits)" if best_of > 1 else ""
    done = f"Reconstructed {count(len(result.done), 'shape')}{best} in {opened.root / 'Reconstructions'}"
    say(f"{done}{skipped}, {len(result.failures)} failed")
    following = command("deepsdf", "evaluate", "-e", experiment, "-c", checkpoint, "-d", data, "-s", split)
    finish(result.failures, following)


@click.command()
@experiment_option
@checkpoint_option
@click.option("--keep-normalization", is_flag=True, help="Leave meshes in the unit frame.")
@click.option("--skip", is_flag=True, help="Leave meshes alone that are there.")
@resolution_option(256)
@linear_option
@closed_option
@dense_option
@device_option
@common_options
def mesh(
    experiment: Path,
    checkpoint: str,
    keep_normalization: bool,
    skip: bool,
    resolution: int,
    linear: bool,
    closed: bool,
    dense: bool,
    device: str,
) -> None:
    """Mesh the training shapes from their codes, each in its mesh frame.

    Writes EXP/TrainingMeshes/<epoch>.
    """
    from deepsdf.pipeline.reconstruct import training_meshes
    from deepsdf.workspace import Experiment

    opened = Experiment.open(experiment)
    with Bar("Meshing") as bar:
        result = training_meshes(
            opened,
            checkpoint=checkpoint,
            keep_normalization=keep_normalization,
            resolution=resolution,
            vertices="linear" if linear else "exact",
            method="dense" if dense else "sparse",
            closed=closed,
            skip=skip,
            device=device,
            on_progress=bar.update,
        )
    say(f"Meshed {count(len(result.done), 'shape')} in {opened.root / 'TrainingMeshes'}, {len(result.failures)} failed")
    finish(result.failures)
