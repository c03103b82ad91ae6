"""Work that goes on in a thread beside the main one's, and is told of in the main one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
Told = TypeVar("Told")
Result = TypeVar("Result")


class SideBySide(Generic[Told, P, Result]):
    """A thread, or several, that work through what they are given, told of in order.

    torch's processor threads are halved between both sides while both work: twice as many threads as cores wait for
    each other.
    """

    def __init__(
        self,
        work: Callable[P, Result],
        ended: Callable[[Told, Future[Result]], None],
        *,
        alone: bool = False,
        threads: int = 1,
    ) -> None:
        """
        Args:
            work: done in the thread.
            ended: told in the main thread what became of each piece, in order.
            alone: the main thread will be done before the other begins, and leaves it all of torch's threads.
            threads: for work whose steps wait for a device, or hold Python's lock for a part of the time only.
        """
        self._work, self._ended, self._threads = work, ended, threads
        self._all = torch.get_num_threads()
        self._share = self._all if alone else max(1, self._all // 2)
        self._waiting: deque[tuple[Told, Future[Result]]] = deque()

    def __enter__(self) -> SideBySide[Told, P, Result]:
        self._pool = ThreadPoolExecutor(self._threads)
        torch.set_num_threads(self._share)
        return self

    def begin(self, told: Told, *args: P.args, **kwargs: P.kwargs) -> None:
        """Hand a piece of work over."""
        self._waiting.append((told, self._pool.submit(self._run, *args, **kwargs)))

    def _run(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        torch.set_num_threads(self._share)  # each thread has a number of its own
        return self._work(*args, **kwargs)

    def settle(self, wait: bool = False) -> None:
        """Tell of what has ended; or wait for everything."""
        while self._waiting and (wait or self._waiting[0][1].done()):
            told, future = self._waiting.popleft()
            future.exception()  # waits
            self._ended(told, future)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._share = self._all
            if kind is None:
                self.settle(wait=True)
        finally:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._all)
