"""NVIDIA Warp, imported when first needed and kept silent."""

from __future__ import annotations

from types import ModuleType

from deepsdf.errors import InputError

_warp: ModuleType | None = None


def get_warp() -> ModuleType:
    """The `warp` module, initialised without its banner."""
    global _warp
    if _warp is None:
        import warp

        if hasattr(warp, "LOG_ERROR"):  # where there are log levels, `quiet` is not heeded any more
            warp.config.log_level = warp.LOG_ERROR
        else:
            warp.config.quiet = True
        warp.init()
        _warp = warp
    return _warp


def resolve_device(device: str = "auto") -> str:
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
        raise InputError(f"device {device!r} is not on this machine; it has {', '.join(known)} (or say auto)")
    return wanted
