"""Work on many shapes, one bad shape never stopping the rest."""

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
from deepsdf.splits import Failure, ShapeName

GRACE = 2.0
"""Seconds in which a worker that is told to end can remove its temporary files, before it is killed."""

FALSE_STARTS = 3
"""So many workers that die before they are ready, one after the other, and no more are started."""

# Not forked from this process: threads of torch and Warp do not survive that. A fork server imports the work's module
# once, and each worker is a fork of it: a fifth of the time that a spawned one takes to start.
_CONTEXT: Any = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)

_HINTS = {
    "SIGKILL": "out of memory?",
    **dict.fromkeys(("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV"), "a crash in a library"),
}


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

    def finish(self, shape: ShapeName, reason: str | None, on_shape: OnShape | None) -> None:
        """Note a finished shape, with the reason where it failed, and tell of it."""
        if reason is None:
            self.done.append(shape)
        else:
            self.failures.append(Failure(shape, reason))
        if on_shape:
            on_shape(shape, reason)


OnShape = Callable[[ShapeName, str | None], None]
"""Told each finished shape, and the reason where it failed."""

OnStart = Callable[[int], None]
"""Told how many shapes there are to work on."""


def run_batch(
    work: Callable[..., object],
    tasks: Mapping[ShapeName, tuple[Any, ...]],
    result: BatchResult,
    *,
    workers: int,
    timeout: float | None = None,
    on_shape: OnShape | None = None,
) -> None:
    """Call `work(*arguments)` for each shape, in `workers` processes, or in this one where that is 0.

    A worker that dies costs no shape but the one it was on, and that one is tried once more, after all others.

    Args:
        work: picklable, as are its arguments and what it returns.
        result: filled as shapes are finished, so that it holds what was done after an exception too.
        timeout: seconds that a shape may take before its worker is stopped. This needs a worker: it does not
            count where `workers` is 0.
        on_shape: told each finished shape, in this process.
    Raises:
        RuntimeError: workers die before they can begin.
    """

    def finish(shape: ShapeName, reason: str | None, returned: Any = None) -> None:
        if reason is None:
            result.returned[shape] = returned
        result.finish(shape, reason, on_shape)

    if workers < 1:
        for shape, arguments in tasks.items():
            finish(shape, *_attempt(partial(work, *arguments)))
        return
    if _CONTEXT.get_start_method() == "forkserver":
        _CONTEXT.set_forkserver_preload([work.__module__])
    died: list[ShapeName] = []
    _Crew(work, tasks, workers, timeout, finish, on_death=lambda shape, _: died.append(shape)).run()
    # Alone this time: shapes too big for the memory together may fit one by one.
    _Crew(work, {shape: tasks[shape] for shape in died}, 1, timeout, finish, on_death=finish).run()


def describe(error: BaseException) -> str:
    """An error in a sentence for a person: the message alone where it is one of ours."""
    return str(error) if isinstance(error, DeepSDFError) else f"{type(error).__name__}: {error}"


def _attempt(task: Callable[[], object]) -> tuple[str | None, Any]:
    """Why the task failed, or None, and what it returned."""
    try:
        return None, task()
    except Exception as error:  # whatever a mesh provokes in a library is that shape's failure
        return describe(error), None


class _Worker:
    """A process that has one shape at a time, so that it is known which one its death costs."""

    def __init__(self, work: Callable[..., object]) -> None:
        self.shape: ShapeName | None = None
        self.ready = False
        self.leaving = False
        self.deadline = math.inf
        self.pipe, far_end = _CONTEXT.Pipe()
        with far_end:  # open in the worker alone, so that its death closes the pipe
            self.process = _CONTEXT.Process(target=_serve, args=(work, far_end), daemon=True)
            self.process.start()

    @property
    def signs_of_life(self) -> Any:
        """What `wait` can wait on: messages and death, or death alone."""
        return self.process.sentinel if self.leaving else self.pipe

    def begin(self, shape: ShapeName, arguments: tuple[Any, ...], timeout: float | None) -> None:
        task = pickle.dumps(arguments)
        self.shape = shape
        self.deadline = math.inf if timeout is None else time.monotonic() + timeout
        with suppress(OSError):  # it has just died, as the next look at the pipe will tell
            self.pipe.send_bytes(task)

    def leave(self) -> None:
        """Tell it to end, and when that was told before and to no avail, make it."""
        if self.leaving:
            self.process.kill()
            self.deadline = math.inf
        else:
            self.process.terminate()
            self.leaving, self.deadline = True, time.monotonic() + GRACE


