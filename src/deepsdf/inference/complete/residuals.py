"""A code and a pose that explain a scan: the residuals, and the Gauss-Newton steps that lower them.

All lengths are those of the unit frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepsdf.inference.complete.alignment import Alignment, Freedom
from deepsdf.network.decoder import Decoder
from deepsdf.network.priors import GaussianPrior

VIOLATORS = 96
"""Points of free space that a step heeds: those deepest inside. The others do not ask for anything."""

CONVERGED = 1e-3
"""A fit ends when a step lowers its objective by less than this share."""


@dataclass(frozen=True)
class Observed:
    """What a scan tells, the scan's frame.

    Attributes:
        points: (n, 3) of the surface.
        normals: (n, 3), outward where `oriented` (n,) says so.
        free: (m, 3), points outside.
    """

    points: Tensor
    normals: Tensor
    oriented: Tensor
    free: Tensor

    def some(self, points: int, free: int) -> Observed:
        """The first of its points; they are in random order."""
        return Observed(self.points[:points], self.normals[:points], self.oriented[:points], self.free[:free])


@dataclass(frozen=True)
class State:
    """b hypotheses: whitened codes (b, L) and alignments."""

    place: Tensor
    alignment: Alignment

    def __getitem__(self, rows: Tensor | slice) -> State:
        return State(self.place[rows], self.alignment[rows])


@dataclass(frozen=True)
class Residuals:
    """Errors (b, m) of the surface points outside, inside, and of the free points; derivatives (b, m, k)."""

    error: Tensor
    jacobian: Tensor


@dataclass(frozen=True)
class Linear:
    """Objectives (b,), gradients (b, k) and Gauss-Newton matrices (b, k, k); k is L and the pose's freedom."""

    objective: Tensor
    gradient: Tensor
    hessian: Tensor


