"""NVIDIA Warp: imported on first use, initialised without output."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from deepsdf.errors import InputError

_warp: ModuleType | None = None


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what native code writes to stderr; Python exceptions still propagate.

    Warp's native code prints warnings there on machines without an NVIDIA driver, which Python cannot filter.
    """
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed, as in some services: there is nothing to silence
        yield
        return
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)


def get_warp() -> ModuleType:
    """The `warp` module, initialised without its banner. Only `deepsdf.kernels` uses it."""
    global _warp
    if _warp is None:
        import warp

        if hasattr(warp, "LOG_ERROR"):  # versions with log levels ignore `quiet`
            warp.config.log_level = warp.LOG_ERROR
        else:
            warp.config.quiet = True  # pyright: ignore[reportAttributeAccessIssue]
        with _silent_stderr():
            warp.init()
        _warp = warp
    return _warp


def warp_device(device: str = "auto") -> str:
    """Warp's name of a device.

    Args:
        device: "auto" (the first CUDA device, else the CPU), "cpu", "cuda" or "cuda:1".
    Raises:
        InputError: the device does not exist on this machine; the message lists those that do.
    """
    warp = get_warp()
    if device == "auto":
        return "cuda:0" if warp.is_cuda_available() else "cpu"
    available = [found.alias for found in warp.get_devices()]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in available:
        raise InputError(f"device {device!r} is not available; expected auto, {', '.join(available)}")
    return wanted
