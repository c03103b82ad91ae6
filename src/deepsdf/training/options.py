"""Options of a training run that are not settings of the experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepsdf.options import Options, option


@dataclass(frozen=True)
class TrainingOptions(Options):
    """How a training runs. Except for `seed`, `on_nan` and `force`, options change the result by rounding at most."""

    seed: int | None = option(
        None,
        "Seed of the random numbers; the same seed gives the same bits on a CPU.",
        minimum=0,
        maximum=2**63 - 1,
        default_text="Seed in specs.json, or that of the continued training",
    )
    on_nan: Literal["stop", "rollback"] = option(
        "stop",
        "Reaction to a loss or weights that are not finite or explode: stop, or roll back to the end of the previous "
        "epoch and continue with half the learning rates.",
        choices=("stop", "rollback"),
    )
    batch_split: int = option(1, "Number of parts in which a batch is processed, to save memory.", minimum=1)
    memory_limit: int | None = option(
        None,
        "Bytes of samples to keep in memory; more are mapped from a file in the data source.",
        minimum=0,
        default_text="60 % of the memory of the machine",
    )
    force: bool = option(False, "Continue even if settings or data differ from those of the checkpoint.")
    compiled: bool = option(False, "Run the decoder through torch.compile, for a GPU; the first steps take a minute.")
    save_interval: float = option(
        300.0,
        'Seconds after which "latest" is saved at the end of an epoch, even if LogFrequency does not require it.',
        minimum=0.0,
    )
    grace: float = option(
        5.0,
        "Seconds that a training may take to finish its epoch when it is stopped; a longer epoch is abandoned.",
        minimum=0.0,
    )
