"""Samples that do not fit into memory, in one file of the data source's cache, and reading ahead from it.

The file is made once and used again while every sample file has the size and the time that it had then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepsdf.files import locked, read_json, write_text
from deepsdf.samples.bank import SampleBank
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource

logger = logging.getLogger(__name__)

READERS = 16
"""Threads that touch the file at once: a disk answers many questions in the time of one."""


@dataclass
class Contents:
    """What was packed.

    Attributes:
        sources: size and time (ns) of every shape's sample file, in the order asked for; none where there is none.
        scenes: which of the shapes are in it, by their place, and how many outside and inside rows each has.
        failures: place and reason of those that are not.
    """

    sources: list[list[int]]
    scenes: list[int]
    counts: list[list[int]]
    failures: list[tuple[int, str]]
    file: str = ""


def stamp(data: DataSource, shape: ShapeName) -> list[int]:
    try:
        found = data.samples_path(shape).stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def open_packed(
    data: DataSource,
    shapes: Sequence[ShapeName],
    count: int,
    fill: Callable[[np.ndarray], Contents],
) -> tuple[np.ndarray, Contents]:
    """The packed rows (n, 4) of shapes, mapped from the cache; made by `fill` where they are not there or stale.

    Args:
        count: rows to make room for.
        fill: writes rows and says what they are.
    """
    names = "\n".join(map(str, shapes))
    index = data.packed_folder / (hashlib.sha256(names.encode()).hexdigest()[:16] + ".json")
    sources = [stamp(data, shape) for shape in shapes]
    try:
        with locked(data.packed_folder):
            if found := _read(index, sources):
                return found
            return _pack(index, sources, count, fill)
    except OSError as error:
        logger.warning("%s cannot hold packed samples (%s); a temporary file will", data.packed_folder, error)
        # An unnamed file: it is gone with the process, however that ends.
        with tempfile.TemporaryFile() as file:
            rows = np.memmap(file, np.float32, "w+", shape=(count, 4))
        return rows, fill(rows)


def _read(index: Path, sources: list[list[int]]) -> tuple[np.ndarray, Contents] | None:
    """None where it is not there, stale, or not whole."""
    with suppress(Exception):  # whatever is wrong with it, it is made anew
        contents = Contents(**read_json(index, "an index of packed samples"))
        path = index.with_name(Path(contents.file).name)
        rows = sum(map(sum, contents.counts))
        if contents.sources == sources and path.stat().st_size == rows * 16:
            return np.memmap(path, np.float32, "r", shape=(rows, 4)), contents
    return None


def _pack(
    index: Path, sources: list[list[int]], count: int, fill: Callable[[np.ndarray], Contents]
) -> tuple[np.ndarray, Contents]:
    path = index.with_name(f"{index.stem}-{uuid.uuid4().hex[:8]}.rows")
    try:
        contents = fill(np.memmap(path, np.float32, "w+", shape=(count, 4)))
        rows = sum(map(sum, contents.counts))
        if not rows:
            path.unlink()
            return np.zeros((0, 4), np.float32), contents
        os.truncate(path, rows * 16)
        contents.sources, contents.file = sources, path.name
        write_text(index, json.dumps(asdict(contents)))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    for old in index.parent.glob(f"{index.stem}-*.rows"):
        if old != path:
            old.unlink(missing_ok=True)
    return np.memmap(path, np.float32, "r", shape=(rows, 4)), contents


class ReadAhead:
    """Draws of mapped samples, read by threads while the step before is at work. They are `draw_keyed`'s."""

    def __init__(self, bank: SampleBank) -> None:
        self._bank = bank
        self._pool = ThreadPoolExecutor(READERS)
        self._coming: dict[Any, list[Future[Tensor]]] = {}

    def begin(self, step: Any, shapes: Tensor, count: int, keys: Tensor) -> None:
        """Start reading what a step will need."""
        picks = self._bank.picks_keyed(shapes, count, keys)
        self._coming[step] = [self._pool.submit(self._bank.rows.__getitem__, own) for own in picks]

    def take(self, step: Any) -> Tensor | None:
        """The samples (b, n, 4), if they were begun."""
        reading = self._coming.pop(step, None)
        return torch.stack([part.result() for part in reading]) if reading else None

    def forget(self) -> None:
        """What was begun is not needed."""
        self._coming.clear()
