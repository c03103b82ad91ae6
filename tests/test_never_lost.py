"""Whatever stops a training: the last checkpoint is whole, and continuing from it changes nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Toys, assert_same

from deepsdf import journal
from deepsdf.checkpoints import load_codes, load_decoder
from deepsdf.errors import InputError, TrainingError
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.splits import write_split
from deepsdf.training.faults import EXPLOSION_RATIO, find_loss_fault
from deepsdf.training.logs import TrainingLogs
from deepsdf.training.options import TrainingOptions
from deepsdf.training.record import TrainingRecord
from deepsdf.training.step import EpochPlan, Stepper, StepResult
from deepsdf.training.train import EpochReport, train
from deepsdf.workspace import Experiment


def read(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def whole_state(experiment: Experiment, checkpoint: str = "latest") -> list[Any]:
    """All that a checkpoint holds, but for the clock's times."""
    logs = read(experiment.logs_path)
    logs.pop("timing")
    return [*(read(path) for path in experiment.checkpoint_files(checkpoint)), logs]


def stop_at(epoch: int) -> dict[str, Any]:
    seen: list[int] = []
    return {"on_epoch": lambda report: seen.append(report.epoch), "should_stop": lambda: epoch - 1 in seen}


# Killed


KILLER = """
import os, signal, sys
import torch, torch._dynamo
from deepsdf import journal
from deepsdf.training.train import train
from deepsdf.workspace import Experiment

class Deadly:
    def __init__(self, left):
        self.left = left

    def __getattr__(self, name):
        function = getattr(os, name)

        def call(*arguments, **named):
            self.left -= 1
            if self.left < 0:
                if name == "write":  # half of a file
                    function(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call if name in ("open", "write", "fsync", "close", "replace", "unlink") else function

torch.set_num_threads(1)
os.fsync = lambda number: None
for line in sys.stdin:
    if not (child := os.fork()):
        experiment = Experiment.open(sys.argv[1])
        resume = "latest" if "latest" in experiment.checkpoints() else None
        journal.os = Deadly(int(line))
        train(experiment, device="cpu", resume=resume, overwrite=resume is None)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""For each number read, a training that is killed after that many operations on files. Prints its exit status."""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
