"""What a checkpoint was trained with: settings, seed, data, halved learning rates. Part of the optimizer file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deepsdf.errors import InputError
from deepsdf.specs import Specs

HARMLESS = {
    "Description", "NumEpochs", "SnapshotFrequency", "AdditionalSnapshots", "LogFrequency", "DataLoaderThreads",
    "DataSource", "TrainSplit", "TestSplit", "Seed",
}  # fmt: skip
"""Keys that may change when a training continues. The seed and the data that paths refer to are compared directly."""


@dataclass
class TrainingRecord:
    """What a checkpoint was trained with.

    Attributes:
        settings: all settings by their key in specs.json.
        seed: seed of the training.
        data: fingerprint of the samples of each shape of the split, in order; "" for a shape without samples.
        halved: epochs that were repeated with half the learning rates, once for each repetition.
    """

    settings: dict[str, Any]
    seed: int
    data: dict[str, str]
    halved: list[int] = field(default_factory=list)

    @classmethod
    def create(cls, specs: Specs, seed: int, data: dict[str, str]) -> TrainingRecord:
        return cls(_settings(specs), seed, data)

    @classmethod
    def read(cls, content: object, path: object) -> TrainingRecord:
        """Read a record from the content of the optimizer file `path`. Raises InputError if it is not a record."""
        try:
            assert isinstance(content, dict)
            record = cls(**{name: content[name] for name in cls.__dataclass_fields__})
            assert isinstance(record.settings, dict)
            assert isinstance(record.data, dict)
            assert type(record.seed) is int
            assert all(type(epoch) is int for epoch in record.halved)
        except (AssertionError, KeyError, TypeError):
            raise InputError(f"{path}: the value of 'training' is not the record of a training") from None
        return record

    def content(self) -> dict[str, Any]:
        return asdict(self)

    def step_factor(self, epoch: int) -> float:
        """Factor of the learning rates in an epoch: 1/2 for each halving up to it."""
        return 0.5 ** sum(begun <= epoch for begun in self.halved)

    def changes(self, now: TrainingRecord) -> list[str]:
        """Differences to another record that change the result of a continued training, as sentences."""
        found = []
        for key, info in Specs.keys().items():
            if key not in HARMLESS:
                # Records of older versions lack newer keys, which then had their default.
                found += _differences(key, self.settings.get(key, info.default), now.settings[key])
        if self.seed != now.seed:
            found.append(f"Seed was {self.seed}, is {now.seed}")
        return found + list(_data_changes(self.data, now.data))


def setting_changes(before: Specs, now: Specs) -> list[str]:
    """Differences between two settings, as sentences."""
    old, new = _settings(before), _settings(now)
    return [change for key in old for change in _differences(key, old[key], new[key])]


def _settings(specs: Specs) -> dict[str, Any]:
    content = specs.model_dump(by_alias=True, mode="json")
    return {key: content[key] for key in Specs.keys()}


def _differences(where: str, before: Any, now: Any) -> Iterator[str]:
    """Sentences for each differing value, by its path."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _differences(f"{where} > {key}", before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{where} > {index}", old, new)
    elif before != now:
        yield f"{where} was {json.dumps(before)}, is {json.dumps(now)}"


def _data_changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    if list(before) != list(now):
        old, new = next((old, new) for old, new in zip(before, now, strict=False) if old != new)
        yield f"the split lists other shapes or another order: {new} instead of {old}"
        return
    changed = [shape for shape in now if before[shape] and now[shape] and before[shape] != now[shape]]
    lost = [shape for shape in now if before[shape] and not now[shape]]
    found = [shape for shape in now if now[shape] and not before[shape]]
    for shapes, what in ((changed, "changed"), (lost, "are no longer usable"), (found, "were not usable then")):
        if shapes:
            more = f" and {len(shapes) - 3} more" if len(shapes) > 3 else ""
            yield f"samples of {', '.join(shapes[:3])}{more} {what}"
