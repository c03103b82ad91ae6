"""A split's samples, read once and kept in memory, or mapped from a file where they are too many."""

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
    """The samples of a split's shapes.

    Attributes:
        bank: of the shapes that could be read.
        scenes: (b,), the place of each of them in the split, and so in the table of codes.
        fingerprints: every shape of the split, in its order: a checksum of its samples, "" where it has none.
    """

    bank: SampleBank
    scenes: Tensor
    fingerprints: dict[str, str]
    mapped: bool = False
    """Whether the samples lie in a file instead of in memory."""

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
        """Read the samples of a split's shapes, of those that this rank owns.

        Args:
            on_failure: told each shape that cannot be used; the others go on.
            memory_limit: bytes of samples to keep in memory; more than that is packed into a file of the data
                source's cache, once, and mapped from there. By default 60 % of the machine's memory.
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
        for place, reason in contents.failures:
            on_failure(Failure(shapes[own[place]], reason))
        if not contents.scenes:
            raise InputError(
                f"none of the split's {len(own)} shapes has samples in {data.root}; run `deepsdf preprocess`"
            )
        scenes = [own[place] for place in contents.scenes]
        for scene in scenes:
            fingerprints[str(shapes[scene])] = headers[scene][1]
        with warnings.catch_warnings():  # of an array that cannot be written; nobody will
            warnings.simplefilter("ignore")
            bank = SampleBank.packed(
                torch.from_numpy(rows[: sum(map(sum, contents.counts))]), torch.tensor(contents.counts)
            )
        return cls(bank, torch.tensor(scenes), ranks.merged(fingerprints), mapped)

    def to(self, device: torch.device) -> SplitSamples:
        """On a GPU where they take at most half of what is free there; else they stay, and draws travel."""
        if device.type == "cuda" and self.bank.rows.nbytes > 0.5 * torch.cuda.mem_get_info(device)[0]:
            return self
        mapped = self.mapped and device.type == "cpu"
        return replace(self, bank=self.bank.to(device), scenes=self.scenes.to(device), mapped=mapped)

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


def _fill(rows: np.ndarray, data: DataSource, shapes: Sequence[ShapeName]) -> Contents:
    """Write the shapes' samples into rows (n, 4), shape after shape, outside before inside."""
    contents = Contents([], [], [], [])
    end = 0
    for place, shape in enumerate(shapes):
        try:
            samples = data.load_samples(shape)
            if not len(samples.pos) or not len(samples.neg):
                side = "inside" if len(samples.pos) else "outside"
                raise InputError(f"{data.samples_path(shape)} has no {side} samples; its mesh is open or broken")
            if end + len(samples) > len(rows):
                raise InputError(f"{data.samples_path(shape)} holds more rows than its headers say")
        except (InputError, OSError) as error:
            contents.failures.append((place, str(error)))
            continue
        for part in (samples.pos, samples.neg):
            rows[end : end + len(part)] = part
            end += len(part)
        contents.scenes.append(place)
        contents.counts.append([len(samples.pos), len(samples.neg)])
    return contents


def _default_limit() -> int:
    try:
        return int(0.6 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not every system tells
        return 8 << 30
