"""Launching Warp kernels over many points: chunks on a few Python threads where the device is the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np

from deepsdf.geometry.warp_runtime import get_warp

_CHUNK = 16_384
CHAIN = 32
"""Points that one CPU thread walks in order; each bounds the search of the next."""


_compiling = Lock()


@cache
def kernels(device: str) -> ModuleType:
    """`warp_kernels`, compiled for a device (once a machine; then cached on disk).

    Warp would compile at the first launch, and its code generator is not safe in the threads that launch.
    """
    with _compiling:
        wp = get_warp()
        from deepsdf.geometry import warp_kernels

        wp.load_module(warp_kernels, device=device)
        return warp_kernels


def cpu_threads() -> int:
    """Cores this process may use, at most 8."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        allowed = os.cpu_count() or 1
    return max(1, min(8, allowed))


def in_chunks(count: int, work: Callable[[int, int], None], device: str, *, size: int = _CHUNK) -> None:
    """Calls `work(start, stop)` over all of `count`. Warp's CPU launches use one thread but release the GIL."""
    if device != "cpu":
        size = max(count, 1)
    bounds = [(start, min(start + size, count)) for start in range(0, count, size)]
    threads = min(cpu_threads(), len(bounds))
    if device != "cpu" or threads < 2:
        for start, stop in bounds:
            work(start, stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, start, stop) for start, stop in bounds]:
            done.result()


def warp_mesh(vertices: np.ndarray, faces: np.ndarray, device: str, *, winding: bool = False) -> Any:
    """A `warp.Mesh` of vertices (v, 3) and faces (f, 3)."""
    wp = get_warp()
    return wp.Mesh(
        wp.array(np.ascontiguousarray(vertices, np.float32), dtype=wp.vec3, device=device),
        wp.array(np.ascontiguousarray(faces, np.int32).ravel(), dtype=wp.int32, device=device),
        support_winding_number=winding,
    )


def to_device(values: np.ndarray, dtype: Any, device: str) -> Any:
    """NumPy array -> warp array; shares memory on the CPU."""
    wp = get_warp()
    return wp.array(np.ascontiguousarray(values), dtype=dtype, device=device, copy=device != "cpu")


def spatial_order(points: np.ndarray) -> np.ndarray:
    """Row order of points (n, 3) along a Morton curve. Neighbours in memory make searches twice as fast."""
    low = points.min(axis=0)
    extent = float(np.ptp(points, axis=0).max()) or 1.0
    grid = ((points - low) * (1023.0 / extent)).astype(np.uint32)
    code = np.zeros(len(points), np.uint32)
    for axis in range(3):
        x = grid[:, axis]
        x = (x | (x << 16)) & np.uint32(0x030000FF)
        x = (x | (x << 8)) & np.uint32(0x0300F00F)
        x = (x | (x << 4)) & np.uint32(0x030C30C3)
        x = (x | (x << 2)) & np.uint32(0x09249249)
        code |= x << np.uint32(axis)
    return np.argsort(code, kind="stable")  # a radix sort for integers


def points_through(
    kernel: Any, points: np.ndarray, before: list[Any], outputs: list[tuple[Any, tuple[int, ...]]], device: str,
    after: list[Any] | None = None,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Runs a chained kernel (before..., points, after..., chain, outputs...) over spatially ordered points.

    Args:
        outputs: Warp type and trailing NumPy shape of each output.
    """
    wp = get_warp()
    chain = CHAIN if device == "cpu" else 1
    results = tuple(
        np.zeros((len(points), *shape), np.int32 if dtype is wp.int32 else np.float32) for dtype, shape in outputs
    )

    def work(start: int, stop: int) -> None:
        on_device = [
            to_device(result[start:stop], dtype, device) for result, (dtype, _) in zip(results, outputs, strict=True)
        ]
        inputs = [*before, to_device(points[start:stop], wp.vec3, device), *(after or []), chain]
        wp.launch(kernel, -(-(stop - start) // chain), inputs=inputs, outputs=on_device, device=device)
        if device != "cpu":
            for result, found in zip(results, on_device, strict=True):
                result[start:stop] = found.numpy()

    in_chunks(len(points), work, device)
    return results
