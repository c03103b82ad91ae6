"""What a checkpoint was made with: settings, seed, data, halved steps. It lies in the optimizer's file."""

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
"""May differ when a training goes on: what they point to, and the seed, are compared themselves."""


@dataclass
class TrainingRecord:
    """Attributes:
    settings: specs.json's, all of them, by its keys.
    seed: that of the training.
    data: each shape of the split, in its order: a fingerprint of its samples, "" where it has none.
    halved: epochs that were begun anew with half the step, once for each time.
    """

    settings: dict[str, Any]
    seed: int
    data: dict[str, str]
    halved: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, specs: Specs, seed: int, data: dict[str, str]) -> TrainingRecord:
        return cls(_settings(specs), seed, data)

    @classmethod
    def read(cls, content: object, path: object) -> TrainingRecord:
        """Raises InputError where it is none."""
        try:
            assert isinstance(content, dict)
            record = cls(**{name: content[name] for name in cls.__dataclass_fields__})
            assert isinstance(record.settings, dict)
            assert isinstance(record.data, dict)
            assert type(record.seed) is int
            assert all(type(epoch) is int for epoch in record.halved)
        except (AssertionError, KeyError, TypeError):
            raise InputError(f"{path}: what stands under 'training' is no record of a training") from None
        return record

    def content(self) -> dict[str, Any]:
        return asdict(self)

    def step_factor(self, epoch: int) -> float:
        """Of the schedules' learning rates, after the halvings."""
        return 0.5 ** sum(begun <= epoch for begun in self.halved)

    def changes(self, now: TrainingRecord) -> list[str]:
        """What is different now and matters, in sentences."""
        known = Specs.keys()
        found = []
        for key in known:
            if key not in HARMLESS:
                # A record of an older version knows fewer keys; they had their default.
                found += _differences(key, self.settings.get(key, known[key].default), now.settings[key])
        if self.seed != now.seed:
            found.append(f"Seed was {self.seed}, is {now.seed}")
        return found + list(_data_changes(self.data, now.data))


def _settings(specs: Specs) -> dict[str, Any]:
    content = specs.model_dump(by_alias=True, mode="json")
    return {key: content[key] for key in Specs.keys()}


def _differences(where: str, before: Any, now: Any) -> Iterator[str]:
    """Down to the values that differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _differences(f"{where} > {key}", before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{where} > {place}", old, new)
    elif before != now:
        yield f"{where} was {json.dumps(before)}, is {json.dumps(now)}"


def _data_changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    if list(before) != list(now):
        was, there = next((old, new) for old, new in zip(before, now, strict=False) if old != new)
        yield f"the split lists other shapes or another order: where {was} was, there is {there}"
        return
    changed = [shape for shape in now if before[shape] and now[shape] and before[shape] != now[shape]]
    lost = [shape for shape in now if before[shape] and not now[shape]]
    found = [shape for shape in now if now[shape] and not before[shape]]
    for shapes, what in ((changed, "changed"), (lost, "cannot be used any more"), (found, "could not be used then")):
        if shapes:
            more = f" and of {len(shapes) - 3} more" if len(shapes) > 3 else ""
            yield f"the samples of {', '.join(shapes[:3])}{more} {what}"
