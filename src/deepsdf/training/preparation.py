"""What happens before the first step of a training: settings, exclusive access, samples, weights or a checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from deepsdf.devices import fast_bfloat16
from deepsdf.errors import InputError
from deepsdf.files import held
from deepsdf.journal import recover
from deepsdf.network.networks import build_decoder
from deepsdf.specs import CosineSchedule, Specs
from deepsdf.splits import Failure, ShapeName, read_split
from deepsdf.training.checkpoint import TrainingState
from deepsdf.training.options import TrainingOptions
from deepsdf.training.ranks import Ranks
from deepsdf.training.record import TrainingRecord, setting_changes
from deepsdf.training.samples import SplitSamples
from deepsdf.workspace import DataSource, Experiment

logger = logging.getLogger(__name__)


def open_experiment(experiment: Experiment | str | os.PathLike[str], specs: Specs | None) -> Experiment:
    """Open an experiment. With `specs`, create its folder and specs.json if there is none.

    Raises:
        InputError: no experiment, settings that cannot be used, or a specs.json with other settings.
    """
    if specs is None:
        return experiment if isinstance(experiment, Experiment) else Experiment.open(experiment)
    root = experiment.root if isinstance(experiment, Experiment) else Path(experiment)
    path = root / "specs.json"
    if path.is_file():
        changes = setting_changes(Specs.load(path), specs)
        if changes:
            raise InputError(
                "\n  ".join(
                    [f"{path} has other settings than the specs given; use another folder or remove it:", *changes]
                )
            )
        return Experiment.open(root)
    # Everything that can be checked without the samples, before anything is written.
    build_decoder(specs.network_arch, specs.code_length, specs.network_specs)
    read_split(specs.train_split)
    DataSource.open(specs.data_source)
    root.mkdir(parents=True, exist_ok=True)
    specs.save(path)
    return Experiment.open(root)


@contextmanager
def exclusive(experiment: Experiment) -> Iterator[None]:
    """Lock an experiment, so that only one training at a time works on it.

    Raises:
        InputError: another training holds the lock, or the folder cannot be written.
    """
    from filelock import Timeout

    with ExitStack() as stack:
        try:
            locked = stack.enter_context(held(experiment.lock_path, timeout=0))
        except Timeout:
            raise InputError(
                f"another training works on {experiment.root}; wait until it ends, or stop it "
                f"(it holds {experiment.lock_path})"
            ) from None
        except OSError as error:
            raise InputError(f"{experiment.root} cannot be written: {error.strerror}") from None
        if not locked:
            logger.warning(
                "the file system of %s does not support locks; make sure that no other training works on it",
                experiment.root,
            )
        yield


@dataclass
class Prepared:
    """Everything that the training loop works on.

    Attributes:
        shapes: shapes of the training split.
        batch_size: shapes in a batch of this rank.
        replaced: checkpoints of an earlier training, removed with the first checkpoint of this one.
    """

    state: TrainingState
    record: TrainingRecord
    samples: SplitSamples
    shapes: Sequence[ShapeName]
    batch_size: int
    replaced: list[str]


def prepare(
    experiment: Experiment,
    device: torch.device,
    ranks: Ranks,
    options: TrainingOptions,
    *,
    resume: str | int | None,
    on_failure: Callable[[Failure], None] | None,
) -> Prepared:
    """Create the state of a training, or load it from a checkpoint, and read the samples.

    Raises:
        InputError: settings, data or checkpoint cannot be used.
    """
    specs, seed = experiment.specs, options.seed
    shapes = read_split(specs.train_split)
    replaced = experiment.checkpoints() if resume is None else []
    if ranks.first:
        recover(experiment.root)
    ranks.wait()
    state = TrainingState.create(specs, len(shapes), specs.seed if seed is None else seed, device, ranks)
    before = state.restore(experiment, str(resume)) if resume is not None else None
    samples = SplitSamples.load(
        DataSource.open(specs.data_source),
        shapes,
        on_failure=on_failure or (lambda failure: None),
        memory_limit=options.memory_limit,
        ranks=ranks,
    )
    seed = seed if seed is not None else before.seed if before else specs.seed
    record = TrainingRecord.create(specs, seed, samples.fingerprints)
    if before:
        _check_changes(before, record, experiment, options.force)
        record.halved = before.halved
    if resume is None:
        state.zero_codes_but(samples.scenes)
    samples = samples.to(device)
    if specs.precision == "bfloat16" and ranks.first and not fast_bfloat16(device):
        logger.info(
            "this %s has no bfloat16 instructions, without which bfloat16 is slow; training in float32", device.type
        )
    size = batch_size(len(samples.bank), len(shapes), experiment, ranks)
    return Prepared(state, record, samples, shapes, size, replaced)


def _check_changes(before: TrainingRecord, now: TrainingRecord, experiment: Experiment, force: bool) -> None:
    changes = before.changes(now)
    if changes and not force:
        raise InputError(
            "\n  ".join(
                [
                    f"{experiment.root} was trained with other settings or data; restore them or use --force:",
                    *changes,
                ]
            )
        )
    for change in changes:
        logger.warning("continuing with changes: %s", change)
    epochs = experiment.specs.num_epochs
    for schedule in experiment.specs.learning_rate_schedule:
        if isinstance(schedule, CosineSchedule) and schedule.length + 1 < epochs and not schedule.final:
            logger.warning(
                "a learning rate is 0 from epoch %d on, but NumEpochs is %d; extend LearningRateSchedule as well",
                schedule.length,
                epochs,
            )
            break


def batch_size(usable: int, named: int, experiment: Experiment, ranks: Ranks) -> int:
    """Shapes in a batch of this rank: less than ScenesPerBatch only if shapes of the split are not usable.

    Args:
        usable: shapes of this rank with samples.
        named: shapes of the split.
    Raises:
        InputError: ScenesPerBatch exceeds the split, or cannot be divided among the ranks.
    """
    wanted = experiment.specs.scenes_per_batch
    if wanted % ranks.count:
        raise InputError(
            f"ScenesPerBatch is {wanted}, which is not a multiple of the {ranks.count} processes; start a number of "
            "processes that divides it"
        )
    if named < wanted:
        raise InputError(
            f"ScenesPerBatch is {wanted}, but the training split has {named} shapes, so no batch would be complete; "
            f"set it to {named} or less in {experiment.root / 'specs.json'}"
        )
    wanted //= ranks.count
    if usable < wanted:
        logger.warning("batches of this process have %d shapes instead of %d: no more are usable", usable, wanted)
    if ranks.count > 1:
        usable = ranks.minimum(usable)
    return min(usable, wanted)
