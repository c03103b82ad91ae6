"""Training: the decoder and the codes are optimised together (auto-decoder; DeepSDF, section 4)."""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from deepsdf.devices import resolve_device
from deepsdf.errors import InputError, TrainingError
from deepsdf.specs import Specs
from deepsdf.splits import Failure
from deepsdf.training.checkpoint import Snapshot, independent_seeds
from deepsdf.training.faults import Fault, SignWatch, describe, find_loss_fault, find_weight_fault, scene_names
from deepsdf.training.options import TrainingOptions
from deepsdf.training.preparation import Prepared, exclusive, open_experiment, prepare
from deepsdf.training.ranks import Ranks, joined, local_device
from deepsdf.training.step import EpochPlan, Stepper
from deepsdf.workspace import Experiment

logger = logging.getLogger(__name__)

MAXIMUM_HALVINGS = 10
"""Rollbacks of one epoch before the training stops: the learning rates are then below 1/1000 of the schedule."""


class EpochReport(NamedTuple):
    """Report of `train` after each epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        num_epochs: epochs of the whole training.
        steps: steps of the epoch.
        loss: mean over the steps.
        learning_rates: learning rate of each parameter group.
        code_magnitude: mean norm of the codes.
        saved: whether a checkpoint of this epoch was written.
    """

    epoch: int
    num_epochs: int
    steps: int
    loss: float
    samples_per_second: float
    learning_rates: list[float]
    code_magnitude: float
    saved: bool = False


