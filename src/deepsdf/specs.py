"""specs.json: an experiment's settings, as typed values.

The keys and their meaning are the original's (facebookresearch/DeepSDF). Ours are `Loss`, `CodePrior`,
`EikonalWeight`, `Curriculum`, `Optimizer`, `Precision`, `Seed`, the schedule type `Cosine`, and inside `NetworkSpecs`
those of `encoded_decoder`.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_pascal

from deepsdf.errors import InputError
from deepsdf.files import read_json, write_text

logger = logging.getLogger(__name__)

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]


class _Settings(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_pascal, populate_by_name=True, extra="allow", strict=True, frozen=True, allow_inf_nan=False
    )


class StepSchedule(_Settings):
    """`initial * factor ** (epoch // interval)`."""

    type: Literal["Step"] = "Step"
    initial: Rate
    interval: Positive
    factor: Rate

    def rate(self, epoch: int) -> float:
        return self.initial * self.factor ** (epoch // self.interval)


class WarmupSchedule(_Settings):
    """From `initial` to `final` linearly over `length` epochs, then `final`."""

    type: Literal["Warmup"] = "Warmup"
    initial: Rate
    final: Rate
    length: Positive

    def rate(self, epoch: int) -> float:
        if epoch > self.length:
            return self.final
        return self.initial + (self.final - self.initial) * epoch / self.length


class ConstantSchedule(_Settings):
    """Always `value`."""

    type: Literal["Constant"] = "Constant"
    value: Rate

    def rate(self, epoch: int) -> float:
        return self.value


class CosineSchedule(_Settings):
    """Up to `initial` linearly over `warmup` epochs, then down to `final` along a cosine until `length`."""

    type: Literal["Cosine"] = "Cosine"
    initial: Rate
    length: Positive
    final: Rate = 0.0
    warmup: Annotated[int, Field(ge=0)] = 0

    def rate(self, epoch: int) -> float:
        if epoch < self.warmup:
            return self.initial * epoch / self.warmup
        progress = min(1.0, (epoch - self.warmup) / max(1, self.length - self.warmup))
        return self.final + (self.initial - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class CurriculumStage(_Settings):
    """How errors count from an epoch on, until the next stage."""

    from_epoch: Annotated[int, Field(ge=0)]
    tolerance: Rate = 0.0
    """Errors up to it count nothing."""
    hard_weight: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How much more samples count whose sign is wrong or whose distance is too small."""


Schedule = Annotated[StepSchedule | WarmupSchedule | ConstantSchedule | CosineSchedule, Field(discriminator="type")]


