"""Work on many shapes in worker processes: a shape that fails, crashes or hangs fails alone."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from deepsdf.errors import DeepSDFError
from deepsdf.progress import OnProgress, ProgressCounter
from deepsdf.splits import Failure, ShapeName

TERMINATION_SECONDS = 2.0
"""Time between asking a worker to end and killing it. It removes one temporary file meanwhile, which takes
milliseconds on a local disk."""

MAX_FAILED_STARTS = 3
"""Consecutive workers that may die before they are ready. One such death may be chance (the machine is short of
memory); several mean that the script or the installation is broken, and starting more would never end."""

# Workers are not forked from this process: threads of torch and Warp do not survive a fork. A fork server imports the
# module of the work once and forks each worker from itself, which takes a fifth of the time of a spawned process.
_CONTEXT: Any = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)

_LIKELY_CAUSES = {
    "SIGKILL": "out of memory?",
    **dict.fromkeys(("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV"), "a crash in a library"),
}


@dataclass
class BatchResult:
    """Outcome of a batch of shapes.

    Attributes:
        done: shapes that were processed successfully.
        skipped: shapes whose output existed already.
        failures: shapes that failed, with the reason.
        returned: return value of the work on each shape in `done`.
    """

    done: list[ShapeName] = field(default_factory=list)
    skipped: list[ShapeName] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    returned: dict[ShapeName, Any] = field(default_factory=dict)

    def add(self, shape: ShapeName, error: str | None) -> None:
        """Record a finished shape, and why it failed."""
        if error is None:
            self.done.append(shape)
        else:
            self.failures.append(Failure(shape, error))


def run_batch(
    work: Callable[..., object],
    tasks: Mapping[ShapeName, tuple[Any, ...]],
    result: BatchResult,
    *,
    workers: int,
    timeout: float | None = None,
    on_result: Callable[[ShapeName, str | None], None] | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Call `work(*arguments)` for each shape, in `workers` processes, or in this process if `workers` is 0.

    If a worker dies, only the shape that it was working on is affected. That shape is tried once more, alone, after
    all others: shapes that do not fit into memory together may fit one by one.

    Args:
        work: picklable function with picklable arguments and results.
        result: filled as shapes finish, so that it is valid after an exception too. Failures that it already contains
            are counted and reported first.
        timeout: seconds per shape, after which its worker is stopped and the shape fails; ignored if `workers` is 0.
        on_result: called with each shape of `tasks` that finished and why it failed, before its progress event.
    Raises:
        RuntimeError: workers die before they are ready.
    """
    progress = ProgressCounter(len(result.failures) + len(tasks), on_progress)
    for failure in result.failures:
        progress.advance(failure.shape, failure.reason)

    def finish(shape: ShapeName, error: str | None, returned: Any = None) -> None:
        if error is None:
            result.returned[shape] = returned
        result.add(shape, error)
        if on_result is not None:
            on_result(shape, error)
        progress.advance(shape, error)

    if workers < 1:
        for shape, arguments in tasks.items():
            finish(shape, *_attempt(partial(work, *arguments)))
        return
    if _CONTEXT.get_start_method() == "forkserver":
        _CONTEXT.set_forkserver_preload([work.__module__])
    died: list[ShapeName] = []
    _WorkerPool(work, tasks, workers, timeout, finish, on_death=lambda shape, _: died.append(shape)).run()
    _WorkerPool(work, {shape: tasks[shape] for shape in died}, 1, timeout, finish, on_death=finish).run()


def describe(error: BaseException) -> str:
    """An error in one sentence: the message of an error of this package; type and message of any other."""
    return str(error) if isinstance(error, DeepSDFError) else f"{type(error).__name__}: {error}"


def _attempt(task: Callable[[], object]) -> tuple[str | None, Any]:
    """(None, result) or (error, None)."""
    try:
        return None, task()
    except Exception as error:  # any exception that a mesh causes in a library fails that shape only
        return describe(error), None


class _Worker:
    """A process that works on one shape at a time, so that its death can be attributed to that shape."""

    def __init__(self, work: Callable[..., object]) -> None:
        self.shape: ShapeName | None = None
        self.ready = False
        self.terminating = False
        self.deadline = math.inf
        self.pipe, worker_end = _CONTEXT.Pipe()
        with worker_end:  # closed here and open in the worker alone: its death closes the pipe
            self.process = _CONTEXT.Process(target=_worker_main, args=(work, worker_end), daemon=True)
            self.process.start()

    @property
    def waitable(self) -> Any:
        """Object for `wait`: ready on a message or at death; while terminating, at death only."""
        return self.process.sentinel if self.terminating else self.pipe

    def assign(self, shape: ShapeName, arguments: tuple[Any, ...], timeout: float | None) -> None:
        task = pickle.dumps(arguments)
        self.shape = shape
        self.deadline = math.inf if timeout is None else time.monotonic() + timeout
        with suppress(OSError):  # it has just died, which the next read from the pipe detects
            self.pipe.send_bytes(task)

    def terminate(self) -> None:
        """Ask the process to end; a second call kills it."""
        if self.terminating:
            self.process.kill()
            self.deadline = math.inf
        else:
            self.process.terminate()
            self.terminating, self.deadline = True, time.monotonic() + TERMINATION_SECONDS


