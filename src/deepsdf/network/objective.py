"""The loss that training and fitting share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Loss = Literal["clamped_l1", "pulling_l1"]
Prior = Literal["norm", "square"]


def clamped_l1(predicted: Tensor, target: Tensor, clamping_distance: float) -> Tensor:
    """|clamp(f, ±δ) - clamp(s, ±δ)| a sample, not yet averaged (DeepSDF, equation 4)."""
    delta = clamping_distance
    return (predicted.clamp(-delta, delta) - target.clamp(-delta, delta)).abs()


def pulling_l1(predicted: Tensor, target: Tensor, clamping_distance: float) -> Tensor:
    """As `clamped_l1`, but every prediction that is wrong has a gradient.

    Where the target lies within δ, |f - s|; beyond it, how far f is short of δ on the target's side. The two losses
    are equal where |f| <= δ. Outside, the original's is constant: a prediction beyond δ on the wrong side, or too
    far on the right one, is not pulled back.
    """
    delta = clamping_distance
    short = (delta - predicted * target.sign()).clamp_min(0.0)
    return torch.where(target.abs() < delta, (predicted - target).abs(), short)


LOSSES = {"clamped_l1": clamped_l1, "pulling_l1": pulling_l1}


def ease(errors: Tensor, predicted: Tensor, target: Tensor, tolerance: float, hard_weight: float) -> Tensor:
    """Errors a sample as a curriculum takes them (Duan et al., Curriculum DeepSDF, ECCV 2020, equations 4 and 6).

    Args:
        tolerance: errors up to it count nothing, larger ones what is beyond it.
        hard_weight: λ in 1 + λ sgn(s) sgn(s - f): predictions of the wrong sign, or too near to the surface, count
            more, those too far from it less.
    """
    if tolerance:
        errors = (errors - tolerance).clamp_min(0.0)
    if hard_weight:
        errors = errors * (1.0 + hard_weight * target.sign() * (target - predicted.detach()).sign())
    return errors


def eikonal(decoder: torch.nn.Module, codes: Tensor, points: Tensor) -> Tensor:
    """(|∇f| - 1)², (b, n): zero where f is a distance (Gropp et al., ICML 2020). For codes (b, L), points (b, n, 3)."""
    points = points.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(decoder(codes, points).sum(), points, create_graph=True)
    return (gradient.float().norm(dim=-1) - 1.0).square()


def code_penalty(codes: Tensor, weight: float, prior: Prior) -> Tensor:
    """λ ‖z‖, the original's training, or λ ‖z‖², the paper's with λ = 1/σ²; a shape, codes (b, L) -> (b,).

    Averaged over shapes it stands beside an error averaged over samples, so how many samples there are, of how many
    shapes, does not change its weight.
    """
    if prior == "norm":
        return weight * torch.linalg.vector_norm(codes, dim=-1)
    return weight * codes.square().sum(dim=-1)


def code_norm_penalty(codes: Tensor, weight: float, epoch: int) -> Tensor:
    """λ · min(1, epoch / 100) · mean ‖z‖ over codes (b, L): the original's regularisation of training codes.

    The original sums the norm over all samples and divides by their number; every scene has equally many, so
    this is the mean over scenes, and does not depend on the number of samples.
    """
    return code_penalty(codes, weight * min(1.0, epoch / 100), "norm").mean()


def code_square_penalty(codes: Tensor, weight: float = 1e-4) -> Tensor:
    """λ · mean(z²) a shape, (b,): the original's regularisation of a code being fitted."""
    return code_penalty(codes, weight / codes.shape[-1], "square")
