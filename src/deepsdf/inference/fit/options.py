"""How codes are fitted to signed distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from deepsdf.options import Options, option, seed_option

Optimizer = Literal["lm", "adam"]

# A Levenberg-Marquardt fit takes a dozen or two steps in a smooth space; only a rough one takes them all. With at most
# 16 000 samples, codes of length 256 overfitted them: the loss over all samples was a few percent higher.
# Adam's numbers are those of the original DeepSDF.
_STEPS = {"lm": 1000, "adam": 800}
_SAMPLES = {"lm": 32_000, "adam": 8000}


def _by_optimizer(values: dict[Any, int]) -> str:
    return ", ".join(f"{value} for {optimizer}" for optimizer, value in values.items())


@dataclass(frozen=True)
class FitOptions(Options):
    """Options of `ShapeSpace.fit` and `deepsdf reconstruct`."""

    optimizer: Optimizer = option(
        "lm",
        "'lm' is damped Gauss-Newton (Levenberg-Marquardt) from several starts; 'adam' is the original's 800 steps "
        "from one random start.",
        choices=("lm", "adam"),
    )
    steps: int | None = option(
        None, "Maximum number of steps.", minimum=1, default_text=_by_optimizer(_STEPS), flag="--iters"
    )
    samples: int | None = option(
        None, "Samples per shape and step.", minimum=2, default_text=f"up to {_by_optimizer(_SAMPLES)}"
    )
    best_of: int = option(
        1, "Number of fits with consecutive seeds; the one with the lowest loss is kept for each shape.", minimum=1
    )
    seed: int = seed_option()

    @property
    def max_steps(self) -> int:
        """`steps`, or the optimizer's default."""
        return _STEPS[self.optimizer] if self.steps is None else self.steps

    @property
    def max_samples(self) -> int:
        """`samples`, or the optimizer's default."""
        return _SAMPLES[self.optimizer] if self.samples is None else self.samples
