"""Levenberg-Marquardt for batches of small robust least-squares problems.

A problem is a function from its state to a `Quadratic` model, usually a sum of `gauss_newton` terms. A state is a
vector, or a point on a manifold such as a code together with a pose. Decoders and geometry are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor

from deepsdf.solvers.quadratic import Quadratic

CONVERGED, STUCK, STEPS_RAN_OUT = range(3)
REASONS = ("converged", "stuck", "steps ran out")
"""Why an iteration ended. Stuck: even strongly damped steps do not lower the objective."""

DAMPING = 1e-2
"""Default damping of the first step. Marquardt's (1963) own choice; starts here are good to a few steps."""

MIN_DAMPING, MAX_DAMPING = 1e-7, 1e3
"""Below the first, damping is less than the rounding of a float32 curvature. Above the second, a step is a thousandth
of the gradient step or shorter, and if even that one is refused, rounding decides about the objective."""

CONVERGED_DAMPING = 0.1
"""Largest damping at which a small predicted reduction means convergence: with more, the damping itself makes it
small."""


class Batch(Protocol):
    """States of b problems that are not vectors."""

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Any: ...

    def replaced(self, rows: Tensor, other: Any) -> Any:
        """A copy in which the states `rows` (k,) are those of another batch of k."""
        ...


StateT = TypeVar("StateT", bound=Tensor | Batch)


@dataclass(frozen=True)
class Minimum(Generic[StateT]):
    """Result of `minimise` for b problems.

    Attributes:
        state: final states; vectors are (b, p).
        model: models of the objectives there. If the problem converged, of the state before the last step.
        steps: (b,), steps tried.
        reason: (b,), index into `REASONS`.
        damping: (b,), damping that the next step would use.
    """

    state: StateT
    model: Quadratic
    steps: Tensor
    reason: Tensor
    damping: Tensor


def minimise(
    linearise: Callable[[StateT, Tensor, int], Quadratic],
    start: StateT,
    *,
    steps: int | Tensor,
    tolerance: float,
    slack: Tensor | None = None,
    damping: float | Tensor = DAMPING,
    units: Tensor | None = None,
    retract: Callable[[StateT, Tensor], StateT] = torch.add,
    on_step: Callable[[int], None] | None = None,
) -> Minimum[StateT]:
    """Minimise b objectives. Problems are independent: each has its own damping and its own end.

    A step is -(curvature + damping · (diagonal + its mean))⁻¹ gradient. A step that does not lower the objective is
    rejected, and the damping is raised. A problem converges when its predicted relative reduction falls below
    `tolerance`; the last step is taken without evaluating the objective again.

    Args:
        linearise: (states of k problems, their numbers (k,), number of the step) -> models (k) at these states.
        start: states of b problems.
        steps: maximum number of steps; one for all problems or (b,).
        tolerance: predicted reduction at convergence, relative to the objective; 0 takes all steps.
        slack: (b,), relative increase of the objective at which a step is still accepted. For objectives estimated from
            samples that are drawn anew in each step.
        damping: of the first step, relative to the curvature; one for all problems or (b,).
        units: (p,), scale of each coordinate where they differ. Damping then does not depend on the coordinates.
        retract: (states, steps (k, p)) -> states. The default adds vectors.
        on_step: receives the number of each step.
    """
    state = start
    device, count = start.device, len(start)
    every = torch.arange(count, device=device)
    model = linearise(state, every, 0)
    damp = torch.ones_like(model.value) * damping
    slack = torch.zeros_like(model.value) if slack is None else slack
    taken = torch.zeros_like(every)
    reason = torch.full_like(every, STEPS_RAN_OUT)
    active = torch.ones_like(every, dtype=torch.bool)
    limit = torch.as_tensor(steps, device=device).expand(count)
    for step in range(1, int(limit.max()) + 1):
        # A problem that has converged, is stuck, or has used up its own limit drops out of the batch.
        # `nonzero` waits for the device once per step, but problems that have ended are not evaluated any more.
        rows = (active & (taken < limit)).nonzero().squeeze(1)
        if not len(rows):
            break
        taken[rows] += 1
        here, damped = model[rows], damp[rows]
        move = _step(here, damped, units)
        moved = retract(_rows(state, rows), move)
        # A step s lowers the model by -g·s - ½ s·H·s, which is -½ g·s for the undamped step, H s = -g.
        newton_reduction = -0.5 * (here.gradient * move).sum(dim=1)
        reduction = 2 * newton_reduction - 0.5 * (move * (here.curvature @ move.unsqueeze(-1)).squeeze(-1)).sum(dim=1)
        converged = (newton_reduction <= tolerance * here.value) & (damped <= CONVERGED_DAMPING)
        last = rows[converged]
        state = _replaced(state, last, _rows(moved, converged))
        reason[last], active[last] = CONVERGED, False
        if len(rows := rows[~converged]):
            # The model at the new state is computed before it is known whether the step is accepted: it is needed
            # if it is, which is the usual case, and a separate evaluation of the objective would cost nearly as much.
            moved, damped = _rows(moved, ~converged), damped[~converged]
            tried = linearise(moved, rows, step)
            accepted = tried.value <= model.value[rows] * (1.0 + slack[rows])
            gain = (model.value[rows] - tried.value) / reduction[~converged]
            state = _replaced(state, rows[accepted], _rows(moved, accepted))
            model = model.replaced(rows[accepted], tried[accepted])
            damp[rows] = torch.where(accepted, damped * _relaxation(gain), damped * 5.0).clamp_min(MIN_DAMPING)
            # Rejected steps keep their state and model, and are tried again with five times the damping.
            stuck = rows[~accepted & (damped > MAX_DAMPING)]
            reason[stuck], active[stuck] = STUCK, False
        if on_step:
            on_step(step)
    return Minimum(state, model, taken, reason, damp)


