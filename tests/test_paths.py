"""Ways from code to code, and the priors that follow the training codes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deepsdf.errors import InputError
from deepsdf.inference.paths import code_path, over_codes, resampled
from deepsdf.inference.space import ShapeSpace
from deepsdf.network.decoder import Decoder
from deepsdf.network.priors import PRIORS, MixturePrior, NearestPrior


def arc(count: int = 40) -> Tensor:
    """Codes on half a circle of radius 1 in the first two of 4 numbers."""
    angle = torch.linspace(0, math.pi, count)
    return torch.stack([angle.cos(), angle.sin(), 0 * angle, 0 * angle], dim=1)


def space(codes: Tensor) -> ShapeSpace:
    torch.manual_seed(0)
    return ShapeSpace(Decoder(codes.shape[1], [8, 8]), codes, device="cpu")


def test_the_straight_line() -> None:
    a, b = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    found = code_path(a, b, 5, codes=torch.zeros(0, 5))
    torch.testing.assert_close(found, torch.stack([a + (b - a) * t for t in (0, 0.25, 0.5, 0.75, 1)]))


def test_the_prior_path_follows_the_training_codes() -> None:
    """From one end of the arc to the other: along it, in steps of one length, and not across the empty middle."""
    codes = arc()
    found = code_path(codes[0], codes[-1], 9, path="prior", codes=codes)
    assert torch.equal(found[0], codes[0])
    assert torch.equal(found[-1], codes[-1])
    straight = code_path(codes[0], codes[-1], 9, codes=codes)
    assert float(torch.cdist(found, codes).min(dim=1).values.max()) < 0.05
    assert float(torch.cdist(straight, codes).min(dim=1).values.max()) == pytest.approx(1.0, abs=0.01)
    steps = (found[1:] - found[:-1]).norm(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 2 * math.sin(math.pi / 16)), rtol=0.02, atol=0)
    back = code_path(codes[-1], codes[0], 9, path="prior", codes=codes)
    torch.testing.assert_close(back.flip(0), found)


def test_where_nothing_lies_between_it_is_the_straight_line() -> None:
    codes = torch.eye(6)  # all equally far apart
    a, b = codes[0] + 0.01, codes[1]
    torch.testing.assert_close(
        code_path(a, b, 7, path="prior", codes=codes), code_path(a, b, 7, codes=codes), atol=0.03, rtol=0
    )


def test_the_power_decides_how_many_codes_are_met() -> None:
    codes = arc()
    a, b = codes[0], codes[-1]
    met = [len(over_codes(a, b, codes, power)) for power in (1.0, 2.0, 4.0)]
    assert met[0] <= 3  # the ends, which are codes themselves, and nothing else
    assert met[0] < met[1] <= met[2]


def test_resampled_keeps_ends_and_corner() -> None:
    way = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]])
    torch.testing.assert_close(resampled(way, 5), torch.tensor([[0.0, 0], [1, 0], [2, 0], [2, 1], [2, 2]]))
    same = torch.zeros(2, 2)
    assert torch.equal(resampled(same, 3), torch.zeros(3, 2))


def test_a_shape_to_itself() -> None:
    codes = arc(5)
    for path in ("linear", "prior"):
        found = code_path(codes[2], codes[2], 4, path=path, codes=codes)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(found, codes[2].expand(4, -1), atol=1e-5, rtol=0)


def test_interpolate_takes_what_it_took() -> None:
    shapes = space(arc(6))
    found = shapes.interpolate(shapes.codes[0], shapes.codes[5], 3)
    torch.testing.assert_close(found[1].code, (shapes.codes[0] + shapes.codes[5]) / 2)
    with pytest.raises(InputError, match="steps is 1; expected at least 2, the ends"):
        shapes.interpolate(shapes.codes[0], shapes.codes[1], 1)
    with pytest.raises(InputError, match="path is 'curved'; expected 'linear' or 'prior'"):
        shapes.interpolate(shapes.codes[0], shapes.codes[1], path="curved")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("width", [0.1, 0.5, 2.0])
def test_the_mixture_has_the_priors_mean_and_covariance(width: float) -> None:
    codes = torch.randn(200, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([2.0, 1.0, 0.5]) + 3
    drawn = MixturePrior.fit(codes, width).sample(40_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(codes.T), atol=0.12, rtol=0)


def test_a_mixture_without_width_draws_training_codes() -> None:
    codes = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    drawn = MixturePrior.fit(codes, 0.0).sample(50, torch.Generator().manual_seed(0))
    away = torch.cdist(drawn, codes).min(dim=1)
    assert float(away.values.max()) < 1e-3
    assert len(away.indices.unique()) == 7


def test_a_blend_lies_between_neighbours() -> None:
    """Two far groups: no blend mixes them, each lies within its group's range."""
    low = torch.rand(10, 2, generator=torch.Generator().manual_seed(1))
    codes = torch.cat([low, low + 100])
    drawn = NearestPrior.fit(codes).sample(300, torch.Generator().manual_seed(0))
    assert bool(((drawn >= 0) & (drawn <= 1)).all(dim=1).logical_or((drawn >= 100).all(dim=1)).all())
    assert 100 < int((drawn > 50).all(dim=1).sum()) < 200
    assert torch.equal(NearestPrior.fit(codes[:1]).sample(2, torch.Generator()), codes[:1].expand(2, -1))


def test_samples_by_prior_and_seed() -> None:
    shapes = space(arc(6))
    for prior in PRIORS:
        one, again, other = (shapes.sample(3, prior=prior, seed=seed) for seed in (4, 4, 5))
        assert all(torch.equal(a.code, b.code) for a, b in zip(one, again, strict=True))
        assert not any(torch.equal(a.code, b.code) for a, b in zip(one, other, strict=True))
    with pytest.raises(InputError, match="prior is 'uniform'; expected one of 'gaussian', 'mixture', 'nearest'"):
        shapes.sample(1, prior="uniform")
