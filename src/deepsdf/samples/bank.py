"""Signed distance samples of many shapes in one tensor, with balanced random draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]
"""One generator for all shapes, or one per shape."""


@dataclass(frozen=True)
class SampleBank:
    """Samples of b shapes, stored one after another.

        rows     | outside of 0 | inside of 0 | outside of 1 | inside of 1 | ...
        starts   ^ [0, 0]       ^ [0, 1]      ^ [1, 0]       ^ [1, 1]

    Attributes:
        rows: (n, 4) float32: x, y, z and signed distance, unit frame.
        starts: (b, 2), first outside and first inside row of each shape.
        counts: (b, 2), number of outside (distance > 0) and inside (distance <= 0) rows of each shape.
    """

    rows: Tensor
    starts: Tensor
    counts: Tensor

    @classmethod
    def from_shapes(cls, shapes: Sequence[tuple[Tensor, Tensor]]) -> SampleBank:
        """Create a bank from the outside and inside rows (n, 4) of each shape."""
        counts = torch.tensor([[len(outside), len(inside)] for outside, inside in shapes])
        return cls.from_rows(torch.cat([part.float() for shape in shapes for part in shape]), counts)

    @classmethod
    def from_rows(cls, rows: Tensor, counts: Tensor) -> SampleBank:
        """Create a bank from rows (n, 4) in its order and their counts (b, 2)."""
        return cls(rows, counts.flatten().cumsum(0).reshape(-1, 2) - counts, counts)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def sizes(self) -> Tensor:
        """Number of rows of each shape, (b,)."""
        return self.counts.sum(dim=1)

    def to(self, device: torch.device) -> SampleBank:
        return SampleBank(self.rows.to(device), self.starts.to(device), self.counts.to(device))

    def draw(self, shapes: Tensor, count: int, generator: Generators) -> Tensor:
        """Draw samples (b, count, 4) of shapes (b,) with replacement: the first half outside, the second inside.

        If a shape has samples on one side only, all are drawn from that side. An odd `count` is rounded down, as in the
        original. With one generator per shape, its samples do not depend on the other shapes.
        """
        half = count // 2
        starts, counts = self._sides(shapes)
        random = _uniform((2, half), generator, len(shapes), self.rows.device, torch.float32)
        picks = (random * counts.unsqueeze(-1)).long()
        # Rounding of the product may give the count itself.
        picks = torch.minimum(picks, counts.unsqueeze(-1) - 1) + starts.unsqueeze(-1)
        return self.rows[picks.flatten(1)]

    def keys(self, generator: Generators) -> Tensor:
        """Random keys (b,) for `draw_keyed`."""
        return (_uniform((), generator, len(self), self.rows.device, torch.float64) * 2.0**53).long()

    def draw_keyed(self, shapes: Tensor, count: int, keys: Tensor) -> Tensor:
        """Like `draw`, with a key (b,) int64 per shape instead of a generator.

        A key determines the samples of a shape on every device and in every process, whatever else is drawn. Nothing
        waits for a device.
        """
        return self.rows[self.picks_keyed(shapes, count, keys)]

    def picks_keyed(self, shapes: Tensor, count: int, keys: Tensor) -> Tensor:
        """Row numbers (b, count) of the samples of `draw_keyed`."""
        half = count // 2
        starts, counts = self._sides(shapes)
        number = torch.arange(2 * half, device=keys.device).reshape(2, half)
        random = (mix(keys[:, None, None] + number) >> 32) & 0xFFFFFFFF
        return (((random * counts.unsqueeze(-1)) >> 32) + starts.unsqueeze(-1)).flatten(1)

    def _sides(self, shapes: Tensor) -> tuple[Tensor, Tensor]:
        """Starts and counts (b, 2) of both sides to draw from; twice the same if a shape has samples on one side
        only."""
        counts, starts = self.counts[shapes], self.starts[shapes]
        side = torch.where(counts > 0, torch.arange(2, device=counts.device), (counts.argmax(1, keepdim=True)))
        return starts.gather(1, side), counts.gather(1, side)

    def spread(self, count: int, generator: Generators) -> tuple[Tensor, Tensor]:
        """Stratified samples (b, n, 4) of all shapes without replacement, and weights (b, n) that add up to 1 per
        shape.

        Each side has half of the weight, or each sample the same if a shape has samples on one side only. A side with
        more than `count` / 2 samples is divided into that many equal parts, and one sample is drawn from each part. Of
        a smaller side all samples are taken, followed by rows of weight 0: the result is then the same for every
        generator. n is `count` rounded down to an even number, or less if no shape has that many samples.
        """
        counts, starts, shares = self._halves()
        half = min(count // 2, int(counts.max()))
        # Draw count // 2 numbers even if half is smaller, so that a shape's draw does not depend on the other shapes.
        random = _uniform((2, count // 2), generator, len(self), self.rows.device, torch.float64)[..., :half]
        part = torch.arange(half, device=self.rows.device)
        drawn = ((part + random) * (counts.unsqueeze(-1) / half)).long()
        picks = torch.where(counts.unsqueeze(-1) > half, drawn, part)
        picks = torch.minimum(picks, (counts - 1).clamp_min(0).unsqueeze(-1)) + starts.unsqueeze(-1)
        taken = counts.clamp(1, half).unsqueeze(-1)
        weights = torch.where(part < counts.unsqueeze(-1), shares.unsqueeze(-1) / taken, 0.0)
        return self.rows[picks.flatten(1).clamp_max(len(self.rows) - 1)], weights.float().flatten(1)

    def _halves(self) -> tuple[Tensor, Tensor, Tensor]:
        """Counts, first rows and weights (b, 2) of the sides. Samples on one side only are divided into two halves."""
        total = self.counts.sum(dim=1, keepdim=True)
        one_sided = (self.counts == 0).any(dim=1, keepdim=True)
        first = total // 2
        halves = torch.cat([first, total - first], dim=1)
        begin = self.starts[:, :1]
        counts = torch.where(one_sided, halves, self.counts)
        starts = torch.where(one_sided, torch.cat([begin, begin + first], dim=1), self.starts)
        return counts, starts, torch.where(one_sided, halves.double() / total, 0.5)


def mix(values: Tensor) -> Tensor:
    """Hash int64 to int64 with the finaliser of SplitMix64 (Steele et al. 2014), after its increment.

    Products wrap around, as intended. torch shifts arithmetically, so the masks remove the copies of the sign bit.
    """
    values = values * -7046029254386353131
    values = (values ^ ((values >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    values = (values ^ ((values >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return values ^ ((values >> 31) & 0x1FFFFFFFF)


def _uniform(
    shape: tuple[int, ...], generator: Generators, count: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Random numbers (count, *shape) in [0, 1)."""
    if isinstance(generator, torch.Generator):
        return torch.rand(count, *shape, generator=generator, device=device, dtype=dtype)
    return torch.stack([torch.rand(shape, generator=own, device=device, dtype=dtype) for own in generator])
