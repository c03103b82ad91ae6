"""A tiny world, made once a session by the verbs that a user would type: meshes, data source, trained experiment.

Test modules name it in `pytest_plugins` for its fixtures. PYTEST_DONT_REWRITE: they import it as well.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner, Result

from deepsdf.cli import main
from deepsdf.splits import ShapeName, write_split
from deepsdf.workspace import DataSource, Experiment

EXTENTS = {
    ShapeName("toys", "box", "cube"): (1, 1, 1),
    ShapeName("toys", "box", "tall"): (1, 2, 1),
    ShapeName("toys", "box", "flat"): (2, 1, 2),
    ShapeName("toys", "egg", "round"): (1, 1, 1),
    ShapeName("toys", "egg", "long"): (1, 2, 1),
    ShapeName("toys", "egg", "wide"): (2, 1, 2),
}
"""Each shape's proportions."""

TRAIN = [shape for shape in EXTENTS if shape.instance not in ("tall", "wide")]
TEST = [shape for shape in EXTENTS if shape not in TRAIN]

SPECS: dict[str, Any] = {
    "Description": "toys",
    "DataSource": "data",
    "TrainSplit": "train.json",
    "TestSplit": "test.json",
    "NetworkArch": "deep_sdf_decoder",
    "NetworkSpecs": {"dims": [32, 32, 32], "latent_in": [2]},
    "CodeLength": 4,
    "NumEpochs": 200,
    "SnapshotFrequency": 100,
    "LogFrequency": 50,
    "LearningRateSchedule": [{"Type": "Step", "Initial": 0.005, "Interval": 80, "Factor": 0.5}] * 2,
    "SamplesPerScene": 512,
    "ScenesPerBatch": 4,
    "ClampingDistance": 0.1,
}


@contextmanager
def chdir(folder: Path) -> Iterator[None]:
    """contextlib's, of which Python 3.10 has none."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(*arguments: object, status: int = 0) -> Result:
    """A verb as a user types it, in this process; its exit status must be the given one."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exit_code != status:
        raise AssertionError(f"{arguments} ended with {result.exit_code}: {result.output}") from result.exception
    return result


def toy(shape: ShapeName) -> trimesh.Trimesh:
    """In a mesh frame far from the unit frame."""
    mesh = trimesh.creation.box() if shape.category == "box" else trimesh.creation.icosphere(3, radius=0.5)
    return mesh.apply_scale(np.multiply(10.0, EXTENTS[shape])).apply_translation((30, -20, 5))


def few_samples(patch: pytest.MonkeyPatch) -> None:
    """Preprocessing takes milliseconds, and batches stay in this process, where what is patched holds."""
    from deepsdf.figures import report
    from deepsdf.pipeline import evaluate, preprocess

    for verb in (evaluate, preprocess, report):
        patch.setattr(verb, "run_batch", functools.partial(_in_this_process, verb.run_batch))
    patch.setattr("deepsdf.pipeline.preprocess.TRAIN_COUNT", 10_000)
    patch.setattr("deepsdf.pipeline.preprocess.TEST_COUNT", 5_000)


def _in_this_process(run_batch: Any, *args: Any, workers: int, **kwargs: Any) -> None:
    run_batch(*args, workers=0, **kwargs)


@dataclass(frozen=True)
class World:
    """Everything below `root`; relative names, as in specs.json, hold while that is the current folder."""

    root: Path

    @property
    def data(self) -> DataSource:
        return DataSource.open(self.root / "data")

    @property
    def experiment(self) -> Experiment:
        return Experiment.open(self.root / "exp")

    def specs(self, **changes: Any) -> None:
        """Write specs.json anew; None removes a key."""
        content = {key: value for key, value in {**SPECS, **changes}.items() if value is not None}
        (self.root / "exp" / "specs.json").write_text(json.dumps(content))

    def hashes(self) -> dict[str, str]:
        """Of every file."""
        files = sorted(path for path in self.root.rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@functools.cache
def made_once() -> World:
    """Meshes, splits, preprocessed data, and an experiment of 200 epochs. Read only: see `world`."""
    root = Path(tempfile.mkdtemp(prefix="deepsdf-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for shape in EXTENTS:
        path = root / "meshes" / shape.category / f"{shape.instance}.obj"
        path.parent.mkdir(parents=True, exist_ok=True)
        toy(shape).export(path)
    write_split(root / "train.json", TRAIN)
    write_split(root / "test.json", TEST)
    world = World(root)
    (root / "exp").mkdir()
    world.specs()
    with chdir(root), pytest.MonkeyPatch.context() as patch:
        few_samples(patch)
        common = ("preprocess", "-d", "data", "-s", "meshes", "-n", "toys", "--threads", 1, "--device", "cpu")
        run(*common, "--split", "train.json")
        run(*common, "--split", "test.json")
        run(*common, "--split", "test.json", "--surface")
        run("train", "-e", "exp", "--device", "cpu")
    return world


def copy_world(folder: Path) -> World:
    """A world of one's own to write to."""
    root = folder / "world"
    shutil.copytree(made_once().root, root)
    (root / "data" / ".datasources.json").write_text(json.dumps({"toys": str(root / "meshes")}))
    return World(root)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of the world; its root is the current folder."""
    copy = copy_world(tmp_path)
    monkeypatch.chdir(copy.root)
    return copy


@functools.cache
def reconstructed_once() -> World:
    """The world with its test shapes reconstructed. Read only."""
    root = Path(tempfile.mkdtemp(prefix="deepsdf-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    world = copy_world(root)
    with chdir(world.root):
        run("reconstruct", "-e", "exp", "-d", "data", "-s", "test.json", "--resolution", 40, "--device", "cpu")
    return world


@pytest.fixture
def reconstructed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of the world with its test shapes reconstructed."""
    root = tmp_path / "world"
    shutil.copytree(reconstructed_once().root, root)
    (root / "data" / ".datasources.json").write_text(json.dumps({"toys": str(root / "meshes")}))
    monkeypatch.chdir(root)
    return World(root)


def is_picture(path: Path) -> bool:
    """A picture that shows something: many colours."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return min(pixels.shape[:2]) >= 64 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
