"""The space of an experiment's latest checkpoint, reloaded when the checkpoint changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from deepsdf.errors import DeepSDFError
from deepsdf.inference.space import ShapeSpace
from deepsdf.journal import current
from deepsdf.workspace import Experiment

logger = logging.getLogger(__name__)

Fingerprint = tuple[tuple[int, int, int], ...]


class CheckpointWatcher:
    """Watches a checkpoint; shared by all browsers.

    A checkpoint that cannot be read is ignored, and the previous space stays in use.

    Attributes:
        space: of the checkpoint that was read last.
    Raises:
        InputError: there is no checkpoint at the start, or it is broken.
    """

    def __init__(self, experiment: Experiment, checkpoint: str | int = "latest", device: str = "auto") -> None:
        self.experiment, self.checkpoint, self.device = experiment, checkpoint, device
        self._seen = self._fingerprint()
        self.space = ShapeSpace.load(experiment, checkpoint, device)
        self._subscribers: list[Callable[[ShapeSpace], None]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def start(self, interval: float = 2.0) -> None:
        """Poll every `interval` seconds in a thread, until `close`."""

        def work() -> None:
            while not self._stop.wait(interval):
                self.poll()

        threading.Thread(target=work, name="checkpoint watcher", daemon=True).start()

    def close(self) -> None:
        """Stop polling."""
        self._stop.set()

    def subscribe(self, on_space: Callable[[ShapeSpace], None]) -> Callable[[], None]:
        """Call `on_space` with every new space. Returns a function that ends the subscription."""
        with self._lock:
            self._subscribers.append(on_space)

        def unsubscribe() -> None:
            with self._lock:
                if on_space in self._subscribers:
                    self._subscribers.remove(on_space)

        return unsubscribe

    def poll(self) -> bool:
        """Load the checkpoint if it has changed, and notify subscribers. Returns whether there was a new one."""
        found = self._fingerprint()
        if found == self._seen or not found:
            return False
        try:
            # The settings may have changed as well, if another training runs in the same folder.
            space = ShapeSpace.load(Experiment.open(self.experiment.root), self.checkpoint, self.device)
        except (DeepSDFError, OSError) as error:
            logger.debug("the new checkpoint is ignored: %s", error)
            return False
        self._seen, self.space = found, space
        with self._lock:
            subscribers = list(self._subscribers)
        for on_space in subscribers:
            try:
                on_space(space)
            except Exception:  # an error of one browser must not reach the others
                logger.debug("a browser could not show the new checkpoint", exc_info=True)
        return True

    def _fingerprint(self) -> Fingerprint:
        """Modification time, size and inode of the checkpoint's files; empty while one of them is missing."""
        found = []
        for path in (self.experiment.model_path(self.checkpoint), self.experiment.codes_path(self.checkpoint)):
            try:
                status = current(self.experiment.root, path).stat()
            except (DeepSDFError, OSError):  # the files are being replaced, or do not exist yet
                return ()
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)
