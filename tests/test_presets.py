"""Presets: settings that are valid, and the verb that writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import World, run

from deepsdf.network.networks import build_decoder
from deepsdf.presets import PRESETS
from deepsdf.specs import Specs

pytest_plugins = ("helpers",)

WHERE = {"data_source": "data", "train_split": "train.json", "test_split": "test.json"}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("scenes", [2, 64, 65, 3281])
def test_a_preset_is_a_valid_file(name: str, scenes: int, tmp_path: Path) -> None:
    specs = PRESETS[name](**WHERE, scenes=scenes)
    specs.save(tmp_path / "specs.json")
    assert Specs.load(tmp_path / "specs.json") == specs
    assert specs.scenes_per_batch <= scenes  # or no batch would ever be full
    build_decoder(specs.network_arch, specs.code_length, specs.network_specs)


@pytest.mark.parametrize(
    ("scenes", "steps"), [(2, 10_000), (60, 10_000), (128, 10_000), (3281, 196 * 51), (64_000, 100_000)]
)
def test_fast_makes_as_many_steps_whatever_the_data(scenes: int, steps: int) -> None:
    specs = PRESETS["fast"](**WHERE, scenes=scenes)
    assert specs.num_epochs * (scenes // specs.scenes_per_batch) == steps
    assert [schedule.rate(specs.num_epochs + 1) for schedule in specs.learning_rate_schedule] == [0.0] * 3
    assert min(schedule.rate(specs.num_epochs) for schedule in specs.learning_rate_schedule) > 0


def test_deepsdf_is_the_published_spec() -> None:
    specs = PRESETS["deepsdf"](**WHERE, scenes=1628)
    assert (specs.num_epochs, specs.samples_per_scene, specs.scenes_per_batch, specs.code_length) == (
        2001,
        16384,
        64,
        256,
    )
    assert specs.snapshot_epochs == {100, 500, 1000, 2000}
    assert [specs.learning_rate_schedule[group].rate(499) for group in (0, 1)] == [5e-4, 1e-3]
    assert [specs.learning_rate_schedule[group].rate(500) for group in (0, 1)] == [2.5e-4, 5e-4]
    decoder = build_decoder(specs.network_arch, specs.code_length, specs.network_specs)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 1_843_195


def test_train_writes_the_preset_and_trains(world: World) -> None:
    made = ("-d", "data", "-s", "train.json", "--test-split", "test.json", "--epochs", 2, "--device", "cpu")
    result = run("train", "-e", "new", "--preset", "fast", *made)
    assert "Wrote new/specs.json from the preset fast" in result.output
    specs = json.loads((world.root / "new" / "specs.json").read_text())
    assert (specs["NumEpochs"], specs["ScenesPerBatch"], specs["TestSplit"]) == (2, 4, "test.json")
    assert (world.root / "new" / "ModelParameters" / "latest.pth").is_file()


def test_the_default_preset(world: World) -> None:
    made = ("-d", "data", "-s", "train.json", "--epochs", 1, "--device", "cpu")
    assert "Wrote new/specs.json from the preset fast" in run("train", "-o", "new", *made).output


def test_quality_is_fast_with_longer_codes_beside_its_layers_and_more_steps() -> None:
    fast, quality = (PRESETS[name](**WHERE, scenes=100) for name in ("fast", "quality"))
    assert quality.num_epochs == 3 * fast.num_epochs
    assert [schedule.rate(quality.num_epochs + 1) for schedule in quality.learning_rate_schedule] == [0.0] * 3
    decoder = build_decoder(quality.network_arch, quality.code_length, quality.network_specs)
    out, into = (decoder.get_submodule(f"lin{layer}").get_parameter("weight").shape for layer in (3, 4))
    assert (tuple(out), tuple(into)) == ((256, 256), (256, 256 + 256 + 15))


def test_curriculum_is_the_papers_schedule_on_the_originals_settings() -> None:
    plain, eased = (PRESETS[name](**WHERE, scenes=1628) for name in ("deepsdf", "curriculum"))
    assert eased.model_copy(update={"curriculum": [], "description": plain.description}) == plain
    stages = [eased.curriculum_stage(epoch) for epoch in (1, 199, 200, 599, 600, 999, 1000, 2001)]
    assert [stage.tolerance for stage in stages] == [0.025, 0.025, 0.01, 0.01, 0.0025, 0.0025, 0.0, 0.0]
    assert [stage.hard_weight for stage in stages] == [0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.5, 0.5]
    assert plain.curriculum_stage(500).tolerance == plain.curriculum_stage(500).hard_weight == 0.0
    assert (plain.loss, plain.code_penalty, plain.eikonal_weight) == ("clamped_l1", "norm", 0.0)


def test_a_preset_does_not_replace_settings(world: World) -> None:
    before = world.hashes()
    result = run("train", "-e", "exp", "--preset", "fast", "-d", "data", "-s", "train.json", status=2)
    assert "exp/specs.json exists; omit --preset, --data and --split, or remove the file" in result.output
    assert (
        "a new EXP/specs.json needs both --data and --split"
        in run("train", "-e", "x", "--preset", "fast", status=2).output
    )
    assert world.hashes() == before


def test_an_experiment_trained_anew_has_no_old_checkpoints(world: World) -> None:
    assert world.experiment.checkpoints() == ["100", "200", "latest"]
    world.specs(NumEpochs=3, SnapshotFrequency=3)
    run("train", "-e", "exp", "--overwrite", "--device", "cpu")
    assert world.experiment.checkpoints() == ["3", "latest"]


def test_preprocess_makes_as_many_samples_as_asked(world: World) -> None:
    common = ("preprocess", "-d", "few", "-s", "meshes", "-n", "toys", "--split", "test.json", "--threads", 1)
    run(*common, "--samples", 1000, "--device", "cpu")
    run(*common, "--samples", 300, "--surface", "--device", "cpu")
    from deepsdf.splits import read_split
    from deepsdf.workspace import DataSource

    few = DataSource.open("few")
    for shape in read_split("test.json"):
        # As in the original, 47/50 of them are pairs round a surface point, rounded down to whole pairs.
        assert len(few.load_samples(shape)) == 1000
        assert len(few.load_surface(shape)) == 300
