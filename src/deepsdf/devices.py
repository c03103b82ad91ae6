"""Selection of torch devices."""

from __future__ import annotations

import torch

from deepsdf.errors import InputError


def resolve_device(device: str = "auto") -> torch.device:
    """Torch device by name: "auto" (CUDA if available, else the CPU), "cpu", "cuda" or "cuda:1".

    Raises:
        InputError: the device is not available; the message lists available ones.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in known:
        raise InputError(f"device {device!r} is not available; expected auto, {', '.join(known)}")
    return torch.device(wanted)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for matrix products in bfloat16; without them, bfloat16 is slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
