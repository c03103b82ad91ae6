"""How codes are fitted to signed distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepsdf.options import Options, option

Optimizer = Literal["lm", "adam"]


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
        None, "Maximum number of steps.", minimum=1, default_text="1000 for lm, 800 for adam", flag="--iters"
    )
    samples: int | None = option(
        None, "Samples per shape and step.", minimum=2, default_text="up to 32000 for lm, 8000 for adam"
    )
    best_of: int = option(
        1, "Number of fits with consecutive seeds; the one with the lowest loss is kept for each shape.", minimum=1
    )
    seed: int = option(0, "Random seed. The same seed gives the same code on the CPU.", minimum=0)
