"""Training: decoder and codes learn together (auto-decoder; DeepSDF, section 4)."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from deepsdf.devices import resolve_device
from deepsdf.errors import InputError, TrainingError
from deepsdf.network.objective import clamped_l1, code_norm_penalty
from deepsdf.specs import Specs
from deepsdf.splits import Failure, read_split
from deepsdf.training.checkpoint import TrainingState, independent_seeds
from deepsdf.training.logs import TrainingLogs
from deepsdf.training.samples import SplitSamples
from deepsdf.workspace import DataSource, Experiment

logger = logging.getLogger(__name__)


class EpochReport(NamedTuple):
    """What `train` tells after each epoch."""

    epoch: int
    num_epochs: int
    steps: int
    loss: float
    """Mean over the epoch's steps."""
    samples_per_second: float
    learning_rates: list[float]


def train(
    experiment: Experiment | str | os.PathLike[str],
    *,
    device: str = "auto",
    resume: str | int | None = None,
    overwrite: bool = False,
    batch_split: int = 1,
    seed: int | None = None,
    memory_limit: int | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Experiment:
    """Train the network that an experiment's specs.json describes, on the samples that it names.

    Paths in specs.json are relative to the current folder, as in the original. Every epoch's random numbers come
    from the seed and the epoch alone: a continued training does the same as one that was never interrupted.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:1".
        resume: a checkpoint to continue from: "latest" or an epoch.
        overwrite: begin anew although the folder holds a training already; its checkpoints are removed.
        batch_split: work on each batch in so many parts, for less memory; the gradients are the same.
        seed: instead of the one in specs.json.
        memory_limit: bytes of samples to keep in memory; above it they are mapped from a temporary file.
        on_epoch: told after each epoch.
        on_failure: told each shape whose samples cannot be used. Its code stays zero.
        should_stop: asked after each epoch; when true, the state is saved and training ends.
    Returns:
        The experiment, with its checkpoints.
    Raises:
        InputError: settings, data, checkpoint or device cannot be used.
        TrainingError: the loss or the weights are not finite any more.
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
    target = resolve_device(device)
    seed = specs.seed if seed is None else seed
    shapes = read_split(specs.train_split)
    state = TrainingState.create(specs, len(shapes), seed, target)
    if resume is not None:
        state.restore(experiment, str(resume))
    samples = SplitSamples.load(
        DataSource.open(specs.data_source),
        shapes,
        on_failure=on_failure or (lambda failure: None),
        memory_limit=memory_limit,
    )
    batch_size = _batch_size(len(samples.bank), len(shapes), experiment)
    if resume is None:
        state.zero_codes_but(samples.scenes)
    older = experiment.checkpoints() if resume is None else []
    samples = samples.to(target)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        for epoch in range(state.logs.epoch + 1, specs.num_epochs + 1):
            report = _epoch(state, specs, epoch, samples, batch_size, batch_split, seed)
            _check_finite(state.logs, report.steps, experiment)
            stopping = epoch == specs.num_epochs or should_stop()
            names = [str(epoch)] if epoch in specs.snapshot_epochs else []
            names += ["latest"] if epoch % specs.log_frequency == 0 or stopping else []
            for name in names:
                state.save(experiment, name)
            if names:
                # Not before: until there is a new checkpoint, the old ones are all there is.
                experiment.remove_checkpoints(name for name in older if name not in names)
                older = []
            if on_epoch:
                on_epoch(report)
            if stopping:
                break
    return experiment


def _batch_size(there: int, named: int, experiment: Experiment) -> int:
    """Shapes in a batch: fewer than asked for only where some of the split's shapes are missing."""
    wanted = experiment.specs.scenes_per_batch
    if named < wanted:
        raise InputError(
            f"ScenesPerBatch is {wanted}, but there are {named} training shapes, so no batch would ever be full; "
            f"set it to {named} or less in {experiment.root / 'specs.json'}"
        )
    if there < wanted:
        logger.warning(
            "ScenesPerBatch is %d; %d of the split's shapes can be used, so a batch has those", wanted, there
        )
    return min(there, wanted)


def _epoch(
    state: TrainingState, specs: Specs, epoch: int, samples: SplitSamples, batch_size: int, batch_split: int, seed: int
) -> EpochReport:
    """Every shape once; logs what happened."""
    start = time.perf_counter()
    rates = [schedule.rate(epoch) for schedule in specs.learning_rate_schedule]
    for group, rate in zip(state.groups, rates, strict=True):
        group["lr"] = rate
    for_order, for_draws, for_dropout = independent_seeds(3, seed, epoch)
    order = torch.Generator().manual_seed(for_order)
    draws = torch.Generator(samples.bank.rows.device).manual_seed(for_draws)
    torch.manual_seed(for_dropout)
    state.decoder.train()
    losses = [
        _step(state, specs, epoch, batch_split, samples, batch, draws) for batch in samples.batches(batch_size, order)
    ]
    values = torch.stack(losses).tolist()
    seconds = time.perf_counter() - start
    state.logs.append(state.decoder, state.codes, values, rates, seconds)
    count = len(values) * batch_size * specs.samples_per_scene
    mean = sum(values) / len(values)
    return EpochReport(epoch, specs.num_epochs, len(values), mean, count / seconds, rates)


def _step(
    state: TrainingState,
    specs: Specs,
    epoch: int,
    batch_split: int,
    split: SplitSamples,
    batch: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """One step on a batch of shapes; returns its loss, still on the device."""
    samples = split.bank.draw(batch, specs.samples_per_scene, generator).to(state.codes.weight.device)
    scenes = split.scenes[batch].to(samples.device)
    state.adam.zero_grad()
    if state.muon:
        state.muon.zero_grad()
    loss = torch.zeros((), device=samples.device)
    for part in samples.chunk(batch_split, dim=1):
        codes = state.codes(scenes)
        with torch.autocast(samples.device.type, torch.bfloat16, enabled=specs.precision == "bfloat16"):
            predicted = state.decoder(codes, part[..., :3])
        part_loss = clamped_l1(predicted, part[..., 3], specs.clamping_distance).sum() / samples[..., 3].numel()
        if specs.code_regularization:
            share = part.shape[1] / samples.shape[1]
            part_loss = part_loss + share * code_norm_penalty(codes, specs.code_regularization_lambda, epoch)
        part_loss.backward()
        loss += part_loss.detach()
    if specs.gradient_clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(state.decoder.parameters(), specs.gradient_clip_norm)
    state.adam.step()
    if state.muon:
        state.muon.step()
    return loss


def _check_finite(logs: TrainingLogs, steps: int, experiment: Experiment) -> None:
    """After an epoch and before it is saved: its last step can break the weights, though its loss was finite."""
    found = [("the loss", step, loss) for step, loss in enumerate(logs.loss[-steps:], 1)]
    found.append(("the norm of the codes", steps, float(logs.latent_magnitude[-1])))
    found += [(f"the norm of {name}", steps, values[-1]) for name, values in logs.param_magnitude.items()]
    for what, step, value in found:
        if not math.isfinite(value):
            kept = ", ".join(experiment.checkpoints()) or "none"
            raise TrainingError(
                f"{what} is {value} at epoch {logs.epoch}, step {step}, learning rates {logs.learning_rate[-1]}; "
                f"lower them, or set GradientClipNorm. Checkpoints kept: {kept}"
            )
