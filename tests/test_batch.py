"""Batches: what fails, fails alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from deepsdf.errors import InputError
from deepsdf.pipeline.batch import BatchResult, describe, run_batch
from deepsdf.splits import Failure, ShapeName


def named(*instances: str) -> list[ShapeName]:
    return [ShapeName("d", "c", instance) for instance in instances]


def touch(folder: Path, instance: str) -> None:
    """A shape's work; some shapes are trouble."""
    if instance.startswith("bad"):
        raise InputError(f"{instance} is bad")
    if instance.startswith("crash"):
        raise ZeroDivisionError("a library's own")
    if instance.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if instance.startswith("slow"):
        time.sleep(0.2)
    (folder / instance).write_text(instance)


def run(folder: Path, shapes: list[ShapeName], workers: int) -> tuple[BatchResult, list[tuple[ShapeName, str | None]]]:
    result, told = BatchResult(), []
    tasks = {shape: (folder, shape.instance) for shape in shapes}
    run_batch(touch, tasks, result, workers=workers, on_shape=lambda *what: told.append(what))
    return result, told


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_does_not_stop_the_rest(tmp_path: Path, workers: int) -> None:
    shapes = named("a", "bad", "b", "crash", "c")
    result, told = run(tmp_path, shapes, workers)
    assert sorted(result.done) == named("a", "b", "c")
    assert sorted(result.failures) == [
        Failure(*named("bad"), "bad is bad"),
        Failure(*named("crash"), "ZeroDivisionError: a library's own"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    assert sorted(told) == sorted([*((shape, None) for shape in result.done), *result.failures])


def test_a_killed_worker_costs_its_shape_alone(tmp_path: Path) -> None:
    result, told = run(tmp_path, named("a", "slow", "kill", "b", "c", "bad"), workers=2)
    assert sorted(result.done) == named("a", "b", "c", "slow")
    assert sorted(result.failures) == [
        Failure(*named("bad"), "bad is bad"),
        Failure(*named("kill"), "RuntimeError: the worker process died (out of memory, or a crash in a library)"),
    ]
    assert len(told) == 6


def test_order_does_not_matter(tmp_path: Path) -> None:
    shapes = named("a", "bad", "b", "c")
    found = []
    for number, order in enumerate((shapes, shapes[::-1])):
        (tmp_path / str(number)).mkdir()
        result, _ = run(tmp_path / str(number), order, workers=1)
        found.append((sorted(result.done), result.failures, sorted(os.listdir(tmp_path / str(number)))))
    assert found[0] == found[1]


def test_nothing_to_do(tmp_path: Path) -> None:
    result, told = run(tmp_path, [], workers=4)
    assert (result, told) == (BatchResult(), [])


def stop(folder: Path, instance: str) -> None:
    (folder / instance).write_text(instance)
    if instance == "b":
        raise KeyboardInterrupt


def test_an_interrupt_is_not_a_failure(tmp_path: Path) -> None:
    result = BatchResult()
    with pytest.raises(KeyboardInterrupt):
        run_batch(stop, {shape: (tmp_path, shape.instance) for shape in named("a", "b", "c")}, result, workers=1)
    assert result == BatchResult(done=named("a"), returned={named("a")[0]: None})
    assert not (tmp_path / "c").exists()


def test_our_errors_speak_for_themselves() -> None:
    assert describe(InputError("no such file")) == "no such file"
    assert describe(KeyError("x")) == "KeyError: 'x'"
