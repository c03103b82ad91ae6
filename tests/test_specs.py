"""specs.json: reading the original's, telling what is wrong, writing it back."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from deepsdf.errors import InputError
from deepsdf.presets import deepsdf, fast
from deepsdf.specs import ConstantSchedule, CosineSchedule, Specs, StepSchedule, WarmupSchedule

SOFAS: dict[str, Any] = {
    "Description": [
        "This experiment learns a shape representation for sofas ",
        "using data from ShapeNet version 2.",
    ],
    "DataSource": "data",
    "TrainSplit": "examples/splits/sv2_sofas_train.json",
    "TestSplit": "examples/splits/sv2_sofas_test.json",
    "NetworkArch": "deep_sdf_decoder",
    "NetworkSpecs": {
        "dims": [512, 512, 512, 512, 512, 512, 512, 512],
        "dropout": [0, 1, 2, 3, 4, 5, 6, 7],
        "dropout_prob": 0.2,
        "norm_layers": [0, 1, 2, 3, 4, 5, 6, 7],
        "latent_in": [4],
        "xyz_in_all": False,
        "use_tanh": False,
        "latent_dropout": False,
        "weight_norm": True,
    },
    "CodeLength": 256,
    "NumEpochs": 2001,
    "SnapshotFrequency": 1000,
    "AdditionalSnapshots": [100, 500],
    "LearningRateSchedule": [
        {"Type": "Step", "Initial": 0.0005, "Interval": 500, "Factor": 0.5},
        {"Type": "Step", "Initial": 0.001, "Interval": 500, "Factor": 0.5},
    ],
    "SamplesPerScene": 16384,
    "ScenesPerBatch": 64,
    "DataLoaderThreads": 16,
    "ClampingDistance": 0.1,
    "CodeRegularization": True,
    "CodeRegularizationLambda": 1e-4,
    "CodeBound": 1.0,
}
"""examples/sofas/specs.json of the original."""


def faults(content: object) -> str:
    with pytest.raises(InputError) as caught:
        Specs.parse(content, "specs.json")
    return str(caught.value)


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in SOFAS.items() if key not in keys}


def test_the_originals_settings(tmp_path: Path) -> None:
    (tmp_path / "specs.json").write_text(json.dumps(SOFAS))
    specs = Specs.load(tmp_path / "specs.json")
    assert specs.code_length == 256
    assert specs.network_specs == SOFAS["NetworkSpecs"]
    assert specs.learning_rate_schedule == [
        StepSchedule(initial=0.0005, interval=500, factor=0.5),
        StepSchedule(initial=0.001, interval=500, factor=0.5),
    ]
    assert specs.snapshot_epochs == {100, 500, 1000, 2000}
    assert specs.description_text == (
        "This experiment learns a shape representation for sofas using data from ShapeNet version 2."
    )
    assert specs.code_bound == 1.0
    assert specs.data_loader_threads == 16


def test_the_originals_defaults() -> None:
    specs = Specs.parse(without("CodeRegularization", "CodeRegularizationLambda", "CodeBound", "DataLoaderThreads"), "")
    assert specs.code_regularization is True
    assert specs.code_regularization_lambda == 1e-4
    assert specs.code_bound is None
    assert specs.code_init_std_dev == 1.0
    assert specs.gradient_clip_norm is None
    assert specs.log_frequency == 10
    assert specs.optimizer == "adam"


def test_the_preset_is_the_published_settings() -> None:
    published = Specs.parse(SOFAS, "sofas")
    preset = deepsdf(
        data_source="data", train_split=published.train_split, test_split=published.test_split, scenes=1628
    )
    ours = {"description", "data_loader_threads"}
    assert preset.model_dump(exclude=ours) == published.model_dump(exclude=ours)


def test_a_description_is_a_list_or_a_text() -> None:
    assert Specs.parse({**SOFAS, "Description": "one text"}, "").description_text == "one text"
    assert Specs.parse({**SOFAS, "Description": []}, "").description_text == ""
    assert Specs.parse(without("Description"), "").description_text == ""


def test_a_descendants_keys_are_noted_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    content = {**SOFAS, "ReconstructionSplit": "x.json", "Class": "sofa"}
    with caplog.at_level(logging.WARNING, "deepsdf"):
        specs = Specs.parse(content, "there/specs.json")
    assert [record.getMessage() for record in caplog.records] == [
        "there/specs.json: unknown key 'ReconstructionSplit' is ignored",
        "there/specs.json: unknown key 'Class' is ignored",
    ]
    assert specs.code_length == 256


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("CodeLenght", "CodeLength"),
        ("code_length", "CodeLength"),
        ("ClampDistance", "ClampingDistance"),
        ("SamplePerScene", "SamplesPerScene"),
        ("Numepochs", "NumEpochs"),
    ],
)
def test_a_misspelt_key_is_told_the_right_one(wrong: str, right: str) -> None:
    content = {**without(right), wrong: SOFAS[right]}
    assert f"unknown key {wrong!r}; did you mean {right!r}?" in faults(content)


def test_every_fault_is_listed() -> None:
    wrong = {"CodeLength": "256", "CodeBound": -1.0, "AdditionalSnapshots": [1, 1.5]}
    content = {**without("TrainSplit", "NumEpochs"), **wrong}
    found = faults(content)
    assert found.startswith("specs.json cannot be used:\n")
    assert "the key 'TrainSplit' is missing" in found
    assert "the key 'NumEpochs' is missing" in found
    assert "CodeLength is '256': " in found
    assert "CodeBound is -1.0: " in found
    assert "AdditionalSnapshots > 1 is 1.5: " in found
    assert found.count("\n") == 5


def test_every_misspelt_key_is_listed() -> None:
    found = faults({**without("CodeLength", "NumEpochs", "DataSource"), "CodeLenght": 1, "NumEpoch": 2})
    assert found.split("\n  ") == [
        "specs.json cannot be used:",
        "unknown key 'CodeLenght'; did you mean 'CodeLength'?",
        "unknown key 'NumEpoch'; did you mean 'NumEpochs'?",
        "the key 'DataSource' is missing",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("CodeLength", 0), ("CodeLength", 2.5), ("CodeLength", True), ("NumEpochs", -1), ("ClampingDistance", 0),
        ("ClampingDistance", "0.1"), ("ClampingDistance", float("nan")), ("SamplesPerScene", 1),
        ("NetworkSpecs", [1]), ("Optimizer", "sgd"), ("Precision", "float16"),
        ("TrainSplit", None), ("CodeRegularization", "yes"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_shown(key: str, value: object) -> None:
    assert f"{key} is {value!r}: " in faults({**SOFAS, key: value})


@pytest.mark.parametrize("content", [None, [], 3, "text"])
def test_what_is_no_settings(content: object) -> None:
    assert faults(content) == 'specs.json is not a settings file: expected an object such as {"CodeLength": 256, ...}'


def test_faults_of_schedules() -> None:
    def with_schedules(*schedules: object) -> str:
        return faults({**SOFAS, "LearningRateSchedule": list(schedules)})

    constant = {"Type": "Constant", "Value": 0.1}
    assert "the key 'LearningRateSchedule > 1 > Step > Interval' is missing" in with_schedules(
        constant, {"Type": "Step", "Initial": 0.1, "Factor": 0.5}
    )
    assert "'Stepp'" in with_schedules(constant, {"Type": "Stepp"})
    assert "Type" in with_schedules(constant, {"Value": 0.1})
    assert "has 3 schedules; the optimizer 'adam' needs 2: for the decoder, for the codes" in with_schedules(
        constant, constant, constant
    )
    assert "LearningRateSchedule" in with_schedules(constant)
    muon = faults({**SOFAS, "Optimizer": "muon"})
    parts = "for the decoder, for the codes, for the hidden matrices"
    assert f"has 2 schedules; the optimizer 'muon' needs 3: {parts}" in muon


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"specs.json"):
        Specs.load(tmp_path / "specs.json")


def test_rates_of_the_original() -> None:
    step = StepSchedule(initial=0.008, interval=2, factor=0.5)
    assert [step.rate(epoch) for epoch in range(1, 5)] == pytest.approx([0.008, 0.004, 0.004, 0.002], rel=1e-12)
    warmup = WarmupSchedule(initial=0.001, final=0.01, length=3)
    assert [warmup.rate(epoch) for epoch in range(1, 5)] == pytest.approx([0.004, 0.007, 0.01, 0.01], rel=1e-12)
    assert ConstantSchedule(value=0.3).rate(7) == 0.3


def test_the_cosine_rises_and_falls() -> None:
    cosine = CosineSchedule(initial=1.0, final=0.1, warmup=10, length=110)
    rates = [cosine.rate(epoch) for epoch in range(131)]
    assert rates[0] == 0
    assert rates[:11] == pytest.approx([k / 10 for k in range(11)])
    assert rates[60] == pytest.approx(0.55)
    assert rates[110:] == pytest.approx([0.1] * 21)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(
    "specs",
    [
        Specs.parse(SOFAS, "sofas"),
        fast(data_source="d", train_split="t", test_split=None, scenes=9, epochs=300),
        deepsdf(data_source="d", train_split="t", test_split="u", scenes=9),
        Specs.parse({**SOFAS, "LearningRateSchedule": [
            {"Type": "Warmup", "Initial": 0.0, "Final": 1.0, "Length": 3}, {"Type": "Constant", "Value": 1}]}, ""),
        Specs.parse({**SOFAS, "NetworkSpecs": {"dims": [8], "dropout": None}, "GradientClipNorm": 0.5, "Seed": 4}, ""),
    ],
)  # fmt: skip
def test_a_round_trip_changes_nothing(specs: Specs, tmp_path: Path) -> None:
    specs.save(tmp_path / "specs.json")
    again = Specs.load(tmp_path / "specs.json")
    assert again.description_text == specs.description_text
    assert again.model_dump(exclude={"description"}) == specs.model_dump(exclude={"description"})


def test_a_saved_file_holds_what_the_original_reads_without_a_default(tmp_path: Path) -> None:
    content = {**without("AdditionalSnapshots", "Description"), "Mine": [1]}
    Specs.parse(content, "").save(tmp_path / "specs.json")
    saved = json.loads((tmp_path / "specs.json").read_text())
    assert saved["Description"] == ""
    assert saved["AdditionalSnapshots"] == []
    assert saved["LearningRateSchedule"] == SOFAS["LearningRateSchedule"]
    assert saved["Mine"] == [1]
    Specs.parse(SOFAS, "").save(tmp_path / "specs.json")
    assert isinstance(json.loads((tmp_path / "specs.json").read_text())["Description"], str)


def test_a_misspelt_key_of_a_schedule_and_a_rate_that_is_none() -> None:
    schedules = [{"Type": "Cosine", "Initial": 1e-3, "Length": 9, "Warm_up": 5}, {"Type": "Constant", "Value": -1.0}]
    with pytest.raises(InputError) as caught:
        Specs.parse({**SOFAS, "LearningRateSchedule": schedules}, "specs.json")
    assert "unknown key 'Warm_up'; did you mean 'Warmup'?" in str(caught.value)
    assert "Value is -1.0: input should be greater than or equal to 0" in str(caught.value)
