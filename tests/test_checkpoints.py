"""The .pth files: all forms in use, broken ones, and ones that would run code."""

from __future__ import annotations

import io
import os
import pickle
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Toys, assert_same

from deepsdf.checkpoints import (
    codes_content,
    load_code,
    load_codes,
    load_decoder,
    model_content,
    read_pth,
    resolve_epoch,
    save_code,
    write_pth,
)
from deepsdf.errors import InputError
from deepsdf.inference.space import ShapeSpace
from deepsdf.network.decoder import Decoder
from deepsdf.network.networks import build_decoder
from deepsdf.training.checkpoint import TrainingState
from deepsdf.training.logs import TrainingLogs
from deepsdf.workspace import Experiment

CODES = torch.arange(24.0).reshape(6, 4) / 10


@pytest.fixture
def experiment(toys: Toys) -> Experiment:
    """With a checkpoint "latest" of epoch 6, and "3" of epoch 3."""
    experiment = toys.experiment()
    for name, epoch in (("latest", 6), ("3", 3)):
        write_pth(
            {
                experiment.model_path(name): model_content(decoder_of(experiment), epoch),
                experiment.codes_path(name): codes_content(CODES + epoch, epoch),
            }
        )
    return experiment


def decoder_of(experiment: Experiment) -> Decoder:
    torch.manual_seed(0)
    return build_decoder(experiment.specs.network_arch, experiment.specs.code_length, experiment.specs.network_specs)


def test_what_is_written_is_read(experiment: Experiment) -> None:
    decoder, epoch = load_decoder(experiment)
    assert epoch == 6
    assert not decoder.training
    assert_same(decoder.state_dict(), decoder_of(experiment).state_dict())
    assert load_decoder(experiment, 3)[1] == resolve_epoch(experiment, "3") == 3
    codes, epoch = load_codes(experiment, "3")
    assert epoch == 3
    assert torch.equal(codes, CODES + 3)
    assert resolve_epoch(experiment, "latest") == 6


def test_a_model_file_has_the_originals_names(experiment: Experiment) -> None:
    content = torch.load(experiment.model_path("latest"), weights_only=True)
    assert list(content) == ["epoch", "model_state_dict"]
    assert list(content["model_state_dict"])[:4] == [
        "module.lin0.bias", "module.lin0.weight_g", "module.lin0.weight_v", "module.lin1.bias"
    ]  # fmt: skip
    content = torch.load(experiment.codes_path("latest"), weights_only=True)
    assert list(content) == ["epoch", "latent_codes"]
    assert list(content["latent_codes"]) == ["weight"]


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("new_names", [False, True])
@pytest.mark.parametrize("zip_file", [False, True])
def test_every_form_of_a_model(experiment: Experiment, prefix: str, new_names: bool, zip_file: bool) -> None:
    decoder = decoder_of(experiment)
    weights = {}
    for name, value in decoder.state_dict().items():
        if new_names:
            name = name.replace("weight_g", "parametrizations.weight.original0")
            name = name.replace("weight_v", "parametrizations.weight.original1")
        weights[prefix + name] = value
    torch.save(
        {"epoch": 9, "model_state_dict": weights},
        experiment.model_path(9),
        _use_new_zipfile_serialization=zip_file,
    )
    found, epoch = load_decoder(experiment, 9)
    assert epoch == 9
    assert_same(found.state_dict(), decoder.state_dict())


@pytest.mark.parametrize(
    "held", [{"weight": CODES}, {"weight": CODES.double()}, {"weight": CODES.reshape(6, 1, 4)}, CODES.reshape(6, 1, 4)]
)
def test_every_form_of_codes(experiment: Experiment, held: Any) -> None:
    torch.save({"epoch": 9, "latent_codes": held}, experiment.codes_path(9))
    codes, epoch = load_codes(experiment, 9)
    assert epoch == 9
    assert codes.dtype == torch.float32
    assert torch.equal(codes, CODES)


def test_a_missing_checkpoint_names_those_there_are(toys: Toys, experiment: Experiment) -> None:
    for read in (load_decoder, resolve_epoch, ShapeSpace.load):
        with pytest.raises(InputError, match=r"experiment has no checkpoint '7'; existing checkpoints: 3, latest"):
            read(experiment, 7)
    with pytest.raises(InputError, match=r"there is no file of training codes at .*LatentCodes/7.pth; .*3, latest"):
        load_codes(experiment, 7)
    empty = toys.experiment("empty")
    with pytest.raises(InputError, match=r"there are none; `deepsdf train -e .*empty` writes them"):
        load_decoder(empty)


def test_codes_of_another_length(experiment: Experiment) -> None:
    torch.save({"epoch": 9, "latent_codes": {"weight": torch.zeros(6, 5)}}, experiment.codes_path(9))
    with pytest.raises(InputError, match=r"9.pth holds codes of length 5; CodeLength in specs.json is 4"):
        load_codes(experiment, 9)


@pytest.mark.parametrize(
    "content",
    [
        {}, [], 3, CODES, {"epoch": 1}, {"epoch": 1, "latent_codes": 3}, {"epoch": 1, "latent_codes": {}},
        {"latent_codes": {"weight": CODES}}, {"epoch": 1, "latent_codes": {"weight": "x"}},
        {"epoch": 1, "latent_codes": {"weight": torch.tensor(1.0)}}, {"epoch": 1, "latent_codes": torch.zeros(4)},
    ],
)  # fmt: skip
def test_what_is_no_file_of_codes(experiment: Experiment, content: Any) -> None:
    torch.save(content, experiment.codes_path(9))
    with pytest.raises(InputError, match=r"9.pth is not a file of training codes: expected keys 'epoch'"):
        load_codes(experiment, 9)


