"""Detection of failed trainings: losses or weights that are not finite or explode, and collapsed fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from deepsdf.training.logs import TrainingLogs

EXPLOSION_RATIO = 100.0
"""Loss relative to that of the first step above which a training counts as exploded. Hand-set: clamped losses are at
most 2 δ, far below 100 times their first value, while the code penalty and the eikonal term are unbounded."""


@dataclass
class SignWatch:
    """Detects a field that has collapsed to one sign, which has no surface.

    Half of all samples are negative. Fresh networks predict one sign for some steps, more with a warm-up of the
    learning rate; hence the patience.

    Attributes:
        minimum_fraction: fraction of predictions with the rarer sign below which the field counts as collapsed.
        patience_epochs, patience_steps: minimum duration before the warning.
        epochs, steps: duration so far.
        warned: whether the warning was issued.
    """

    minimum_fraction: float = 1e-3
    patience_epochs: int = 3
    patience_steps: int = 200
    epochs: int = 0
    steps: int = 0
    warned: bool = False

    def update(self, negative: float, steps: int) -> str | None:
        """Record an epoch; returns a warning, once, if the field has collapsed.

        Args:
            negative: fraction of negative predictions in the epoch.
            steps: steps of the epoch.
        """
        if self.minimum_fraction < negative < 1.0 - self.minimum_fraction:
            self.epochs = self.steps = 0
            return None
        self.epochs, self.steps = self.epochs + 1, self.steps + steps
        if self.warned or self.epochs < self.patience_epochs or self.steps < self.patience_steps:
            return None
        self.warned = True
        sign = "negative (inside)" if negative > 0.5 else "positive (outside)"
        return (
            f"for {self.epochs} epochs ({self.steps} steps) nearly all predictions have been {sign}, but only half of "
            "the samples are: the field has collapsed to one sign and has no surface. Try lower learning rates, "
            '"Loss": "pulling_l1", a larger ClampingDistance, or look at the samples (`deepsdf view-samples`)'
        )


@dataclass(frozen=True)
class Fault:
    """A value that is not finite or has exploded.

    Attributes:
        quantity: what the value is, as a noun phrase.
        step: step of the epoch, from 1.
    """

    quantity: str
    value: float
    step: int


def find_loss_fault(losses: Sequence[float], first: float) -> Fault | None:
    """The first loss of an epoch that is not finite, or above EXPLOSION_RATIO times the first loss of the training."""
    for step, loss in enumerate(losses, 1):
        if not math.isfinite(loss) or (math.isfinite(first) and loss > EXPLOSION_RATIO * first > 0):
            return Fault("the loss", loss, step)
    return None


def find_weight_fault(logs: TrainingLogs, steps: int) -> Fault | None:
    """A norm of codes or weights that is not finite after the last logged epoch.

    The losses of an epoch do not show this: its last step may break the weights after its loss was computed.
    """
    norms = {"the norm of the codes": float(logs.latent_magnitude[-1])}
    norms |= {f"the norm of {name}": values[-1] for name, values in logs.param_magnitude.items()}
    return next((Fault(quantity, value, steps) for quantity, value in norms.items() if not math.isfinite(value)), None)


def describe(fault: Fault, epoch: int, rates: Sequence[float], scenes: Sequence[str]) -> str:
    """Describe a fault with its step, scenes and learning rates, as a clause for an error."""
    shown = ", ".join(scenes[:4]) + (f" and {len(scenes) - 4} more" if len(scenes) > 4 else "")
    return (
        f"{fault.quantity} is {fault.value:g} at epoch {epoch}, step {fault.step} (scenes {shown}), "
        f"learning rates {[float(f'{rate:.6g}') for rate in rates]}"
    )


def scene_names(batch: Tensor, scenes: Tensor, names: Sequence[object]) -> list[str]:
    """Names of the shapes in a batch.

    Args:
        batch: indices into the sample bank.
        scenes: (b,), index in the split of each shape of the bank.
        names: shapes of the split.
    """
    return [str(names[scene]) for scene in scenes[batch].tolist()]
