"""Shared by the tests: a small world of balls and boxes whose signed distances are known exactly."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepsdf.geometry.fields import Field
from deepsdf.geometry.meshes import Normalization
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.space import ShapeSpace
from deepsdf.splits import ShapeName, write_split
from deepsdf.workspace import DataSource, Experiment

torch.set_num_threads(1)  # the tests' networks are so small that threads only wait for each other


@pytest.fixture(autouse=True, scope="session")
def sigint_is_not_ignored() -> None:
    """Shells start background jobs with SIGINT ignored, and child processes would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power; on a busy disk a checkpoint's syncing takes a second."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


def ball(radius: float) -> Field:
    return lambda points: np.linalg.norm(points, axis=1) - radius


def box(*half: float) -> Field:
    def field(points: np.ndarray) -> np.ndarray:
        beyond = np.abs(points) - half
        return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(axis=1), 0)

    return field


FIELDS = {
    ShapeName("toys", "ball", "b0"): ball(0.35),
    ShapeName("toys", "ball", "b1"): ball(0.5),
    ShapeName("toys", "ball", "b2"): ball(0.65),
    ShapeName("toys", "box", "q0"): box(0.3, 0.3, 0.3),
    ShapeName("toys", "box", "q1"): box(0.5, 0.3, 0.2),
    ShapeName("toys", "box", "q2"): box(0.2, 0.4, 0.5),
}

SPECS: dict[str, Any] = {
    "Description": "toys",
    "NetworkArch": "deep_sdf_decoder",
    "NetworkSpecs": {"dims": [16, 16, 16], "norm_layers": [0, 1, 2], "weight_norm": True, "latent_in": [2]},
    "CodeLength": 4,
    "NumEpochs": 6,
    "SnapshotFrequency": 3,
    "AdditionalSnapshots": [1],
    "LogFrequency": 2,
    "LearningRateSchedule": [
        {"Type": "Step", "Initial": 0.008, "Interval": 2, "Factor": 0.5},
        {"Type": "Step", "Initial": 0.016, "Interval": 3, "Factor": 0.5},
    ],
    "SamplesPerScene": 32,
    "ScenesPerBatch": 2,
    "ClampingDistance": 0.1,
    "CodeBound": 1.0,
}
"""Of a training of milliseconds."""


def draw(field: Field, count: int = 400, *, seed: int = 0) -> SDFSamples:
    """Uniform points of the unit frame's cube, and as many of a smaller one, so that some are inside."""
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.uniform(-size, size, (count // 2, 3)) for size in (1.0, 0.6)])
    return SDFSamples.of(points, field(points))


@dataclass(frozen=True)
class Toys:
    """A data source of `shapes`, a split that lists them, and experiments on demand, all below `root`."""

    root: Path
    data: DataSource
    shapes: list[ShapeName]
    split: Path

    @classmethod
    def make(cls, root: Path, count: int = 400) -> Toys:
        data, shapes = DataSource(root / "data"), list(FIELDS)
        for number, (shape, field) in enumerate(FIELDS.items()):
            draw(field, count, seed=number).save(data.samples_path(shape))
            data.save_normalization(shape, Normalization.identity())
        write_split(root / "train.json", shapes)
        return cls(root, data, shapes, root / "train.json")

    def experiment(self, name: str = "experiment", **settings: Any) -> Experiment:
        """An untrained experiment: SPECS, with some settings replaced (None removes one)."""
        content = {**SPECS, "DataSource": str(self.data.root), "TrainSplit": str(self.split), **settings}
        content = {key: value for key, value in content.items() if value is not None}
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        (folder / "specs.json").write_text(json.dumps(content))
        return Experiment.open(folder)


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    return Toys.make(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The toys' shapes, learned well enough to tell them apart. Read only."""
    from deepsdf.training.train import train

    toys = Toys.make(tmp_path_factory.mktemp("trained"), 8000)
    experiment = toys.experiment(
        NetworkArch="encoded_decoder",
        NetworkSpecs={"dims": [48] * 4, "latent_in": [2], "octaves": 1},
        NumEpochs=700,
        SnapshotFrequency=700,
        AdditionalSnapshots=[],
        LogFrequency=700,
        LearningRateSchedule=[
            {"Type": "Cosine", "Initial": rate, "Length": 700, "Warmup": 20} for rate in (2e-3, 4e-3, 2e-2)
        ],
        SamplesPerScene=256,
        ScenesPerBatch=6,
        Optimizer="muon",
        CodeBound=None,
    )
    return train(experiment, device="cpu")


@pytest.fixture(scope="module")
def space(trained: Experiment) -> ShapeSpace:
    return ShapeSpace.load(trained, device="cpu")


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """What the original computed: tests/data/original_<name>.json."""
    return lambda name: json.loads((Path(__file__).parent / "data" / f"original_{name}.json").read_text())


def formula_state(named_shapes: Sequence[tuple[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
    """The parameters that the golden values were computed with, by the formula of their files."""
    state = {}
    for k, (name, shape) in enumerate(sorted((name, tuple(shape)) for name, shape in named_shapes)):
        at = np.arange(np.prod(shape), dtype=np.float64)
        values = 1.0 + 0.1 * np.sin(at + k) if name.endswith("weight_g") else 0.5 * np.sin(0.37 * at + k)
        state[name] = torch.from_numpy(values.astype(np.float32).reshape(shape))
    return state


def assert_same(a: Any, b: Any) -> None:
    """Equal bit for bit, whatever holds the tensors."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b
