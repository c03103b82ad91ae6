"""Samples that do not fit into memory: packed into one mapped file in the cache of the data source, with read-ahead.

The file is written once, and reused while the size and modification time of every sample file are unchanged.
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


@dataclass
class Contents:
    """Index of a packed file. Shapes are numbered in the order in which they were requested.

    Attributes:
        sources: size and modification time (ns) of the sample file of every shape; empty for a missing file.
        scenes: numbers of the shapes in the file.
        counts: number of outside and inside rows of each of them.
        failures: number of each shape that is not in the file, and the reason.
        file: name of the file with the rows.
    """

    sources: list[list[int]]
    scenes: list[int]
    counts: list[list[int]]
    failures: list[tuple[int, str]]
    file: str = ""


def _source(data: DataSource, shape: ShapeName) -> list[int]:
    """Entry of `Contents.sources`."""
    try:
        status = data.samples_path(shape).stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def open_packed(
    data: DataSource,
    shapes: Sequence[ShapeName],
    count: int,
    fill: Callable[[np.ndarray], Contents],
) -> tuple[np.ndarray, Contents]:
    """Open the packed rows (n, 4) of shapes, mapped from the cache; create or replace them if missing or outdated.

    Args:
        count: upper bound of the number of rows.
        fill: writes the rows of the shapes into an array (count, 4) and returns its contents.
    """
    names = "\n".join(map(str, shapes))
    index = data.packed_folder / (hashlib.sha256(names.encode()).hexdigest()[:16] + ".json")
    sources = [_source(data, shape) for shape in shapes]
    try:
        with locked(data.packed_folder):
            if found := _read(index, sources):
                return found
            return _pack(index, sources, count, fill)
    except OSError as error:
        logger.warning("packed samples cannot be written to %s (%s); using a temporary file", data.packed_folder, error)
        # A file without a name: the system removes it when the process ends, even by a crash.
        with tempfile.TemporaryFile() as file:
            rows = np.memmap(file, np.float32, "w+", shape=(count, 4))
        return rows, fill(rows)


def _read(index: Path, sources: list[list[int]]) -> tuple[np.ndarray, Contents] | None:
    """The rows and contents of an index; None if missing, outdated or incomplete."""
    with suppress(Exception):  # a damaged index is replaced
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
    """Reads the mapped samples of the next step in threads while the current step is computed.

    Holds one request at a time. Samples equal those of `SampleBank.draw_keyed`.

    Args:
        threads: concurrent reads; a disk serves several in the time of one.
    """

    def __init__(self, bank: SampleBank, threads: int = 16) -> None:
        self._bank = bank
        self._pool = ThreadPoolExecutor(threads)
        self._request: Any = None
        self._reads: list[Future[Tensor]] = []

    def begin(self, request: Any, shapes: Tensor, count: int, keys: Tensor) -> None:
        """Start reading samples, replacing a request that was not taken.

        Args:
            request: any value that identifies the samples in `take`.
            shapes, count, keys: arguments of `SampleBank.draw_keyed`.
        """
        picks = self._bank.picks_keyed(shapes, count, keys)
        self._request = request
        self._reads = [self._pool.submit(self._bank.rows.__getitem__, rows) for rows in picks]

    def take(self, request: Any) -> Tensor | None:
        """Samples (b, n, 4) of a request; None if another request or none was begun."""
        if request != self._request:
            return None
        self._request, reads, self._reads = None, self._reads, []
        return torch.stack([read.result() for read in reads])
