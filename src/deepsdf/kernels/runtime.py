"""NVIDIA Warp, imported when first needed and kept silent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from deepsdf.errors import InputError

_warp: ModuleType | None = None


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Warp's native code warns there where a machine has no NVIDIA driver; an error still raises in Python."""
    try:
        saved = os.dup(2)
    except OSError:  # closed, as in a service: there is nothing to silence
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def get_warp() -> ModuleType:
    """The `warp` module, initialised without its banner."""
    global _warp
    if _warp is None:
        import warp

        if hasattr(warp, "LOG_ERROR"):  # where there are log levels, `quiet` is not heeded any more
            warp.config.log_level = warp.LOG_ERROR
        else:
            warp.config.quiet = True  # pyright: ignore[reportAttributeAccessIssue]
        with _silent_stderr():
            warp.init()
        _warp = warp
    return _warp


def warp_device(device: str = "auto") -> str:
    """Warp's name of a device: "auto" is the first CUDA device, else "cpu".

    Raises:
        InputError: the device is not on this machine; the message lists those that are.
    """
    warp = get_warp()
    if device == "auto":
        return "cuda:0" if warp.is_cuda_available() else "cpu"
    known = [found.alias for found in warp.get_devices()]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in known:
        raise InputError(f"device {device!r} is not available; expected auto, {', '.join(known)}")
    return wanted
