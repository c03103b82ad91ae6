"""From an observation to a code: every kind of input leads to the code of the shape that it shows."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

import deepsdf
from deepsdf.checkpoints import save_code
from deepsdf.errors import InputError
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.encode import EncodeOptions, encode
from deepsdf.inference.space import ShapeSpace
from deepsdf.progress import Progress

TOLERANCE = 0.03
"""Mean difference of two fields near the surface, unit frame: for a small network that is fitted to its own field."""


def difference(space: ShapeSpace, a: torch.Tensor, b: torch.Tensor) -> float:
    points = np.random.default_rng(0).uniform(-0.9, 0.9, (4000, 3)).astype(np.float32)
    one, other = (space.shape(code).sdf(points).clip(-0.1, 0.1) for code in (a, b))
    return float(np.abs(one - other).mean())


@pytest.fixture
def samples(space: ShapeSpace) -> SDFSamples:
    points = np.random.default_rng(1).uniform(-0.9, 0.9, (4000, 3)).astype(np.float32)
    return SDFSamples.of(points, space.shape(1).sdf(points))


def test_samples_a_mesh_and_their_files_give_the_same_shape(
    space: ShapeSpace, samples: SDFSamples, tmp_path: Path
) -> None:
    by_samples = space.encode(samples)
    assert by_samples.shape == (space.code_length,)
    assert difference(space, by_samples, space.codes[1]) < TOLERANCE
    samples.save(tmp_path / "shape.npz")
    assert torch.equal(space.encode(tmp_path / "shape.npz"), by_samples)
    save_code(tmp_path / "shape.pth", by_samples)
    assert torch.equal(space.encode(str(tmp_path / "shape.pth")), by_samples)


def test_a_mesh_in_any_frame_is_normalised(space: ShapeSpace) -> None:
    options = EncodeOptions(samples=4000)
    mesh = space.shape(1).mesh(48)
    moved = mesh.copy()
    moved.apply_scale(40.0)
    moved.apply_translation([5.0, -3.0, 100.0])
    one, other = encode(space, mesh, options), encode(space, moved, options)
    assert (one.kind, other.kind) == ("mesh", "mesh")
    assert difference(space, one.code, other.code) < 1e-3
    assert one.mesh is not None
    assert other.to_unit is not None
    unit = np.asarray(moved.vertices) @ other.to_unit[:3, :3].T + other.to_unit[:3, 3]
    np.testing.assert_allclose(unit, one.mesh.vertices, atol=1e-5)


def test_doubts_are_returned_and_logged(space: ShapeSpace, caplog: pytest.LogCaptureFixture) -> None:
    points = np.random.default_rng(2).uniform(-0.9, 0.9, (500, 3)).astype(np.float32)
    contradictory = SDFSamples.of(points, np.random.default_rng(3).uniform(-0.1, 0.1, 500).astype(np.float32))
    found = encode(space, contradictory)
    assert any("contradictory" in warning for warning in found.warnings)
    with caplog.at_level(logging.WARNING, "deepsdf"):
        space.encode(contradictory)
    assert [record.getMessage() for record in caplog.records] == list(found.warnings)


def test_progress_is_reported_and_cancels(space: ShapeSpace, samples: SDFSamples) -> None:
    events: list[Progress] = []
    encode(space, samples, on_progress=events.append)
    assert {event.task for event in events} == {"fitting"}
    assert (events[0].done, events[-1].done) == (0, events[-1].total)

    def cancel(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(space, samples, on_progress=cancel)


def test_unreadable_input_is_refused(space: ShapeSpace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^there is no file nowhere\.npz$"):
        space.encode("nowhere.npz")
    with pytest.raises(InputError, match=r"^shape\.docx: cannot read \.docx; use \.obj, "):
        space.encode("shape.docx")


def test_encode_is_public() -> None:
    assert deepsdf.encode is encode