class Specs(_Settings):
    """The settings of one experiment. Attributes are specs.json's keys in snake case."""

    description: str | list[str] = ""
    data_source: str
    train_split: str
    test_split: str | None = None
    network_arch: str
    network_specs: dict[str, Any]
    code_length: Positive
    num_epochs: Positive
    snapshot_frequency: Positive
    samples_per_scene: Annotated[int, Field(ge=2)]
    scenes_per_batch: Positive
    clamping_distance: Annotated[float, Field(gt=0)]
    learning_rate_schedule: list[Schedule] = Field(min_length=2, max_length=3)
    """Of the decoder, of the codes, and with the optimizer "muon" of the hidden matrices."""

    additional_snapshots: list[int] = []
    log_frequency: Positive = 10
    data_loader_threads: int = 1
    """Read for the original's sake; samples stay in memory and need no loader."""
    code_regularization: bool = True
    code_regularization_lambda: float = 1e-4
    code_bound: Annotated[float, Field(gt=0)] | None = None
    code_init_std_dev: float = 1.0
    gradient_clip_norm: Annotated[float, Field(gt=0)] | None = None

    loss: Literal["clamped_l1", "pulling_l1"] = "clamped_l1"
    """The original's; or one without dead gradients beyond the clamping distance."""
    code_prior: Literal["norm", "square"] = "norm"
    """The original's λ‖z‖, or the paper's λ‖z‖²."""
    eikonal_weight: Rate = 0.0
    """Of (|∇f| - 1)² within the clamping distance."""
    curriculum: list[CurriculumStage] = []
    optimizer: Literal["adam", "muon"] = "adam"
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _agree(self) -> Specs:
        wanted = 3 if self.optimizer == "muon" else 2
        if len(self.learning_rate_schedule) != wanted:
            raise ValueError(
                f"LearningRateSchedule holds {len(self.learning_rate_schedule)} schedules; the optimizer "
                f"{self.optimizer!r} takes {wanted}: the decoder's, the codes'"
                + (", the hidden matrices'" if wanted == 3 else "")
            )
        starts = [stage.from_epoch for stage in self.curriculum]
        if starts != sorted(set(starts)):
            raise ValueError(f"Curriculum's stages begin at epochs {starts}; each must begin after the one before")
        return self

    def curriculum_stage(self, epoch: int) -> CurriculumStage:
        """The stage of an epoch; without one, errors count as they are."""
        begun = [stage for stage in self.curriculum if stage.from_epoch <= epoch]
        return begun[-1] if begun else CurriculumStage(from_epoch=0)

    @property
    def description_text(self) -> str:
        """The description as one text, whichever way the file has it."""
        return self.description if isinstance(self.description, str) else "".join(self.description)

    @property
    def snapshot_epochs(self) -> set[int]:
        """Epochs after which a snapshot of its own is kept."""
        regular = range(self.snapshot_frequency, self.num_epochs + 1, self.snapshot_frequency)
        return {*regular, *self.additional_snapshots}

    @classmethod
    def parse(cls, content: object, where: str) -> Specs:
        """Settings from specs.json's content; `where` names it in errors.

        Raises:
            InputError: a missing, misspelt or ill-typed key; every fault is listed.
        """
        if not isinstance(content, dict):
            raise InputError(f'{where}: settings in braces were expected, as {{"CodeLength": 256, ...}}')
        slips = _check_names(content, cls, where)
        schedules = content.get("LearningRateSchedule")
        stages = content.get("Curriculum")
        for values in stages if isinstance(stages, list) else []:
            if isinstance(values, dict):
                slips |= _check_names(values, CurriculumStage, where)
        for values in schedules if isinstance(schedules, list) else []:
            if isinstance(values, dict) and values.get("Type") in _SCHEDULES:
                slips |= _check_names(values, _SCHEDULES[values["Type"]], where)
        try:
            specs = cls.model_validate(content)
        except ValidationError as error:
            # A misspelt key is not missing as well.
            meant = {f"the key {right!r} is missing" for right in slips.values()}
            faults = [fault for fault in map(_explain, error.errors()) if fault not in meant]
        else:
            faults = []
        faults = [f"unknown key {wrong!r}; did you mean {right!r}?" for wrong, right in slips.items()] + faults
        if faults:
            raise InputError("\n  ".join([f"{where} cannot be used:", *faults]))
        return specs

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Specs:
        """Read specs.json. Raises InputError as `parse` does, or where there is no such file."""
        return cls.parse(read_json(path, "a settings file (specs.json)"), str(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write specs.json with the original's keys."""
        content = self.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
        # The original reads these two without a default, and joins a description that is a list wrongly.
        content["Description"] = self.description_text
        content["AdditionalSnapshots"] = self.additional_snapshots
        content["LearningRateSchedule"] = [
            {"Type": schedule.type, **values}
            for schedule, values in zip(self.learning_rate_schedule, content["LearningRateSchedule"], strict=True)
        ]
        text = json.dumps({key: content[key] for key in self._order() if key in content}, indent=2)
        # Lists of numbers on one line, as a person writes them.
        text = re.sub(r"\[([\d\s.,]+)\]", lambda found: f"[{' '.join(found[1].split())}]", text)
        write_text(Path(path), text + "\n")

    def _order(self) -> list[str]:
        known = [to_pascal(name) for name in type(self).model_fields]
        return known + [key for key in (self.model_extra or {}) if key not in known]


_SCHEDULES: dict[str, type[_Settings]] = {
    "Step": StepSchedule,
    "Warmup": WarmupSchedule,
    "Constant": ConstantSchedule,
    "Cosine": CosineSchedule,
}


def _check_names(content: dict[str, Any], model: type[_Settings], where: str) -> dict[str, str]:
    """A key that resembles a known one is a slip of the pen, returned with the right one; others are a descendant's
    own."""
    known = {to_pascal(name) for name in model.model_fields}
    folded = {name.lower(): name for name in known}
    slips = {}
    for key in content:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key).replace("_", "").lower(), folded, n=1, cutoff=0.84)
        if near:
            slips[key] = folded[near[0]]
        else:
            logger.warning("%s: the key %r is not known here and is ignored", where, key)
    return slips


def _explain(fault: Any) -> str:
    """One of pydantic's faults in a sentence."""
    place = " > ".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"the key {place!r} is missing"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    return f"{place} is {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
