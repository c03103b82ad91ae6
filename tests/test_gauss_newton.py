"""The minimiser and the posterior, against closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from deepsdf.inference.fit.posterior import code_posterior, design_effect
from deepsdf.inference.fit.problem import ROBUST_WIDTH, Draw
from deepsdf.solvers.levenberg_marquardt import CONVERGED, REASONS, STEPS_RAN_OUT, STUCK, Minimum, minimise
from deepsdf.solvers.losses import Cauchy, Huber, Loss, Squared
from deepsdf.solvers.quadratic import Quadratic, gauss_newton


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(matrix: Tensor, target: Tensor, width: float | None = None, ridge: float = 0.1):
    """Σ ρ(A x - y) / n + ridge / 2 |x|², of b problems."""
    weights = torch.full_like(target, 1 / target.shape[1])

    def linearise(place: Tensor, rows: Tensor, step: int) -> Quadratic:
        residuals = (matrix[rows] @ place.unsqueeze(-1)).squeeze(-1) - target[rows]
        identity = torch.eye(place.shape[1]).expand(len(rows), -1, -1)
        prior = Quadratic(0.5 * ridge * place.square().sum(1), ridge * place, ridge * identity)
        return gauss_newton(residuals, matrix[rows], weights[rows], Huber(width) if width else Squared()) + prior

    return linearise


def closed_form(matrix: Tensor, target: Tensor, ridge: float = 0.1) -> Tensor:
    count = target.shape[1]
    normal = matrix.mT @ matrix / count + ridge * torch.eye(matrix.shape[2])
    return torch.linalg.solve(normal, (matrix.mT @ target.unsqueeze(-1)).squeeze(-1) / count)


def test_linear_problems_end_at_their_closed_form() -> None:
    matrix, target = random(5, 40, 6), random(5, 40, seed=1)
    end = minimise(linear(matrix, target), random(5, 6, seed=2), steps=30, tolerance=1e-10)
    torch.testing.assert_close(end.state, closed_form(matrix, target), rtol=1e-4, atol=1e-5)
    assert end.reason.tolist() == [CONVERGED] * 5
    assert int(end.steps.max()) < 15


def test_coordinates_of_other_units_take_the_same_steps() -> None:
    matrix, target, start = random(3, 40, 6), random(3, 40, seed=1), random(3, 6, seed=2)
    units = torch.tensor([0.01, 0.1, 1.0, 1.0, 10.0, 100.0])
    plain = minimise(linear(matrix, target, ridge=0.0), start, steps=2, tolerance=0.0)
    scaled = linear(matrix * units, target, ridge=0.0)
    end = minimise(scaled, start / units, steps=2, tolerance=0.0, units=units)
    torch.testing.assert_close(end.state * units, plain.state, rtol=1e-4, atol=1e-5)
    other = minimise(scaled, start / units, steps=2, tolerance=0.0)
    assert (other.state * units - plain.state).abs().max() > 0.1


def test_without_damping_one_step_is_enough() -> None:
    matrix, target = random(3, 40, 6), random(3, 40, seed=1)
    end = minimise(linear(matrix, target), torch.zeros(3, 6), steps=1, tolerance=0.0, damping=1e-7)
    torch.testing.assert_close(end.state, closed_form(matrix, target), rtol=1e-4, atol=1e-5)
    assert end.reason.tolist() == [STEPS_RAN_OUT] * 3


def test_a_quadratic_is_the_loss_its_gradient_and_its_reweighted_matrix() -> None:
    matrix, target, place = random(2, 30, 4), random(2, 30, seed=1), random(2, 4, seed=2).requires_grad_()
    residuals = (matrix @ place.unsqueeze(-1)).squeeze(-1) - target
    weights = random(2, 30, seed=3).abs()
    width = 0.5
    value = (weights * torch.nn.functional.huber_loss(residuals, torch.zeros_like(residuals), reduction="none",
                                                      delta=width)).sum(1) / width  # fmt: skip
    (gradient,) = torch.autograd.grad(value.sum(), place)
    found = gauss_newton(residuals.detach(), matrix, weights, Huber(width))
    torch.testing.assert_close(found.value, value.detach())
    torch.testing.assert_close(found.gradient, gradient)
    by_hand = torch.einsum("bn,bnp,bnq->bpq", weights / residuals.detach().abs().clamp_min(width), matrix, matrix)
    torch.testing.assert_close(found.curvature, by_hand)
    moving = torch.arange(30).expand(2, -1) % 3 > 0
    some = gauss_newton(residuals.detach(), matrix, weights, Huber(width), moving)
    torch.testing.assert_close(some.value, found.value)
    alone = gauss_newton(residuals.detach(), matrix, weights * moving, Huber(width))
    torch.testing.assert_close(some.gradient, alone.gradient)
    torch.testing.assert_close(some.curvature, alone.curvature)


@pytest.mark.parametrize("loss", [Squared(), Huber(0.3), Cauchy(0.3)])
def test_reweighting_has_the_gradient_of_the_loss(loss: Loss) -> None:
    residuals = torch.linspace(-2, 2, 41, dtype=torch.float64)[None].requires_grad_()
    weights = torch.rand(1, 41, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * loss.value(residuals)).sum(), residuals)
    residuals = residuals.detach()
    torch.testing.assert_close(loss.reweight(weights, residuals) * residuals, gradient)
    assert (loss.value(residuals) >= 0).all()


@dataclass(frozen=True)
class Rotations:
    """Rotation matrices (b, 3, 3)."""

    matrices: Tensor

    @property
    def device(self) -> torch.device:
        return self.matrices.device

    def __len__(self) -> int:
        return len(self.matrices)

    def __getitem__(self, rows: Tensor) -> Rotations:
        return Rotations(self.matrices[rows])

    def replaced(self, rows: Tensor, other: Rotations) -> Rotations:
        return Rotations(self.matrices.index_copy(0, rows, other.matrices))


def cross_matrices(vectors: Tensor) -> Tensor:
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vectors.shape[:-1], 3, 3)


def test_rotations_are_found_on_their_manifold() -> None:
    """Points and their rotated images; steps are rotation vectors. The result is a rotation, and the true one."""
    points, truth = random(4, 30, 3), torch.linalg.matrix_exp(cross_matrices(random(4, 3, seed=1)))
    images = points @ truth.mT

    def linearise(state: Rotations, rows: Tensor, step: int) -> Quadratic:
        moved = points[rows] @ state.matrices.mT
        jacobian = -cross_matrices(moved)  # w × x = -x × w
        ones = torch.ones(len(rows), 90)
        return gauss_newton((moved - images[rows]).flatten(1), jacobian.flatten(1, 2), ones)

    end = minimise(
        linearise,
        Rotations(torch.eye(3).expand(4, 3, 3).clone()),
        steps=50,
        tolerance=1e-9,
        retract=lambda state, step: Rotations(torch.linalg.matrix_exp(cross_matrices(step)) @ state.matrices),
    )
    torch.testing.assert_close(end.state.matrices, truth, rtol=0, atol=1e-4)
    torch.testing.assert_close(end.state.matrices @ end.state.matrices.mT, torch.eye(3).expand(4, 3, 3))


def test_a_ridge_and_parameters_without_effect() -> None:
    difference, weight = random(2, 3), torch.tensor([0.5, 2.0])
    ridge = Quadratic.ridge(difference, weight)
    torch.testing.assert_close(ridge.value, 0.5 * weight * difference.square().sum(1))
    torch.testing.assert_close(ridge.gradient, weight[:, None] * difference)
    torch.testing.assert_close(ridge.curvature, weight[:, None, None] * torch.eye(3))
    padded = ridge.padded(2)
    torch.testing.assert_close(padded.value, ridge.value)
    torch.testing.assert_close(padded.gradient, torch.cat([ridge.gradient, torch.zeros(2, 2)], 1))
    torch.testing.assert_close(padded.curvature[:, :3, :3], ridge.curvature)
    assert padded.curvature[:, 3:].abs().max() == padded.curvature[:, :, 3:].abs().max() == 0


def test_outliers_hardly_move_a_robust_fit() -> None:
    matrix, truth = random(1, 200, 3), random(1, 3, seed=1)
    target = (matrix @ truth.unsqueeze(-1)).squeeze(-1)
    spoiled = torch.where(torch.arange(200) % 5 == 0, target + 50, target)
    end = minimise(linear(matrix, spoiled, 1e-3, 1e-9), torch.zeros(1, 3), steps=60, tolerance=1e-9)
    torch.testing.assert_close(end.state, truth, rtol=0, atol=1e-3)
    assert float((closed_form(matrix, spoiled, 1e-9) - truth).abs().max()) > 1


def test_a_problem_does_not_hear_of_the_others() -> None:
    matrix, target, start = random(4, 40, 6), random(4, 40, seed=1), 10 * random(4, 6, seed=2)
    start[2] = closed_form(matrix, target)[2]  # ends long before the others

    def of(rows: slice) -> Minimum:
        return minimise(linear(matrix[rows], target[rows], 0.3), start[rows], steps=20, tolerance=1e-6)

    together = of(slice(None))
    assert len(set(together.steps.tolist())) > 1
    for k in range(4):
        alone = of(slice(k, k + 1))
        torch.testing.assert_close(together.state[k], alone.state[0], rtol=1e-5, atol=1e-6)
        assert together.steps[k] == alone.steps[0]


def test_what_cannot_be_lowered_is_stuck_where_it_is() -> None:
    """Its gradient lies: no step keeps its promise."""

    def liar(place: Tensor, rows: Tensor, step: int) -> Quadratic:
        return Quadratic(1 + place.square().sum(1), place - 3, torch.eye(2).expand(len(rows), 2, 2))

    end = minimise(liar, torch.zeros(1, 2), steps=50, tolerance=1e-9)
    assert REASONS[int(end.reason)] == REASONS[STUCK] == "stuck"
    assert torch.equal(end.state, torch.zeros(1, 2))
    assert int(end.steps) < 50


def test_values_that_are_not_finite_are_steps_taken_back() -> None:
    matrix, target = random(1, 40, 2), random(1, 40, seed=1)
    whole = linear(matrix, target)

    def broken(place: Tensor, rows: Tensor, step: int) -> Quadratic:
        found = whole(place, rows, step)
        return found if step != 1 else Quadratic(found.value * torch.nan, found.gradient, found.curvature)

    end = minimise(broken, torch.zeros(1, 2), steps=30, tolerance=1e-10)
    torch.testing.assert_close(end.state, closed_form(matrix, target), rtol=1e-4, atol=1e-5)


# The posterior


def observed(jacobian: Tensor, noise: float, seed: int) -> tuple[Tensor, Tensor, Draw]:
    """Gauss-Newton matrix, errors and the draw of observations with independent Gaussian errors."""
    shapes, count, _ = jacobian.shape
    errors = noise * random(shapes, count, seed=seed)
    weights = torch.full((shapes, count), 1 / count)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.cat([2 * torch.rand(shapes, count, 3, generator=generator) - 1, torch.zeros(shapes, count, 1)], 2)
    return gauss_newton(errors, jacobian, weights, Huber(ROBUST_WIDTH)).curvature, errors, Draw(rows, weights)


def test_the_posterior_of_a_linear_gaussian_problem() -> None:
    """C = (I + Jᵀ J / σ²)⁻¹, within what the noise is known to."""
    count, noise = 4000, 0.02
    jacobian = 0.05 * random(3, count, 5) * torch.tensor([1.0, 0.3, 0.1, 0.03, 0.0])
    hessian, errors, draw = observed(jacobian, noise, 1)
    counts = torch.full((3,), count)
    found = code_posterior(hessian, errors, draw, counts, torch.full((3,), 1e-7))
    exact = torch.linalg.inv(torch.eye(5) + jacobian.mT @ jacobian / noise**2)
    # Huber's narrow loss is nearly the median, whose variance is π/2 of the mean's.
    expected = (torch.pi / 2) ** 0.5
    torch.testing.assert_close(found.noise / noise, torch.full((3,), expected), rtol=0.1, atol=0)
    std = exact.diagonal(dim1=1, dim2=2).sqrt()
    assert (found.std >= 0.95 * std).all()
    torch.testing.assert_close(found.std[:, :3] / std[:, :3], torch.full((3, 3), expected), rtol=0.2, atol=0)
    torch.testing.assert_close(found.std[:, 4], torch.ones(3))
    assert (found.std <= 1).all()


def test_more_observations_make_sure_and_none_leave_the_prior() -> None:
    jacobian = 0.02 * random(1, 4000, 4)
    hessian, errors, draw = observed(jacobian, 0.02, 2)
    weight = torch.full((1,), 1e-7)
    few, many = (code_posterior(hessian, errors, draw, torch.tensor([count]), weight) for count in (100, 10_000))
    torch.testing.assert_close(few.std / many.std, torch.full((1, 4), 10.0), rtol=0.3, atol=0)
    nothing = Draw(draw.rows, torch.zeros_like(draw.weights))
    prior = code_posterior(torch.zeros(1, 4, 4), errors, nothing, torch.tensor([100]), weight)
    torch.testing.assert_close(prior.covariance, torch.eye(4)[None])


def test_errors_of_whole_regions_are_no_independent_witnesses() -> None:
    _, _, draw = observed(torch.zeros(1, 20_000, 1), 1.0, 3)
    counts = torch.tensor([20_000])
    alone = random(1, 20_000, seed=4)
    region = torch.where((draw.rows[..., 0] * 8).floor() % 2 == 0, 1.0, -1.0) * (1 + 0 * alone)
    by_chance, by_region = (
        float(design_effect(draw.weights * pulls, draw.rows, draw.weights, counts)) for pulls in (alone, region)
    )
    assert by_chance == pytest.approx(1, abs=0.3)
    assert by_region == pytest.approx(20_000 / 16**3, rel=0.3)  # as many as a cell has, and its own
