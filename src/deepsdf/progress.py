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
        task: what is being done, as a short phrase ("fitting"); empty where the caller knows.
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
