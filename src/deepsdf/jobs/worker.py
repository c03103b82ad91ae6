"""A background thread that runs the latest request of each kind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

IsWanted = Callable[[], bool]
Job = Callable[[IsWanted], None]
"""Work for a `Worker`. Its argument says whether the result is still wanted; long jobs call it between chunks and raise
`Cancelled` when it is not."""


class Cancelled(Exception):
    """Raised by a job, or by an `on_progress` callback, to stop work whose result is no longer wanted."""


class Worker:
    """A daemon thread that runs one job at a time, in the order of submission.

    A job replaces a waiting job of the same key. A running job of that key is no longer wanted then, and may stop.
    Exceptions of jobs are logged, and the next job runs.
    """

    def __init__(self, name: str) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[str, Job] = {}
        self._running: str | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        return self._closed

    def submit(self, key: str, job: Job) -> None:
        """Run a job soon, in place of a waiting job of the same key. Returns at once."""
        with self._changed:
            self._waiting.pop(key, None)
            self._waiting[key] = job
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no job is waiting or running. Returns False if `timeout` seconds pass before that."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or (not self._waiting and self._running is None), timeout
            )

    def close(self, timeout: float = 0.0) -> None:
        """Drop waiting jobs, and wait up to `timeout` seconds for the running one, which is no longer wanted."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        if timeout > 0 and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(self._waiting))
                if self._closed:
                    return
                key = next(iter(self._waiting))
                job, self._running = self._waiting.pop(key), key

            def is_wanted(key: str = key) -> bool:
                return not self._closed and key not in self._waiting

            try:
                job(is_wanted)
            except Cancelled:
                pass
            except Exception:  # often a browser that disconnected in the middle
                logger.debug("%s failed", key, exc_info=True)
            with self._changed:
                self._running = None
                self._changed.notify_all()
