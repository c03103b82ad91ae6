"""The processes (ranks) of one training: one, or those started by `torchrun`.

Scenes are divided among the ranks. Each rank holds the samples and codes of its scenes; ranks exchange only the
gradients of the decoder and what checkpoints and logs need.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from deepsdf.errors import InputError


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the number of ranks; by default a training with one process."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    @property
    def first(self) -> bool:
        """Whether this rank writes files and reports progress."""
        return self.rank == 0

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over the ranks."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def sum(self, value: Tensor) -> Tensor:
        """Sum over the ranks, in place; every rank gets the result."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Whether the flag is true on any rank; every rank gets the same result."""
        if self.count == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def minimum(self, number: int) -> int:
        """Minimum over the ranks."""
        value = torch.tensor(number, device=self.device)
        if self.count > 1:
            dist.all_reduce(value, dist.ReduceOp.MIN)
        return int(value)

    def wait(self) -> None:
        """Wait for all ranks."""
        if self.count > 1:
            dist.barrier()

    def merged(self, own: dict[str, str]) -> dict[str, str]:
        """Merge dictionaries with the same keys: for each key the value that is not empty."""
        if self.count == 1:
            return own
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, own)
        return {key: next((part[key] for part in parts if part[key]), "") for key in own}

    # A table has one row per scene. Rank r holds the rows r, r + count, r + 2 count, ...; with 2 ranks:
    #
    #   scene          0  1  2  3  4
    #   rank           0  1  0  1  0
    #   row on rank    0  0  1  1  2

    def owns(self, scene: int) -> bool:
        """Whether this rank holds a scene."""
        return scene % self.count == self.rank

    def rows(self, scenes: Tensor) -> Tensor:
        """Rows of scenes of this rank in its table."""
        return scenes // self.count

    def share(self, table: Tensor) -> Tensor:
        """Rows of this rank from a table of all scenes."""
        return table[self.rank :: self.count]

    def whole(self, own: Tensor, count: int) -> Tensor:
        """Table of all `count` scenes, gathered from the tables of the ranks."""
        if self.count == 1:
            return own
        longest = -(-count // self.count)  # all_gather needs equal shapes
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        table = own.new_empty(count, *own.shape[1:])
        for rank, part in enumerate(parts):
            table[rank :: self.count] = part[: len(table[rank :: self.count])]
        return table


def local_device(device: str) -> str:
    """Device of this process: with several processes on a machine, each uses its own GPU."""
    local = os.environ.get("LOCAL_RANK")
    if local is None or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{local}"


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the ranks described by the environment variables of torchrun; without them, a training with one process.

    Raises:
        InputError: the processes cannot connect, or the environment is incomplete.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 and not dist.is_initialized():
        yield Ranks()
        return
    started_here = not dist.is_initialized()
    if started_here:
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (ValueError, RuntimeError) as error:
            raise InputError(f"the {count} processes of this training cannot connect: {error}") from None
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        if started_here:
            dist.destroy_process_group()
