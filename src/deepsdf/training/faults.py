"""A training that goes wrong: what is broken, at which step, on which scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from deepsdf.training.logs import TrainingLogs

EXPLODED = 100.0
"""Times the first step's loss. A clamped loss cannot get there; the codes' prior and an eikonal term can."""


COLLAPSED_STEPS, COLLAPSED_EPOCHS = 200, 3
"""For how long, at least, nearly all predictions have one sign before it is said. Fresh networks do so for some steps,
longer where the learning rate is warmed up."""

COLLAPSED_SHARE = 1e-3
"""Of the predictions have the other sign; half of the samples have it."""


@dataclass
class SignWatch:
    """Notices a field that has one sign everywhere: its meshes would be empty."""

    epochs: int = 0
    steps: int = 0
    told: bool = False

    def look(self, negative: float, steps: int) -> str | None:
        """After each epoch: the share of predictions that are inside, and its steps. A sentence, once, where it is
        time for one."""
        if COLLAPSED_SHARE < negative < 1.0 - COLLAPSED_SHARE:
            self.epochs = self.steps = 0
            return None
        self.epochs, self.steps = self.epochs + 1, self.steps + steps
        if self.told or self.epochs < COLLAPSED_EPOCHS or self.steps < COLLAPSED_STEPS:
            return None
        self.told = True
        side = "inside" if negative > 0.5 else "outside"
        return (
            f"for {self.epochs} epochs ({self.steps} steps) the field has been {side} everywhere, though half of the "
            "samples are not: it has collapsed to one sign, and would have no surface. Try lower learning rates, "
            '"Loss": "pulling_l1", a larger ClampingDistance, or look at the samples (`deepsdf view-samples`)'
        )


@dataclass(frozen=True)
class Fault:
    """What is not finite, or exploded, and where: `step` counts from 1 within the epoch."""

    what: str
    value: float
    step: int


def find_loss_fault(losses: Sequence[float], first: float) -> Fault | None:
    """The first of an epoch's losses that is not finite, or EXPLODED times the training's first."""
    for step, loss in enumerate(losses, 1):
        if not math.isfinite(loss) or (math.isfinite(first) and loss > EXPLODED * first > 0):
            return Fault("the loss", loss, step)
    return None


def find_weight_fault(logs: TrainingLogs, steps: int) -> Fault | None:
    """In the epoch last logged: its last step can break the weights, though its loss was finite."""
    norms = {"the norm of the codes": float(logs.latent_magnitude[-1])}
    norms |= {f"the norm of {name}": values[-1] for name, values in logs.param_magnitude.items()}
    return next((Fault(what, value, steps) for what, value in norms.items() if not math.isfinite(value)), None)


def describe(fault: Fault, epoch: int, rates: Sequence[float], scenes: Sequence[str]) -> str:
    """A sentence that names the step, its scenes and the learning rates."""
    shown = ", ".join(scenes[:4]) + (f" and {len(scenes) - 4} more" if len(scenes) > 4 else "")
    return (
        f"{fault.what} is {fault.value:g} at epoch {epoch}, step {fault.step} (scenes {shown}), "
        f"learning rates {[float(f'{rate:.6g}') for rate in rates]}"
    )


def scenes_of(batch: Tensor, scenes: Tensor, names: Sequence[object]) -> list[str]:
    """Names of a batch's shapes; `scenes` (b,) are the places of the bank's shapes in the split `names`."""
    return [str(names[scene]) for scene in scenes[batch].tolist()]
