"""Batches: what fails, fails alone, and no worker outlives its batch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepsdf.errors import InputError
from deepsdf.jobs.processes import BatchResult, describe, run_batch
from deepsdf.progress import Progress
from deepsdf.splits import Failure, ShapeName

KILLED = "the worker process died (killed by signal 9, SIGKILL: out of memory?)"
LONG = 120.0
"""Seconds no test waits for, unless what it tests is broken."""


@pytest.fixture(autouse=True)
def no_worker_left():
    yield
    assert not multiprocessing.active_children()


def named(*instances: str) -> list[ShapeName]:
    return [ShapeName("d", "c", instance) for instance in instances]


def die(how: str) -> None:
    if how.isdigit():
        os._exit(int(how))
    os.kill(os.getpid(), getattr(signal, how))


def touch(folder: Path, instance: str) -> object:
    """A shape's work; some shapes are trouble."""
    trouble, _, detail = instance.partition("-")
    if trouble == "bad":
        raise InputError(f"{instance} is bad")
    if trouble == "crash":
        raise ZeroDivisionError("a library's own")
    if trouble == "die":
        die(detail)
    if trouble == "once" and not (folder / instance).exists():
        (folder / instance).touch()
        die("SIGKILL")
    if trouble == "strange":
        return lambda: None
    if trouble == "slow":
        time.sleep(0.2)
    if trouble == "hang":
        hang(folder, instance, deaf=detail == "deaf")
    (folder / instance).write_text(instance)
    return os.getpid()


def hang(folder: Path, instance: str, deaf: bool = False) -> None:
    """Sleep with a temporary file that is removed when this ends by an exception."""
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    temporary = folder / f"{instance}.tmp"
    try:
        temporary.touch()
        time.sleep(LONG)
    finally:
        temporary.unlink()


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG / 2
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def run(
    folder: Path, shapes: list[ShapeName], workers: int, **options: Any
) -> tuple[BatchResult, list[tuple[ShapeName, str | None]]]:
    """The result, and finished shapes in order, each with its error."""
    result, finished, events = BatchResult(), [], []
    tasks = {shape: (folder, shape.instance) for shape in shapes}
    run_batch(
        touch, tasks, result, workers=workers,
        on_result=lambda *outcome: finished.append(outcome), on_progress=events.append, **options,
    )  # fmt: skip
    assert sorted(finished) == sorted([*((shape, None) for shape in result.done), *result.failures])
    assert sorted(result.returned) == sorted(result.done)
    total = len(shapes)
    reports = [Progress(done, total, shape=str(shape), error=error) for done, (shape, error) in enumerate(finished, 1)]
    assert events == [Progress(0, total), *reports]
    return result, finished


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_failure_does_not_stop_the_rest(tmp_path: Path, workers: int) -> None:
    shapes = named("a", "bad", "b", "crash", "c")
    result, _ = run(tmp_path, shapes, workers)
    assert sorted(result.done) == named("a", "b", "c")
    assert sorted(result.failures) == [
        Failure(named("bad")[0], "bad is bad"),
        Failure(named("crash")[0], "ZeroDivisionError: a library's own"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    pids = set(result.returned.values())
    assert pids == {os.getpid()} if workers == 0 else os.getpid() not in pids and len(pids) <= workers


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("die-SIGKILL", KILLED),
        ("die-SIGSEGV", "the worker process died (killed by signal 11, SIGSEGV: a crash in a library)"),
        ("die-SIGUSR1", f"the worker process died (killed by signal {int(signal.SIGUSR1)}, SIGUSR1)"),
        ("die-3", "the worker process died (exit status 3)"),
    ],
)
def test_a_death_costs_its_shape_alone(tmp_path: Path, shape: str, reason: str) -> None:
    result, told = run(tmp_path, named("a", "slow", shape, "b", "c", "bad"), workers=2)
    assert sorted(result.done) == named("a", "b", "c", "slow")
    assert sorted(result.failures) == [Failure(named("bad")[0], "bad is bad"), Failure(named(shape)[0], reason)]
    assert told[-1] == (*named(shape), reason)  # the last one, because it was tried again after all others


