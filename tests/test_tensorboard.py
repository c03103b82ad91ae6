"""A training's event files for TensorBoard, read back."""

from __future__ import annotations

import io
import struct
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import World, run
from PIL import Image

from deepsdf.training.logs import TrainingLogs

pytest_plugins = ("helpers",)

needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboardX") is None, reason="needs tensorboardX: pip install deepsdf[tensorboard]"
)


def events(folder: Path) -> dict[str, dict[int, object]]:
    """Values by tag and epoch, later files over earlier ones."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    found: dict[str, dict[int, object]] = defaultdict(dict)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        at = 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                is_image = value.HasField("image")
                found[value.tag][event.step] = value.image.encoded_image_string if is_image else value.simple_value
    return found


@needs_tensorboard
def test_scalars_are_the_log_and_pictures_show_shapes(world: World) -> None:
    world.specs(NumEpochs=6, SnapshotFrequency=6, LogFrequency=3)
    run("train", "-e", "exp", "--overwrite", "--tensorboard", "--device", "cpu")
    logs = TrainingLogs.load(world.experiment.logs_path)
    written = events(Path("exp/TensorBoard"))
    steps = len(logs.loss) // 6
    means = np.array(logs.loss).reshape(6, steps).mean(axis=1)
    assert [written["loss"][epoch] for epoch in range(1, 7)] == pytest.approx(means, rel=1e-6)
    rates = np.array(logs.learning_rate)
    for column, name in enumerate(("decoder", "codes")):
        assert [written[f"learning_rate/{name}"][k + 1] for k in range(6)] == pytest.approx(rates[:, column], rel=1e-6)
    magnitudes = [float(value) for value in logs.latent_magnitude]
    assert [written["code_magnitude"][k + 1] for k in range(6)] == pytest.approx(magnitudes, rel=1e-6)
    assert set(written["training_shapes"]) == {3, 6}, "at the first checkpoint and at the last"


@needs_tensorboard
def test_the_picture_shows_a_trained_shape(world: World) -> None:
    world.specs(NumEpochs=201)
    run("train", "-e", "exp", "--continue", "latest", "--tensorboard", "--device", "cpu")
    written = events(Path("exp/TensorBoard"))
    assert list(written["loss"]) == [201]
    picture = np.asarray(Image.open(io.BytesIO(written["training_shapes"][201])))  # pyright: ignore[reportArgumentType]
    left = picture[picture.shape[0] // 3 : 2 * picture.shape[0] // 3, 64:192]
    assert len(np.unique(left.reshape(-1, 3), axis=0)) > 20, "shading"


def test_without_the_package_it_says_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    before = world.hashes()
    result = run("train", "-e", "exp", "--overwrite", "--tensorboard", "--device", "cpu", status=2)
    assert 'pip install "deepsdf[tensorboard]"' in result.stderr
    assert world.hashes() == before
