"""Where torch computes."""

from __future__ import annotations

import torch

from deepsdf.errors import InputError


def resolve_device(device: str = "auto") -> torch.device:
    """A torch device by name: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda", "cuda:1".

    Raises:
        InputError: no such device on this machine; the message lists those that are.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in known:
        raise InputError(f"device {device!r} is not on this machine; it has {', '.join(known)} (or say auto)")
    return torch.device(wanted)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices of bfloat16 by instructions of its own; elsewhere they cost more."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
