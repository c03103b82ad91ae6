"""Verbs that turn samples and codes into meshes: reconstruct, mesh."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from deepsdf.cli.console import Bar, Quiet, command, common_options, count, finish, say
from deepsdf.cli.options import (
    checkpoint_option,
    data_option,
    device_option,
    experiment_option,
    meshing_options,
    options,
    split_option,
)
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.inference.fit.options import FitOptions

_mesh_flags = meshing_options(Meshing(), "vertices", "closed", "method")


@click.command()
@experiment_option
@checkpoint_option
@data_option
@split_option
@options(FitOptions(), "fit", "optimizer", "steps", "best_of", "seed")
@click.option("--skip", is_flag=True, help="Skip shapes whose mesh exists.")
@_mesh_flags
@device_option
@common_options
def reconstruct(
    experiment: Path,
    checkpoint: str,
    data: Path,
    split: Path,
    fit: FitOptions,
    skip: bool,
    meshing: Meshing,
    device: str,
) -> None:
    """Fit codes to the SDF samples of unseen shapes, and mesh them.

    Writes Codes/ and Meshes/ (unit frame) into EXP/Reconstructions/<epoch>, and reconstruct.csv with loss and
    uncertainty of each fit. Warns about samples that are too few, contradict each other, or resemble no shape of the
    space.
    """
    from deepsdf.pipeline.reconstruct import Reconstruction
    from deepsdf.pipeline.reconstruct import reconstruct as run
    from deepsdf.workspace import DataSource, Experiment

    opened = Experiment.open(experiment)
    warnings: list[str] = []

    def on_fit(fitted: Reconstruction) -> None:
        bar.note(f"{fitted.shape.instance}: loss {fitted.loss:.5f} after {fitted.steps} steps")
        warnings.extend(f"{fitted.shape}: {warning}" for warning in fitted.warnings)

    with Bar("Reconstructing") as bar:
        result = run(
            opened,
            DataSource.open(data),
            split,
            fit,
            meshing,
            checkpoint=checkpoint,
            skip=skip,
            device=device,
            on_fit=on_fit,
            on_progress=bar.update,
        )
    for warning in [] if Quiet.on else warnings:  # reconstruct.csv contains them too
        logging.getLogger("deepsdf").warning("%s", warning)
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    best = f" (each the best of {fit.best_of} fits)" if fit.best_of > 1 else ""
    done = f"Reconstructed {count(len(result.done), 'shape')}{best} in {opened.root / 'Reconstructions'}"
    say(f"{done}{skipped}, {len(result.failures)} failed")
    following = command("deepsdf", "evaluate", "-e", experiment, "-c", checkpoint, "-d", data, "-s", split)
    finish(result.failures, following)


@click.command()
@experiment_option
@checkpoint_option
@click.option("--keep-normalization", is_flag=True, help="Leave meshes in the unit frame.")
@click.option("--skip", is_flag=True, help="Skip shapes whose mesh exists.")
@_mesh_flags
@device_option
@common_options
def mesh(
    experiment: Path, checkpoint: str, keep_normalization: bool, skip: bool, meshing: Meshing, device: str
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
            meshing,
            checkpoint=checkpoint,
            keep_normalization=keep_normalization,
            skip=skip,
            device=device,
            on_progress=bar.update,
        )
    say(f"Meshed {count(len(result.done), 'shape')} in {opened.root / 'TrainingMeshes'}, {len(result.failures)} failed")
    finish(result.failures)
