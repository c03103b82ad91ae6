"""The processes of one training: alone, or as many as `torchrun` started.

Scenes are divided among them. Each keeps its scenes' samples and codes; only the decoder's gradients go round, and
what checkpoints and logs need.
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
    """This process's number, and how many there are."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    @property
    def first(self) -> bool:
        """Whether this one writes and tells."""
        return self.rank == 0

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Each gradient becomes the sum over the ranks."""
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
        """Over the ranks, on each of them."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Whether one of the ranks says so; all of them hear the same."""
        if self.count == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def smallest(self, number: int) -> int:
        """The least of the ranks' numbers."""
        value = torch.tensor(number, device=self.device)
        if self.count > 1:
            dist.all_reduce(value, dist.ReduceOp.MIN)
        return int(value)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()

    def merged(self, own: dict[str, str]) -> dict[str, str]:
        """One dictionary of the ranks' entries, where those of other ranks are empty."""
        if self.count == 1:
            return own
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, own)
        return {key: next((part[key] for part in parts if part[key]), "") for key in own}

    # A table with one row a scene, of which rank r has rows r, r + count, r + 2 count, ...

    def owns(self, scene: int) -> bool:
        return scene % self.count == self.rank

    def rows(self, scenes: Tensor) -> Tensor:
        """Where own scenes stand in this rank's table."""
        return scenes // self.count

    def share(self, table: Tensor) -> Tensor:
        """This rank's rows of a whole table."""
        return table[self.rank :: self.count]

    def whole(self, own: Tensor, count: int) -> Tensor:
        """The table of `count` rows of which the ranks have these."""
        if self.count == 1:
            return own
        longest = -(-count // self.count)
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        table = own.new_empty(count, *own.shape[1:])
        for rank, part in enumerate(parts):
            table[rank :: self.count] = part[: len(table[rank :: self.count])]
        return table


def local_device(device: str) -> str:
    """The device of this process: with several on a machine, each has a GPU of its own."""
    local = os.environ.get("LOCAL_RANK")
    if local is None or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{local}"


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The ranks that torchrun's environment tells of, else this process alone.

    Raises:
        InputError: the environment is incomplete.
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
            raise InputError(f"the {count} processes of this training cannot reach each other: {error}") from None
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        if started_here:
            dist.destroy_process_group()
