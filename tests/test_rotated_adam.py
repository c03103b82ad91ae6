"""Adam among the directions of the curvature: what it does not depend on, and where it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import FIELDS, ball, draw
from torch import Tensor

from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.fit import schedule
from deepsdf.inference.fit.options import FitOptions
from deepsdf.inference.fit.result import Fit
from deepsdf.inference.space import ShapeSpace
from deepsdf.solvers.quadratic import Quadratic, gauss_newton
from deepsdf.solvers.rotated_adam import FINAL_RATE, descend

NUMBERS, RESIDUALS, STEPS = 6, 40, 75


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problems(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return random(count, RESIDUALS, NUMBERS, seed=seed), random(count, RESIDUALS, seed=seed + 1)


def drawn(matrix: Tensor, target: Tensor) -> Callable[[Tensor, int], Quadratic]:
    """Σ ½ (A x - y)² over half of the rows, others each step."""

    def linearise(place: Tensor, step: int) -> Quadratic:
        rows = torch.randperm(RESIDUALS, generator=torch.Generator().manual_seed(step))[: RESIDUALS // 2]
        some = matrix[:, rows]
        residuals = (some @ place.unsqueeze(-1)).squeeze(-1) - target[:, rows]
        return gauss_newton(residuals, some, torch.full_like(residuals, 1 / len(rows)))

    return linearise


def go(matrix: Tensor, target: Tensor, start: Tensor, units: Tensor | None = None, **how: Any) -> Tensor:
    curvature = matrix.mT @ matrix / RESIDUALS
    units = torch.ones(NUMBERS, dtype=torch.float64) if units is None else units
    return descend(drawn(matrix, target), start, curvature, **({"steps": STEPS, "rate": 0.05, "units": units} | how))[0]


def test_turned_coordinates_take_the_same_steps() -> None:
    """Which Adam's own do not."""
    matrix, target = problems(3)
    start = random(3, NUMBERS, seed=5)
    turn = torch.linalg.qr(random(NUMBERS, NUMBERS, seed=6)).Q
    plain, turned = go(matrix, target, start), go(matrix @ turn, target, start @ turn)
    torch.testing.assert_close(turned @ turn.T, plain, rtol=0, atol=1e-7)
    assert (plain - start).abs().max() > 0.1


def test_coordinates_of_other_units_take_the_same_steps() -> None:
    matrix, target = problems(3)
    start, units = random(3, NUMBERS, seed=5), torch.tensor([0.01, 0.1, 1.0, 1.0, 10.0, 100.0], dtype=torch.float64)
    scaled = go(matrix * units, target, start / units, units)
    torch.testing.assert_close(scaled * units, go(matrix, target, start), rtol=0, atol=1e-7)


def test_problems_are_independent() -> None:
    matrix, target = problems(3)
    start = random(3, NUMBERS, seed=5)
    together = go(matrix, target, start)
    for k in range(3):
        torch.testing.assert_close(together[k : k + 1], go(matrix[k:][:1], target[k:][:1], start[k:][:1]))


def test_the_first_step_moves_by_the_rate_along_every_direction() -> None:
    matrix, target = problems(2)
    start = random(2, NUMBERS, seed=5)
    moved = go(matrix, target, start, steps=1, rate=0.05) - start
    along = torch.linalg.eigh(matrix.mT @ matrix / RESIDUALS).eigenvectors.mT @ moved.unsqueeze(-1)
    torch.testing.assert_close(along.abs(), torch.full_like(along, 0.05))


def test_it_ends_about_the_closed_form() -> None:
    """As near as the last steps are long, though no step saw all residuals."""
    matrix, wanted = problems(4)[0], random(4, NUMBERS, seed=9)
    target = (matrix @ wanted.unsqueeze(-1)).squeeze(-1)
    end = go(matrix, target, torch.zeros(4, NUMBERS, dtype=torch.float64), steps=300, rate=0.1)
    assert (end - wanted).abs().max() < 0.1 * FINAL_RATE


def test_a_rough_space_is_fitted_by_it_shape_by_shape(space: ShapeSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    observed = [draw(field, 4000, seed=9) for field in FIELDS.values()] + [draw(ball(0.42), 4000, seed=9)]
    smooth = space.fit(observed)
    assert (smooth.steps <= 60).all()
    for part, whole in (
        (-1.0, schedule.TOLERANCE),
        (schedule.QUARTER_TOLERANCE, -1.0),
    ):
        with monkeypatch.context() as change:
            change.setattr(schedule, "QUARTER_TOLERANCE", part)
            change.setattr(schedule, "TOLERANCE", whole)
            change.setattr(schedule, "DAMPED", 0.0)
            check_rough(space, observed, smooth, change)


def check_rough(space: ShapeSpace, observed: list[SDFSamples], smooth: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    rough = space.fit(observed, on_progress=lambda one: steps.append((one.done, one.total)))
    assert (rough.steps > FitOptions().max_steps - schedule.STEPS_ON_QUARTER - schedule.STEPS_ON_ALL).all()
    assert (rough.steps <= FitOptions().max_steps).all()
    assert set(rough.reasons) == {"steps ran out"}
    assert steps == sorted(steps)
    assert steps[-1] == (FitOptions().max_steps, FitOptions().max_steps)
    assert (rough.losses <= 1.05 * smooth.losses + 1e-4).all()
    torch.testing.assert_close(space.fit(observed[1]).codes[0], rough.codes[1], rtol=0, atol=1e-4)
    monkeypatch.delattr(schedule, "descend")  # from here on nothing may call it
    few = space.fit(observed, FitOptions(steps=60))
    assert (few.steps <= 60).all()
    assert (few.losses <= 1.05 * smooth.losses + 1e-4).all(), "too few steps for Adam: Gauss-Newton goes on"
    space.fit([draw(field, 400, seed=9) for field in FIELDS.values()])  # nothing new to draw: likewise
    with pytest.raises(NameError, match="descend"):
        space.fit(observed[0])