@pytest.mark.parametrize("workers", [1, 3])
def test_those_that_died_are_tried_again_alone(tmp_path: Path, workers: int) -> None:
    shapes = named("once-x", "a", "once-y", "die-SIGKILL", "b", "once-z", "c")
    result, told = run(tmp_path, shapes, workers=workers)
    assert sorted(result.done) == named("a", "b", "c", "once-x", "once-y", "once-z")
    assert result.failures == [Failure(named("die-SIGKILL")[0], KILLED)]
    assert {shape.instance for shape, _ in told[:3]} == {"a", "b", "c"}
    alone = {result.returned[shape] for shape in named("once-x", "once-y", "once-z")}
    assert len(alone) <= 2  # one worker, and the one after the death


def test_too_long(tmp_path: Path) -> None:
    shapes = named("hang", "a", "hang-deaf", "b", "c")
    result, told = run(tmp_path, shapes, workers=2, timeout=1.5)
    assert sorted(result.done) == named("a", "b", "c")
    reason = "took longer than --timeout 1.5 s and was stopped"
    assert sorted(result.failures) == [Failure(shape, reason) for shape in named("hang", "hang-deaf")]
    assert len(told) == 5
    assert not (tmp_path / "hang.tmp").exists()  # the worker that heard cleaned up; the deaf one was killed


def test_the_last_one_too_long_and_deaf(tmp_path: Path) -> None:
    result, _ = run(tmp_path, named("hang-deaf"), workers=4, timeout=1)
    assert result.failures == [Failure(named("hang-deaf")[0], "took longer than --timeout 1 s and was stopped")]


def test_time_enough(tmp_path: Path) -> None:
    result, _ = run(tmp_path, named("a", "slow", "b"), workers=2, timeout=LONG)
    assert sorted(result.done) == named("a", "b", "slow")


def test_what_cannot_come_back_is_a_failure(tmp_path: Path) -> None:
    result, _ = run(tmp_path, named("strange", "a"), workers=1)
    assert result.done == named("a")
    ((shape, reason),) = result.failures
    assert shape == named("strange")[0]
    assert reason.startswith("the result cannot be pickled: ")


class OneWay:
    """Can be pickled and not unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


class Obstinate(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def odd(instance: str) -> object:
    if instance == "raise":
        raise Obstinate("not", "today")
    return OneWay() if instance == "one-way" else bytes(10_000_000)


def test_odd_results(tmp_path: Path) -> None:
    result = BatchResult()
    shapes = named("raise", "one-way", "big")
    run_batch(odd, {shape: (shape.instance,) for shape in shapes}, result, workers=1)
    assert result.failures[0] == Failure(shapes[0], "Obstinate: not today")
    assert result.failures[1].reason.startswith("the result cannot be unpickled: ValueError")
    assert result.returned == {shapes[2]: bytes(10_000_000)}


def test_order_does_not_matter(tmp_path: Path) -> None:
    shapes = named("a", "bad", "b", "c")
    found = []
    for number, order in enumerate((shapes, shapes[::-1])):
        (tmp_path / str(number)).mkdir()
        result, _ = run(tmp_path / str(number), order, workers=0)
        found.append((sorted(result.done), result.failures, sorted(os.listdir(tmp_path / str(number)))))
    assert found[0] == found[1]


def test_nothing_to_do(tmp_path: Path) -> None:
    result, told = run(tmp_path, [], workers=4)
    assert (result, told) == (BatchResult(), [])


class Doorstep:
    """Work in whose unpickling a process dies."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)

    def __call__(self) -> None: ...


def test_workers_that_cannot_start(tmp_path: Path) -> None:
    result = BatchResult()
    with pytest.raises(RuntimeError, match=r"end before they are ready \(exit status 7\)"):
        run_batch(Doorstep(), dict.fromkeys(named("a", "b", "c"), ()), result, workers=2)
    assert result == BatchResult()


