"""Codes and their prior, the objective they are found by, and the bank that samples are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepsdf.network.codes import make_codes
from deepsdf.network.objective import clamped_l1, code_square_penalty
from deepsdf.network.priors import GaussianPrior
from deepsdf.samples.bank import SampleBank


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_codes_start_normal_with_the_originals_deviation() -> None:
    codes = make_codes(2000, 64, init_std=0.5, bound=None, generator=generator()).weight.detach()
    assert float(codes.mean()) == pytest.approx(0, abs=1e-3)
    assert float(codes.std()) == pytest.approx(0.5 / 8, rel=0.01)
    again = make_codes(2000, 64, init_std=0.5, bound=None, generator=generator()).weight
    assert torch.equal(codes, again)


def test_a_code_beyond_the_bound_is_scaled_back_when_it_is_looked_up() -> None:
    table = make_codes(3, 4, init_std=1.0, bound=1.0, generator=generator())
    with torch.no_grad():
        table.weight[:] = torch.tensor([[3.0, 0, 4, 0], [0.1, 0.2, 0, 0], [0, 9, 0, 0]])
    table(torch.tensor([0, 1]))
    torch.testing.assert_close(
        table.weight.detach(), torch.tensor([[0.6, 0, 0.8, 0], [0.1, 0.2, 0, 0], [0, 9, 0, 0]]), rtol=0, atol=1e-5
    )


def correlated(count: int, length: int = 5) -> torch.Tensor:
    """Codes of known, uneven spread along known directions."""
    mix = torch.randn(length, length, generator=generator(7))
    return torch.randn(count, length, generator=generator(8)) @ mix + torch.arange(float(length))


def test_the_prior_is_mean_and_covariance() -> None:
    codes = correlated(300)
    prior = GaussianPrior.fit(codes)
    torch.testing.assert_close(prior.mean, codes.mean(0))
    covariance = (prior.directions * prior.std.square()) @ prior.directions.T
    floor = 1e-2 * codes.var(0).mean()
    torch.testing.assert_close(covariance, torch.cov(codes.T) + floor * torch.eye(5), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(prior.directions.T @ prior.directions, torch.eye(5), rtol=0, atol=1e-5)
    assert (prior.std.diff() <= 0).all()


def test_whitening_goes_there_and_back() -> None:
    codes = correlated(300)
    prior = GaussianPrior.fit(codes)
    white = prior.whiten(codes)
    torch.testing.assert_close(prior.colour(white), codes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(white.mean(0), torch.zeros(5), rtol=0, atol=1e-4)
    off_diagonal = torch.cov(white.T) - torch.diag(white.var(0))
    assert float(off_diagonal.abs().max()) < 1e-4
    assert torch.equal(prior.whiten(codes[None])[0], white)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_codes_still_make_a_proper_prior(count: int) -> None:
    codes = correlated(count, 16)
    prior = GaussianPrior.fit(codes)
    assert (prior.std > 0).all()
    drawn = prior.sample(50, generator())
    assert torch.isfinite(drawn).all()
    torch.testing.assert_close(prior.colour(prior.whiten(codes)), codes, rtol=1e-3, atol=1e-3)


def test_what_is_drawn_from_a_prior_has_its_moments() -> None:
    prior = GaussianPrior.fit(correlated(300))
    drawn = prior.sample(50_000, generator(1))
    assert torch.equal(drawn, prior.sample(50_000, generator(1)))
    assert not torch.equal(drawn[0], prior.sample(1, generator(2))[0])
    again = GaussianPrior.fit(drawn)
    torch.testing.assert_close(again.mean, prior.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(again.std, prior.std, rtol=0.05, atol=0.02)


def test_the_clamped_error() -> None:
    predicted = torch.tensor([0.05, 0.3, 0.3, -0.4, -0.02])
    target = torch.tensor([0.02, 0.2, 0.05, 0.4, -0.05])
    torch.testing.assert_close(clamped_l1(predicted, target, 0.1), torch.tensor([0.03, 0.0, 0.05, 0.2, 0.03]))


def test_the_clamped_error_pulls_only_within_the_clamp() -> None:
    predicted = torch.tensor([0.05, 0.3, -0.3, -0.05], requires_grad=True)
    clamped_l1(predicted, torch.tensor([0.2, 0.0, 0.3, -0.2]), 0.1).sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [-1.0, 0.0, 0.0, 1.0]


def test_the_penalty_of_a_fitted_code_is_a_mean_square() -> None:
    codes = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert code_square_penalty(codes).tolist() == pytest.approx([12.5e-4, 0.5e-4])


def marked_bank() -> SampleBank:
    """Rows tell where they belong: x is the shape, sdf's sign the side, y counts."""

    def rows(shape: int, count: int, sign: float) -> torch.Tensor:
        return torch.tensor([[shape, k, 0, sign] for k in range(count)], dtype=torch.float32).reshape(-1, 4)

    counts = [(3, 5), (4, 0), (0, 2), (1, 1)]
    return SampleBank.from_shapes([(rows(s, n, 1.0), rows(s, m, -1.0)) for s, (n, m) in enumerate(counts)])


