"""SDF samples and surface samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from corruptions import concatenate
from scipy.stats import kstest

from deepsdf.errors import InputError, MeshError
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples, sample_sdf, sample_surface


def ball(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points, axis=1) - 0.5


@pytest.fixture(scope="module")
def sphere() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(5, radius=0.5)


def test_samples_are_split_by_sign_and_true(sphere: trimesh.Trimesh) -> None:
    samples = sample_sdf(MeshSDF(sphere), 20_000)
    assert len(samples) == 20_000
    assert samples.pos.dtype == samples.neg.dtype == np.float32
    assert (samples.pos[:, 3] > 0).all()
    assert (samples.neg[:, 3] <= 0).all()
    np.testing.assert_allclose(samples.distances, ball(samples.points), atol=1e-3)


def test_the_noise_is_the_originals(sphere: trimesh.Trimesh) -> None:
    """47 % of the points are surface points plus noise of variance .005, 47 % the same plus .0005, 6 % are uniform."""
    asked = []

    def field(points: np.ndarray) -> np.ndarray:
        asked.append(points)
        return ball(points)

    count, near = 100_000, 47_000
    samples = sample_sdf(field, count, seed=3, mesh=sphere)
    assert len(samples) == count
    (points,) = asked
    surface = sample_surface(sphere, near, seed=np.random.default_rng(3))
    for moved, variance in ((points[:near], 0.005), (points[near : 2 * near], 0.0005)):
        noise = moved - surface
        np.testing.assert_allclose(np.cov(noise.T), variance * np.eye(3), atol=0.03 * variance)
        for axis in range(3):
            assert kstest(noise[:, axis], "norm", args=(0, variance**0.5)).pvalue > 0.01
    for axis in range(3):
        assert kstest(points[2 * near :, axis], "uniform", args=(-1, 2)).pvalue > 0.01


def test_same_seed_same_bits(sphere: trimesh.Trimesh) -> None:
    field = MeshSDF(sphere)
    one, two, other = (sample_sdf(field, 5000, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.pos, two.pos)
    np.testing.assert_array_equal(one.neg, two.neg)
    assert not np.array_equal(one.points, other.points)
    generator = sample_sdf(field, 5000, seed=np.random.default_rng(7))
    np.testing.assert_array_equal(one.pos, generator.pos)


def test_unknown_signs_are_dropped(sphere: trimesh.Trimesh) -> None:
    def unsure(points: np.ndarray) -> np.ndarray:
        return np.where(points[:, 0] > 0, ball(points), np.nan)

    samples = sample_sdf(unsure, 4000, mesh=sphere)
    assert 0 < len(samples) < 4000
    assert (samples.points[:, 0] > 0).all()


def test_a_plain_field_needs_a_mesh() -> None:
    with pytest.raises(InputError, match="pass a MeshSDF as the field, or mesh="):
        sample_sdf(ball, 100)
    with pytest.raises(InputError, match="count 0 must be at least 1"):
        sample_sdf(ball, 0, mesh=trimesh.creation.box())


def test_round_trip(tmp_path: Path, sphere: trimesh.Trimesh) -> None:
    samples = sample_sdf(MeshSDF(sphere), 1000)
    path = samples.save(tmp_path / "deep" / "a.npz")
    loaded = SDFSamples.load(path)
    np.testing.assert_array_equal(loaded.pos, samples.pos)
    np.testing.assert_array_equal(loaded.neg, samples.neg)
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]
    with np.load(path) as archive:
        assert sorted(archive.files) == ["neg", "pos"]


def test_nan_rows_are_dropped_on_loading(tmp_path: Path) -> None:
    pos = np.ones((5, 4), np.float32)
    pos[2, 1] = np.nan
    np.savez(tmp_path / "a.npz", pos=pos, neg=-np.ones((3, 4)))
    samples = SDFSamples.load(tmp_path / "a.npz")
    assert (len(samples.pos), len(samples.neg)) == (4, 3)
    assert samples.neg.dtype == np.float32


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def _text(path: Path) -> None:
    path.write_text("not an archive")


def _pickled(path: Path) -> None:
    np.savez(path, pos=np.array([{}], object), neg=np.zeros((1, 4)))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_cut, "expected an .npz"),
        (_text, "is not an .npz, or truncated; expected an .npz"),
        (_pickled, "expected an .npz"),
        (lambda path: path.write_bytes(b""), "expected an .npz"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: np.savez(path, pos=np.zeros((1, 4))), "no array neg, only pos"),
        (
            lambda path: np.savez(path, pos=np.zeros((1, 3)), neg=np.zeros((1, 4))),
            r"pos is float64 of shape \(1, 3\)",
        ),
    ],
)
def test_errors_of_unusable_files(tmp_path: Path, spoil, words: str) -> None:
    path = tmp_path / "broken.npz"
    SDFSamples(np.ones((100, 4), np.float32), -np.ones((100, 4), np.float32)).save(path)
    spoil(path)
    with pytest.raises(InputError, match=words) as caught:
        SDFSamples.load(path)
    assert "broken.npz" in str(caught.value)
    assert "`deepsdf preprocess` makes it again" in str(caught.value)


def test_surface_points_are_spread_by_area() -> None:
    box = trimesh.creation.box((1, 1, 4))
    points = sample_surface(box, 40_000)
    assert points.shape == (40_000, 3)
    np.testing.assert_allclose(np.abs(MeshSDF(box)(points)), 0, atol=1e-6)
    ends = np.abs(np.abs(points[:, 2]) - 2) < 1e-9
    assert ends.mean() == pytest.approx(2 / 18, abs=0.01)


def test_surface_points_are_of_the_outer_surface() -> None:
    parts = [trimesh.creation.icosphere(4, radius=0.5).apply_translation((x, 0, 0)) for x in (-0.3, 0.3)]
    parts.append(trimesh.creation.box((0.1, 0.1, 0.1)).apply_translation((-0.3, 0, 0)))
    points = sample_surface(MeshSDF(concatenate(parts)), 10_000)
    assert len(points) == 10_000
    inside = np.min([np.linalg.norm(points - [x, 0, 0], axis=1) for x in (-0.3, 0.3)], axis=0) < 0.495
    assert not inside.any()


def test_a_thickened_surface_has_two_sides_of_a_sheet_and_one_of_a_solid() -> None:
    square = trimesh.Trimesh(
        [[-0.5, 0, -0.5], [0.5, 0, -0.5], [0.5, 0, 0.5], [-0.5, 0, 0.5]], [[0, 1, 2], [0, 2, 3]], process=False
    )
    points = sample_surface(MeshSDF(square, thicken=0.02), 2000)
    np.testing.assert_allclose(np.abs(points[:, 1]), 0.02, atol=1e-6)
    assert 0.4 < (points[:, 1] > 0).mean() < 0.6
    solid = MeshSDF(trimesh.creation.box((1, 1, 1)), thicken=0.05)
    points = sample_surface(solid, 2000)
    assert points.shape == (2000, 3)
    np.testing.assert_allclose(np.abs(points).max(axis=1), 0.55, atol=1e-6)
    np.testing.assert_allclose(solid(points), 0, atol=1e-6)


def test_no_surface_no_points() -> None:
    with pytest.raises(MeshError, match="no face with an area"):
        sample_surface(trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False))
