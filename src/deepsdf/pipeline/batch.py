"""Work on many shapes, one bad shape never stopping the rest."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from deepsdf.errors import DeepSDFError
from deepsdf.splits import Failure, ShapeName


@dataclass
class BatchResult:
    """What became of a batch of shapes.

    Attributes:
        done: worked on and written.
        skipped: were there already.
        failures: could not be worked on, with the reason.
        returned: what the work on each shape returned.
    """

    done: list[ShapeName] = field(default_factory=list)
    skipped: list[ShapeName] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    returned: dict[ShapeName, Any] = field(default_factory=dict)


OnShape = Callable[[ShapeName, str | None], None]
"""Told each finished shape, and the reason where it failed."""

Finish = Callable[[ShapeName, BaseException | None, Any], None]
"""A shape is done: its error, or what the work returned."""

OnStart = Callable[[int], None]
"""Told how many shapes there are to work on."""


def run_batch(
    work: Callable[..., object],
    tasks: Mapping[ShapeName, tuple[Any, ...]],
    result: BatchResult,
    *,
    workers: int,
    on_shape: OnShape | None = None,
) -> None:
    """Call `work(*arguments)` for each shape, in `workers` processes, or in this one where that is 1.

    A worker that dies costs the shape it worked on: those that were under way are tried again one by one.
    """

    def finish(shape: ShapeName, error: BaseException | None, returned: Any) -> None:
        reason = None if error is None else describe(error)
        if reason is None:
            result.done.append(shape)
            result.returned[shape] = returned
        else:
            result.failures.append(Failure(shape, reason))
        if on_shape:
            on_shape(shape, reason)

    if workers <= 1 or len(tasks) <= 1:
        for shape, arguments in tasks.items():
            finish(shape, *_attempt(work, arguments))
        return
    for shape in _run_pool(work, tasks, min(workers, len(tasks)), finish):
        left = _run_pool(work, {shape: tasks[shape]}, 1, finish)
        if left:
            finish(shape, RuntimeError("the worker process died (out of memory, or a crash in a library)"), None)


def describe(error: BaseException) -> str:
    """An error in a sentence for a person: the message alone where it is one of ours."""
    return str(error) if isinstance(error, DeepSDFError) else f"{type(error).__name__}: {error}"


def _attempt(work: Callable[..., object], arguments: tuple[Any, ...]) -> tuple[Exception | None, Any]:
    try:
        return None, work(*arguments)
    except Exception as error:  # whatever a mesh provokes in a library is that shape's failure
        return error, None


def _run_pool(
    work: Callable[..., object],
    tasks: Mapping[ShapeName, tuple[Any, ...]],
    workers: int,
    finish: Finish,
) -> list[ShapeName]:
    """Shapes left over because a worker died; those not begun then are run in a new pool."""
    waiting = deque(tasks)
    suspects: list[ShapeName] = []
    while waiting:
        # Spawned, not forked: threads of torch and Warp do not survive a fork.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            suspects += _feed(pool, work, tasks, waiting, workers, finish)
    return suspects


def _feed(
    pool: Executor,
    work: Callable[..., object],
    tasks: Mapping[ShapeName, tuple[Any, ...]],
    waiting: deque[ShapeName],
    workers: int,
    finish: Finish,
) -> list[ShapeName]:
    under_way: dict[Future[object], ShapeName] = {}
    try:
        while waiting or under_way:
            while waiting and len(under_way) < workers:
                future = pool.submit(work, *tasks[waiting[0]])
                under_way[future] = waiting.popleft()
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise error
                finish(under_way.pop(future), error, None if error else future.result())
    except BrokenProcessPool:
        return list(under_way.values())
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    return []
