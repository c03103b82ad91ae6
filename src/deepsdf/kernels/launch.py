"""Launches Warp kernels over many points. On the CPU, chunks of points run on several Python threads.

A Warp launch on the CPU uses one thread but releases the GIL, so Python threads use the other cores.
"""

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

# Points per launch on the CPU: enough that the launch itself costs little beside the searches, and few enough to bound
# the temporary memory of a thread.
_SMALLEST_CHUNK = 16_384
_LARGEST_CHUNK = 262_144

_CHAIN = 32
"""Points that one CPU thread processes in order, each bounding the search of the next. The first of a chain searches
without a bound, so longer chains save little more: 1 in 32 searches is unbounded."""

_compiling = Lock()


@cache
def compiled_kernels(device: str, name: str = "distance_kernels") -> ModuleType:
    """A module of Warp kernels of this package, compiled for a device. Warp caches compiled kernels on disk.

    Compiled here and under a lock because Warp otherwise compiles at the first launch, and its code generator is not
    thread-safe.
    """
    with _compiling:
        wp = get_warp()
        module = import_module(f"deepsdf.kernels.{name}")
        wp.load_module(module, device=device)
        return module


_thread_limit: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Use at most `count` threads in the block, for a worker that shares the cores with others."""
    token = _thread_limit.set(count)
    try:
        yield
    finally:
        _thread_limit.reset(token)


def cpu_threads() -> int:
    """Number of threads to use: the cores available to this process, at most 8; fewer inside `limited_threads`."""
    limit = _thread_limit.get()
    if limit is not None:
        return max(1, limit)
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        allowed = os.cpu_count() or 1
    return max(1, min(8, allowed))


def in_chunks(count: int, work: Callable[[int, int], None], device: str, *, size: int = _SMALLEST_CHUNK) -> None:
    """Call `work(start, stop)` for consecutive chunks of range(count): on several threads on the CPU, once on a GPU."""
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


def to_device(values: np.ndarray, dtype: Any, device: str) -> Any:
    """NumPy array to Warp array; on the CPU they share memory."""
    wp = get_warp()
    return wp.array(np.ascontiguousarray(values), dtype=dtype, device=device, copy=device != "cpu")


def spatial_order(points: np.ndarray) -> np.ndarray:
    """Row order of points (n, 3) along a Morton curve.

    Points that are neighbours in memory are then neighbours in space, which makes searches twice as fast.
    """
    low = points.min(axis=0)
    extent = float(np.ptp(points, axis=0).max()) or 1.0
    # A Morton code interleaves the bits of the three grid coordinates: ... z1 y1 x1 z0 y0 x0, 10 bits for each.
    grid = ((points.T - low[:, None]) * np.float32(1023.0 / extent)).astype(np.uint16)
    x, y, z = (_spread_bits().take(axis) for axis in grid)
    code = x | (y << np.uint32(1)) | (z << np.uint32(2))
    # NumPy's stable sort is a radix sort for 16-bit integers only; sorting by the low and then by the high half that
    # way is ten times as fast as one sort of 32-bit codes.
    low_first = np.argsort(code.astype(np.uint16), kind="stable")
    return low_first[np.argsort((code >> np.uint32(16)).astype(np.uint16)[low_first], kind="stable")]


@cache
def _spread_bits() -> np.ndarray:
    """Table (1024,) uint32: each 10-bit number with two zero bits inserted between its bits, as Morton codes need.

    Each step moves the upper half of each group of bits away: 9876543210, 98..............76543210, and so on to
    9..8..7..6..5..4..3..2..1..0.
    """
    x = np.arange(1024, dtype=np.uint32)
    for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
        x = (x | (x << np.uint32(shift))) & np.uint32(mask)
    return x


def points_through(
    kernel: Any, points: np.ndarray, before: list[Any], outputs: list[tuple[Any, tuple[int, ...]]], device: str,
    after: list[Any] | None = None,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Run a chained kernel (before..., points, after..., chain, outputs...) over points (n, 3) float32.

    On the CPU each thread of the kernel processes a chain of points in spatial order, so that the result of one point
    bounds the search of the next.

    Args:
        outputs: Warp type and trailing NumPy shape of each output.
    Returns:
        One array per output, (n, *shape), in the order of `points`.
    """
    wp = get_warp()
    chain = _CHAIN if device == "cpu" else 1
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

    in_chunks(len(points), work, device, size=_chunk_size(len(points)))
    return results


def _chunk_size(count: int) -> int:
    """Points per spatial order: the more, the closer neighbours are, but every thread should get a chunk."""
    return max(_SMALLEST_CHUNK, min(_LARGEST_CHUNK, -(-count // cpu_threads())))