def test_half_of_a_draw_is_outside_and_half_inside() -> None:
    bank = marked_bank()
    shapes = torch.tensor([3, 0, 1, 2, 0])
    drawn = bank.draw(shapes, 400, generator())
    assert drawn.shape == (5, 400, 4)
    for k, shape in enumerate(shapes.tolist()):
        assert (drawn[k, :, 0] == shape).all()
    signs = drawn[..., 3]
    both = torch.tensor([True, True, False, False, True])
    assert (signs[both, :200] == 1).all()
    assert (signs[both, 200:] == -1).all()
    assert (signs[2] == 1).all()  # no inside samples: all from outside
    assert (signs[3] == -1).all()


def test_every_row_is_drawn_equally_often() -> None:
    drawn = marked_bank().draw(torch.tensor([0]), 60_000, generator())[0]
    for half, count in ((drawn[:30_000], 3), (drawn[30_000:], 5)):
        shares = np.bincount(half[:, 1].long().numpy(), minlength=count) / 30_000
        np.testing.assert_allclose(shares, np.full(count, 1 / count), atol=0.01)


def test_an_odd_draw_is_rounded_down_and_a_seed_repeats_it() -> None:
    bank, shapes = marked_bank(), torch.tensor([0, 3])
    assert bank.draw(shapes, 7, generator()).shape == (2, 6, 4)
    assert torch.equal(bank.draw(shapes, 8, generator(5)), bank.draw(shapes, 8, generator(5)))


def test_a_random_number_that_rounds_up_to_1_stays_within_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.ones(size))
    drawn = marked_bank().draw(torch.arange(4), 2, generator())
    assert drawn[..., 0].tolist() == [[k, k] for k in range(4)]
    assert drawn[0, :, 3].tolist() == [1, -1]


@pytest.mark.parametrize("count", [40, 4, 2])
def test_a_spread_takes_none_twice_and_of_few_samples_all(count: int) -> None:
    bank = marked_bank()
    rows, weights = bank.spread(count, [generator(1) for _ in range(len(bank))])
    torch.testing.assert_close(weights.sum(1), torch.ones(len(bank)))
    for k, (outside, inside) in enumerate(bank.counts.tolist()):
        taken = rows[k][weights[k] > 0]
        assert (taken[:, 0] == k).all()
        assert len(torch.unique(taken, dim=0)) == len(taken)
        if outside and inside:
            assert len(taken) == min(outside, count // 2) + min(inside, count // 2)
            torch.testing.assert_close(weights[k][rows[k][:, 3] > 0].sum(), torch.tensor(0.5))
        else:
            assert len(taken) == min(outside + inside, count)


def test_every_row_of_a_spread_comes_equally_often_and_does_not_depend_on_other_shapes() -> None:
    bank = SampleBank.from_shapes(
        [(torch.arange(40.0).reshape(10, 4), torch.zeros(0, 4)), *([(torch.ones(90, 4), torch.ones(90, 4))] * 2)]
    )
    alone = SampleBank.from_shapes([(torch.arange(40.0).reshape(10, 4), torch.zeros(0, 4))])
    firsts = []
    for seed in range(600):
        rows, weights = bank.spread(4, [generator(seed) for _ in range(3)])
        assert torch.equal(rows[0], alone.spread(4, [generator(seed)])[0][0])
        firsts += (rows[0][weights[0] > 0][:, 0] / 4).long().tolist()
    shares = np.bincount(firsts, minlength=10) / len(firsts)
    np.testing.assert_allclose(shares, 0.1, atol=0.03)
