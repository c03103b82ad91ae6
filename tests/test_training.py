"""Training: the original's numbers, the same whatever interrupts it, and what it does with bad input."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Toys, assert_same, formula_state

from deepsdf.errors import InputError, TrainingError
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.network.networks import load_weights
from deepsdf.specs import Specs
from deepsdf.splits import Failure, ShapeName, write_split
from deepsdf.training.checkpoint import TrainingState
from deepsdf.training.logs import TrainingLogs, running_mean
from deepsdf.training.options import TrainingOptions
from deepsdf.training.samples import SplitSamples
from deepsdf.training.train import EpochReport, train
from deepsdf.workspace import DataSource, Experiment

DROPOUT: dict[str, Any] = {
    "NetworkSpecs": {"dims": [16] * 3, "dropout": [0, 1], "dropout_prob": 0.3, "norm_layers": [0], "weight_norm": True},
}
MUON: dict[str, Any] = {
    "NetworkArch": "encoded_decoder",
    "NetworkSpecs": {"dims": [32, 32, 32], "dropout": [0], "dropout_prob": 0.1, "octaves": 2, "latent_in": [2]},
    "Optimizer": "muon",
    "Precision": "bfloat16",
    "LearningRateSchedule": [{"Type": "Cosine", "Initial": 0.01, "Length": 6, "Warmup": 2}] * 3,
}


def read(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def checkpoint(experiment: Experiment, name: str | int = "latest") -> list[Any]:
    return [read(path(name)) for path in (experiment.model_path, experiment.optimizer_path, experiment.codes_path)]


def timeless_logs(experiment: Experiment) -> dict[str, Any]:
    logs = read(experiment.logs_path)
    assert len(logs.pop("timing")) == logs["epoch"]
    return logs


def fingerprint(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def keep_state(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[TrainingState], None] = lambda state: None
) -> list[TrainingState]:
    """The states that trainings begin with, changed by `change`."""
    create, kept = TrainingState.create, []

    def kept_create(*arguments: Any) -> TrainingState:
        kept.append(create(*arguments))
        change(kept[-1])
        return kept[-1]

    monkeypatch.setattr(TrainingState, "create", kept_create)
    return kept


# The original's numbers


@pytest.mark.parametrize("run", ["plain", "bound", "clip", "split_warmup_no_bound"])
def test_it_trains_as_the_original(
    golden: Callable[[str], Any], run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = golden("training")
    told = content["runs"][run]
    data = DataSource(tmp_path / "data")
    shapes = [ShapeName("d", "c", name) for name in content["scenes"]]
    for shape, rows in zip(shapes, content["scenes"].values(), strict=True):
        sides = (np.repeat(np.array(rows[side], np.float32), 5, axis=0) for side in ("pos", "neg"))
        SDFSamples(*sides).save(data.samples_path(shape))
    write_split(tmp_path / "split.json", shapes)
    Specs.parse(
        {**told["specs"], "DataSource": str(data.root), "TrainSplit": str(tmp_path / "split.json")}, "golden"
    ).save(tmp_path / "specs.json")

    def start(state: TrainingState) -> None:
        values = formula_state([(name, value.shape) for name, value in state.decoder.state_dict().items()])
        values["lin3.bias"] = torch.tensor(content["initial_last_bias"])
        load_weights(state.decoder, values, "golden")
        with torch.no_grad():
            state.codes.weight.copy_(torch.from_numpy(told["code_factor"] * np.sin(np.arange(8.0) + 1).reshape(2, 4)))

    keep_state(monkeypatch, start)
    experiment = train(tmp_path, device="cpu", options=TrainingOptions(batch_split=told["batch_split"]))
    logs = read(experiment.logs_path)
    np.testing.assert_allclose(logs["loss"], told["loss"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(logs["learning_rate"], told["learning_rate"], rtol=1e-12)
    magnitudes = [float(value) for value in logs["latent_magnitude"]]
    np.testing.assert_allclose(magnitudes, told["latent_magnitude"], rtol=0, atol=1e-5)
    for epoch, codes in enumerate(told["codes"], 1):
        found = read(experiment.codes_path(epoch))["latent_codes"]["weight"]
        np.testing.assert_allclose(found.numpy(), codes, rtol=0, atol=1e-5)
    model = read(experiment.model_path(5))["model_state_dict"]
    for name, value in told["final_decoder"].items():
        np.testing.assert_allclose(model[f"module.{name}"].numpy(), value, rtol=0, atol=1e-5)
    assert {name: values[-1] for name, values in logs["param_magnitude"].items()} == pytest.approx(
        told["param_magnitude"], abs=1e-5
    )


# The same whatever interrupts it


@pytest.mark.parametrize("settings", [{}, DROPOUT, MUON], ids=["adam", "dropout", "muon"])
def test_the_same_seed_gives_the_same_checkpoints(toys: Toys, settings: dict[str, Any]) -> None:
    names = {"a": 5, "b": 5, "c": 6}
    one, other, third = (
        train(toys.experiment(name, **settings), device="cpu", options=TrainingOptions(seed=seed))
        for name, seed in names.items()
    )
    assert_same(checkpoint(one), checkpoint(other))
    assert_same(timeless_logs(one), timeless_logs(other))
    assert read(one.logs_path)["loss"] != read(third.logs_path)["loss"]


@pytest.mark.parametrize("settings", [{}, DROPOUT, MUON], ids=["adam", "dropout", "muon"])
@pytest.mark.parametrize("way", ["stopped", "snapshot"])
def test_a_continued_training_is_one_that_was_never_interrupted(toys: Toys, settings: dict[str, Any], way: str) -> None:
    straight = train(toys.experiment("straight", **settings), device="cpu")
    again = toys.experiment("again", **settings)
    if way == "stopped":
        epochs: list[int] = []
        tell = lambda report: epochs.append(report.epoch)  # noqa: E731
        train(again, device="cpu", on_epoch=tell, should_stop=lambda: len(epochs) == 2)
        assert resolve(again) == 3
        train(again, device="cpu", resume="latest")
    else:
        shutil.copytree(straight.root, again.root, dirs_exist_ok=True)
        train(again, device="cpu", resume=3)
    assert_same(checkpoint(again), checkpoint(straight))
    assert_same(timeless_logs(again), timeless_logs(straight))


def resolve(experiment: Experiment) -> int:
    epochs = {content["epoch"] for content in checkpoint(experiment)} | {read(experiment.logs_path)["epoch"]}
    (epoch,) = epochs
    return epoch


def test_batch_split_gives_the_same_gradients(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    states = keep_state(monkeypatch)
    settings = {"NumEpochs": 1, "ScenesPerBatch": 6, "CodeRegularizationLambda": 1.0}
    losses = []
    for parts in (1, 3, 100):
        options = TrainingOptions(batch_split=parts)
        experiment = train(toys.experiment(f"in{parts}", **settings), device="cpu", options=options)
        losses.append(read(experiment.logs_path)["loss"])
    whole, *split = [[*state.decoder.parameters(), state.codes.weight] for state in states]
    for parts in split:
        for one, other in zip(whole, parts, strict=True):
            assert one.grad is not None
            assert float(one.grad.abs().max()) > 1e-6
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-5)


def test_samples_mapped_from_a_file_change_nothing(toys: Toys) -> None:
    memory = train(toys.experiment("memory"), device="cpu")
    mapped = train(toys.experiment("mapped"), device="cpu", options=TrainingOptions(memory_limit=1))
    assert_same(checkpoint(mapped), checkpoint(memory))
    assert_same(timeless_logs(mapped), timeless_logs(memory))
    names = {path.name for path in toys.data.root.iterdir()}
    assert names == {"SdfSamples", "NormalizationParameters", ".packed"}
    packed = {path.suffix: path for path in (toys.data.root / ".packed").iterdir()}
    assert packed[".rows"].stat().st_size == 16 * sum(len(toys.data.load_samples(shape)) for shape in toys.shapes)


def test_packed_samples_are_used_again_until_they_are_stale(toys: Toys) -> None:
    def load() -> tuple[SplitSamples, str]:
        samples = SplitSamples.load(toys.data, toys.shapes, on_failure=failed.append, memory_limit=1)
        (path,) = (toys.data.root / ".packed").glob("*.rows")
        return samples, path.name

    failed: list[Failure] = []
    first, name = load()
    again, same = load()
    assert same == name
    assert first.mapped
    rows = first.bank.rows.clone()
    assert torch.equal(again.bank.rows, rows)
    # Cut short, as by a full disk; then another sample file; then one that is missing, which is told every time.
    del again
    cut_short = toys.data.root / ".packed" / name
    cut_short.unlink()  # what is mapped of it stays
    cut_short.write_bytes(b"1234")
    samples, cut = load()
    assert cut != name
    assert torch.equal(samples.bank.rows, rows)
    toys.data.load_samples(toys.shapes[1]).save(toys.data.samples_path(toys.shapes[0]))
    changed, newer = load()
    assert newer != cut
    assert changed.fingerprints != first.fingerprints
    assert not torch.equal(changed.bank.rows[: len(rows)], rows)
    assert not failed
    toys.data.samples_path(toys.shapes[0]).unlink()
    for number in (1, 2):
        assert load()[0].scenes.tolist() == [1, 2, 3, 4, 5]
        assert len(failed) == number


def test_the_callers_random_numbers_are_its_own(toys: Toys) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train(toys.experiment(**DROPOUT), device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_paths_in_specs_are_relative_to_the_current_folder(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toys.root)
    experiment = toys.experiment(DataSource="data", TrainSplit="train.json", NumEpochs=1)
    train("experiment", device="cpu")
    assert experiment.checkpoints() == ["1", "latest"]


def test_settings_without_a_folder(toys: Toys) -> None:
    """`train(folder, specs)` creates the folder; the result is that of a folder made by hand."""
    by_hand = train(toys.experiment("by_hand", NumEpochs=2), device="cpu")
    folder = toys.root / "new" / "experiment"
    made = train(folder, by_hand.specs, device="cpu")
    assert made.root == folder
    assert Specs.load(folder / "specs.json") == by_hand.specs
    assert_same(checkpoint(made), checkpoint(by_hand))
    # The same settings continue it; others are refused, and nothing is changed.
    train(folder, by_hand.specs, device="cpu", resume="latest")
    before = fingerprint(folder)
    other = by_hand.specs.model_copy(update={"clamping_distance": 0.2, "num_epochs": 3})
    with pytest.raises(InputError) as caught:
        train(folder, other, device="cpu", overwrite=True)
    assert str(caught.value) == (
        f"{folder / 'specs.json'} has other settings than the specs given; use another folder or remove it:\n"
        "  NumEpochs was 2, is 3\n  ClampingDistance was 0.1, is 0.2"
    )
    assert fingerprint(folder) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_split": "missing.json"}, "missing.json"),
        ({"data_source": "missing"}, "missing"),
        ({"network_arch": "other"}, "NetworkArch is 'other'"),
        ({"network_specs": {"dims": [2], "latent_in": [5]}}, "latent_in between 1 and 1"),
    ],
)
def test_unusable_settings_write_nothing(toys: Toys, change: dict[str, Any], message: str) -> None:
    specs = toys.experiment("model").specs.model_copy(update=change)
    with pytest.raises(InputError, match=message):
        train(toys.root / "new", specs, device="cpu")
    assert not (toys.root / "new").exists()


# What it leaves behind


def test_which_files_there_are(toys: Toys) -> None:
    settings = {"NumEpochs": 5, "SnapshotFrequency": 2, "AdditionalSnapshots": [1, 99], "LogFrequency": 3}
    experiment = train(toys.experiment(**settings), device="cpu")
    names = ["1", "2", "4", "latest"]
    assert experiment.checkpoints() == names
    for folder in ("ModelParameters", "OptimizerParameters", "LatentCodes"):
        assert sorted(path.name for path in (experiment.root / folder).iterdir()) == [f"{name}.pth" for name in names]
    assert resolve(experiment) == 5
    for epoch in (1, 2, 4):
        assert [content["epoch"] for content in checkpoint(experiment, epoch)] == [epoch] * 3
    assert sorted(path.name for path in experiment.root.iterdir()) == [
        ".training.lock", "LatentCodes", "Logs.pth", "ModelParameters", "OptimizerParameters", "specs.json"
    ]  # fmt: skip


def test_logs_are_of_the_originals_form(toys: Toys) -> None:
    experiment = train(toys.experiment(NumEpochs=4), device="cpu")
    logs = read(experiment.logs_path)
    assert list(logs) == ["epoch", "loss", "learning_rate", "timing", "latent_magnitude", "param_magnitude"]
    assert logs["epoch"] == 4
    assert len(logs["loss"]) == 4 * 3  # 6 shapes in batches of 2
    assert {type(loss) for loss in logs["loss"]} == {float}
    assert logs["learning_rate"] == [[0.008, 0.016], [0.004, 0.016], [0.004, 0.008], [0.002, 0.008]]
    assert len(logs["timing"]) == 4
    assert all(isinstance(seconds, float) and seconds > 0 for seconds in logs["timing"])
    codes, model = read(experiment.codes_path("latest")), read(experiment.model_path("latest"))
    assert [value.shape for value in logs["latent_magnitude"]] == [()] * 4
    torch.testing.assert_close(logs["latent_magnitude"][-1], codes["latent_codes"]["weight"].norm(dim=1).mean())
    weights = {name.removeprefix("module."): value for name, value in model["model_state_dict"].items()}
    assert list(logs["param_magnitude"]) == list(weights)
    for name, values in logs["param_magnitude"].items():
        assert len(values) == 4
        assert values[-1] == pytest.approx(float(weights[name].norm()), rel=1e-5)


def test_the_optimizers_file_is_one_that_torchs_adam_reads(toys: Toys) -> None:
    experiment = train(toys.experiment(NumEpochs=1), device="cpu")
    content = read(experiment.optimizer_path(1))
    state = TrainingState.create(experiment.specs, 6, 0, torch.device("cpu"))
    groups = [{"params": list(state.decoder.parameters())}, {"params": list(state.codes.parameters())}]
    adam = torch.optim.Adam(groups)
    adam.load_state_dict(content["optimizer_state_dict"])
    assert [group["lr"] for group in adam.param_groups] == [0.008, 0.016]
    assert not adam.param_groups[0]["fused"]


def test_reports(toys: Toys) -> None:
    reports: list[EpochReport] = []
    experiment = train(toys.experiment(NumEpochs=2), device="cpu", on_epoch=reports.append)
    assert [(report.epoch, report.num_epochs) for report in reports] == [(1, 2), (2, 2)]
    losses = read(experiment.logs_path)["loss"]
    assert [report.loss for report in reports] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3])
    assert reports[1].learning_rates == [0.004, 0.016]
    assert all(report.samples_per_second > 0 for report in reports)


def test_it_learns(trained: Experiment) -> None:
    losses = read(trained.logs_path)["loss"]
    assert sum(losses[-20:]) / 20 < 0.01 < 0.03 < losses[0]


def test_codes_stay_within_their_bound(toys: Toys) -> None:
    still = {"Type": "Constant", "Value": 0.0}
    settings = {"CodeBound": 1.0, "CodeInitStdDev": 1.2, "NumEpochs": 1, "LearningRateSchedule": [still, still]}
    experiment = train(toys.experiment(**settings), device="cpu")
    start = TrainingState.create(experiment.specs, 6, 0, torch.device("cpu")).codes.weight.detach()
    norms = start.norm(dim=1, keepdim=True)
    assert 0 < int((norms > 1).sum()) < 6
    found = read(experiment.codes_path("latest"))["latent_codes"]["weight"]
    torch.testing.assert_close(found, torch.where(norms > 1, start / norms, start), rtol=0, atol=1e-5)


# Bad input


def test_a_shape_without_samples_is_told_and_the_others_train(toys: Toys) -> None:
    missing, cut, open_mesh = toys.shapes[1], toys.shapes[3], toys.shapes[4]
    toys.data.samples_path(missing).unlink()
    path = toys.data.samples_path(cut)
    path.write_bytes(path.read_bytes()[:500])
    samples = toys.data.load_samples(open_mesh)
    SDFSamples(samples.pos, samples.neg[:0]).save(toys.data.samples_path(open_mesh))
    failures: list[Failure] = []
    experiment = train(toys.experiment(), device="cpu", on_failure=failures.append)
    assert [failure.shape for failure in failures] == [missing, cut, open_mesh]
    for failure in failures:
        assert str(toys.data.samples_path(failure.shape)) in failure.reason
    assert "no such file" in failures[0].reason
    assert "has no inside samples; its mesh may be open or broken" in failures[2].reason
    codes = read(experiment.codes_path("latest"))["latent_codes"]["weight"]
    assert codes.shape == (6, 4)
    start = TrainingState.create(experiment.specs, 6, 0, torch.device("cpu")).codes.weight.detach()
    moved = (codes - start).norm(dim=1)
    for row in (1, 3, 4):
        assert (codes[row] == 0).all()
    for row in (0, 2, 5):
        assert float(moved[row]) > 1e-3
        assert float(codes[row].norm()) > 0
    assert len(read(experiment.logs_path)["loss"]) == 6  # one full batch of the three


def test_no_shape_has_samples(toys: Toys) -> None:
    failures: list[Failure] = []
    shutil.rmtree(toys.data.root / "SdfSamples")
    with pytest.raises(InputError, match=r"none of the 6 shapes of the split has samples in .*; run `deepsdf"):
        train(toys.experiment(), device="cpu", on_failure=failures.append)
    assert len(failures) == 6


def test_a_batch_that_would_never_be_full(toys: Toys) -> None:
    with pytest.raises(InputError, match=r"ScenesPerBatch is 7, but the training split has 6 .*set it to 6 or less"):
        train(toys.experiment(ScenesPerBatch=7), device="cpu")


def test_a_training_is_not_overwritten_by_accident(toys: Toys) -> None:
    experiment = train(toys.experiment(NumEpochs=3), device="cpu")
    before = fingerprint(experiment.root)
    with pytest.raises(InputError, match=r"already holds a training \(checkpoints 1, 3, latest\); continue it with "):
        train(experiment, device="cpu", options=TrainingOptions(seed=1))
    assert fingerprint(experiment.root) == before
    train(experiment, device="cpu", options=TrainingOptions(seed=1), overwrite=True)
    assert fingerprint(experiment.root) != before


@pytest.mark.parametrize("frequency", [1, 3])
def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(toys: Toys, frequency: int) -> None:
    """Weights may break in the very step after which a checkpoint is due; it must not be written."""
    broken = {"Type": "Step", "Initial": 1.0, "Interval": 4, "Factor": 1e38}
    settings = {"LogFrequency": frequency, "SnapshotFrequency": frequency, "LearningRateSchedule": [broken, broken]}
    experiment = toys.experiment(**{**settings, "NetworkSpecs": {"dims": [16, 16]}, "ScenesPerBatch": 6})
    with pytest.raises(TrainingError, match=r"at epoch [45].*learning rates \[1e\+38, 1e\+38\].*Checkpoints kept: 1, "):
        train(experiment, device="cpu")
    assert resolve(experiment) == 3
    model, _, codes = checkpoint(experiment)
    for value in [*model["model_state_dict"].values(), codes["latent_codes"]["weight"]]:
        assert torch.isfinite(value).all()
    assert experiment.checkpoints() == (["1", "2", "3", "latest"] if frequency == 1 else ["1", "3", "latest"])


def test_bad_arguments(toys: Toys) -> None:
    with pytest.raises(InputError, match=r"batch_split is 0; it must be at least 1"):
        train(toys.experiment(), device="cpu", options=TrainingOptions(batch_split=0))
    with pytest.raises(InputError, match=r"device 'tpu' is not available; expected auto, cpu"):
        train(toys.experiment(), device="tpu")
    with pytest.raises(InputError, match=r"experiment has no checkpoint '3'; there are none"):
        train(toys.experiment(), device="cpu", resume=3)
    with pytest.raises(InputError, match='Optimizer "muon" needs hidden layers without weight norm'):
        train(toys.experiment(**{**MUON, "NetworkSpecs": {"dims": [8, 8], "norm_layers": [0, 1], "weight_norm": True}}))


def test_a_snapshot_can_be_continued_before_the_first_log_is_due(toys: Toys) -> None:
    """A power cut at epoch 4: the snapshot of epoch 3 is there, "latest" is not yet."""
    straight = train(toys.experiment("straight", LogFrequency=100), device="cpu")
    cut = toys.experiment("cut", LogFrequency=100)

    def power_cut(report: EpochReport) -> None:
        if report.epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cut, device="cpu", on_epoch=power_cut)
    assert cut.checkpoints() == ["1", "3"]
    train(cut, device="cpu", resume=3)
    assert_same(checkpoint(cut), checkpoint(straight))
    assert_same(timeless_logs(cut), timeless_logs(straight))


def test_a_checkpoint_of_mixed_epochs_is_not_continued(toys: Toys) -> None:
    experiment = train(toys.experiment(), device="cpu")
    for path in (experiment.model_path, experiment.codes_path, experiment.optimizer_path):
        good = path("latest").read_bytes()
        path("latest").write_bytes(path(3).read_bytes())
        with pytest.raises(InputError, match=r"'latest' of .* have different epochs .*; continue from another: 1, 3"):
            train(experiment, device="cpu", resume="latest")
        path("latest").write_bytes(good)


def test_what_cannot_be_continued(toys: Toys) -> None:
    experiment = train(toys.experiment(), device="cpu")
    write_split(toys.split, toys.shapes[:5])
    with pytest.raises(InputError, match=r"latest.pth holds 6 codes; the training split has 5 shapes"):
        train(experiment, device="cpu", resume="latest")
    write_split(toys.split, toys.shapes)
    optimizer = experiment.optimizer_path("latest")
    content = read(optimizer)
    without_groups = {**content["optimizer_state_dict"], "param_groups": []}
    for broken in ({}, 3, without_groups):
        torch.save({"epoch": 6, "optimizer_state_dict": broken}, optimizer)
        with pytest.raises(InputError, match=r"latest.pth has another optimizer or architecture than specs.json"):
            train(experiment, device="cpu", resume="latest")
    optimizer.unlink()
    with pytest.raises(
        InputError, match=r"there is no optimizer checkpoint at .*latest.pth; existing checkpoints: 1, 3, 6, latest"
    ):
        train(experiment, device="cpu", resume="latest")


# Its parts


def test_every_shape_once_an_epoch_in_random_order(toys: Toys) -> None:
    samples = SplitSamples.load(toys.data, toys.shapes, on_failure=lambda failure: pytest.fail(str(failure)))
    orders = set()
    for seed in range(20):
        batches = list(samples.batches(2, torch.Generator().manual_seed(seed)))
        assert sorted(torch.cat(batches).tolist()) == list(range(6))
        orders.add(tuple(torch.cat(batches).tolist()))
    assert len(orders) > 10
    (whole,) = samples.batches(4, torch.Generator().manual_seed(0))  # the incomplete one is dropped
    assert len(set(whole.tolist())) == 4


@pytest.mark.parametrize("limit", [None, 1])
def test_the_bank_holds_what_the_files_hold(toys: Toys, limit: int | None) -> None:
    failed: list[Failure] = []
    toys.data.samples_path(toys.shapes[0]).unlink()
    nan = toys.data.load_samples(toys.shapes[2])
    nan.pos[5] = np.nan
    nan.save(toys.data.samples_path(toys.shapes[2]))
    samples = SplitSamples.load(toys.data, toys.shapes, on_failure=failed.append, memory_limit=limit)
    assert samples.scenes.tolist() == [1, 2, 3, 4, 5]
    for k, scene in enumerate(samples.scenes.tolist()):
        held = toys.data.load_samples(toys.shapes[scene])
        for side, rows in enumerate((held.pos, held.neg)):
            start, count = int(samples.bank.starts[k, side]), int(samples.bank.counts[k, side])
            np.testing.assert_array_equal(samples.bank.rows[start : start + count].numpy(), rows)
    assert len(samples.bank.rows) == int(samples.bank.counts.sum())


def test_logs_are_clipped_to_the_epoch_continued_from(toys: Toys) -> None:
    experiment = train(toys.experiment(), device="cpu")
    logs = TrainingLogs.load(experiment.logs_path)
    whole = TrainingLogs.load(experiment.logs_path)
    logs.clip(2)
    assert logs.epoch == 2
    assert logs.loss == whole.loss[:6]
    assert logs.learning_rate == whole.learning_rate[:2]
    assert [len(values) for values in logs.param_magnitude.values()] == [2] * len(whole.param_magnitude)
    assert len(logs.timing) == len(logs.latent_magnitude) == 2


def test_logs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no training log at .*Logs.pth; `deepsdf train` writes it"):
        TrainingLogs.load(tmp_path / "Logs.pth")
    for content in ({"epoch": 3, "loss": []}, [], 3):
        torch.save(content, tmp_path / "Logs.pth")
        with pytest.raises(InputError, match=r"Logs.pth is not a training log: "):
            TrainingLogs.load(tmp_path / "Logs.pth")


def test_a_running_mean_is_the_mean_of_every_window() -> None:
    values = np.random.default_rng(0).normal(size=50)
    expected = [values[k : k + 7].mean() for k in range(44)]
    np.testing.assert_allclose(running_mean(values, 7), expected, atol=1e-12)
    assert len(running_mean(values, 51)) == 0
    assert running_mean(values, 50) == pytest.approx([values.mean()])


def test_an_optimizer_of_another_shape_is_refused(toys: Toys) -> None:
    """A fused step would read beyond the end of moments that are too small."""
    experiment = train(toys.experiment(NumEpochs=2), device="cpu")
    path = experiment.optimizer_path("latest")
    content = torch.load(path, weights_only=True)
    content["optimizer_state_dict"]["state"][0]["exp_avg"] = torch.zeros(1)
    torch.save(content, path)
    with pytest.raises(InputError, match=r"another optimizer or architecture.*exp_avg has shape \(1,\), its parameter"):
        train(experiment, device="cpu", resume="latest")


def test_a_missing_shape_makes_a_smaller_batch(toys: Toys) -> None:
    """Where the split itself is large enough, one bad shape does not stop the others."""
    experiment = toys.experiment(NumEpochs=2, ScenesPerBatch=6)
    victim = next(toys.data.root.glob("SdfSamples/**/*.npz"))
    victim.write_bytes(victim.read_bytes()[:100])
    failures: list[Failure] = []
    done = train(experiment, device="cpu", on_failure=failures.append)
    assert [str(victim) in failure.reason for failure in failures] == [True]
    assert done.checkpoints()[-1] == "latest"
