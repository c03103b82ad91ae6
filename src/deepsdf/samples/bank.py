"""Signed distance samples of many shapes in one tensor, and balanced random draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]
"""One for all shapes, or one for each."""


@dataclass(frozen=True)
class SampleBank:
    """Samples of b shapes.

    Attributes:
        rows: (n, 4) float32, x y z sdf, unit frame; a shape's outside samples, then its inside samples.
        starts: (b, 2), the first outside and the first inside row of each shape.
        counts: (b, 2), how many outside (sdf > 0) and inside (sdf <= 0) rows it has.
    """

    rows: Tensor
    starts: Tensor
    counts: Tensor

    @classmethod
    def of(cls, shapes: Sequence[tuple[Tensor, Tensor]]) -> SampleBank:
        """From the outside and inside rows (n, 4) of each shape."""
        counts = torch.tensor([[len(outside), len(inside)] for outside, inside in shapes])
        return cls.packed(torch.cat([part.float() for shape in shapes for part in shape]), counts)

    @classmethod
    def packed(cls, rows: Tensor, counts: Tensor) -> SampleBank:
        """From rows that lie shape after shape, outside before inside, and their counts (b, 2)."""
        return cls(rows, counts.flatten().cumsum(0).reshape(-1, 2) - counts, counts)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def sizes(self) -> Tensor:
        """(b,), rows of each shape."""
        return self.counts.sum(dim=1)

    def to(self, device: torch.device) -> SampleBank:
        return SampleBank(self.rows.to(device), self.starts.to(device), self.counts.to(device))

    def draw(self, shapes: Tensor, count: int, generator: Generators) -> Tensor:
        """Samples (b, count, 4) of the shapes (b,): the first half outside, the second inside, with replacement.

        Of a shape with samples on one side alone, all are drawn from there. An odd `count` is rounded down, as
        in the original. With a generator for each shape, its samples do not depend on the other shapes.
        """
        half = count // 2
        starts, counts = self._sides(shapes)
        random = _uniform((2, half), generator, len(shapes), self.rows.device, torch.float32)
        picks = (random * counts.unsqueeze(-1)).long()
        # A product just below the count can round up to it.
        picks = torch.minimum(picks, counts.unsqueeze(-1) - 1) + starts.unsqueeze(-1)
        return self.rows[picks.flatten(1)]

    def keys(self, generator: Generators) -> Tensor:
        """Random keys (b,) for `draw_keyed`."""
        return (_uniform((), generator, len(self), self.rows.device, torch.float64) * 2.0**53).long()

    def draw_keyed(self, shapes: Tensor, count: int, keys: Tensor) -> Tensor:
        """As `draw`, from a key (b,) int64 for each shape instead of a generator.

        The same key draws the same samples of a shape on every device and in every process, whatever is drawn
        beside it, and nothing waits for a device.
        """
        return self.rows[self.picks_keyed(shapes, count, keys)]

    def picks_keyed(self, shapes: Tensor, count: int, keys: Tensor) -> Tensor:
        """Which rows (b, count) `draw_keyed` draws."""
        half = count // 2
        starts, counts = self._sides(shapes)
        number = torch.arange(2 * half, device=keys.device).reshape(2, half)
        random = (mix(keys[:, None, None] + number) >> 32) & 0xFFFFFFFF
        return (((random * counts.unsqueeze(-1)) >> 32) + starts.unsqueeze(-1)).flatten(1)

    def _sides(self, shapes: Tensor) -> tuple[Tensor, Tensor]:
        """Starts and counts (b, 2) of what is drawn: both sides, or twice the one there is."""
        counts, starts = self.counts[shapes], self.starts[shapes]
        side = torch.where(counts > 0, torch.arange(2, device=counts.device), (counts.argmax(1, keepdim=True)))
        return starts.gather(1, side), counts.gather(1, side)

    def spread(self, count: int, generator: Generators) -> tuple[Tensor, Tensor]:
        """Samples (b, n, 4) of all shapes, none twice, and their weights (b, n), which add up to 1 a shape.

        Outside and inside weigh one half each; a shape with samples on one side alone has them weigh alike. Of a side
        with many samples one is drawn from each of `count` / 2 equal parts; of one with fewer all are taken, with rows
        of weight 0 behind them. So few observations count all, and the same every time. n is `count`, rounded down
        to an even number, or less where no shape has so many.
        """
        counts, starts, shares = self._halves()
        half = min(count // 2, int(counts.max()))
        # As many numbers whatever the other shapes have: a shape's draw does not depend on them.
        random = _uniform((2, count // 2), generator, len(self), self.rows.device, torch.float64)[..., :half]
        place = torch.arange(half, device=self.rows.device)
        drawn = ((place + random) * (counts.unsqueeze(-1) / half)).long()
        picks = torch.where(counts.unsqueeze(-1) > half, drawn, place)
        picks = torch.minimum(picks, (counts - 1).clamp_min(0).unsqueeze(-1)) + starts.unsqueeze(-1)
        taken = counts.clamp(1, half).unsqueeze(-1)
        weights = torch.where(place < counts.unsqueeze(-1), shares.unsqueeze(-1) / taken, 0.0)
        return self.rows[picks.flatten(1).clamp_max(len(self.rows) - 1)], weights.float().flatten(1)

    def _halves(self) -> tuple[Tensor, Tensor, Tensor]:
        """Counts, first rows and weights (b, 2) of two sides; samples on one side alone are parted in the middle."""
        total = self.counts.sum(dim=1, keepdim=True)
        alone = (self.counts == 0).any(dim=1, keepdim=True)
        first = total // 2
        parted = torch.cat([first, total - first], dim=1)
        begin = self.starts[:, :1]
        counts = torch.where(alone, parted, self.counts)
        starts = torch.where(alone, torch.cat([begin, begin + first], dim=1), self.starts)
        return counts, starts, torch.where(alone, parted.double() / total, 0.5)


def mix(values: Tensor) -> Tensor:
    """int64 -> int64 whose bits look random: the finalizer of SplitMix64 (Steele et al. 2014), after its increment.

    Products wrap; the shifts of that generator are unsigned, so the sign's copies are masked away.
    """
    values = values * -7046029254386353131
    values = (values ^ ((values >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    values = (values ^ ((values >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return values ^ ((values >> 31) & 0x1FFFFFFFF)


def _uniform(
    shape: tuple[int, ...], generator: Generators, count: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """(count, *shape) numbers from [0, 1)."""
    if isinstance(generator, torch.Generator):
        return torch.rand(count, *shape, generator=generator, device=device, dtype=dtype)
    return torch.stack([torch.rand(shape, generator=own, device=device, dtype=dtype) for own in generator])
