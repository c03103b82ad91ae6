"""The samples of a split, read once: kept in memory, or mapped from a file if there are too many."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepsdf.errors import InputError
from deepsdf.samples.bank import SampleBank
from deepsdf.samples.packed import Contents, open_packed
from deepsdf.splits import Failure, ShapeName
from deepsdf.training.ranks import Ranks
from deepsdf.workspace import DataSource


@dataclass(frozen=True)
class SplitSamples:
    """The samples of the shapes of a split.

    Attributes:
        bank: samples of the b shapes that could be read.
        scenes: (b,), index in the split of each of them: its row in the table of codes.
        fingerprints: checksum of the samples of every shape of the split, in order; "" for a shape without samples.
        mapped: whether the samples are mapped from a file instead of in memory.
    """

    bank: SampleBank
    scenes: Tensor
    fingerprints: dict[str, str]
    mapped: bool = False

    @classmethod
    def load(
        cls,
        data: DataSource,
        shapes: Sequence[ShapeName],
        *,
        on_failure: Callable[[Failure], None],
        memory_limit: int | None = None,
        ranks: Ranks = Ranks(),  # noqa: B008
    ) -> SplitSamples:
        """Read the samples of the shapes that this rank holds.

        Args:
            on_failure: called for each shape that cannot be used; the others are read.
            memory_limit: bytes of samples to keep in memory. More are packed into a file in the cache of the data
            source,
                once, and mapped from there. By default 60 % of the memory of the machine.
        Raises:
            InputError: no shape can be used.
        """
        headers = [
            _read_header(data.samples_path(shape)) if ranks.owns(scene) else (0, "")
            for scene, shape in enumerate(shapes)
        ]
        fingerprints = {str(shape): "" for shape in shapes}
        own = [scene for scene in range(len(shapes)) if ranks.owns(scene)]
        count = sum(count for count, _ in headers)

        def fill(rows: np.ndarray) -> Contents:
            return _fill(rows, data, [shapes[scene] for scene in own])

        mapped = count * 16 > (_default_limit() if memory_limit is None else memory_limit)
        if mapped:
            rows, contents = open_packed(data, [shapes[scene] for scene in own], count, fill)
        else:
            rows = np.zeros((count, 4), np.float32)
            contents = fill(rows)
        for index, reason in contents.failures:
            on_failure(Failure(shapes[own[index]], reason))
        if not contents.scenes:
            raise InputError(
                f"none of the {len(own)} shapes of the split has samples in {data.root}; run `deepsdf preprocess`"
            )
        scenes = [own[index] for index in contents.scenes]
        for scene in scenes:
            fingerprints[str(shapes[scene])] = headers[scene][1]
        with warnings.catch_warnings():  # torch warns of a read-only array; nothing writes to it
            warnings.simplefilter("ignore")
            bank = SampleBank.from_rows(
                torch.from_numpy(rows[: sum(map(sum, contents.counts))]), torch.tensor(contents.counts)
            )
        return cls(bank, torch.tensor(scenes), ranks.merged(fingerprints), mapped)

    def to(self, device: torch.device) -> SplitSamples:
        """Move the samples to a device. On a GPU they stay on the CPU if they need more than half of its free memory;
        then only drawn samples are transferred."""
        if device.type == "cuda" and self.bank.rows.nbytes > 0.5 * torch.cuda.mem_get_info(device)[0]:
            return self
        mapped = self.mapped and device.type == "cpu"
        return replace(self, bank=self.bank.to(device), scenes=self.scenes.to(device), mapped=mapped)

    def batches(self, scenes_per_batch: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Batches of indices (scenes_per_batch,) into the bank: every shape once, in random order.

        An incomplete last batch is dropped, as in the original.
        """
        order = torch.randperm(len(self.bank), generator=generator)
        for start in range(0, len(order) - scenes_per_batch + 1, scenes_per_batch):
            yield order[start : start + scenes_per_batch].to(self.scenes.device)


def _read_header(path: Path) -> tuple[int, str]:
    """Number of rows in a sample file and a checksum, from its headers. (0, "") for a broken file; reading it later
    raises the error."""
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
                    # Do not trust the shape in the header: compare it with the size of the member.
                    if math.prod(shape_of) * kind.itemsize != archive.getinfo(name).file_size - member.tell():
                        return 0, ""
                checksums += f"{archive.getinfo(name).CRC:08x}"
    except Exception:  # a damaged file raises anything; reading the samples reports it
        return 0, ""
    return total, checksums


def _fill(rows: np.ndarray, data: DataSource, shapes: Sequence[ShapeName]) -> Contents:
    """Write the samples of shapes into rows (n, 4), shape after shape, outside before inside."""
    contents = Contents([], [], [], [])
    end = 0
    for index, shape in enumerate(shapes):
        try:
            samples = data.load_samples(shape)
            if not len(samples.pos) or not len(samples.neg):
                side = "inside" if len(samples.pos) else "outside"
                raise InputError(f"{data.samples_path(shape)} has no {side} samples; its mesh may be open or broken")
            if end + len(samples) > len(rows):
                raise InputError(f"{data.samples_path(shape)} has more rows than its headers declare")
        except (InputError, OSError) as error:
            contents.failures.append((index, str(error)))
            continue
        for part in (samples.pos, samples.neg):
            rows[end : end + len(part)] = part
            end += len(part)
        contents.scenes.append(index)
        contents.counts.append([len(samples.pos), len(samples.neg)])
    return contents


def _default_limit() -> int:
    try:
        return int(0.6 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # the system does not report its memory: assume 8 GB
        return 8 << 30
