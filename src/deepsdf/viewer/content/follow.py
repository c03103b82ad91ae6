"""An experiment's space as it is now: a training's latest checkpoint, loaded again whenever it changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from deepsdf.errors import DeepSDFError
from deepsdf.inference.space import ShapeSpace
from deepsdf.journal import current
from deepsdf.workspace import Experiment

EVERY = 2.0
"""Seconds between two looks."""

logger = logging.getLogger(__name__)

Mark = tuple[tuple[int, int, int], ...]


class Follower:
    """Shared by all browsers.

    A checkpoint that cannot be read is not taken: the space stays the one before.

    Attributes:
        space: of the checkpoint that was read last.
    Raises:
        InputError: there is no checkpoint to begin with, or it is broken.
    """

    def __init__(self, experiment: Experiment, checkpoint: str | int = "latest", device: str = "auto") -> None:
        self.experiment, self.checkpoint, self.device = experiment, checkpoint, device
        self._mark = self._look()
        self.space = ShapeSpace.load(experiment, checkpoint, device)
        self._told: list[Callable[[ShapeSpace], None]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def start(self, every: float = EVERY) -> None:
        """Look now and then, in a thread of its own, until `close`."""

        def work() -> None:
            while not self._stop.wait(every):
                self.look()

        threading.Thread(target=work, name="follow", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def subscribe(self, told: Callable[[ShapeSpace], None]) -> Callable[[], None]:
        """Call `told` with every new space; returns what ends that."""
        with self._lock:
            self._told.append(told)

        def end() -> None:
            with self._lock:
                if told in self._told:
                    self._told.remove(told)

        return end

    def look(self) -> bool:
        """Whether there was a new checkpoint, which is then told."""
        mark = self._look()
        if mark == self._mark or not mark:
            return False
        try:
            # Settings may have changed too: another training in the same folder.
            space = ShapeSpace.load(Experiment.open(self.experiment.root), self.checkpoint, self.device)
        except (DeepSDFError, OSError) as error:
            logger.debug("the checkpoint is not taken: %s", error)
            return False
        self._mark, self.space = mark, space
        with self._lock:
            told = list(self._told)
        for each in told:
            try:
                each(space)
            except Exception:  # one browser's trouble is not the others'
                logger.debug("a browser did not take the new checkpoint", exc_info=True)
        return True

    def _look(self) -> Mark:
        """What tells one version of the files from another."""
        found = []
        for path in (self.experiment.model_path(self.checkpoint), self.experiment.codes_path(self.checkpoint)):
            try:
                about = current(self.experiment.root, path).stat()
            except (DeepSDFError, OSError):  # between two files, or none yet
                return ()
            found.append((about.st_mtime_ns, about.st_size, about.st_ino))
        return tuple(found)