@dataclass(frozen=True)
class ScanProblem:
    """½|z|² + Σ ½ c² log(1 + (r/c)²) / σ²: whitened code, and residuals under Cauchy's robust loss of width c.

    A point p of the surface with its normal n has two residuals, f(p ± ηn) ∓ η, that count half each; where the
    side of the normal is not known, f(p) for both. A point of free space has min(f, 0).

    Where the scale is free, residuals are counted in the scan's lengths, in which they do not fall as the scan is
    shrunk: times `scale` by the hypothesis' own.

    Attributes:
        eta: η.
        noise: σ of a surface point, the field's own error included.
        scale: at which a length of the scan's frame counts as much as one of the unit frame.
        free_weight: of a point of free space, where a point of the surface has 1.
        fit_code: else only the pose changes.
        rough: hidden layers in bfloat16, for what is done again more exactly.
    """

    decoder: Decoder
    prior: GaussianPrior
    observed: Observed
    freedom: Freedom
    eta: float
    noise: float
    free_weight: float
    scale: float = 1.0
    fit_code: bool = True
    rough: bool = False

    def centre(self, alignment: Alignment) -> Tensor:
        return alignment.place(self.observed.points).mean(dim=1)

    def residuals(self, state: State) -> Residuals:
        points = torch.cat([self._around(state.alignment), self._violators(state)], dim=1)
        values, jacobian = self.jacobian(state, points)
        error = self._errors(values)
        if self.freedom.pose == "similarity":
            ratio = self._ratio(state)
            error, jacobian = error / ratio, jacobian / ratio.unsqueeze(-1)
            jacobian[..., -1] -= error
        return Residuals(error, jacobian)

    def _ratio(self, state: State) -> Tensor:
        return state.alignment.scale[:, None] / self.scale

    @torch.no_grad()
    def objective(self, state: State, width: float) -> Tensor:
        """(b,): what `weigh` calls so, without derivatives."""
        points = torch.cat([self._around(state.alignment), self._violators(state)], dim=1)
        error = self._errors(self._field(self.prior.colour(state.place), points))
        if self.freedom.pose == "similarity":
            error = error / self._ratio(state)
        return self._cost(error, width) + 0.5 * state.place.square().sum(dim=1)

    def _shares(self, error: Tensor) -> Tensor:
        """(m,): what each residual counts by, 1/σ² included."""
        count = len(self.observed.points)
        share = torch.full_like(error[0], 0.5)
        share[2 * count :] = self.free_weight
        return share / self.noise**2

    def _cost(self, error: Tensor, width: float) -> Tensor:
        return (self._shares(error) * 0.5 * width**2 * (1.0 + (error / width).square()).log()).sum(dim=1)

    def _around(self, alignment: Alignment) -> Tensor:
        """The surface points, moved outward and inward along their normals: (b, 2n, 3)."""
        observed = self.observed
        offsets = alignment.turn(observed.normals) * (self.eta * observed.oriented[:, None])
        surface = alignment.place(observed.points)
        return torch.cat([surface + offsets, surface - offsets], dim=1)

    def _errors(self, values: Tensor) -> Tensor:
        count = len(self.observed.points)
        targets = torch.where(self.observed.oriented, self.eta, 0.0)
        outside, inside, free = values.split([count, count, values.shape[1] - 2 * count], dim=1)
        return torch.cat([outside - targets, inside + targets, free.clamp(max=0.0)], dim=1)

    def weigh(self, residuals: Residuals, state: State, width: float) -> Linear:
        error, jacobian = residuals.error, residuals.jacobian
        objective = self._cost(error, width)
        weights = self._shares(error) / (1.0 + (error / width).square())
        weighted = jacobian * weights.unsqueeze(-1)
        gradient = (weighted * error.unsqueeze(-1)).sum(dim=1)
        hessian = weighted.transpose(1, 2) @ jacobian
        if self.fit_code:
            length = state.place.shape[1]
            objective = objective + 0.5 * state.place.square().sum(dim=1)
            gradient[:, :length] += state.place
            hessian[:, :length, :length] += torch.eye(length, device=hessian.device)
        return Linear(objective, gradient, hessian)

    def jacobian(self, state: State, points: Tensor) -> tuple[Tensor, Tensor]:
        """The field at points (b, n, 3) that move with the pose: values (b, n), derivatives (b, n, k)."""
        codes = self.prior.colour(state.place)
        copies = codes.unsqueeze(1).expand(-1, points.shape[1], -1).contiguous() if self.fit_code else codes
        points = points.detach().requires_grad_()
        wanted = [points, copies.requires_grad_()] if self.fit_code else [points]
        with torch.enable_grad():
            values = self._field(copies, points)
            gradients, *by_code = torch.autograd.grad(values.sum(), wanted)
        points = points.detach()
        columns = [self.freedom.columns(points, gradients, self.centre(state.alignment))]
        if self.fit_code:
            columns.insert(0, by_code[0] @ (self.prior.directions * self.prior.std))
        return values.detach(), torch.cat(columns, dim=-1)

    @torch.no_grad()
    def _violators(self, state: State) -> Tensor:
        """Of the free points the lowest values' (b, k, 3)."""
        free = state.alignment.place(self.observed.free)
        if free.shape[1] <= 1:
            return free
        values = self._field(self.prior.colour(state.place), free)
        lowest = values.topk(min(VIOLATORS, free.shape[1]), dim=1, largest=False).indices
        return free.gather(1, lowest.unsqueeze(-1).expand(-1, -1, 3))

    def _field(self, codes: Tensor, points: Tensor) -> Tensor:
        with torch.autocast(points.device.type, torch.bfloat16, enabled=self.rough):
            return field(self.decoder, codes, points)

    def minimise(self, state: State, widths: list[float], steps: int) -> tuple[State, Linear, int, Tensor]:
        """Levenberg-Marquardt: a step for each but the last width, then up to `steps` with that one.

        Returns:
            The end, its linearisation, how many steps, and whether they have converged (b,).
        """
        damping = torch.full_like(state.place[:, 0], 1e-2)
        taken, converged = 0, torch.zeros_like(damping, dtype=torch.bool)
        found = self.residuals(state)
        at = self.weigh(found, state, widths[0])
        for taken in range(1, len(widths) + steps):
            width = widths[min(taken, len(widths)) - 1]
            at = self.weigh(found, state, width)
            diagonal = at.hessian.diagonal(dim1=1, dim2=2)
            scale = damping[:, None] * (diagonal + 0.1 * diagonal.mean(dim=1, keepdim=True)) + 1e-9
            move = torch.linalg.solve(at.hessian + torch.diag_embed(scale), at.gradient)
            moved = self.step(state, -move)
            tried = self.residuals(moved)
            new = self.weigh(tried, moved, width)
            better = new.objective < at.objective
            converged = (better & (new.objective > (1 - CONVERGED) * at.objective)) | (~better & (damping > 1e3))
            state = State(
                torch.where(better[:, None], moved.place, state.place),
                state.alignment.where(better, moved.alignment),
            )
            found = Residuals(
                torch.where(better[:, None], tried.error, found.error),
                torch.where(better[:, None, None], tried.jacobian, found.jacobian),
            )
            damping = torch.where(better, damping * 0.3, damping * 6.0).clamp(1e-7, 1e7)
            if taken >= len(widths) and bool(converged.all()):
                break
        return state, self.weigh(found, state, widths[-1]), taken, converged

    def step(self, state: State, step: Tensor) -> State:
        length = state.place.shape[1] if self.fit_code else 0
        place = state.place + step[:, :length] if self.fit_code else state.place
        return State(place, self.freedom.step(state.alignment, step[:, length:], self.centre(state.alignment)))


def field(decoder: Decoder, codes: Tensor, points: Tensor) -> Tensor:
    """The decoder; beyond the unit sphere, where it learned little, its value there and the way to it."""
    radius = torch.linalg.vector_norm(points, dim=-1, keepdim=True).clamp_min(1.0)
    return decoder(codes, points / radius) + (radius - 1.0).squeeze(-1)
