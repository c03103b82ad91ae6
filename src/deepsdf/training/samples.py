"""A split's samples, read once and kept in memory."""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepsdf.errors import InputError
from deepsdf.network.bank import SampleBank
from deepsdf.splits import Failure, ShapeName
from deepsdf.workspace import DataSource


@dataclass(frozen=True)
class SplitSamples:
    """The samples of a split's shapes.

    Attributes:
        bank: of the shapes that could be read.
        scenes: (b,), the place of each of them in the split, and so in the table of codes.
        fingerprints: every shape of the split, in its order: a checksum of its samples, "" where it has none.
    """

    bank: SampleBank
    scenes: Tensor
    fingerprints: dict[str, str]

    @classmethod
    def load(
        cls,
        data: DataSource,
        shapes: Sequence[ShapeName],
        *,
        on_failure: Callable[[Failure], None],
        memory_limit: int | None = None,
    ) -> SplitSamples:
        """Read a split's samples.

        Args:
            on_failure: told each shape that cannot be used; the others go on.
            memory_limit: bytes; more than that is kept in a temporary file beside the data and mapped from
                there. By default 60 % of the machine's memory.
        Raises:
            InputError: no shape can be used.
        """
        headers = [_read_header(data.samples_path(shape)) for shape in shapes]
        fingerprints = {str(shape): "" for shape in shapes}
        rows = _allocate(
            sum(count for count, _ in headers),
            data,
            _default_limit() if memory_limit is None else memory_limit,
        )
        counts: list[tuple[int, int]] = []
        scenes: list[int] = []
        end = 0
        for scene, shape in enumerate(shapes):
            try:
                samples = data.load_samples(shape)
                if not len(samples.pos) or not len(samples.neg):
                    side = "inside" if len(samples.pos) else "outside"
                    raise InputError(f"{data.samples_path(shape)} has no {side} samples; its mesh is open or broken")
            except (InputError, OSError) as error:
                on_failure(Failure(shape, str(error)))
                continue
            if end + len(samples) > len(rows):
                on_failure(Failure(shape, f"{data.samples_path(shape)} holds more rows than its headers say"))
                continue
            for part in (samples.pos, samples.neg):
                rows[end : end + len(part)] = part
                end += len(part)
            counts.append((len(samples.pos), len(samples.neg)))
            scenes.append(scene)
            fingerprints[str(shape)] = headers[scene][1]
        if not scenes:
            raise InputError(
                f"none of the split's {len(shapes)} shapes has samples in {data.root}; run `deepsdf preprocess`"
            )
        return cls(
            SampleBank.packed(torch.from_numpy(rows[:end]), torch.tensor(counts)), torch.tensor(scenes), fingerprints
        )

    def to(self, device: torch.device) -> SplitSamples:
        """On a GPU where they take at most half of what is free there; else they stay, and draws travel."""
        if device.type == "cuda" and self.bank.rows.nbytes > 0.5 * torch.cuda.mem_get_info(device)[0]:
            return self
        return replace(self, bank=self.bank.to(device), scenes=self.scenes.to(device))

    def batches(self, scenes_per_batch: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Every shape once, in random order, as indices (scenes_per_batch,) into the bank; the last incomplete
        batch is dropped, as in the original."""
        order = torch.randperm(len(self.bank), generator=generator)
        for start in range(0, len(order) - scenes_per_batch + 1, scenes_per_batch):
            yield order[start : start + scenes_per_batch].to(self.scenes.device)


def _read_header(path: Path) -> tuple[int, str]:
    """Rows in a sample file and a checksum of them, read without them; a broken file has none, which is said when it
    is read."""
    total, checksums = 0, ""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in ("pos.npy", "neg.npy"):
                with archive.open(name) as member:
                    version = np.lib.format.read_magic(member)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape_of, _, kind = read(member)
                    total += shape_of[0]
                    # A header may claim anything; the member's length tells.
                    if math.prod(shape_of) * kind.itemsize != archive.getinfo(name).file_size - member.tell():
                        return 0, ""
                checksums += f"{archive.getinfo(name).CRC:08x}"
    except Exception:  # whatever is wrong with the file is said when it is read
        return 0, ""
    return total, checksums


def _allocate(count: int, data: DataSource, limit: int) -> np.ndarray:
    if count * 16 <= limit or not count:
        return np.zeros((count, 4), np.float32)
    # An unnamed file: it is gone with the process, however that ends.
    with tempfile.TemporaryFile(dir=data.root) as file:
        return np.memmap(file, np.float32, "w+", shape=(count, 4))


def _default_limit() -> int:
    try:
        return int(0.6 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not every system tells
        return 8 << 30