class FirstOnly:
    """Work for which one worker can start, and none after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        try:
            (self.folder / "first").touch(exist_ok=False)
        except FileExistsError:
            os._exit(7)

    def __call__(self, instance: str) -> None:
        touch(self.folder, instance)


def test_one_worker_that_can_start_does_it_all(tmp_path: Path) -> None:
    result = BatchResult()
    shapes = named("a", "b", "c", "d", "e")
    run_batch(FirstOnly(tmp_path), {shape: (shape.instance,) for shape in shapes}, result, workers=3)
    assert sorted(result.done) == shapes


def stop(folder: Path, instance: str) -> None:
    (folder / instance).write_text(instance)
    if instance == "b":
        raise KeyboardInterrupt


def test_an_interrupt_is_not_a_failure(tmp_path: Path) -> None:
    result = BatchResult()
    with pytest.raises(KeyboardInterrupt):
        run_batch(stop, {shape: (tmp_path, shape.instance) for shape in named("a", "b", "c")}, result, workers=0)
    assert result == BatchResult(done=named("a"), returned={named("a")[0]: None})
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_exception_of_the_listener_ends_the_workers(tmp_path: Path, error: type[BaseException]) -> None:
    def fail(event: Progress) -> None:
        if event.done:
            wait_for((tmp_path / "hang.tmp").exists)
            raise error

    result = BatchResult()
    tasks = {shape: (tmp_path, shape.instance) for shape in named("hang", "a", "b")}
    with pytest.raises(error):
        run_batch(touch, tasks, result, workers=2, on_progress=fail)
    assert not multiprocessing.active_children()
    assert result.done == named("a")
    assert not (tmp_path / "hang.tmp").exists()


def test_control_c(tmp_path: Path) -> None:
    shapes = named("a", "hang-1", "hang-deaf", "b")
    begun = [tmp_path / f"{shape.instance}.tmp" for shape in shapes[1:3]]

    def interrupt() -> None:
        wait_for(lambda: all(path.exists() for path in begun))
        os.kill(os.getpid(), signal.SIGINT)

    result = BatchResult()
    thread = threading.Thread(target=interrupt)
    thread.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_batch(touch, {shape: (tmp_path, shape.instance) for shape in shapes}, result, workers=2)
    thread.join()
    assert time.monotonic() - start < LONG / 2
    assert not multiprocessing.active_children()
    assert result.done == named("a")
    assert sorted(os.listdir(tmp_path)) == ["a", "hang-deaf.tmp"]


PARENT = """
import sys
from pathlib import Path
from test_batch import BatchResult, named, run_batch, touch
tasks = {shape: (Path(sys.argv[1]), shape.instance) for shape in named("hang-1", "hang-2", "hang-deaf")}
run_batch(touch, tasks, BatchResult(), workers=3)
"""


def start_parent(folder: Path) -> subprocess.Popen[str]:
    """A batch in a process of its own, with a process group of its own as a terminal gives it."""
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    with start_parent(tmp_path) as parent:
        wait_for(lambda: len(os.listdir(tmp_path)) == 3)
        parent.kill()
        # The workers hold the pipes too: their end is read only when the last of them is gone.
        _, complaints = parent.communicate(timeout=LONG / 2)
    assert not complaints
    assert os.listdir(tmp_path) == ["hang-deaf.tmp"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("begun", [False, True])
def test_control_c_of_a_terminal_goes_to_all_processes(tmp_path: Path, begun: bool) -> None:
    """No worker complains, not while it starts either. The others are the fork server and Python's resource tracker."""
    with start_parent(tmp_path) as parent:
        wait_for(lambda: len(descendants(parent.pid)) == 5 and (not begun or len(os.listdir(tmp_path)) == 3))
        os.killpg(parent.pid, signal.SIGINT)
        _, complaints = parent.communicate(timeout=LONG / 2)
    assert parent.returncode == -signal.SIGINT
    assert complaints.count("Traceback") == 1


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [pid for child in children for pid in descendants(child)]


def sacrifice() -> str:
    return Path("/proc/self/oom_score_adj").read_text().strip()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_go_first_when_memory_is_out() -> None:
    before, result = sacrifice(), BatchResult()
    run_batch(sacrifice, dict.fromkeys(named("a"), ()), result, workers=1)
    assert list(result.returned.values()) == ["1000"]
    assert sacrifice() == before


def test_our_errors_speak_for_themselves() -> None:
    assert describe(InputError("no such file")) == "no such file"
    assert describe(KeyError("x")) == "KeyError: 'x'"