@pytest.mark.parametrize(
    "content",
    [{}, [], 3, CODES, {"epoch": 1}, {"model_state_dict": {}}, {"epoch": 1, "model_state_dict": [1]},
     {"epoch": 1, "model_state_dict": {"lin0.bias": 3}}, {"epoch": "../..", "model_state_dict": {}}],
)  # fmt: skip
def test_what_is_no_model_checkpoint(experiment: Experiment, content: Any) -> None:
    torch.save(content, experiment.model_path(9))
    with pytest.raises(InputError, match=r"9.pth is not a model checkpoint: expected keys 'epoch'"):
        load_decoder(experiment, 9)


def test_another_architecture_says_which_file(experiment: Experiment) -> None:
    other = build_decoder("deep_sdf_decoder", 4, {"dims": [8]})
    write_pth({experiment.model_path(9): model_content(other, 9)})
    with pytest.raises(InputError, match=r"ModelParameters/9.pth has another architecture than specs.json"):
        load_decoder(experiment, 9)


def test_a_space_of_two_epochs_is_refused(experiment: Experiment) -> None:
    write_pth({experiment.codes_path("latest"): codes_content(CODES, 5)})
    with pytest.raises(InputError, match=r"the checkpoint 'latest' of .* has a model of epoch 6, but codes of epoch 5"):
        ShapeSpace.load(experiment, device="cpu")


def test_one_code_goes_there_and_back(tmp_path: Path) -> None:
    save_code(tmp_path / "new" / "c.pth", CODES[1].double())
    assert torch.load(tmp_path / "new" / "c.pth", weights_only=True).shape == (1, 1, 4)
    assert torch.equal(load_code(tmp_path / "new" / "c.pth", 4), CODES[1])
    with pytest.raises(InputError, match=r"holds a tensor of shape \(1, 1, 4\); expected a code of length 5 with"):
        load_code(tmp_path / "new" / "c.pth", 5)
    torch.save({"code": 1}, tmp_path / "d.pth")
    with pytest.raises(InputError, match=r"holds dict; expected a code of length L"):
        load_code(tmp_path / "d.pth")
    with pytest.raises(InputError, match=r"there is no code at .*e.pth; create it again with `deepsdf reconstruct`"):
        load_code(tmp_path / "e.pth")


class Burglar:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.trace),)


def save_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def save_old(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_plain(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.filterwarnings("ignore")  # torch warns of the form of a plain pickle; the refusal is what counts
@pytest.mark.parametrize("save", [save_zip, save_old, save_plain])
def test_a_file_never_runs_code(experiment: Experiment, tmp_path: Path, save: Callable[[object, Path], None]) -> None:
    trace = tmp_path / "trace"
    evil = Burglar(trace)
    parts = (experiment.model_path, experiment.codes_path, experiment.optimizer_path)
    for path in (*(part(9) for part in parts), experiment.logs_path):
        path.parent.mkdir(exist_ok=True)
        save({"epoch": 6, "model_state_dict": evil, "latent_codes": evil, "optimizer_state_dict": evil}, path)
    code = tmp_path / "code.pth"
    save(evil, code)
    refused = "it is truncated or has another format"
    for read in (
        lambda: load_decoder(experiment, 9),
        lambda: load_codes(experiment, 9),
        lambda: ShapeSpace.load(experiment, 9, device="cpu"),
        lambda: TrainingLogs.load(experiment.logs_path),
        lambda: load_code(code),
    ):
        with pytest.raises(InputError, match=refused) as told:
            read()
        assert "weights_only" not in str(told.value)  # torch's advice to trust the file is not ours
    for good in (experiment.model_path, experiment.codes_path):
        good(9).write_bytes(good(3).read_bytes())
    state = TrainingState.create(experiment.specs, 6, 0, torch.device("cpu"))
    with pytest.raises(InputError, match=refused):
        state.restore(experiment, "9")
    assert not trace.exists()
    unsafe = pickle.loads if save is save_plain else lambda content: torch.load(io.BytesIO(content), weights_only=False)
    unsafe(code.read_bytes())
    assert trace.exists()  # the trap works


@pytest.mark.filterwarnings("ignore")
def test_a_file_cut_short_or_damaged_anywhere(tmp_path: Path) -> None:
    """Whatever is wrong with a file, the error is ours; none passes as whole when it is cut."""
    path = tmp_path / "a.pth"
    torch.save({"epoch": 3, "latent_codes": {"weight": CODES}}, path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 13):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"a.pth is not a checkpoint: it is truncated or .*; take another"):
            read_pth(path, "a checkpoint", "take another")
    rng = random.Random(0)
    for old in (False, True):
        torch.save({"epoch": 3, "latent_codes": {"weight": CODES}}, path, _use_new_zipfile_serialization=not old)
        whole = path.read_bytes()
        for _ in range(200):
            damaged = bytearray(whole)
            for _ in range(rng.choice([1, 4])):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            path.write_bytes(damaged)
            with suppress(InputError):  # or it is read: a number in it may have changed
                read_pth(path, "a checkpoint", "take another")


def test_files_that_belong_together_are_replaced_together(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "x.pth", tmp_path / "b" / "x.pth"
    write_pth({first: 1, second: 1})
    unwritable = (line for line in "ab")
    with pytest.raises(TypeError):
        write_pth({first: 2, second: unwritable})
    assert [torch.load(path, weights_only=True) for path in (first, second)] == [1, 1]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == [first, second]
