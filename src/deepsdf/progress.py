"""The one way in which long-running functions report progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One progress event.

    Functions that work on many shapes report `done=0` once they know the total, then one event per finished shape.
    Iterative functions report one event per step.

    Attributes:
        done: finished steps or shapes.
        total: all steps or shapes.
        task: name of a task inside the work, such as the "fitting" inside a reconstruction, whose `done` and `total`
            count its own steps; empty for the work itself.
        shape: name of the shape that was finished; empty for steps.
        error: why that shape failed; None if it succeeded.
    """

    done: int
    total: int
    task: str = ""
    shape: str = ""
    error: str | None = None


OnProgress = Callable[[Progress], None]
"""Receives every event in the calling thread. An exception that it raises stops the work: raise one to cancel."""


class ProgressCounter:
    """Counts finished steps or shapes and reports each of them, and the total at the start."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self.done, self.total, self._on_progress = 0, total, on_progress
        self._report(Progress(0, total))

    def advance(self, shape: object = "", error: str | None = None) -> None:
        """Report one more finished step, or one more finished shape and why it failed."""
        self.done += 1
        self._report(Progress(self.done, self.total, shape=str(shape), error=error))

    def _report(self, event: Progress) -> None:
        if self._on_progress is not None:
            self._on_progress(event)
