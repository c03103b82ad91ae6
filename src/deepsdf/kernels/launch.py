"""Launching Warp kernels over many points: chunks on a few Python threads where the device is the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np

from deepsdf.kernels.runtime import get_warp

_CHUNK = 16_384
_PART = 262_144
CHAIN = 32
"""Points that one CPU thread walks in order; each bounds the search of the next."""


_compiling = Lock()


@cache
def kernels(device: str, name: str = "distance_kernels") -> ModuleType:
    """A module of Warp kernels, compiled for a device (once a machine; then cached on disk).

    Warp would compile at the first launch, and its code generator is not safe in the threads that launch.
    """
    with _compiling:
        wp = get_warp()
        module = import_module(f"deepsdf.kernels.{name}")
        wp.load_module(module, device=device)
        return module


_limit: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """At most so many threads for what is called in the block: a worker among others has its share of the cores."""
    token = _limit.set(count)
    try:
        yield
    finally:
        _limit.reset(token)


def cpu_threads() -> int:
    """Cores this process may use, at most 8, or fewer where that was limited."""
    limit = _limit.get()
    if limit is not None:
        return max(1, limit)
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
    grid = ((points.T - low[:, None]) * np.float32(1023.0 / extent)).astype(np.uint16)
    x, y, z = (_spread().take(axis) for axis in grid)
    code = x | (y << np.uint32(1)) | (z << np.uint32(2))
    # NumPy's stable sort is a radix sort for 16 bits alone: two of them, low digits first, are ten times as fast as one
    low_first = np.argsort(code.astype(np.uint16), kind="stable")
    return low_first[np.argsort((code >> np.uint32(16)).astype(np.uint16)[low_first], kind="stable")]


@cache
def _spread() -> np.ndarray:
    """(1024,) uint32: the bits of each number with two zeros between any two of them."""
    x = np.arange(1024, dtype=np.uint32)
    for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
        x = (x | (x << np.uint32(shift))) & np.uint32(mask)
    return x


def points_through(
    kernel: Any, points: np.ndarray, before: list[Any], outputs: list[tuple[Any, tuple[int, ...]]], device: str,
    after: list[Any] | None = None,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Runs a chained kernel (before..., points, after..., chain, outputs...) over points (n, 3) float32.

    On the CPU the kernel meets them in spatial order, so that each point's search is bounded by the one before.

    Args:
        outputs: Warp type and trailing NumPy shape of each output.
    """
    wp = get_warp()
    chain = CHAIN if device == "cpu" else 1
    kinds = [(dtype, shape, np.int32 if dtype is wp.int32 else np.float32) for dtype, shape in outputs]
    results = tuple(np.empty((len(points), *shape), kind) for _, shape, kind in kinds)

    def work(start: int, stop: int) -> None:
        part = points[start:stop]
        order = spatial_order(part) if device == "cpu" else np.arange(stop - start)
        count = stop - start
        found = [wp.zeros(count, dtype=dtype, device=device) for dtype, _, _ in kinds]
        inputs = [*before, to_device(part[order], wp.vec3, device), *(after or []), chain]
        wp.launch(kernel, -(-count // chain), inputs=inputs, outputs=found, device=device)
        for result, array in zip(results, found, strict=True):
            result[start + order] = array.numpy()

    in_chunks(len(points), work, device, size=_part(len(points)))
    return results


def _part(count: int) -> int:
    """Points in a spatial order of their own: the more, the closer neighbours are; but every thread wants some."""
    return max(_CHUNK, min(_PART, -(-count // cpu_threads())))
