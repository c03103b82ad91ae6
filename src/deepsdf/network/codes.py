"""The table of latent codes of the training shapes."""

from __future__ import annotations

import math

import torch
from torch import nn


def make_codes(
    count: int, length: int, *, init_std: float, bound: float | None, generator: torch.Generator
) -> nn.Embedding:
    """Create a table of codes (count, length) drawn from N(0, init_std² / length).

    A look-up scales rows with a norm above `bound` back to it, as in the original.
    """
    codes = torch.randn(count, length, generator=generator) * (init_std / math.sqrt(length))
    return nn.Embedding.from_pretrained(codes, freeze=False, max_norm=bound)