def test_killed_at_any_operation_on_files(toys: Toys) -> None:
    settings = {"NumEpochs": 8, "LogFrequency": 1, "SnapshotFrequency": 3, "AdditionalSnapshots": []}
    straight = train(toys.experiment("straight", **settings), device="cpu")
    killed = toys.experiment("killed", **settings)
    killer = subprocess.Popen(
        [sys.executable, "-c", KILLER, killed.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert killer.stdin
    assert killer.stdout
    reached = [0]
    for operations in range(0, 54, 3):  # into a second checkpoint; a file takes open, write, fsync and close
        killer.stdin.write(f"{operations}\n")
        killer.stdin.flush()
        assert int(killer.stdout.readline()) == -signal.SIGKILL
        if "latest" in killed.checkpoints():  # a reader finds a complete checkpoint, and changes nothing
            epoch = load_decoder(killed)[1]
            assert load_codes(killed)[1] == epoch
            assert len(TrainingLogs.load(killed.logs_path).timing) >= epoch
            assert epoch >= reached[-1]
            reached.append(epoch)
    killer.communicate(timeout=60)
    assert set(reached) >= {0, 1, 2}  # killed in the checkpoints of several epochs
    train(killed, device="cpu", resume="latest")
    assert_same(whole_state(killed), whole_state(straight))
    assert not [path for path in killed.root.rglob(".*") if path.name != ".training.lock"]


@pytest.mark.parametrize("operation", ["replace", "unlink"])
def test_a_training_goes_on_after_a_stop_between_the_renames(
    toys: Toys, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Before the record, and after it with 0 to 4 of the files in place: what is read is of one epoch throughout."""
    straight = train(toys.experiment("straight", LogFrequency=1), device="cpu")
    for number in range(1, 7 if operation == "replace" else 2):
        experiment = toys.experiment(f"{operation}{number}", LogFrequency=1, AdditionalSnapshots=[])
        calls = {"replace": 0, "unlink": 0}

        class Dying:
            def __getattr__(self, name: str, calls: dict[str, int] = calls, number: int = number) -> Any:
                def call(*arguments: Any) -> None:
                    calls[name] += name != "unlink" or str(arguments[0]).endswith(journal.RECORD)
                    # The first 5 replacements, and one removal of the record, are those of epoch 1's checkpoint.
                    if calls["replace"] >= 5 + number or (calls["unlink"] >= 2):
                        raise KeyboardInterrupt
                    getattr(os, name)(*arguments)

                return call if name == operation else getattr(os, name)

        with monkeypatch.context() as patch:
            patch.setattr(journal, "os", Dying())
            with pytest.raises(KeyboardInterrupt):
                train(experiment, device="cpu")
        # With the first replacement, which is the record's, epoch 2 counts.
        decided = 1 if (operation, number) == ("replace", 1) else 2
        assert load_decoder(experiment)[1] == load_codes(experiment)[1] == decided
        assert TrainingLogs.load(experiment.logs_path).epoch == decided
        train(experiment, device="cpu", resume="latest")
        content = whole_state(experiment)
        content[1]["training"]["settings"]["AdditionalSnapshots"] = [1]
        assert_same(content, whole_state(straight))


# Stopped


def test_a_stop_in_a_long_epoch_goes_back_to_its_beginning(toys: Toys) -> None:
    straight = train(toys.experiment("straight"), device="cpu")
    again = toys.experiment("again")
    long = TrainingOptions(grace=0.0)  # every epoch counts as long
    for epoch in (1, 4):  # in the first, and once the optimizer has moments
        steps: list[int] = []
        done: list[EpochReport] = []

        def stop(epoch: int = epoch, steps: list[int] = steps) -> bool:
            steps.append(1)
            return len(steps) > (epoch - 1) * 3 if epoch == 1 else len(steps) > 8

        resume = None if epoch == 1 else "latest"
        train(again, device="cpu", on_epoch=done.append, should_stop=stop, resume=resume, options=long)
        assert len(done) < 6
        assert read(again.model_path("latest"))["epoch"] == len(done)
    train(again, device="cpu", resume="latest")
    assert_same(whole_state(again), whole_state(straight))


def test_two_trainings_of_one_experiment(toys: Toys) -> None:
    experiment = toys.experiment(NumEpochs=2)
    refused: list[str] = []

    def second(report: EpochReport) -> None:
        with pytest.raises(InputError) as error:
            train(experiment, device="cpu", overwrite=True)
        refused.append(str(error.value))

    train(experiment, device="cpu", on_epoch=second)
    assert len(refused) == 2
    assert refused[0].startswith(f"another training works on {experiment.root}; wait until it ends, or stop it")
    assert read(experiment.model_path("latest"))["epoch"] == 2


def test_a_lock_left_behind_does_not_block(toys: Toys) -> None:
    experiment = toys.experiment(NumEpochs=1)
    experiment.lock_path.write_text("4711")
    train(experiment, device="cpu")
    assert experiment.checkpoints() == ["1", "latest"]


def test_a_file_system_without_locks_is_told(
    toys: Toys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def acquire(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    experiment = train(toys.experiment(NumEpochs=1), device="cpu")
    assert experiment.checkpoints() == ["1", "latest"]
    assert f"the file system of {experiment.root} does not support locks" in caplog.text


# A disk that is full or cannot be written


def test_a_full_disk(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = train(toys.experiment("straight", LogFrequency=1), device="cpu")
    experiment = toys.experiment(LogFrequency=1)
    written = []

    class Full:
        def __getattr__(self, name: str) -> Any:
            return write if name == "write" else getattr(os, name)

    def write(number: int, content: Any) -> int:
        written.append(len(content))
        if len(written) > 25:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(number, content)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "os", Full())
        told = r"epoch 4 cannot be written to .* \(No space left on device\). Checkpoints kept: 1, 3, latest; free some"
        with pytest.raises(TrainingError, match=told):
            train(experiment, device="cpu")
    assert read(experiment.model_path("latest"))["epoch"] == 3
    assert not list(experiment.root.rglob("*.new"))
    train(experiment, device="cpu", resume="latest")
    assert_same(whole_state(experiment), whole_state(straight))


def test_a_folder_that_cannot_be_written(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = train(toys.experiment(NumEpochs=3), device="cpu")
    before = whole_state(experiment)
    real = os.open

    def read_only(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with pytest.raises(InputError, match=r"experiment cannot be written: Read-only file system"):
            train(experiment, device="cpu", resume="latest")
    assert_same(whole_state(experiment), before)


# A loss that breaks

BREAKS = {"Type": "Step", "Initial": 1.0, "Interval": 4, "Factor": 1e38}
STEEP = {"NetworkSpecs": {"dims": [16, 16]}, "LearningRateSchedule": [BREAKS, BREAKS], "LogFrequency": 1}


def test_what_broke_is_named(toys: Toys) -> None:
    with pytest.raises(TrainingError) as error:
        train(toys.experiment(**STEEP), device="cpu")
    told = str(error.value)
    assert "is nan at epoch 4, step " in told
    assert told.count("toys/") == 2  # the batch's scenes
    assert "learning rates [1e+38, 1e+38]; lower them, set GradientClipNorm, or continue with --on-nan roll" in told
    assert told.endswith("Checkpoints kept: 1, 3, latest")


def test_the_scenes_of_the_broken_step_are_named(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Stepper.step

    def breaking(stepper: Stepper, plan: EpochPlan, index: int) -> StepResult:
        result = step(stepper, plan, index)
        return result._replace(loss=result.loss * torch.nan) if 2 in plan.batches[index] else result

    monkeypatch.setattr(Stepper, "step", breaking)
    with pytest.raises(TrainingError, match=rf"the loss is nan at epoch 1, step \d \(scenes {toys.shapes[2]}\)"):
        train(toys.experiment(ScenesPerBatch=1), device="cpu")


ROLLBACK = TrainingOptions(on_nan="rollback")


def too_steep(scale: float) -> dict[str, Any]:
    """The decoder's rate is fine until epoch 4, then so large that it needs halving some times."""
    steps = {"Type": "Step", "Initial": 1e-3, "Interval": 4, "Factor": scale}
    return {"NetworkSpecs": {"dims": [16, 16]}, "LearningRateSchedule": [steps, steps], "LogFrequency": 1}


def break_above(monkeypatch: pytest.MonkeyPatch, limit: float) -> None:
    """A step whose learning rate is above the limit breaks the weights."""
    step = Stepper.step

    def breaking(stepper: Stepper, plan: EpochPlan, index: int) -> StepResult:
        result, state = step(stepper, plan, index), stepper._state
        if state.adam.param_groups[0]["lr"] > limit:
            with torch.no_grad():
                state.decoder.get_parameter("lin0.bias").mul_(torch.nan)
                state.codes.weight.fill_(torch.inf)
        return result

    monkeypatch.setattr(Stepper, "step", breaking)


def test_rollback_halves_the_step_and_can_be_continued(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    break_above(monkeypatch, 0.03)
    straight = train(toys.experiment("straight", **too_steep(100.0)), device="cpu", options=ROLLBACK)
    logs = TrainingLogs.load(straight.logs_path)
    assert [rates[0] for rates in logs.learning_rate] == pytest.approx([1e-3] * 3 + [0.025] * 3)
    assert read(straight.optimizer_path("latest"))["training"]["halved"] == [4, 4]
    for value in read(straight.model_path("latest"))["model_state_dict"].values():
        assert torch.isfinite(value).all()
    assert len(logs.loss) == 18
    for epoch in (3, 5):  # before the rollback and after it
        again = toys.experiment(f"again{epoch}", **too_steep(100.0))
        train(again, device="cpu", options=ROLLBACK, **stop_at(epoch))
        assert read(again.model_path("latest"))["epoch"] == epoch
        train(again, device="cpu", options=ROLLBACK, resume="latest")
        assert_same(whole_state(again), whole_state(straight))


def test_rollback_does_what_half_the_step_would_have_done(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the broken epoch is left: weights, moments, codes and random numbers are those before it."""
    whole = train(toys.experiment("whole", **too_steep(25.0)), device="cpu")
    break_above(monkeypatch, 0.03)
    back = train(toys.experiment("back", **too_steep(100.0)), device="cpu", options=ROLLBACK)
    for part in (0, 2):
        assert_same(whole_state(back)[part], whole_state(whole)[part])


def test_rollback_in_the_first_epoch(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer has no moments yet to go back to."""
    calm = {"Type": "Constant", "Value": 0.02}
    steep = {"Type": "Constant", "Value": 0.04}
    whole = train(toys.experiment("whole", LearningRateSchedule=[calm, calm]), device="cpu")
    break_above(monkeypatch, 0.03)
    settings = {"LearningRateSchedule": [steep, steep]}
    back = train(toys.experiment("back", **settings), device="cpu", options=ROLLBACK)
    assert_same(whole_state(back)[0], whole_state(whole)[0])
    assert_same(whole_state(back)[2], whole_state(whole)[2])


def test_rollback_gives_up(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    break_above(monkeypatch, 0.0)
    with pytest.raises(TrainingError, match=r"is (nan|inf) at epoch 1, step 2 .*Checkpoints kept: none"):
        train(toys.experiment(), device="cpu", options=ROLLBACK)


def test_what_explodes() -> None:
    assert find_loss_fault([0.1, 0.2], 0.1) is None
    assert find_loss_fault([0.1, np.nan], np.nan).step == 2  # pyright: ignore[reportOptionalMemberAccess]
    fault = find_loss_fault([0.1, 0.11 * EXPLOSION_RATIO, np.inf], 0.1)
    assert fault is not None
    assert (fault.quantity, fault.step) == ("the loss", 2)
    assert find_loss_fault([5.0], 0.0) is None  # a first loss of 0 is no measure


# Continued with other settings or data


def continued(toys: Toys, force: bool = False, seed: int | None = None, **settings: Any) -> Experiment:
    experiment = toys.experiment(**settings)
    return train(experiment, device="cpu", resume="latest", options=TrainingOptions(force=force, seed=seed))


def test_harmless_changes_go_on(toys: Toys) -> None:
    straight = train(toys.experiment("straight", NumEpochs=9), device="cpu", options=TrainingOptions(seed=7))
    train(toys.experiment(), device="cpu", options=TrainingOptions(seed=7))
    moved = toys.root / "moved"
    toys.data.root.rename(moved)
    (toys.root / "copy.json").write_bytes(toys.split.read_bytes())
    experiment = continued(
        toys, NumEpochs=9, LogFrequency=4, SnapshotFrequency=100, Description="other", DataLoaderThreads=8,
        DataSource=str(moved), TrainSplit=str(toys.root / "copy.json"), TestSplit="t.json",
    )  # fmt: skip
    # The seed is the one that it began with.
    assert_same(whole_state(experiment)[0], whole_state(straight)[0])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ClampingDistance": 0.2}, "ClampingDistance was 0.1, is 0.2"),
        ({"CodeBound": None}, "CodeBound was 1.0, is null"),
        ({"Precision": "bfloat16"}, 'Precision was "float32", is "bfloat16"'),
        (
            {"LearningRateSchedule": [{"Type": "Step", "Initial": 0.008, "Interval": 2, "Factor": 0.5},
                                      {"Type": "Step", "Initial": 0.016, "Interval": 5, "Factor": 0.5}]},
            "LearningRateSchedule > 1 > Interval was 3, is 5",
        ),
        ({"ScenesPerBatch": 3, "SamplesPerScene": 64}, "SamplesPerScene was 32, is 64\n  ScenesPerBatch was 2, is 3"),
    ],
)  # fmt: skip
def test_other_changes_need_force(
    toys: Toys, settings: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = whole_state(train(toys.experiment(), device="cpu"))
    with pytest.raises(InputError) as error:
        continued(toys, NumEpochs=8, **settings)
    lines = str(error.value).split("\n  ", 1)
    assert lines[0].endswith("was trained with other settings or data; restore them or use --force:")
    assert lines[1] == told
    assert_same(whole_state(toys.experiment()), before)
    experiment = continued(toys, True, NumEpochs=8, **settings)
    assert read(experiment.model_path("latest"))["epoch"] == 8
    assert "continuing with changes: " + told.split("\n")[0] in caplog.text
    continued(toys, NumEpochs=9, **settings)  # they are now what it is trained with


def test_another_seed_needs_force(toys: Toys) -> None:
    train(toys.experiment(), device="cpu", options=TrainingOptions(seed=3))
    with pytest.raises(InputError, match="Seed was 3, is 4"):
        continued(toys, NumEpochs=8, seed=4)
    continued(toys, NumEpochs=8, seed=3)


def test_other_data_need_force(toys: Toys) -> None:
    train(toys.experiment(), device="cpu")
    changed, lost = toys.shapes[1], toys.shapes[4]
    samples = toys.data.load_samples(changed)
    SDFSamples(samples.pos[::-1].copy(), samples.neg).save(toys.data.samples_path(changed))
    kept = toys.data.samples_path(lost).read_bytes()
    toys.data.samples_path(lost).unlink()
    with pytest.raises(InputError, match=rf"samples of {changed} changed\n  samples of {lost} are no longer usable"):
        continued(toys, NumEpochs=8)
    continued(toys, True, NumEpochs=7)
    toys.data.samples_path(lost).write_bytes(kept)
    with pytest.raises(InputError, match=rf"samples of {lost} were not usable then"):
        continued(toys, NumEpochs=8)
    # Row k of the codes is the k-th shape's: another order of as many shapes is another training.
    write_split(toys.split, [*toys.shapes[3:], *toys.shapes[:3]])
    with pytest.raises(InputError, match=rf"another order: {toys.shapes[3]} instead of {toys.shapes[0]}"):
        continued(toys, NumEpochs=8)


def test_a_checkpoint_of_the_originals_says_nothing_of_its_settings(toys: Toys) -> None:
    experiment = train(toys.experiment(), device="cpu")
    content = read(experiment.optimizer_path("latest"))
    del content["training"]
    torch.save(content, experiment.optimizer_path("latest"))
    continued(toys, NumEpochs=8, ClampingDistance=0.2)


@pytest.mark.parametrize("record", [3, {}, {"settings": 1, "seed": 0, "data": {}, "halved": []}])
def test_what_is_no_record(toys: Toys, record: Any) -> None:
    experiment = train(toys.experiment(), device="cpu")
    content = read(experiment.optimizer_path("latest"))
    torch.save({**content, "training": record}, experiment.optimizer_path("latest"))
    with pytest.raises(InputError, match=r"latest.pth: the value of 'training' is not the record of a training"):
        continued(toys, NumEpochs=8)


def test_a_record_of_an_older_version_knows_fewer_settings(toys: Toys) -> None:
    specs = toys.experiment().specs
    older, now = (TrainingRecord.create(specs, 0, {}) for _ in range(2))
    del older.settings["Precision"]
    assert older.changes(now) == []
    now.settings["Precision"] = "bfloat16"
    assert older.changes(now) == ['Precision was "float32", is "bfloat16"']


def test_more_epochs_than_the_learning_rate_lasts_for(toys: Toys, caplog: pytest.LogCaptureFixture) -> None:
    cosine = {"Type": "Cosine", "Initial": 0.01, "Length": 7}
    train(toys.experiment(LearningRateSchedule=[cosine, cosine]), device="cpu")
    continued(toys, NumEpochs=8, LearningRateSchedule=[cosine, cosine])
    assert "a learning rate is 0 from" not in caplog.text
    continued(toys, NumEpochs=9, LearningRateSchedule=[cosine, cosine])
    assert "a learning rate is 0 from epoch 7 on, but NumEpochs is 9; extend LearningRateSchedule" in caplog.text


def test_a_snapshot_of_another_history(toys: Toys) -> None:
    experiment = train(toys.experiment(), device="cpu")
    train(experiment, device="cpu", resume=1, **stop_at(4))
    with pytest.raises(InputError, match=r"Logs.pth ends at epoch 4, before the checkpoint of epoch 6"):
        train(experiment, device="cpu", resume=6)
