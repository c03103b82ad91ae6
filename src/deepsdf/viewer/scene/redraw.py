"""Meshing what was asked for last, coarse first: one thread for each browser."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
import trimesh

from deepsdf.devices import fast_bfloat16
from deepsdf.errors import DeepSDFError
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.geometry.isosurface.polygonize import polygonize
from deepsdf.inference.space import Shape

COARSE, MIDDLE, FINE = 48, 128, 256
"""Samples an axis: while dragging, and refined once the hand rests."""

PIECE = 16_384
"""Points between two looks at whether the answer is still wanted."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Cancelled(Exception):
    """What is being computed is not wanted any more."""


@dataclass(frozen=True)
class Watched:
    """A shape's field that stops with `Cancelled` as soon as nobody wants its mesh.

    Attributes:
        quick: in bfloat16 where that is quicker. Good enough for a coarse mesh.
    """

    shape: Shape
    wanted: Callable[[], bool]
    quick: bool = False

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Signed distance of points (n, 3), unit frame: (n,) float32."""
        found = np.empty(len(points), np.float32)
        device = self.shape.code.device
        for start in range(0, len(points), PIECE):
            if not self.wanted():
                raise Cancelled
            part = slice(start, start + PIECE)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.quick and fast_bfloat16(device)):
                found[part] = self.shape.sdf(points[part])
        return found


@dataclass(frozen=True)
class Drawn:
    """A mesh of what was asked for, unit frame; None where the shape has no surface, and `reason` says so.

    Attributes:
        last: no finer one follows.
    """

    shape: Shape
    resolution: int
    mesh: trimesh.Trimesh | None
    last: bool
    reason: str = ""


@dataclass(eq=False)
class _Asked:
    shape: Shape
    resolutions: Sequence[int] = field(default=(COARSE, MIDDLE, FINE))


class Redraw:
    """Meshes shapes for one browser. A new one takes the place of what is not finished.

    The coarse mesh of a shape that was begun is finished nevertheless: else a hand that never rests would see nothing.

    Args:
        show: told each mesh, in this thread; what it raises is logged.
    """

    def __init__(self, show: Callable[[Drawn], None], name: str = "") -> None:
        self._show = show
        self._condition = threading.Condition()
        self._asked: _Asked | None = None
        self._done: _Asked | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"redraw {name}", daemon=True)
        self._thread.start()

    def ask(self, shape: Shape, resolutions: Sequence[int] = (COARSE, MIDDLE, FINE)) -> None:
        """Draw this next; returns at once."""
        with self._condition:
            self._asked = _Asked(shape, tuple(resolutions))
            self._condition.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Until the last shape asked for is drawn to its finest, or was given up; false where time ran out first."""
        with self._condition:
            return self._condition.wait_for(lambda: self._closed or self._done is self._asked, timeout)

    def close(self) -> None:
        """Stop work within a piece of points; nothing is shown afterwards."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10.0)

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or self._asked is not self._done)
                if self._closed:
                    return
                asked = self._asked
            assert asked is not None
            try:
                self._draw(asked)
            except Cancelled:
                pass
            except Exception:  # a browser that went away in the middle, mostly
                logger.debug("a drawing failed", exc_info=True)
            with self._condition:
                self._done = asked
                self._condition.notify_all()

    def _draw(self, asked: _Asked) -> None:
        for number, resolution in enumerate(asked.resolutions):
            first, last = number == 0, number == len(asked.resolutions) - 1

            def wanted(first: bool = first) -> bool:
                return not self._closed and (first or self._asked is asked)

            if not wanted():
                return
            drawn = mesh_of(asked.shape, resolution, wanted, quick=first and not last, last=last)
            if not self._closed:
                self._show(drawn)
            if drawn.mesh is None:
                return


def mesh_of(shape: Shape, resolution: int, wanted: Callable[[], bool], *, quick: bool, last: bool) -> Drawn:
    """One mesh. Raises Cancelled."""
    try:
        field = Watched(shape, wanted, quick)
        mesh = polygonize(field, Meshing(resolution=resolution, vertices="linear"))
    except DeepSDFError as error:
        return Drawn(shape, resolution, None, True, str(error))
    return Drawn(shape, resolution, mesh, last)


class Jobs:
    """Work for one browser that may take seconds, one after the other; closing it drops what waits."""

    def __init__(self, name: str = "") -> None:
        self._condition = threading.Condition()
        self._waiting: dict[str, Callable[[Callable[[], bool]], None]] = {}
        self._running: str | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"jobs {name}", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        return self._closed

    def ask(self, key: str, job: Callable[[Callable[[], bool]], None]) -> None:
        """Do this soon, in place of a job of the same key that waits. The job is given `wanted`, to look at."""
        with self._condition:
            self._waiting.pop(key, None)
            self._waiting[key] = job
            self._condition.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing is left to do; false where time ran out first."""
        with self._condition:
            return self._condition.wait_for(
                lambda: self._closed or (not self._waiting and self._running is None), timeout
            )

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._waiting.clear()
            self._condition.notify_all()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or bool(self._waiting))
                if self._closed:
                    return
                key = next(iter(self._waiting))
                job, self._running = self._waiting.pop(key), key

            def wanted(key: str = key) -> bool:
                return not self._closed and key not in self._waiting

            try:
                job(wanted)
            except Cancelled:
                pass
            except Exception:
                logger.debug("%s failed", key, exc_info=True)
            with self._condition:
                self._running = None
                self._condition.notify_all()
