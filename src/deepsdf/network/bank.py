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

    def to(self, device: torch.device) -> SampleBank:
        return SampleBank(self.rows.to(device), self.starts.to(device), self.counts.to(device))

    def draw(self, shapes: Tensor, count: int, generator: Generators) -> Tensor:
        """Samples (b, count, 4) of the shapes (b,): the first half outside, the second inside, with replacement.

        Of a shape with samples on one side alone, all are drawn from there. An odd `count` is rounded down, as
        in the original. With a generator for each shape, its samples do not depend on the other shapes.
        """
        half = count // 2
        counts, starts = self.counts[shapes], self.starts[shapes]  # (b, 2)
        side = torch.where(counts > 0, torch.arange(2, device=counts.device), (counts.argmax(1, keepdim=True)))
        counts, starts = counts.gather(1, side), starts.gather(1, side)
        device = self.rows.device
        if isinstance(generator, torch.Generator):
            random = torch.rand(len(shapes), 2, half, generator=generator, device=device)
        else:
            random = torch.stack([torch.rand(2, half, generator=own, device=device) for own in generator])
        picks = (random * counts.unsqueeze(-1)).long()
        # A product just below the count can round up to it.
        picks = torch.minimum(picks, counts.unsqueeze(-1) - 1) + starts.unsqueeze(-1)
        return self.rows[picks.flatten(1)]