@dataclass
class _Crew:
    """Workers for the tasks of one batch.

    Attributes:
        finish: told each finished shape, the reason where it failed, and what the work returned.
        on_death: told a shape whose worker died, and how.
    """

    work: Callable[..., object]
    tasks: Mapping[ShapeName, tuple[Any, ...]]
    size: int
    timeout: float | None
    finish: Callable[[ShapeName, str | None, Any], None]
    on_death: Callable[[ShapeName, str], None]
    waiting: deque[ShapeName] = field(default_factory=deque)
    workers: list[_Worker] = field(default_factory=list)
    false_starts: int = 0
    last_exit: str = ""

    def run(self) -> None:
        """Work on every shape; however this ends, no worker is left."""
        self.waiting.extend(self.tasks)
        try:
            while self.waiting or self._under_way():
                self._hire()
                self._hand_out()
                self._attend()
        finally:
            _stop(self.workers)

    def _under_way(self) -> int:
        return sum(worker.shape is not None for worker in self.workers)

    def _hire(self) -> None:
        missing = min(self.size, self._under_way() + len(self.waiting)) - self._staying()
        while missing > 0 and self.false_starts < FALSE_STARTS:
            with _interrupts_held():  # else one could be started and not noted
                self.workers.append(_Worker(self.work))
            missing -= 1
        if not self._staying():
            raise RuntimeError(
                f"the worker processes end before they can begin ({self.last_exit}); their own messages may say why. "
                "A script that starts them must do so below `if __name__ == '__main__':`"
            )

    def _staying(self) -> int:
        return sum(not worker.leaving for worker in self.workers)

    def _hand_out(self) -> None:
        for worker in self.workers:
            if self.waiting and worker.ready and worker.shape is None and not worker.leaving:
                shape = self.waiting.popleft()
                worker.begin(shape, self.tasks[shape], self.timeout)

    def _attend(self) -> None:
        """Wait until a worker speaks, dies or is late, and see to it."""
        first = min(worker.deadline for worker in self.workers)
        seconds = None if math.isinf(first) else max(0.0, first - time.monotonic())
        signs = wait([worker.signs_of_life for worker in self.workers], seconds)
        for worker in [worker for worker in self.workers if worker.signs_of_life in signs]:
            self._listen(worker)
        now = time.monotonic()
        for worker in [worker for worker in self.workers if worker.deadline <= now]:
            shape, worker.shape = worker.shape, None
            worker.leave()
            if shape:
                self.finish(shape, f"took longer than --timeout {self.timeout:g} s and was stopped", None)

    def _listen(self, worker: _Worker) -> None:
        if worker.leaving:
            self._bury(worker)
            return
        try:
            message = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            self._bury(worker)
            return
        self.false_starts = 0
        worker.ready = True
        shape, worker.shape, worker.deadline = worker.shape, None, math.inf
        if shape:
            self.finish(shape, *_unpack(message))

    def _bury(self, worker: _Worker) -> None:
        worker.process.join(GRACE)  # its pipe closes a little before it ends
        self.workers.remove(worker)
        _stop([worker])
        how = _cause(worker.process.exitcode)
        if worker.shape:
            self.on_death(worker.shape, f"the worker process died ({how})")
        elif not worker.ready:
            self.false_starts += 1
            self.last_exit = how


def _stop(workers: list[_Worker]) -> None:
    """End workers: they are told first, and killed where that does not help, or at a second Ctrl-C."""
    try:
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block; a process started in the block is never interrupted by it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # started in the block, as it is with the first worker, it would end the hold
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cause(status: int | None) -> str:
    """How a process ended, from its exit status, in words."""
    if status is None or status >= 0:
        return f"exit status {status}"
    name = {known.value: known.name for known in signal.Signals}.get(-status)
    hint = f": {_HINTS[name]}" if name in _HINTS else ""
    return f"killed by signal {-status}" + (f", {name}{hint}" if name else "")


def _unpack(message: bytes) -> tuple[str | None, Any]:
    try:
        return pickle.loads(message)
    except Exception as error:
        return f"what the work returned cannot be unpickled: {describe(error)}", None


def _serve(work: Callable[..., object], pipe: Connection) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to every process; the parent sees to it
    signal.signal(signal.SIGTERM, _end)
    # Where memory is out, the kernel then stops the worker that took most of it, not the parent with all results.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    threading.Thread(target=_follow_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the parent is gone
        pipe.send_bytes(b"ready")
        while True:
            pipe.send_bytes(_answer(work, pipe.recv_bytes()))


def _answer(work: Callable[..., object], task: bytes) -> bytes:
    answer = _attempt(lambda: work(*pickle.loads(task)))
    try:
        return pickle.dumps(answer)
    except Exception as error:
        return pickle.dumps((f"what the work returned cannot be pickled: {describe(error)}", None))


def _end(number: int, _frame: object) -> NoReturn:
    """End by an exception, so that `finally` blocks remove temporary files."""
    signal.signal(number, signal.SIG_IGN)  # a second one would interrupt those blocks
    raise SystemExit(128 + number)


def _follow_parent() -> None:
    """End with the parent, however it ends; a task would go on for nobody."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
