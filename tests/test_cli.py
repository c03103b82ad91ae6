"""The command line: what is typed, printed, logged and refused."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from helpers import TEST, TRAIN, World, few_samples, is_picture, run

from deepsdf import __version__
from deepsdf.cli import VERBS, main
from deepsdf.inference.space import ShapeSpace
from deepsdf.splits import ShapeName, read_split, write_split

pytest_plugins = ("helpers",)

TALL, WIDE = TEST
RECONSTRUCT = ("reconstruct", "-e", "exp", "-d", "data", "-s", "test.json", "--resolution", 16, "--iters", 1)
EVALUATE = ("evaluate", "-e", "exp", "-d", "data", "-s", "test.json", "--points", 1000, "--no-picture")
PREPROCESS = ("preprocess", "-d", "data", "-s", "meshes", "-n", "toys", "--threads", 1)
PREPROCESS_TEST = (*PREPROCESS, "--split", "test.json")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)


# What may be typed


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb: str) -> None:
    shown = run(verb, "--help").stdout
    assert shown.startswith(f"Usage: main {verb} [OPTIONS]")
    assert run(verb, "-h").stdout == shown
    for option in ("--debug", "-q, --quiet", "--log FILE"):
        assert option in shown
    for parameter in main.get_command(None, verb).params:  # pyright: ignore[reportArgumentType, reportOptionalMemberAccess]
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert max(parameter.opts, key=len) in shown


def test_help_and_version() -> None:
    shown = run("--help").stdout
    for verb in VERBS:
        assert re.search(rf"^  {verb} +[A-Z]", shown, re.MULTILINE), verb
    told = " ".join(shown.split())
    status = "0 success, 1 some shapes failed (they are listed), 2 invalid input, 130 interrupted by Ctrl-C."
    assert f"Exit status: {status}" in told
    assert run("--version").stdout == f"deepsdf, version {__version__}\n"


def test_the_package_runs_as_a_module() -> None:
    """As torchrun starts it."""
    done = subprocess.run([sys.executable, "-m", "deepsdf", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"deepsdf, version {__version__}\n"


ORIGINALS = {
    "preprocess": ["--data_dir", "-d", "--source", "-s", "--name", "-n", "--split", "--skip", "--threads", "--test",
                   "-t", "--surface"],
    "train": ["--experiment", "-e", "--continue", "-c", "--batch_split"],
    "plot": ["--experiment", "-e", "--type", "-t"],
    "reconstruct": ["-e", "--checkpoint", "-c", "--data", "-d", "--split", "-s", "--iters", "--skip"],
    "mesh": ["-e", "-c", "--keep_normalization"],
    "evaluate": ["-e", "-c", "-d", "-s"],
}  # fmt: skip


@pytest.mark.parametrize("verb", ORIGINALS)
def test_the_originals_flags_are_known(verb: str) -> None:
    command = main.get_command(None, verb)  # pyright: ignore[reportArgumentType]
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    for flag in [*ORIGINALS[verb], "--debug", "--quiet", "-q", "--log"]:
        assert flag.replace("_", "-") in known


def test_underscores_are_hyphens(world: World) -> None:
    run("preprocess", "--data_dir", "other", "-s", "meshes", "-n", "toys", "--split", "test.json", "--threads", 1)
    assert (world.root / "other/SdfSamples/toys/egg/wide.npz").is_file()
    run("train", "-e", "exp", "--continue", "100", "--batch_split", 2)
    run("mesh", "-e", "exp", "--keep_normalization", "--resolution", 16)
    run("plot", "-e", "exp", "-t", "lat_mag")
    run("plot", "-e", "exp", "--type", "learning_rate")
    run("view_samples", "data/SdfSamples/toys/egg/wide.npz", "--size", 64)
    assert is_picture(world.root / "data/SdfSamples/toys/egg/wide.png")


def test_values_keep_their_underscores(world: World) -> None:
    (world.root / "my_meshes").symlink_to(world.root / "meshes")
    run("split", "-s", "my_meshes", "-o", "some_splits", "-n", "a_b")
    assert sorted(path.name for path in (world.root / "some_splits").iterdir()) == ["a_b_test.json", "a_b_train.json"]


# What is printed


def test_split_says_what_it_wrote_and_what_is_next(world: World) -> None:
    result = run("split", "-s", "meshes", "-o", "splits", "--test", "2", "--name", "toys")
    assert result.stdout == (
        "Wrote splits/toys_train.json: 4 shapes of 2 classes\n"
        "Wrote splits/toys_test.json: 2 shapes of 2 classes\n"
        "Next: deepsdf preprocess -s meshes -n toys -d data --split splits/toys_train.json\n"
        "Next: deepsdf preprocess -s meshes -n toys -d data --split splits/toys_test.json\n"
        "Next: deepsdf preprocess -s meshes -n toys -d data --split splits/toys_test.json --surface\n"
    )
    train, test = (read_split(f"splits/toys_{kind}.json") for kind in ("train", "test"))
    assert sorted(train + test) == sorted(TRAIN + TEST)
    assert {shape.category for shape in test} == {"box", "egg"}
    run("split", "-s", "meshes", "-o", "splits", "--class", "egg", "--test", "1", "-n", "toys")
    assert {shape.category for shape in read_split("splits/toys_egg_train.json")} == {"egg"}
    result = run("split", "-s", "meshes", "-o", "all", "--test", "6", "-n", "toys")
    assert "toys_train.json" not in result.stdout
    assert [path.name for path in (world.root / "all").iterdir()] == ["toys_test.json"]
    result = run("split", "-s", "meshes", "-o", "splits", "--class", "sofa", status=2)
    assert "error: meshes has no class sofa; it has box, egg" in result.stderr


VERBS_AT_WORK = {
    "preprocess": PREPROCESS_TEST,
    "train": ("train", "-e", "exp", "-c", "latest"),
    "plot": ("plot", "-e", "exp"),
    "reconstruct": RECONSTRUCT,
    "mesh": ("mesh", "-e", "exp", "--resolution", 16),
    "evaluate": EVALUATE,
    "interpolate": ("interpolate", "-e", "exp", "cube", "flat", "--steps", 2, "--resolution", 16),
    "sample": ("sample", "-e", "exp", "-n", 1, "--resolution", 16),
    "view-samples": ("view-samples", "data/SdfSamples/toys/egg/wide.npz", "--size", 64),
    "split": ("split", "-s", "meshes"),
}


@pytest.mark.parametrize("verb", VERBS_AT_WORK)
def test_quiet_says_nothing_and_otherwise_something(reconstructed: World, verb: str) -> None:
    typed = VERBS_AT_WORK[verb]
    result = run(*typed, "--quiet")
    assert (result.stdout, result.stderr) == ("", "")
    assert run(*typed).stdout.strip()
    assert reconstructed.root.is_dir()


def test_quiet_still_says_what_went_wrong(world: World) -> None:
    write_split("test.json", [TALL, ShapeName("toys", "egg", "absent")])
    result = run(*PREPROCESS_TEST, "-q", status=1)
    assert result.stdout == ""
    assert result.stderr.startswith("error: toys/egg/absent: there is no mesh of toys/egg/absent in meshes")
    assert world.data.samples_path(TALL).is_file()


def test_log_file_gets_the_messages(world: World) -> None:
    world.specs(Frobnicate=1)
    write_split("test.json", [TALL, ShapeName("toys", "egg", "absent")])
    run(*RECONSTRUCT, "--log", "logs/run.txt", status=1)
    logged = (world.root / "logs/run.txt").read_text()
    assert re.search(r"^\S+ \S+ WARNING deepsdf\.specs: exp/specs\.json: unknown key 'Frobnicate' is ignored", logged)
    assert re.search(r"^\S+ \S+ ERROR deepsdf: toys/egg/absent: data/SdfSamples/", logged, re.MULTILINE)
    run(*RECONSTRUCT, "--log", "logs/run.txt", "--quiet", status=1)
    assert (world.root / "logs/run.txt").read_text().startswith(logged)  # it goes on where it was


def test_a_log_that_cannot_be_written(world: World) -> None:
    result = run("plot", "-e", "exp", "--log", "data", status=2)
    assert "Invalid value for --log: data cannot be written: Is a directory" in " ".join(result.stderr.split())
    assert not (world.root / "exp/Plots").exists()


def test_debug_shows_the_traceback(world: World) -> None:
    result = run("plot", "-e", "none", "--debug", status=2)
    assert "Traceback" in result.stderr
    assert "InputError: there is no experiment folder none" in result.stderr
    assert "Traceback" not in run("plot", "-e", "none", status=2).stderr
    assert world.root.is_dir()


def test_a_verb_leaves_the_library_as_silent_as_before(world: World) -> None:
    import logging

    logger = logging.getLogger("deepsdf")
    before = (logger.level, list(logger.handlers))
    run("plot", "-e", "none", "-q", "--log", "a.txt", status=2)
    run("plot", "-e", "exp")
    assert (logger.level, list(logger.handlers)) == before
    assert world.root.is_dir()


def test_names_in_brackets_are_printed_as_they_are(world: World) -> None:
    """They are no markup."""
    (world.root / "[bold]exp[red]").mkdir()
    result = run("plot", "-e", "[bold]exp[red]", status=2)
    assert result.stderr == "error: [bold]exp[red] is not an experiment: it has no specs.json\n"


# What is refused


def spoil_samples(world: World) -> None:
    for shape in TRAIN:
        path = world.data.samples_path(shape)
        path.write_bytes(path.read_bytes()[:1000])


def truncate(path: str) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        content = (world.root / path).read_bytes()
        (world.root / path).write_bytes(content[: len(content) // 2])

    return spoil


def settings(**changes: object) -> Callable[[World], None]:
    return lambda world: world.specs(**changes)


def names_in_split(*names: str) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        (world.root / "test.json").write_text(json.dumps({names[0]: {names[1]: [names[2]]}}))

    return spoil


def text_of(path: str, text: str) -> Callable[[World], None]:
    return lambda world: (world.root / path).write_text(text) and None  # pyright: ignore[reportReturnType]


def nothing(world: World) -> None:
    pass


SAMPLE = "data/SdfSamples/toys/egg/wide.npz"

REFUSED: dict[str, tuple[Callable[[World], None], tuple[object, ...], str]] = {
    "no experiment": (nothing, ("train", "-e", "none"), "there is no experiment folder none; create it, with a specs"),
    "no specs": (nothing, ("train", "-e", "data"), "data is not an experiment: it has no specs.json"),
    "no data source": (nothing, (*RECONSTRUCT[:3], "-d", "none", "-s", "test.json"),
                       "there is no data source at none; create one with `deepsdf preprocess -d none ...`"),
    "no split": (nothing, (*RECONSTRUCT[:5], "-s", "none.json"), "split file at none.json"),
    "a split that is a folder": (nothing, (*RECONSTRUCT[:5], "-s", "data"), "data is a folder; expected a split file"),
    "no meshes": (nothing, ("preprocess", "-d", "data", "-s", "none", "--split", "test.json"),
                  "there is no folder of meshes at none"),
    "no sources to split": (nothing, ("split", "-s", "none"), "there is no folder of meshes at none"),
    "shapes not there": (names_in_split("toys", "egg", "absent"), PREPROCESS_TEST,
                         ("none of the 1 shapes of test.json has a mesh in meshes; "
                          "first: there is no mesh of toys/egg/absent")),
    "dataset not there": (nothing, ("preprocess", "-d", "data", "-s", "meshes", "--split", "test.json"),
                          "test.json has no dataset 'meshes', only toys; choose one with --name"),
    "samples not there": (names_in_split("toys", "egg", "absent"), RECONSTRUCT,
                          ("none of the 1 shapes of test.json has samples in data; "
                           "first: data/SdfSamples/toys/egg/absent.npz")),
    "path in a split": (names_in_split("toys", "..", "wide"), RECONSTRUCT,
                        "test.json: the name '..' would leave its folder; names must not contain '/'"),
    "slash in a split": (names_in_split("toys", "egg", "../../../../etc/passwd"), PREPROCESS_TEST,
                         "the name '../../../../etc/passwd' would leave its folder"),
    "absolute in a split": (names_in_split("/toys", "egg", "wide"), EVALUATE, "the name '/toys' would leave"),
    "empty name": (names_in_split("toys", "egg", ""), EVALUATE, "test.json: '' is not a name"),
    "a list for a split": (text_of("test.json", "[1]"), RECONSTRUCT, 'expected {"dataset": {"class": ["instance"'),
    "no JSON": (text_of("test.json", "{'a'"), RECONSTRUCT, "test.json is not a split file: it is not valid JSON"),
    "an empty split": (text_of("test.json", "{}"), RECONSTRUCT, "test.json contains no shapes; expected"),
    "truncated .npz": (truncate(SAMPLE), ("view-samples", SAMPLE),
                       ("expected an .npz with float arrays pos (n, 4) and neg (m, 4), rows x y z sdf; "
                        "`deepsdf preprocess` makes it again")),
    "no .npz": (nothing, ("view-samples", "none.npz"), "none.npz: no such file; expected an .npz"),
    "no .npz inside": (text_of(SAMPLE, "no"), ("view-samples", SAMPLE), f"{SAMPLE}: "),
    "all samples truncated": (spoil_samples, ("train", "-e", "exp", "--overwrite"),
                              "none of the 4 shapes of the split has samples in data; run `deepsdf preprocess`"),
    "truncated model": (truncate("exp/ModelParameters/latest.pth"), RECONSTRUCT,
                        "exp/ModelParameters/latest.pth is not a model checkpoint: it is truncated or"),
    "truncated codes": (truncate("exp/LatentCodes/latest.pth"), RECONSTRUCT,
                        "exp/LatentCodes/latest.pth is not a file of training codes: it is truncated"),
    "truncated optimizer": (truncate("exp/OptimizerParameters/latest.pth"), ("train", "-e", "exp", "-c", "latest"),
                            "exp/OptimizerParameters/latest.pth is not an optimizer checkpoint: it is truncated"),
    "truncated logs": (truncate("exp/Logs.pth"), ("plot", "-e", "exp"), "exp/Logs.pth is not a training log"),
    "key missing": (settings(CodeLength=None), ("train", "-e", "exp"), "the key 'CodeLength' is missing"),
    "ill-typed": (settings(NumEpochs="many"), ("train", "-e", "exp"), "NumEpochs is 'many': input should be a valid"),
    "misspelt": (settings(CodeLenght=4, CodeLength=None), ("train", "-e", "exp"),
                 "unknown key 'CodeLenght'; did you mean 'CodeLength'?"),
    "misspelt inside": (settings(NetworkSpecs={"dims": [32] * 3, "latentin": [2]}), RECONSTRUCT,
                        "NetworkSpecs: unknown key 'latentin'; did you mean 'latent_in'?"),
    "unknown network": (settings(NetworkArch="nerf"), RECONSTRUCT, "NetworkArch is 'nerf'; expected one of deep"),
    "no schedule": (settings(LearningRateSchedule=[]), ("train", "-e", "exp"), "LearningRateSchedule"),
    "specs no JSON": (text_of("exp/specs.json", "{"), ("train", "-e", "exp"), "exp/specs.json is not a settings file"),
    "other architecture": (settings(NetworkSpecs={"dims": [48] * 3, "latent_in": [2]}), RECONSTRUCT,
                           "exp/ModelParameters/latest.pth has another architecture than specs.json: "),
    "other code length": (settings(CodeLength=6), RECONSTRUCT, "another architecture than specs.json: "),
    "no such checkpoint": (nothing, (*RECONSTRUCT, "-c", "150"),
                           "exp has no checkpoint '150'; existing checkpoints: 100, 200, latest"),
    "one of two experiments": (nothing, (*EVALUATE, "-e", "none"), "there is no experiment folder none; create it"),
    "one of two checkpoints": (nothing, (*EVALUATE, "-c", "latest", "-c", "7"), "exp has no checkpoint '7'; existing"),
    "checkpoint elsewhere": (nothing, (*RECONSTRUCT, "-c", "../../secret"), "'../../secret' would leave its folder"),
    "resume from nothing": (nothing, ("train", "-e", "exp", "-c", "7"), "exp has no checkpoint '7'; existing"),
    "trained already": (nothing, ("train", "-e", "exp"),
                        ("exp already holds a training (checkpoints 100, 200, latest); "
                         "continue it with --continue latest, or start again with --overwrite")),
    "unknown device": (nothing, (*RECONSTRUCT, "--device", "tpu"), "device 'tpu' is not available; expected auto, cpu"),
    "device of training": (nothing, ("train", "-e", "exp", "--overwrite", "--device", "cuda:77"),
                           "device 'cuda:77' is not available; expected auto, cpu"),
    "device of preprocessing": (nothing, (*PREPROCESS_TEST, "--device", "tpu"),
                                "device 'tpu' is not available"),
    "no such name": (nothing, ("interpolate", "-e", "exp", "cube", "sofa"), "no shape 'sofa' has a code in exp"),
    "no such code": (nothing, ("interpolate", "-e", "exp", "cube", "none.pth"), "none.pth; create it again with"),
    "not a code": (nothing, ("interpolate", "-e", "exp", "cube", "exp/Logs.pth"),
                   "exp/Logs.pth holds dict; expected a code of length 4 with shape (1, 1, L)"),
    "name with a path": (nothing, ("split", "-s", "meshes", "-n", "../x"), "--name: the name '../x' would leave"),
    "too many to test": (nothing, ("split", "-s", "meshes", "--test", "70"), "but there are 6 shapes"),
    "no number": (nothing, ("split", "-s", "meshes", "--test", "some"), "expected a count such as 12, or a fraction"),
    "registry taken": (text_of("data/.datasources.json", '{"toys": "/elsewhere"}'), PREPROCESS_TEST,
                       "the dataset 'toys' of data was made from /elsewhere, not from "),
    "registry broken": (text_of("data/.datasources.json", "{"), PREPROCESS_TEST,
                        "data/.datasources.json is not a data source registry"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_a_message_and_nothing_lost(world: World, what: str) -> None:
    spoil, typed, message = REFUSED[what]
    spoil(world)
    before = world.hashes()
    result = run(*typed, status=2)
    assert message in result.stderr
    assert re.search("^error: ", result.stderr, re.MULTILINE)
    if what != "samples not there":  # that is known only once the shapes are looked at
        assert result.stderr.startswith("error: ")  # no bar before it
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert world.hashes() == before


def test_codes_of_another_length(world: World) -> None:
    """A decoder that fits, codes that do not."""
    path = world.experiment.codes_path("latest")
    content = torch.load(path, weights_only=True)
    content["latent_codes"]["weight"] = torch.zeros(4, 9)
    torch.save(content, path)
    before = world.hashes()
    assert (
        "exp/LatentCodes/latest.pth holds codes of length 9; CodeLength in specs.json is 4"
        in run(*RECONSTRUCT, status=2).stderr
    )
    assert world.hashes() == before


def test_wrong_options_are_clicks_own(world: World) -> None:
    for typed in (("fly",), ("train",), ("plot", "-e", "exp", "-t", "x"), ("mesh", "-e", "exp", "--resolution", 2),
                  (*EVALUATE, "--metrics", "emd"), (*PREPROCESS_TEST, "--sign", "guess"),
                  (*PREPROCESS_TEST, "--thicken", 0.5)):  # fmt: skip
        result = run(*typed, status=2)
        assert "Usage: " in result.stderr
    assert world.root.is_dir()


def test_some_failed(world: World) -> None:
    """Exit status 1, the failed ones listed, the others done."""
    absent = [ShapeName("toys", "egg", f"absent{number:02d}") for number in range(25)]
    write_split("test.json", [*absent, WIDE])
    result = run(*PREPROCESS_TEST, status=1)
    assert "Wrote 1 shape to data/SdfSamples, 25 failed" in result.stdout
    for number in range(20):
        assert f"error: toys/egg/absent{number:02d}: there is no mesh of" in result.stderr
    assert "absent20" not in result.stderr
    assert "error: ... and 5 more" in result.stderr


def test_training_without_a_shape(world: World) -> None:
    world.specs(NumEpochs=2, ScenesPerBatch=3)
    truncate("data/SdfSamples/toys/box/cube.npz")(world)
    result = run("train", "-e", "exp", "--overwrite", status=1)
    assert "Trained to epoch 2" in result.stdout
    assert "error: toys/box/cube: data/SdfSamples/toys/box/cube.npz: " in result.stderr
    assert "`deepsdf preprocess` makes it again" in result.stderr


def test_training_continues(world: World) -> None:
    result = run("train", "-e", "exp", "-c", "latest")
    assert "Nothing to do: the checkpoint has reached NumEpochs (200)" in result.stdout
    world.specs(NumEpochs=210)
    result = run("train", "-e", "exp", "-c", "latest")
    assert "Trained to epoch 210, loss 0.0" in result.stdout
    assert "Next: deepsdf reconstruct -e exp -d data -s test.json" in result.stdout
    assert torch.load("exp/ModelParameters/latest.pth", weights_only=True)["epoch"] == 210
    assert world.experiment.checkpoints() == ["100", "200", "latest"]


def test_samples_beyond_memory_are_mapped(world: World) -> None:
    world.specs(NumEpochs=2)
    run("train", "-e", "exp", "--overwrite", "--memory", 1)
    assert not Path("data/.packed").exists()
    run("train", "-e", "exp", "--overwrite", "--memory", 1e-6)
    samples = sum(len(world.data.load_samples(shape)) for shape in read_split("train.json"))
    assert [path.stat().st_size for path in Path("data/.packed").glob("*.rows")] == [16 * samples]


def test_variants_to_learn_from(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    meshes = ("preprocess", "-s", "meshes", "-n", "toys", "-d", "varied", "--threads", 1, "--no-pictures")
    result = run(*meshes, "--split", "train.json", "--variants", 2)
    assert world.root.is_dir()
    assert f"Wrote {3 * len(TRAIN)} shapes to varied/SdfSamples, 0 failed" in result.stdout
    assert "Wrote train_varied.json: the shapes and their variants, for training" in result.stdout
    assert "Next: deepsdf train -e EXP --preset fast -d varied -s train_varied.json" in result.stdout
    result = run("train", "-e", "varied_exp", "-d", "varied", "-s", "train_varied.json", "--epochs", 1)
    assert "Trained to epoch 1" in result.stdout
    assert len(ShapeSpace.load("varied_exp", device="cpu").codes) == 3 * len(TRAIN)
    told = run(*meshes, "--split", "test.json", "--test", "--variants", 1, status=2).stderr
    assert "variants are training samples; omit --surface and --test, or --variants" in told


def test_show_opens_the_picture(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(click, "launch", lambda path: opened.append(path) or 0)
    run("plot", "-e", "exp", "--show")
    assert opened == ["exp/Plots/loss.png"]
    monkeypatch.setattr(click, "launch", lambda path: 1)
    assert (
        "no picture viewer could be opened; the picture is at exp/Plots/loss.png"
        in run("plot", "-e", "exp", "--show", status=2).stderr
    )
    assert world.root.is_dir()


# A process of its own


def test_exit_status_and_streams(world: World) -> None:
    command = [sys.executable, "-c", "from deepsdf.cli import main; main()"]
    done = subprocess.run([*command, "plot", "-e", "none"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no experiment folder none; create it, with a specs.json in it\n"
    done = subprocess.run([*command, *map(str, RECONSTRUCT)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr  # no colours, no moving cursor in a file
    assert "Traceback" not in done.stderr
    assert world.root.is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_an_interrupted_training_is_saved(world: World) -> None:
    world.specs(NumEpochs=10**6, SnapshotFrequency=10**6)
    code = "from deepsdf.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", "-e", "exp", "--overwrite"], stdout=subprocess.PIPE, text=True
    )
    try:
        latest = world.root / "exp/ModelParameters/latest.pth"
        before = latest.stat().st_mtime_ns
        for _ in range(600):
            if latest.stat().st_mtime_ns != before:
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    epoch = int(re.search(r"Trained to epoch (\d+) \(stopped early\)", told)[1])  # pyright: ignore[reportOptionalSubscript]
    assert torch.load(latest, weights_only=True)["epoch"] == epoch
    assert torch.load("exp/Logs.pth", weights_only=True)["epoch"] == epoch


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo terminals there")
def test_a_terminal_gets_a_moving_bar(world: World) -> None:
    import pty

    master, slave = pty.openpty()
    code = "from deepsdf.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, EVALUATE)],
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(master)
    process.communicate(timeout=60)
    assert process.returncode == 2  # nothing was reconstructed
    assert b"Evaluating" in shown
    assert b"\x1b[" in shown
    assert b"\x1b[?25h" in shown  # the cursor is back
    assert world.root.is_dir()


def test_importing_the_command_line_is_quick() -> None:
    """--help waits for no torch."""
    code = "import sys; from deepsdf.cli import main; print(sorted({'torch', 'warp', 'trimesh'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# The demo


def test_demo_goes_on_without_a_chair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb in which some shapes failed does not end it; its exit status tells. Unusable input does."""
    from deepsdf.cli import demo

    ends = {"reconstruct": 1}
    typed = []

    def ended(arguments: list[str], **_: object) -> None:
        typed.append(arguments[0])
        if arguments[0] == "split":
            for kind in ("train", "test"):
                write_split(Path(arguments[arguments.index("-o") + 1]) / f"meshes_{kind}.json", [TALL, WIDE])
        if arguments[0] in ends:
            sys.exit(ends[arguments[0]])

    # The group's own `main` is what both this test and the demo call: the first call goes through.
    whole = main.main
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "_write_chairs", lambda *_: None)
    monkeypatch.setattr(demo, "_print_results", lambda *_: None)
    monkeypatch.setattr(main, "main", lambda args, **options: (whole if args[0] == "demo" else ended)(args, **options))
    run("demo", "--train", 2, "--test", 1, "-o", "demo", status=1)
    assert typed == ["split", *["preprocess"] * 3, "train", "reconstruct", "evaluate", "interpolate", "plot"]
    typed.clear()
    ends["train"] = 2
    run("demo", "--train", 2, "--test", 1, "-o", "other", status=2)
    assert typed[-1] == "train"


@pytest.mark.timeout(900)  # a whole training, minutes on processors without bfloat16
def test_demo_runs_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few_samples(monkeypatch)
    typed = ("demo", "--train", 6, "--test", 2, "--epochs", 30, "--resolution", 32, "-o", "demo")
    result = run(*typed)
    for picture in ("Evaluation/latest/comparison.png", "Interpolations/strip.png", "Plots/loss.png"):
        assert is_picture(tmp_path / "demo/experiment" / picture)
        assert picture in result.stdout
    shapes = read_split("demo/splits/meshes_test.json")
    rows = (tmp_path / "demo/experiment/Evaluation/latest/chamfer.csv").read_text().splitlines()
    assert [row.split(", ")[0] for row in rows[1:]] == [str(shape) for shape in shapes]
    assert np.isfinite([float(row.split(", ")[1]) for row in rows[1:]]).all()
    assert len(list((tmp_path / "demo/meshes/chairs").glob("*.obj"))) == 8
    for verb in ("split", "preprocess", "train", "reconstruct", "evaluate", "interpolate", "plot"):
        assert f"\n$ deepsdf {verb} " in result.stdout
    again = run(*typed, status=2).stderr
    assert "demo exists and is not empty; remove it, or pass another folder with --out" in again
