"""Training: decoder and codes learn together (auto-decoder; DeepSDF, section 4)."""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from deepsdf.devices import resolve_device
from deepsdf.errors import InputError, TrainingError
from deepsdf.files import held
from deepsdf.journal import recover
from deepsdf.specs import CosineSchedule
from deepsdf.splits import Failure, ShapeName, read_split
from deepsdf.training.checkpoint import Kept, TrainingState, independent_seeds
from deepsdf.training.faults import Fault, SignWatch, describe, find_loss_fault, find_weight_fault, scenes_of
from deepsdf.training.ranks import Ranks, joined, local_device
from deepsdf.training.record import TrainingRecord
from deepsdf.training.samples import SplitSamples
from deepsdf.training.step import Stepper
from deepsdf.workspace import DataSource, Experiment

logger = logging.getLogger(__name__)

SAVE_SECONDS = 300.0
"""Longer than this since the last checkpoint, and "latest" is saved though LogFrequency does not ask for it."""

GRACE_SECONDS = 5.0
"""A training that is to stop finishes its epoch if that takes no longer; else it goes back to the epoch's beginning."""

HALVINGS = 10
"""Of the step within one epoch, before it is given up."""


class EpochReport(NamedTuple):
    """What `train` tells after each epoch."""

    epoch: int
    num_epochs: int
    steps: int
    loss: float
    """Mean over the epoch's steps."""
    samples_per_second: float
    learning_rates: list[float]
    code_magnitude: float
    """Mean norm of the codes."""
    saved: bool = False
    """A checkpoint of this epoch was written."""


