"""Losses and regularisers that training and fitting share. `LOSSES` and `CODE_PENALTIES` register them by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PerSample = Callable[[Tensor, Tensor, float], Tensor]
"""Function of predicted distances, observed distances and the clamping distance δ; elementwise."""


@dataclass(frozen=True)
class Loss:
    """A loss between predicted distances f and observed distances s, for training (gradients) and for fits (residuals).

    All three functions take (f, s, δ) and return a tensor of their shape. They agree: `value` is |`residual`|, and the
    derivative of `residual` by f is 1 where `responds` and 0 elsewhere.

    Attributes:
        value: loss per sample, not averaged.
        residual: signed error, for least squares.
        responds: whether a small change of f changes the residual (bool).
    """

    value: PerSample
    residual: PerSample
    responds: PerSample


def clamped_l1(predicted: Tensor, target: Tensor, clamping_distance: float) -> Tensor:
    """|clamp(f, ±δ) - clamp(s, ±δ)| per sample, not averaged (DeepSDF, equation 4)."""
    return _clamped_residual(predicted, target, clamping_distance).abs()


def _clamped_residual(predicted: Tensor, target: Tensor, delta: float) -> Tensor:
    return predicted.clamp(-delta, delta) - target.clamp(-delta, delta)


def _clamped_responds(predicted: Tensor, target: Tensor, delta: float) -> Tensor:
    return predicted.abs() < delta


def pulling_l1(predicted: Tensor, target: Tensor, clamping_distance: float) -> Tensor:
    """Like `clamped_l1`, but with a gradient at every wrong prediction.

    |f - s| where |s| < δ; elsewhere the amount by which f falls short of δ on the side of the target. Both losses are
    equal where |f| <= δ. Outside, `clamped_l1` is constant: it has no gradient at a prediction beyond δ on the wrong
    side, nor at one beyond δ for a target within δ.
    """
    delta = clamping_distance
    shortfall = (delta - predicted * target.sign()).clamp_min(0.0)
    return torch.where(target.abs() < delta, (predicted - target).abs(), shortfall)


def _pulling_residual(predicted: Tensor, target: Tensor, delta: float) -> Tensor:
    return torch.where(_pulling_responds(predicted, target, delta), predicted - target.clamp(-delta, delta), 0.0)


def _pulling_responds(predicted: Tensor, target: Tensor, delta: float) -> Tensor:
    return (target.abs() < delta) | (predicted * target.sign() < delta)


LOSSES: dict[str, Loss] = {
    "clamped_l1": Loss(clamped_l1, _clamped_residual, _clamped_responds),
    "pulling_l1": Loss(pulling_l1, _pulling_residual, _pulling_responds),
}
"""Values of `Loss` in specs.json."""


def ease(errors: Tensor, predicted: Tensor, target: Tensor, tolerance: float, hard_weight: float) -> Tensor:
    """Losses per sample weighted by a curriculum (Duan et al., Curriculum DeepSDF, ECCV 2020, equations 4 and 6).

    Args:
        tolerance: subtracted from every loss; smaller losses become 0.
        hard_weight: λ in the factor 1 + λ sgn(s) sgn(s - f). It raises the weight of predictions with the wrong sign or
            too close to the surface, and lowers that of predictions too far from it.
    """
    if tolerance:
        errors = (errors - tolerance).clamp_min(0.0)
    if hard_weight:
        errors = errors * (1.0 + hard_weight * target.sign() * (target - predicted.detach()).sign())
    return errors


def eikonal(decoder: nn.Module, codes: Tensor, points: Tensor) -> Tensor:
    """(|∇f| - 1)² per point, (b, n), for codes (b, L) and points (b, n, 3).

    Zero where f is a distance (Gropp et al., ICML 2020). Differentiable by the weights and the codes.
    """
    points = points.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(decoder(codes, points).sum(), points, create_graph=True)
    return (gradient.float().norm(dim=-1) - 1.0).square()


CODE_PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "norm": lambda codes: torch.linalg.vector_norm(codes, dim=-1),
    "square": lambda codes: codes.square().sum(dim=-1),
}
"""Values of `CodePrior` in specs.json: ‖z‖, used by the original's training, and ‖z‖², used by the paper."""


def code_penalty(codes: Tensor, weight: float, kind: str) -> Tensor:
    """Regulariser of codes (b, L): weight · ‖z‖ or weight · ‖z‖², (b,). The paper's weight is 1/σ².

    Its mean over shapes is added to the mean error over samples, so its relative weight does not depend on the number
    of shapes or samples.
    """
    return weight * CODE_PENALTIES[kind](codes)


def code_square_penalty(codes: Tensor, weight: float = 1e-4) -> Tensor:
    """weight · mean(z²) per shape, (b,): the original's regulariser of a code being fitted, with its weight."""
    return code_penalty(codes, weight / codes.shape[-1], "square")
