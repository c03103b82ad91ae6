"""specs.json: the settings of an experiment as typed values.

Keys and their meaning are those of the original (facebookresearch/DeepSDF). Additions are `Loss`, `CodePrior`,
`EikonalWeight`, `Curriculum`, `Optimizer`, `Precision`, `Seed`, the schedule type `Cosine`, and the options of
`encoded_decoder` in `NetworkSpecs`.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic.alias_generators import to_pascal
from pydantic.fields import FieldInfo

from deepsdf.errors import InputError
from deepsdf.files import read_json, write_text

logger = logging.getLogger(__name__)

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]


def _registered(value: str, info: ValidationInfo) -> str:
    """Check a name against the registry of its field.

    The registry is imported here because it needs torch, which commands that only read paths do without. Defaults are
    not validated, so a specs.json without these keys loads no torch.
    """
    from deepsdf.network.objective import CODE_PENALTIES, LOSSES

    key, registry = {"loss": ("Loss", LOSSES), "code_penalty": ("CodePrior", CODE_PENALTIES)}[info.field_name or ""]
    if value not in registry:
        raise ValueError(f"{key} is {value!r}; expected {_either(registry)}")
    return value


def _either(names: Collection[str]) -> str:
    return " or ".join(map(repr, names)) if len(names) <= 2 else "one of " + ", ".join(map(repr, names))


Registered = Annotated[str, AfterValidator(_registered)]


class _Settings(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_pascal, populate_by_name=True, extra="allow", strict=True, frozen=True, allow_inf_nan=False
    )

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Fields by their key in specs.json, in order."""
        return {info.alias or to_pascal(name): info for name, info in cls.model_fields.items()}