def train(
    experiment: Experiment | str | os.PathLike[str],
    specs: Specs | None = None,
    *,
    device: str = "auto",
    resume: str | int | None = None,
    overwrite: bool = False,
    options: TrainingOptions = TrainingOptions(),  # noqa: B008
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Experiment:
    """Train the network described by the settings of an experiment, on the samples that they name.

    Paths in the settings are relative to the current folder, as in the original. The random numbers of an epoch depend
    only on the seed and the epoch, so a continued training gives the same result as an uninterrupted one. Checkpoints
    are written completely or not at all; a crash or power cut leaves the previous one.

    Args:
        experiment: folder of the experiment.
        specs: settings. The folder and its specs.json are created from them; an existing specs.json must agree. By
            default specs.json is read.
        device: "auto", "cpu", "cuda" or "cuda:1".
        resume: checkpoint to continue from: "latest" or an epoch.
        overwrite: start again even if the folder holds a training; its checkpoints are removed.
        options: how the training runs.
        on_epoch: called after each epoch, on the first rank.
        on_failure: called for each shape whose samples cannot be used; its code stays zero.
        should_stop: called after each step. When it returns true, the epoch is finished, or abandoned if that would
        take
            longer than `options.grace`; then the state is saved and training ends.
    Returns:
        The experiment, with its checkpoints.
    Raises:
        InputError: settings, data, checkpoint or device cannot be used; another training works on the experiment.
        TrainingError: the loss or the weights are not finite or explode, or a checkpoint cannot be written. The last
            checkpoint is unchanged.
    """
    target = resolve_device(local_device(device))
    experiment = open_experiment(experiment, specs)
    _ = experiment.specs  # invalid settings are reported before existing checkpoints
    if resume is None and not overwrite and experiment.checkpoints():
        raise InputError(
            f"{experiment.root} already holds a training (checkpoints {', '.join(experiment.checkpoints())}); "
            "continue it with --continue latest, or start again with --overwrite"
        )
    fork = torch.random.fork_rng(devices=range(torch.cuda.device_count()))
    with joined(target) as ranks, exclusive(experiment) if ranks.first else nullcontext(), fork:
        run = prepare(experiment, target, ranks, options, resume=resume, on_failure=on_failure)
        _loop(experiment, run, ranks, options, (on_epoch if ranks.first else None), should_stop)
    return experiment


def _loop(
    experiment: Experiment,
    run: Prepared,
    ranks: Ranks,
    options: TrainingOptions,
    on_epoch: Callable[[EpochReport], None] | None,
    should_stop: Callable[[], bool],
) -> None:
    """The training loop: one iteration per epoch, or per attempt at an epoch after a rollback."""
    specs, state, logs = experiment.specs, run.state, run.state.logs
    stepper = Stepper(
        state,
        specs,
        run.samples,
        batch_size=run.batch_size * ranks.count,
        batch_split=options.batch_split,
        ranks=ranks,
        compiled=options.compiled,
    )
    snapshot, signs, saved_at = Snapshot(state), SignWatch(), time.monotonic()
    # Reading the loss of every step waits for a GPU and differs between ranks; there it is checked after the epoch.
    check_steps = ranks.count == 1 and run.samples.scenes.device.type == "cpu"

    while logs.epoch < specs.num_epochs:
        # ---- plan: learning rates, batches and random numbers of the epoch
        snapshot.take()
        start = time.perf_counter()
        plan, dropout_seed = _plan_epoch(logs.epoch + 1, specs, run, ranks)
        torch.manual_seed(dropout_seed)
        steps = len(plan.batches)
        first_loss = logs.loss[0] if logs.loss else math.nan

        # ---- step: every shape once
        losses: list[Tensor] = []
        negative, abandoned = torch.zeros((), dtype=torch.int64, device=state.codes.weight.device), False
        for index in range(steps):
            result = stepper.step(plan, index)
            losses.append(result.loss)
            negative += result.negative
            if check_steps and find_loss_fault([float(result.loss)], first_loss):
                break
            remaining = (time.perf_counter() - start) / len(losses) * (steps - len(losses))
            if ranks.count == 1 and remaining > options.grace and should_stop():
                abandoned = True
                break

        # ---- stop within a long epoch: save the state before it
        if abandoned:
            snapshot.restore()
            _save(experiment, run, ["latest"])
            break

        # ---- evaluate: loss, code norms, faults
        values = ranks.sum(torch.stack(losses)).tolist()
        fault = find_loss_fault(values, first_loss)
        if fault is None:
            seconds = time.perf_counter() - start
            magnitude = ranks.sum(state.codes.weight.detach().norm(dim=1).sum()) / state.scenes
            logs.append(state.decoder, magnitude, values, plan.rates, seconds)
            fault = find_weight_fault(logs, steps)
        if fault is not None:
            _check_rollback(experiment, run, plan, fault, options)
            snapshot.restore()
            logs.clip(plan.epoch - 1)
            run.record.halved.append(plan.epoch)
            continue
        count = steps * run.batch_size * ranks.count * 2 * (specs.samples_per_scene // 2)
        if warning := signs.update(float(ranks.sum(negative)) / count, steps):
            logger.warning("%s", warning)

        # ---- save: snapshots of chosen epochs, "latest" regularly and at the end
        stopping = logs.epoch == specs.num_epochs or ranks.any(should_stop())
        due = logs.epoch % specs.log_frequency == 0 or ranks.any(time.monotonic() - saved_at > options.save_interval)
        names = [str(logs.epoch)] if logs.epoch in specs.snapshot_epochs else []
        names += ["latest"] if due or stopping else []
        if names:
            _save(experiment, run, names)
            saved_at = time.monotonic()

        # ---- report, and stop after the epoch
        if on_epoch:
            on_epoch(
                EpochReport(
                    epoch=plan.epoch,
                    num_epochs=specs.num_epochs,
                    steps=steps,
                    loss=sum(values) / steps,
                    samples_per_second=count / seconds,  # pyright: ignore[reportPossiblyUnboundVariable] # no fault
                    learning_rates=plan.rates,
                    code_magnitude=float(magnitude),  # pyright: ignore[reportPossiblyUnboundVariable] # no fault
                    saved=bool(names),
                )
            )
        if stopping:
            break


def _plan_epoch(epoch: int, specs: Specs, run: Prepared, ranks: Ranks) -> tuple[EpochPlan, int]:
    """The plan of an epoch, and the seed of its dropout. Both depend on the seed and the epoch alone."""
    factor = run.record.step_factor(epoch)
    rates = [factor * schedule.rate(epoch) for schedule in specs.learning_rate_schedule]
    for_order, for_draws, for_dropout = independent_seeds(3, run.record.seed, epoch)
    if ranks.count > 1:  # ranks differ in order and dropout; the samples drawn from a scene do not depend on its rank
        for_order, for_dropout = independent_seeds(2, run.record.seed, epoch, ranks.rank)
    steps = ranks.minimum(len(run.samples.bank) // run.batch_size)
    order = run.samples.batches(run.batch_size, torch.Generator().manual_seed(for_order))
    return EpochPlan(epoch, rates, for_draws, list(itertools.islice(order, steps))), for_dropout


def _check_rollback(
    experiment: Experiment, run: Prepared, plan: EpochPlan, fault: Fault, options: TrainingOptions
) -> None:
    """Raise TrainingError unless the epoch is to be repeated with half the learning rates."""
    scenes = scene_names(plan.batches[fault.step - 1], run.samples.scenes, run.shapes)
    description = describe(fault, plan.epoch, plan.rates, scenes)
    if options.on_nan != "rollback" or run.record.halved.count(plan.epoch) == MAXIMUM_HALVINGS:
        raise TrainingError(
            f"{description}; lower them, set GradientClipNorm, or continue with --on-nan rollback. "
            + _existing(experiment)
        )
    logger.warning("%s; repeating from the end of epoch %d with half of them", description, plan.epoch - 1)


def _save(experiment: Experiment, run: Prepared, names: Sequence[str]) -> None:
    try:
        run.state.save(experiment, names, run.record, run.replaced)
    except OSError as error:
        raise TrainingError(
            f"the checkpoint of epoch {run.state.logs.epoch} cannot be written to {experiment.root} "
            f"({error.strerror or error}). {_existing(experiment)}; free some space, then use --continue latest"
        ) from error
    run.replaced = []


def _existing(experiment: Experiment) -> str:
    return f"Checkpoints kept: {', '.join(experiment.checkpoints()) or 'none'}"