def _relaxation(gain: Tensor) -> Tensor:
    """Factor of the damping after an accepted step, by its gain: the actual over the predicted reduction.

    From 0.3 at a gain of 1 to 2 at a gain of 0 (H. B. Nielsen, 1999, with 0.3 instead of 1/3). If any gain lowered the
    damping, a rough objective would alternate between steps that are too long and steps that are rejected.
    """
    return (1.0 - (2.0 * gain - 1.0).clamp(-1.0, 1.0) ** 3).clamp_min(0.3)


def _step(model: Quadratic, damping: Tensor, units: Tensor | None) -> Tensor:
    """The damped step (b, p). In float64, for the sake of directions that hardly change the objective."""
    diagonal = model.curvature.diagonal(dim1=1, dim2=2)
    # In coordinates x · units the diagonal is diagonal / units²: its mean is taken there, and transformed back.
    square = torch.ones_like(diagonal) if units is None else units.square()
    # The diagonal makes the step invariant to the scale of each coordinate (Marquardt); its mean keeps the step short
    # in directions without curvature, where the diagonal alone would not damp at all (Levenberg).
    extra = damping.unsqueeze(1) * (diagonal + square * (diagonal / square).mean(dim=1, keepdim=True))
    damped = (model.curvature + torch.diag_embed(extra)).double()
    # cholesky_ex does not raise for a matrix that is not finite: the step is not finite either, and is rejected.
    factor, _ = torch.linalg.cholesky_ex(damped)
    step = torch.cholesky_solve(model.gradient.double().unsqueeze(-1), factor)
    return -step.squeeze(-1).to(model.gradient.dtype)


def _rows(state: StateT, rows: Tensor) -> StateT:
    return cast(StateT, state[rows])


def _replaced(state: StateT, rows: Tensor, other: StateT) -> StateT:
    if isinstance(state, Tensor):
        return cast(StateT, state.index_copy(0, rows, cast(Tensor, other)))
    return cast(StateT, state.replaced(rows, other))
