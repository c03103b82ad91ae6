"""Background threads whose results are handled in the calling thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")


class BackgroundWork(Generic[Item, P, Result]):
    """Background threads, and a callback for each result in the calling thread, in the order of submission.

    Use as a context manager: leaving the block waits for all results, or after an exception drops the work that has
    not started. Inside the block torch's CPU threads are divided between the calling thread and the background, since
    with more threads than cores each waits for the others; leaving the block restores their number.
    """

    def __init__(
        self,
        work: Callable[P, Result],
        on_done: Callable[[Item, Future[Result]], None],
        *,
        share_cores: bool = True,
        threads: int = 1,
    ) -> None:
        """
        Args:
            work: function that runs in a background thread.
            on_done: called in the calling thread with the item and the future of each finished call.
            share_cores: the calling thread computes meanwhile; False leaves all of torch's threads to the background.
            threads: number of background threads. More than one helps if the work waits for a device or releases the
                GIL.
        """
        self._work, self._on_done, self._threads = work, on_done, threads
        self._all_cores = torch.get_num_threads()
        self._cores = max(1, self._all_cores // 2) if share_cores else self._all_cores
        self._pending: deque[tuple[Item, Future[Result]]] = deque()

    def __enter__(self) -> BackgroundWork[Item, P, Result]:
        self._pool = ThreadPoolExecutor(self._threads)
        torch.set_num_threads(self._cores)
        return self

    def submit(self, item: Item, *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue `work(*args, **kwargs)`; `item` is passed to `on_done` with its result."""
        self._pending.append((item, self._pool.submit(self._run, *args, **kwargs)))

    def _run(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        torch.set_num_threads(self._cores)  # torch keeps this number per thread
        return self._work(*args, **kwargs)

    def collect(self, wait: bool = False) -> None:
        """Call `on_done` for finished calls; with `wait`, for all calls."""
        while self._pending and (wait or self._pending[0][1].done()):
            item, future = self._pending.popleft()
            future.exception()  # blocks until the call has finished
            self._on_done(item, future)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._cores = self._all_cores  # the calling thread only waits from here on
            if kind is None:
                self.collect(wait=True)
        finally:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._all_cores)
