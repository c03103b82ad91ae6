"""Variants of shapes, and of a split's shapes in a data source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from helpers import few_samples

from deepsdf.errors import InputError, MeshError
from deepsdf.geometry.chairs import generate_chair
from deepsdf.geometry.variants import vary
from deepsdf.pipeline.options import Sampling
from deepsdf.pipeline.preprocess import VARIANT_SHARE, Preprocessed, preprocess
from deepsdf.splits import ShapeName, read_split, write_split
from deepsdf.workspace import DataSource


def ball(divisions: int = 3) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(divisions)


def test_no_strength_changes_nothing() -> None:
    mesh = generate_chair(3)
    np.testing.assert_allclose(vary(mesh, seed=1, strength=0).vertices, mesh.vertices, atol=1e-12)


def test_the_same_seed_gives_the_same_variant_and_another_another() -> None:
    one, again, other = (vary(ball(), seed=seed).vertices for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert np.abs(one - other).max() > 0.05


def test_faces_stay_and_the_given_mesh_too() -> None:
    mesh = ball()
    before = mesh.vertices.copy()
    varied = vary(mesh, seed=0)
    assert np.array_equal(varied.faces, mesh.faces)
    assert np.array_equal(mesh.vertices, before)
    assert varied.is_watertight
    assert varied.volume > 0


@pytest.mark.parametrize("strength", [0.05, 0.12, 0.5, 1.0])
def test_nothing_folds_over(strength: float) -> None:
    """Tetrahedra of neighbouring points keep their orientation, however strong."""
    steps = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 3, indexing="ij"), -1).reshape(-1, 3)
    corners = np.concatenate([steps, *(steps + 1e-4 * axis for axis in np.eye(3))])
    faces = np.arange(3 * (len(corners) // 3)).reshape(-1, 3)
    mesh = trimesh.Trimesh(corners, faces, process=False)
    for seed in range(30):
        at, *ends = vary(mesh, seed=seed, strength=strength).vertices.reshape(4, -1, 3)
        derivative = np.stack([(end - at) / 1e-4 for end in ends], axis=-1)
        assert np.linalg.det(derivative).min() > 0


def test_where_and_how_large_a_mesh_is_does_not_matter() -> None:
    mesh = generate_chair(5)
    moved = mesh.copy()
    moved.apply_scale(1000).apply_translation((5, -70, 3000))
    expected = vary(mesh, seed=4).vertices * 1000 + (5, -70, 3000)
    np.testing.assert_allclose(vary(moved, seed=4).vertices, expected, atol=1e-6)


def test_a_mesh_without_faces_has_no_variants() -> None:
    with pytest.raises(MeshError, match="a mesh without faces cannot be normalised"):
        vary(trimesh.Trimesh(), seed=0)


BALL, BRICK = (ShapeName("meshes", "toys", name) for name in ("ball", "brick"))


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    few_samples(monkeypatch)
    folder = tmp_path / "meshes" / "toys"
    folder.mkdir(parents=True)
    ball().export(folder / "ball.ply")
    trimesh.creation.box((1, 2, 3)).export(folder / "brick.stl")
    return folder.parent


def work(source: Path, *shapes: ShapeName, skip: bool = False, **options: Any) -> Preprocessed:
    write_split(source.parent / "train.json", shapes)
    sampling = Sampling(device="cpu", pictures=False, **options)
    return preprocess(source.parent / "data", source, source.parent / "train.json", sampling=sampling, skip=skip)


def variant(shape: ShapeName, number: int) -> ShapeName:
    return shape._replace(instance=f"{shape.instance}~{number}")


def test_variants_are_shapes_of_their_own_in_a_split_of_its_own(source: Path) -> None:
    result = work(source, BALL, BRICK, variants=2)
    expected = [BALL, BRICK, variant(BALL, 1), variant(BRICK, 1), variant(BALL, 2), variant(BRICK, 2)]
    assert set(result.done) == set(expected)
    assert result.varied == source.parent / "train_varied.json"
    assert result.varied is not None
    assert read_split(result.varied) == expected
    data = DataSource.open(source.parent / "data")
    counts = [len(data.load_samples(shape)) for shape in expected]
    assert counts[0] == counts[1] == VARIANT_SHARE * counts[2]
    assert len(set(counts[2:])) == 1
    normalizations = [data.load_normalization(shape).scale for shape in expected]
    assert len(set(normalizations)) == len(expected)
    assert set(result.qualities) == set(expected)


def test_shapes_themselves_are_as_without_variants(source: Path) -> None:
    work(source, BALL)
    data = DataSource.open(source.parent / "data")
    before = data.samples_path(BALL).read_bytes()
    work(source, BALL, variants=1)
    assert data.samples_path(BALL).read_bytes() == before


def test_more_variants_later(source: Path) -> None:
    work(source, BALL, variants=1)
    result = work(source, BALL, variants=2, skip=True)
    assert (result.skipped, result.done) == ([BALL, variant(BALL, 1)], [variant(BALL, 2)])
    assert read_split(source.parent / "train_varied.json") == [BALL, variant(BALL, 1), variant(BALL, 2)]


def test_a_shape_without_a_mesh_is_told_once_and_has_no_variants(source: Path) -> None:
    absent = BALL._replace(instance="absent")
    result = work(source, BALL, absent, variants=2)
    assert [failure.shape for failure in result.failures] == [absent]
    assert read_split(source.parent / "train_varied.json") == [BALL, absent, variant(BALL, 1), variant(BALL, 2)]
    with pytest.raises(InputError, match="none of the 1 shapes"):
        work(source, absent, variants=2)


def test_other_datasets_of_the_split_stay(source: Path) -> None:
    work(source, BALL, variants=1)
    other = ShapeName("others", "toys", "ball")
    result = work(source, BRICK, other, BALL, variants=1, skip=True)
    assert result.failures == []
    assert read_split(source.parent / "train_varied.json") == [BRICK, BALL, variant(BRICK, 1), variant(BALL, 1), other]


@pytest.mark.parametrize("options", [{"surface": True}, {"test": True}])
def test_variants_are_to_learn_from_alone(source: Path, options: dict[str, bool]) -> None:
    with pytest.raises(InputError, match="variants are training samples; omit --surface and --test, or --variants"):
        work(source, BALL, variants=1, **options)
