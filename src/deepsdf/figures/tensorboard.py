"""Training progress for TensorBoard: scalars of every epoch, and pictures of a few shapes now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from deepsdf.errors import DeepSDFError, InputError
from deepsdf.figures.pictures import unit_picture
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.inference.space import ShapeSpace
from deepsdf.rendering.render import grid_image
from deepsdf.workspace import Experiment

if TYPE_CHECKING:
    from deepsdf.training.train import EpochReport

SHAPES, RESOLUTION, SIZE = 4, 64, 256
"""Number of training shapes drawn, evenly spaced in the split; grid resolution of their meshes; pixels per side."""

SHARE = 0.05
"""Largest share of the training time that is spent on pictures."""

RATES = ("decoder", "codes", "hidden_matrices")


class TensorBoard:
    """Writes event files to EXP/TensorBoard. Call it with the report of each epoch, after its checkpoint is written.

    Pictures show the shapes of the checkpoint.
    """

    def __init__(self, experiment: Experiment) -> None:
        """Raises InputError if the package tensorboardX is missing."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise InputError(
                'event files for TensorBoard need the package tensorboardX; run pip install "deepsdf[tensorboard]"'
            ) from None
        self._make = SummaryWriter
        self._experiment = experiment
        self._writer: SummaryWriter | None = None
        self._drawn: int | None = None
        self._next = 0.0

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer:
            self._writer.close()

    def __call__(self, report: EpochReport) -> None:
        # purge_step hides what an earlier run wrote for this and later epochs.
        writer = self._writer = self._writer or self._make(
            str(self._experiment.tensorboard_folder), purge_step=report.epoch
        )
        writer.add_scalar("loss", report.loss, report.epoch)
        writer.add_scalar("samples_per_second", report.samples_per_second, report.epoch)
        writer.add_scalar("code_magnitude", report.code_magnitude, report.epoch)
        for name, rate in zip(RATES, report.learning_rates, strict=False):
            writer.add_scalar(f"learning_rate/{name}", rate, report.epoch)
        start = time.monotonic()
        last = report.epoch == report.num_epochs
        if (start >= self._next or last) and report.saved and report.epoch != self._drawn:
            self._draw(report.epoch)
            now = time.monotonic()
            self._next = now + (now - start) / SHARE

    def _draw(self, epoch: int) -> None:
        space = ShapeSpace.load(self._experiment, device="cpu")
        count = len(space.codes)
        rows = sorted({k * (count - 1) // max(1, SHAPES - 1) for k in range(SHAPES)})
        drawn = []
        for row in rows:
            try:
                drawn.append(
                    unit_picture(
                        space.shape(space.codes[row]).mesh(Meshing(resolution=RESOLUTION, vertices="linear")), SIZE
                    )
                )
            except DeepSDFError:
                drawn.append(None)  # no surface yet
        image = grid_image([drawn], column_labels=[f"shape {row}" for row in rows])
        assert self._writer
        self._writer.add_image("training_shapes", image, epoch, dataformats="HWC")
        self._writer.flush()
        self._drawn = epoch
