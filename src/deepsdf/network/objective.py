"""The loss that training and fitting share."""

from __future__ import annotations

import torch
from torch import Tensor


def clamped_l1(predicted: Tensor, target: Tensor, clamping_distance: float) -> Tensor:
    """|clamp(f, ±δ) - clamp(s, ±δ)| a sample, not yet averaged (DeepSDF, equation 4)."""
    delta = clamping_distance
    return (predicted.clamp(-delta, delta) - target.clamp(-delta, delta)).abs()


def code_norm_penalty(codes: Tensor, weight: float, epoch: int) -> Tensor:
    """λ · min(1, epoch / 100) · mean ‖z‖ over codes (b, L): the original's regularisation of training codes.

    The original sums the norm over all samples and divides by their number; every scene has equally many, so
    this is the mean over scenes, and does not depend on the number of samples.
    """
    return weight * min(1.0, epoch / 100) * torch.linalg.vector_norm(codes, dim=-1).mean()


def code_square_penalty(codes: Tensor, weight: float = 1e-4) -> Tensor:
    """λ · mean(z²) a shape, (b,): the original's regularisation of a code being fitted."""
    return weight * codes.square().mean(dim=-1)
