"""How close reconstructions are to the truth: the original's chamfer over a split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepsdf.checkpoints import resolve_epoch
from deepsdf.errors import InputError
from deepsdf.files import write_text
from deepsdf.geometry.meshes import load_mesh
from deepsdf.geometry.metrics import POINTS, chamfer
from deepsdf.geometry.sampling import sample_surface
from deepsdf.pipeline.batch import OnShape, OnStart, describe
from deepsdf.splits import Failure, ShapeName, read_split
from deepsdf.workspace import DataSource, Experiment


@dataclass(frozen=True)
class Score:
    """Chamfer distance of one shape, squared lengths of the mesh frame and of the unit frame."""

    shape: ShapeName
    mesh_frame: float
    unit_frame: float


@dataclass(frozen=True)
class Evaluation:
    """Scores of a split's shapes, and those that have none."""

    scores: Sequence[Score]
    failures: Sequence[Failure]

    def unit_frame(self) -> np.ndarray:
        """(n,) chamfer distances, unit frame."""
        return np.array([score.unit_frame for score in self.scores])

    def worst(self, count: int = 5) -> list[Score]:
        """The worst scores, worst first."""
        return sorted(self.scores, key=lambda score: -score.unit_frame)[:count]


def evaluate(
    experiment: Experiment,
    data: DataSource,
    split: str | os.PathLike[str],
    *,
    checkpoint: str | int = "latest",
    seed: int = 0,
    on_start: OnStart | None = None,
    on_shape: OnShape | None = None,
) -> Evaluation:
    """Compare reconstructed meshes with surface samples, and write Evaluation/<checkpoint>/chamfer.csv.

    As the original: 30 000 points of the reconstruction, taken to the mesh frame, against the 30 000 surface
    samples; chamfer.csv holds the mesh frame's squared lengths. The unit frame's are those times scale².

    Raises:
        InputError: no such checkpoint or split, or nothing of it reconstructed.
    """
    epoch = resolve_epoch(experiment, checkpoint)
    shapes = read_split(split)
    scores: list[Score] = []
    failures: list[Failure] = []
    if on_start:
        on_start(len(shapes))
    for shape in shapes:
        reason = None
        try:
            scores.append(_score(experiment, data, epoch, shape, seed))
        except Exception as error:  # whatever a file provokes in a library is that shape's failure
            reason = describe(error)
            failures.append(Failure(shape, reason))
        if on_shape:
            on_shape(shape, reason)
    if not scores:
        raise InputError(f"none of the {len(shapes)} shapes of {split} can be evaluated; first: {failures[0].reason}")
    rows = [f"{score.shape}, {score.mesh_frame}\n" for score in scores]
    write_text(experiment.evaluation_folder(checkpoint) / "chamfer.csv", "shape, chamfer_dist\n" + "".join(rows))
    return Evaluation(scores, failures)


def _score(experiment: Experiment, data: DataSource, epoch: int, shape: ShapeName, seed: int) -> Score:
    path = experiment.reconstructed_mesh_path(epoch, shape)
    if not path.is_file():
        raise InputError(f"there is no reconstruction at {path}; `deepsdf reconstruct` makes it")
    normalization = data.load_normalization(shape)
    truth = data.load_surface(shape)
    points = normalization.invert(sample_surface(load_mesh(path), POINTS, seed=seed))
    found = chamfer(truth, points).chamfer
    return Score(shape, found, found * normalization.scale**2)
