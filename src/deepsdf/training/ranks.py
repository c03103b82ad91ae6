"""The processes of one training: alone, or as many as `torchrun` started.

Scenes are divided among them. Each keeps its scenes' samples and codes; only the decoder's gradients go round, and
what checkpoints and logs need.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from deepsdf.errors import InputError


@dataclass(frozen=True)
class Ranks:
    """This process's number, and how many there are."""

    rank: int = 0
    count: int = 1

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

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether one of the ranks says so; all of them hear the same."""
        if self.count == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=device)))

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()

    def owner(self, scenes: Tensor) -> Tensor:
        """Which rank keeps each scene."""
        return scenes % self.count


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
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        if started_here:
            dist.destroy_process_group()