def train(
    experiment: Experiment | str | os.PathLike[str],
    *,
    device: str = "auto",
    resume: str | int | None = None,
    overwrite: bool = False,
    force: bool = False,
    on_nan: Literal["stop", "rollback"] = "stop",
    batch_split: int = 1,
    compiled: bool = False,
    seed: int | None = None,
    memory_limit: int | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Experiment:
    """Train the network that an experiment's specs.json describes, on the samples that it names.

    Paths in specs.json are relative to the current folder, as in the original. Every epoch's random numbers come
    from the seed and the epoch alone: a continued training does the same as one that was never interrupted.
    Checkpoints appear whole or not at all; after a crash or a power cut the last one is there.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:1".
        resume: a checkpoint to continue from: "latest" or an epoch.
        overwrite: begin anew although the folder holds a training already; its checkpoints are removed.
        force: continue although settings or data are others than the checkpoint was made with.
        on_nan: when the loss or the weights are not finite any more, or explode: "stop", or "rollback" to the end of
            the epoch before and go on with half the step. Checkpoints note it, so that continuing stays the same.
        batch_split: work on each batch in so many parts, for less memory; the gradients are the same.
        compiled: run the decoder through torch.compile, for a GPU; the first steps then take a minute.
        seed: instead of the one in specs.json, or of the one that a continued training began with.
        memory_limit: bytes of samples to keep in memory; above it they are packed into a file beside the data
            and mapped from there.
        on_epoch: told after each epoch.
        on_failure: told each shape whose samples cannot be used. Its code stays zero.
        should_stop: asked after each step; when true, the epoch is finished or, where that would take long, given up;
            the state is saved and training ends.
    Returns:
        The experiment, with its checkpoints.
    Raises:
        InputError: settings, data, checkpoint or device cannot be used; another training works on the experiment.
        TrainingError: the loss or the weights are not finite any more, or a checkpoint cannot be written. The last
            checkpoint is as it was.
    """
    experiment = experiment if isinstance(experiment, Experiment) else Experiment.open(experiment)
    specs = experiment.specs
    if batch_split < 1:
        raise InputError(f"batch_split is {batch_split}; it must be at least 1")
    if resume is None and not overwrite and experiment.checkpoints():
        raise InputError(
            f"{experiment.root} holds a training already (checkpoints {', '.join(experiment.checkpoints())}); "
            "continue it with --continue latest, or begin anew with --overwrite"
        )
    target = resolve_device(local_device(device))
    shapes = read_split(specs.train_split)
    fork = torch.random.fork_rng(devices=range(torch.cuda.device_count()))
    with joined(target) as ranks, _alone(experiment) if ranks.first else nullcontext(), fork:
        older = experiment.checkpoints() if resume is None else []
        if ranks.first:
            recover(experiment.root)
        ranks.wait()
        state = TrainingState.create(specs, len(shapes), specs.seed if seed is None else seed, target, ranks)
        before = state.restore(experiment, str(resume)) if resume is not None else None
        samples = SplitSamples.load(
            DataSource.open(specs.data_source),
            shapes,
            on_failure=on_failure or (lambda failure: None),
            memory_limit=memory_limit,
            ranks=ranks,
        )
        seed = seed if seed is not None else before.seed if before else specs.seed
        record = TrainingRecord.of(specs, seed, samples.fingerprints)
        if before:
            _check_changes(before, record, experiment, force)
            record.halved = before.halved
        if resume is None:
            state.zero_codes_but(samples.scenes)
        samples = samples.to(target)
        batch_size = _batch_size(len(samples.bank), len(shapes), experiment, ranks)
        stepper = Stepper(
            state,
            specs,
            samples,
            batch_size=batch_size * ranks.count,
            batch_split=batch_split,
            ranks=ranks,
            compiled=compiled,
        )
        training = _Training(experiment, state, record, samples, shapes, stepper, batch_size, on_nan, older, ranks)
        training.run((on_epoch if ranks.first else None) or (lambda report: None), should_stop)
    return experiment


@contextmanager
def _alone(experiment: Experiment) -> Iterator[None]:
    """The only training of an experiment."""
    from filelock import Timeout

    with ExitStack() as stack:
        try:
            known = stack.enter_context(held(experiment.lock_path, timeout=0))
        except Timeout:
            raise InputError(
                f"another training works on {experiment.root}; wait until it ends, or stop it "
                f"(it holds {experiment.lock_path})"
            ) from None
        except OSError as error:
            raise InputError(f"{experiment.root} cannot be written: {error.strerror}") from None
        if not known:
            logger.warning(
                "%s is on a file system without locks: see that no other training works on it", experiment.root
            )
        yield


def _check_changes(before: TrainingRecord, now: TrainingRecord, experiment: Experiment, force: bool) -> None:
    changes = before.changes(now)
    if changes and not force:
        raise InputError(
            "\n  ".join(
                [
                    f"{experiment.root} was trained with other settings or data; put them back, or continue with "
                    "--force:",
                    *changes,
                ]
            )
        )
    for change in changes:
        logger.warning("continued although %s", change)
    epochs = experiment.specs.num_epochs
    for schedule in experiment.specs.learning_rate_schedule:
        if isinstance(schedule, CosineSchedule) and schedule.length + 1 < epochs and not schedule.final:
            logger.warning(
                "a learning rate is 0 from epoch %d on, and NumEpochs is %d: lengthen LearningRateSchedule too",
                schedule.length,
                epochs,
            )
            break


@dataclass
class _Training:
    """One run of `train`."""

    experiment: Experiment
    state: TrainingState
    record: TrainingRecord
    samples: SplitSamples
    shapes: Sequence[ShapeName]
    stepper: Stepper
    batch_size: int
    on_nan: str
    older: list[str]
    """Checkpoints of a training that this one replaces; until there is a new one, they are all there is."""
    ranks: Ranks
    signs: SignWatch = field(default_factory=SignWatch)

    def run(self, on_epoch: Callable[[EpochReport], None], should_stop: Callable[[], bool]) -> None:
        specs, logs = self.experiment.specs, self.state.logs
        kept = Kept(self.state)
        saved = time.monotonic()
        while logs.epoch < specs.num_epochs:
            kept.keep()
            report = self._epoch_without_fault(kept, should_stop)
            if report is None:
                kept.back()
                self._save(["latest"])
                break
            stopping = logs.epoch == specs.num_epochs or self.ranks.any(should_stop())
            names = [str(logs.epoch)] if logs.epoch in specs.snapshot_epochs else []
            due = logs.epoch % specs.log_frequency == 0 or self.ranks.any(time.monotonic() - saved > SAVE_SECONDS)
            names += ["latest"] if due or stopping else []
            if names:
                self._save(names)
                saved = time.monotonic()
            on_epoch(report._replace(saved=bool(names)))
            if stopping:
                break

    def _save(self, names: Sequence[str]) -> None:
        try:
            self.state.save(self.experiment, names, self.record, self.older)
        except OSError as error:
            raise TrainingError(
                f"the checkpoint of epoch {self.state.logs.epoch} cannot be written to {self.experiment.root} "
                f"({error.strerror or error}). {self._what_is_kept()}; when there is room, go on with --continue latest"
            ) from error
        self.older = []

    def _what_is_kept(self) -> str:
        return f"Checkpoints kept: {', '.join(self.experiment.checkpoints()) or 'none'}"

    def _epoch_without_fault(self, kept: Kept, should_stop: Callable[[], bool]) -> EpochReport | None:
        """The next epoch, with half the step as often as needed where that was asked for."""
        epoch, logs = self.state.logs.epoch + 1, self.state.logs
        while True:
            factor = self.record.step_factor(epoch)
            rates = [factor * schedule.rate(epoch) for schedule in self.experiment.specs.learning_rate_schedule]
            batches: list[Tensor] = []
            found = self._epoch(epoch, rates, batches, should_stop)
            if not isinstance(found, Fault):
                return found
            scenes = scenes_of(batches[found.step - 1], self.samples.scenes, self.shapes)
            told = describe(found, epoch, rates, scenes)
            if self.on_nan != "rollback" or self.record.halved.count(epoch) == HALVINGS:
                raise TrainingError(
                    f"{told}; lower them, set GradientClipNorm, or continue with --on-nan rollback. "
                    + self._what_is_kept()
                )
            logger.warning("%s; back to the end of epoch %d, with half the step", told, epoch - 1)
            kept.back()
            logs.clip(epoch - 1)
            self.record.halved.append(epoch)

    def _epoch(
        self, epoch: int, rates: list[float], batches: list[Tensor], should_stop: Callable[[], bool]
    ) -> EpochReport | Fault | None:
        """Every shape once; logs what happened. None where it is given up because training is to stop.

        Args:
            batches: where to put the epoch's.
        """
        start = time.perf_counter()
        state, specs, samples = self.state, self.experiment.specs, self.samples
        for_order, for_draws, for_dropout = independent_seeds(3, self.record.seed, epoch)
        if self.ranks.count > 1:  # but what is drawn of a scene is the same on whichever rank
            for_order, for_dropout = independent_seeds(2, self.record.seed, epoch, self.ranks.rank)
        torch.manual_seed(for_dropout)
        steps = self.ranks.smallest(len(samples.bank) // self.batch_size)
        order = samples.batches(self.batch_size, torch.Generator().manual_seed(for_order))
        batches[:] = itertools.islice(order, steps)
        self.stepper.begin(epoch, rates, for_draws, batches)
        losses: list[Tensor] = []
        first = state.logs.loss[0] if state.logs.loss else math.nan
        # Asking a GPU, or other ranks, would mean waiting; there, the end of the epoch tells.
        ask = self.ranks.count == 1 and samples.scenes.device.type == "cpu"
        for step, batch in enumerate(batches, 1):
            losses.append(self.stepper(step, batch))
            if ask and find_loss_fault([float(losses[-1])], first):
                break
            left = (time.perf_counter() - start) / len(losses) * (steps - len(losses))
            if self.ranks.count == 1 and left > GRACE_SECONDS and should_stop():
                return None
        values = self.ranks.sum(torch.stack(losses)).tolist()
        if fault := find_loss_fault(values, first):
            return fault
        seconds = time.perf_counter() - start
        magnitude = self.ranks.sum(state.codes.weight.detach().norm(dim=1).sum()) / state.scenes
        state.logs.append(state.decoder, magnitude, values, rates, seconds)
        if fault := find_weight_fault(state.logs, len(values)):
            return fault
        count = len(values) * self.batch_size * self.ranks.count * 2 * (specs.samples_per_scene // 2)
        if told := self.signs.look(float(self.ranks.sum(self.stepper.negative)) / count, len(values)):
            logger.warning("%s", told)
        mean = sum(values) / len(values)
        return EpochReport(epoch, specs.num_epochs, len(values), mean, count / seconds, rates, float(magnitude))


def _batch_size(there: int, named: int, experiment: Experiment, ranks: Ranks) -> int:
    """This rank's shapes in a batch: fewer than asked for only where some of the split's shapes are missing."""
    wanted = experiment.specs.scenes_per_batch
    if wanted % ranks.count:
        raise InputError(
            f"ScenesPerBatch is {wanted}, which {ranks.count} processes cannot share evenly; start as many as divide it"
        )
    if named < wanted:
        raise InputError(
            f"ScenesPerBatch is {wanted}, but there are {named} training shapes, so no batch would ever be full; "
            f"set it to {named} or less in {experiment.root / 'specs.json'}"
        )
    wanted //= ranks.count
    if there < wanted:
        logger.warning("a batch should have %d shapes of this process; it has %d, all that can be used", wanted, there)
    if ranks.count > 1:
        there = ranks.smallest(there)
    return min(there, wanted)