@dataclass
class _WorkerPool:
    """Workers for the tasks of one batch.

    Attributes:
        finish: called with each finished shape, its error, and the return value of the work.
        on_death: called with each shape whose worker died, and the cause.
    """

    work: Callable[..., object]
    tasks: Mapping[ShapeName, tuple[Any, ...]]
    size: int
    timeout: float | None
    finish: Callable[[ShapeName, str | None, Any], None]
    on_death: Callable[[ShapeName, str], None]
    queue: deque[ShapeName] = field(default_factory=deque)
    workers: list[_Worker] = field(default_factory=list)
    failed_starts: int = 0
    last_exit: str = ""

    def run(self) -> None:
        """Work on every shape. No worker is left when this returns or raises."""
        self.queue.extend(self.tasks)
        try:
            while self.queue or self._busy():
                self._start_workers()
                self._assign_tasks()
                self._wait_for_events()
        finally:
            _stop(self.workers)

    def _busy(self) -> int:
        return sum(worker.shape is not None for worker in self.workers)

    def _available(self) -> int:
        return sum(not worker.terminating for worker in self.workers)

    def _start_workers(self) -> None:
        missing = min(self.size, self._busy() + len(self.queue)) - self._available()
        while missing > 0 and self.failed_starts < MAX_FAILED_STARTS:
            with _interrupts_deferred():  # else Ctrl-C could come between the start and its entry in the list
                self.workers.append(_Worker(self.work))
            missing -= 1
        if not self._available():
            raise RuntimeError(
                f"worker processes end before they are ready ({self.last_exit}); see their own messages above. "
                "A script must start them below `if __name__ == '__main__':`"
            )

    def _assign_tasks(self) -> None:
        for worker in self.workers:
            if self.queue and worker.ready and worker.shape is None and not worker.terminating:
                shape = self.queue.popleft()
                worker.assign(shape, self.tasks[shape], self.timeout)

    def _wait_for_events(self) -> None:
        """Wait until a worker answers, dies or exceeds its time, and handle it."""
        first = min(worker.deadline for worker in self.workers)
        seconds = None if math.isinf(first) else max(0.0, first - time.monotonic())
        ready = wait([worker.waitable for worker in self.workers], seconds)
        for worker in [worker for worker in self.workers if worker.waitable in ready]:
            self._read(worker)
        now = time.monotonic()
        for worker in [worker for worker in self.workers if worker.deadline <= now]:
            shape, worker.shape = worker.shape, None
            worker.terminate()
            if shape:
                self.finish(shape, f"took longer than --timeout {self.timeout:g} s and was stopped", None)

    def _read(self, worker: _Worker) -> None:
        if worker.terminating:
            self._remove(worker)
            return
        try:
            message = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            self._remove(worker)
            return
        self.failed_starts = 0
        worker.ready = True
        shape, worker.shape, worker.deadline = worker.shape, None, math.inf
        if shape:
            self.finish(shape, *_unpickled(message))

    def _remove(self, worker: _Worker) -> None:
        worker.process.join(TERMINATION_SECONDS)  # the pipe closes slightly before the process ends
        self.workers.remove(worker)
        _stop([worker])
        cause = _exit_cause(worker.process.exitcode)
        if worker.shape:
            self.on_death(worker.shape, f"the worker process died ({cause})")
        elif not worker.ready:
            self.failed_starts += 1
            self.last_exit = cause


def _stop(workers: list[_Worker]) -> None:
    """End workers: terminate them, then kill those that still run; a second Ctrl-C kills them at once."""
    try:
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + TERMINATION_SECONDS
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block. Processes started in the block never receive it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start, which the first worker would cause, resets the signal mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_cause(status: int | None) -> str:
    """Description of a process's exit status."""
    if status is None or status >= 0:
        return f"exit status {status}"
    name = {known.value: known.name for known in signal.Signals}.get(-status)
    cause = f": {_LIKELY_CAUSES[name]}" if name in _LIKELY_CAUSES else ""
    return f"killed by signal {-status}" + (f", {name}{cause}" if name else "")


def _unpickled(message: bytes) -> tuple[str | None, Any]:
    try:
        return pickle.loads(message)
    except Exception as error:
        return f"the result cannot be unpickled: {describe(error)}", None


def _worker_main(work: Callable[..., object], pipe: Connection) -> None:
    """Main function of a worker process: read a task, send its result, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to every process; the parent handles it
    signal.signal(signal.SIGTERM, _exit_by_exception)
    # When memory runs out, the kernel then kills the largest worker rather than the parent, which holds all results.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the parent has ended
        pipe.send_bytes(b"ready")
        while True:
            pipe.send_bytes(_answer(work, pipe.recv_bytes()))


def _answer(work: Callable[..., object], task: bytes) -> bytes:
    answer = _attempt(lambda: work(*pickle.loads(task)))
    try:
        return pickle.dumps(answer)
    except Exception as error:
        return pickle.dumps((f"the result cannot be pickled: {describe(error)}", None))


def _exit_by_exception(number: int, _frame: object) -> NoReturn:
    """Signal handler that ends the process by an exception, so that `finally` blocks remove temporary files."""
    signal.signal(number, signal.SIG_IGN)  # a second signal would interrupt those blocks
    raise SystemExit(128 + number)


def _exit_with_parent() -> None:
    """End this process when its parent ends, for whatever reason; nobody would read its results."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(TERMINATION_SECONDS)
    os._exit(1)