class StepSchedule(_Settings):
    """`initial * factor ** (epoch // interval)`."""

    type: Literal["Step"] = "Step"
    initial: Rate
    interval: Positive
    factor: Rate

    def rate(self, epoch: int) -> float:
        return self.initial * self.factor ** (epoch // self.interval)


class WarmupSchedule(_Settings):
    """Linear from `initial` to `final` over `length` epochs, then `final`."""

    type: Literal["Warmup"] = "Warmup"
    initial: Rate
    final: Rate
    length: Positive

    def rate(self, epoch: int) -> float:
        if epoch > self.length:
            return self.final
        return self.initial + (self.final - self.initial) * epoch / self.length


class ConstantSchedule(_Settings):
    """Constant `value`."""

    type: Literal["Constant"] = "Constant"
    value: Rate

    def rate(self, epoch: int) -> float:
        return self.value


class CosineSchedule(_Settings):
    """Linear increase to `initial` over `warmup` epochs, then a cosine decrease to `final` at epoch `length`."""

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
    """Weighting of errors from an epoch until the next stage; see `deepsdf.network.objective.ease`."""

    from_epoch: Annotated[int, Field(ge=0)]
    tolerance: Rate = 0.0
    """Subtracted from every error; smaller errors become 0 (unit frame)."""
    hard_weight: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Additional weight of samples whose predicted sign is wrong or whose predicted distance is too small."""


Schedule = Annotated[StepSchedule | WarmupSchedule | ConstantSchedule | CosineSchedule, Field(discriminator="type")]


class Specs(_Settings):
    """Settings of one experiment: the keys of specs.json in snake case, except `code_penalty` (`CodePrior`)."""

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
    """Schedules of the decoder, of the codes, and with the optimizer "muon" of the hidden matrices."""

    additional_snapshots: list[int] = []
    log_frequency: Positive = 10
    data_loader_threads: int = 1
    """Accepted for compatibility with the original and ignored: samples stay in memory."""
    code_regularization: bool = True
    code_regularization_lambda: float = 1e-4
    code_bound: Annotated[float, Field(gt=0)] | None = None
    code_init_std_dev: float = 1.0
    gradient_clip_norm: Annotated[float, Field(gt=0)] | None = None

    loss: Registered = "clamped_l1"
    """A name in `deepsdf.network.objective.LOSSES`."""
    code_penalty: Registered = Field(default="norm", alias="CodePrior")
    """Regulariser of the codes, a name in `deepsdf.network.objective.CODE_PENALTIES`."""
    eikonal_weight: Rate = 0.0
    """Weight of (|∇f| - 1)² at samples within the clamping distance."""
    curriculum: list[CurriculumStage] = []
    optimizer: Literal["adam", "muon"] = "adam"
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _agree(self) -> Specs:
        wanted = 3 if self.optimizer == "muon" else 2
        if len(self.learning_rate_schedule) != wanted:
            raise ValueError(
                f"LearningRateSchedule has {len(self.learning_rate_schedule)} schedules; the optimizer "
                f"{self.optimizer!r} needs {wanted}: for the decoder, for the codes"
                + (", for the hidden matrices" if wanted == 3 else "")
            )
        starts = [stage.from_epoch for stage in self.curriculum]
        if starts != sorted(set(starts)):
            raise ValueError(f"the stages of Curriculum begin at epochs {starts}; expected increasing epochs")
        return self

    def curriculum_stage(self, epoch: int) -> CurriculumStage:
        """The stage of an epoch; a neutral one (no tolerance, no weighting) before the first stage."""
        begun = [stage for stage in self.curriculum if stage.from_epoch <= epoch]
        return begun[-1] if begun else CurriculumStage(from_epoch=0)

    @property
    def description_text(self) -> str:
        """The description as one text; in the file it may be a list of texts."""
        return self.description if isinstance(self.description, str) else "".join(self.description)

    @property
    def snapshot_epochs(self) -> set[int]:
        """Epochs after which a numbered checkpoint is written."""
        regular = range(self.snapshot_frequency, self.num_epochs + 1, self.snapshot_frequency)
        return {*regular, *self.additional_snapshots}

    @classmethod
    def parse(cls, content: object, where: str) -> Specs:
        """Settings from the content of a specs.json; `where` names the file in errors.

        Raises:
            InputError: a missing, misspelt or ill-typed key; the message lists every fault.
        """
        if not isinstance(content, dict):
            raise InputError(f'{where} is not a settings file: expected an object such as {{"CodeLength": 256, ...}}')
        misspelt = _check_names(content, cls, where)
        schedules = content.get("LearningRateSchedule")
        stages = content.get("Curriculum")
        for values in stages if isinstance(stages, list) else []:
            if isinstance(values, dict):
                misspelt |= _check_names(values, CurriculumStage, where)
        for values in schedules if isinstance(schedules, list) else []:
            if isinstance(values, dict) and values.get("Type") in _SCHEDULES:
                misspelt |= _check_names(values, _SCHEDULES[values["Type"]], where)
        try:
            specs = cls.model_validate(content)
        except ValidationError as error:
            # A misspelt required key would also be reported as missing.
            duplicates = {f"the key {right!r} is missing" for right in misspelt.values()}
            faults = [fault for fault in map(_explain, error.errors()) if fault not in duplicates]
        else:
            faults = []
        faults = [f"unknown key {wrong!r}; did you mean {right!r}?" for wrong, right in misspelt.items()] + faults
        if faults:
            raise InputError("\n  ".join([f"{where} cannot be used:", *faults]))
        return specs  # pyright: ignore[reportPossiblyUnboundVariable] # a ValidationError has at least one fault

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Specs:
        """Read specs.json. Raises InputError like `parse`, or if there is no such file."""
        return cls.parse(read_json(path, "a settings file (specs.json)"), str(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write specs.json. Values that equal their default are left out."""
        content = self.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
        # The original requires these two keys, and joins a list of texts wrongly.
        content["Description"] = self.description_text
        content["AdditionalSnapshots"] = self.additional_snapshots
        content["LearningRateSchedule"] = [
            {"Type": schedule.type, **values}
            for schedule, values in zip(self.learning_rate_schedule, content["LearningRateSchedule"], strict=True)
        ]
        text = json.dumps({key: content[key] for key in self._order() if key in content}, indent=2)
        # Lists of numbers on one line.
        text = re.sub(r"\[([\d\s.,]+)\]", lambda found: f"[{' '.join(found[1].split())}]", text)
        write_text(Path(path), text + "\n")

    def _order(self) -> list[str]:
        known = list(self.keys())
        return known + [key for key in (self.model_extra or {}) if key not in known]


_SCHEDULES: dict[str, type[_Settings]] = {
    "Step": StepSchedule,
    "Warmup": WarmupSchedule,
    "Constant": ConstantSchedule,
    "Cosine": CosineSchedule,
}


def _check_names(content: dict[str, Any], model: type[_Settings], where: str) -> dict[str, str]:
    """Misspelt keys with the known key that they resemble. Other unknown keys are logged: descendants of the original
    add their own."""
    known = model.keys()
    folded = {name.lower(): name for name in known}
    misspelt = {}
    for key in content:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key).replace("_", "").lower(), folded, n=1, cutoff=0.84)
        if near:
            misspelt[key] = folded[near[0]]
        else:
            logger.warning("%s: unknown key %r is ignored", where, key)
    return misspelt


def _explain(fault: Any) -> str:
    """One pydantic error as a sentence."""
    where = " > ".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"the key {where!r} is missing"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    return f"{where} is {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
