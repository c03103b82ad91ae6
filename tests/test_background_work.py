"""Work in a thread beside the main one's."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest
import torch

from deepsdf.jobs.threads import BackgroundWork


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_every_end_is_told_in_order_in_the_main_thread() -> None:
    told: list[tuple[int, int]] = []

    def ended(number: int, result: Future[int]) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append((number, result.result()))

    with BackgroundWork(lambda number: number**2, ended) as work:
        for number in range(5):
            work.submit(number, number)
            work.collect()
    assert told == [(number, number**2) for number in range(5)]


def test_several_threads_work_at_once_and_ends_are_told_in_order() -> None:
    together = threading.Barrier(3, timeout=10)
    told: list[tuple[int, int]] = []

    def wait_for_the_others(number: int) -> int:
        together.wait()  # which one thread alone would wait for in vain
        return number

    def ended(number: int, result: Future[int]) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append((number, result.result()))

    with BackgroundWork(wait_for_the_others, ended, threads=3) as work:
        for number in range(6):
            work.submit(number, number)
    assert told == [(number, number) for number in range(6)]


def test_both_sides_share_torchs_threads_and_give_them_back() -> None:
    goes_on, counts = threading.Event(), []

    def count() -> int:
        goes_on.wait(10)
        return torch.get_num_threads()

    def ended(number: int, result: Future[int]) -> None:
        counts.append(result.result())

    with BackgroundWork(count, ended) as work:
        assert torch.get_num_threads() == 2
        goes_on.set()
        work.submit(0)
        work.collect(wait=True)
    assert counts == [2]
    assert torch.get_num_threads() == 4
    with BackgroundWork(count, ended, share_cores=False) as work:
        assert torch.get_num_threads() == 4
        work.submit(0)
    assert counts == [2, 4]


def test_a_failure_in_the_main_thread_drops_what_has_not_begun() -> None:
    begun, goes_on = threading.Event(), threading.Event()
    done: list[int] = []

    def work_on(number: int) -> None:
        begun.set()
        goes_on.wait(10)
        done.append(number)

    def fail() -> None:
        with BackgroundWork(work_on, lambda number, result: None) as work:
            for number in range(3):
                work.submit(number, number)
            begun.wait(10)
            threading.Timer(0.2, goes_on.set).start()  # when the main thread has left already
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert done == [0]
    assert torch.get_num_threads() == 4


def test_what_the_work_raises_reaches_the_end() -> None:
    def work_on() -> None:
        raise ValueError("no")

    found: list[BaseException | None] = []
    with BackgroundWork(work_on, lambda number, result: found.append(result.exception())) as work:
        work.submit(0)
    assert [str(error) for error in found] == ["no"]
