"""Meshes to a data source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from helpers import few_samples

from deepsdf.errors import InputError
from deepsdf.geometry.chairs import generate_chair
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.pipeline.options import Sampling
from deepsdf.pipeline.preprocess import Preprocessed, preprocess
from deepsdf.progress import Progress
from deepsdf.splits import ShapeName, write_split
from deepsdf.workspace import DataSource

BALL, BRICK, CHAIR = (ShapeName("meshes", "toys", name) for name in ("ball", "brick", "chair"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "meshes" / "toys"
    folder.mkdir(parents=True)
    trimesh.creation.icosphere(3, radius=2.0).apply_translation((5, 0, 0)).export(folder / "ball.ply")
    trimesh.creation.box((1, 2, 3)).apply_translation((0, 0, 9)).export(folder / "brick.stl")
    generate_chair(3).export(folder / "chair.obj")
    return folder.parent


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)


RUN_OPTIONS = {"name", "skip", "workers", "timeout", "on_progress"}


def work(source: Path, data: str, *shapes: ShapeName, **options: Any) -> Preprocessed:
    split = source.parent / "split.json"
    write_split(split, shapes or (BALL, BRICK, CHAIR))
    run_options = {key: options.pop(key) for key in RUN_OPTIONS & options.keys()}
    return preprocess(source.parent / data, source, split, sampling=Sampling(device="cpu", **options), **run_options)


def contents(root: Path) -> dict[str, bytes]:
    """All but preprocess.csv, which holds seconds, and the sheet of all shapes."""
    files = sorted(path for path in root.glob("*/**/*.*") if path.parent.name != "Pictures")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.usefixtures("quick")
def test_the_files_are_the_originals(source: Path, tmp_path: Path) -> None:
    result = work(source, "data")
    assert (result.done, result.skipped, result.failures) == ([BALL, BRICK, CHAIR], [], [])
    work(source, "data", surface=True)
    names = {str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("*") if path.is_file()}
    expected = {".datasources.json", ".lock", "preprocess.csv", "Pictures/split-1.png"}
    for name in ("ball", "brick", "chair"):
        for folder, suffix in (("SdfSamples", "npz"), ("SurfaceSamples", "ply"), ("NormalizationParameters", "npz")):
            expected.add(f"{folder}/meshes/toys/{name}.{suffix}")
        expected.add(f"Pictures/meshes/toys/{name}.png")
    assert names == expected
    assert json.loads((tmp_path / "data/.datasources.json").read_text()) == {"meshes": str(source)}
    with np.load(tmp_path / "data/SdfSamples/meshes/toys/ball.npz") as arrays:
        assert sorted(arrays.files) == ["neg", "pos"]
        assert len(arrays["pos"]) + len(arrays["neg"]) == 10_000
        for array in arrays.values():
            assert (array.dtype, array.shape[1]) == (np.float32, 4)
        assert (arrays["pos"][:, 3] > 0).all()
        assert (arrays["neg"][:, 3] <= 0).all()
        for rows in arrays.values():  # the ball's radius is 1 / 1.03 in the unit frame
            np.testing.assert_allclose(rows[:, 3], np.linalg.norm(rows[:, :3], axis=1) - 1 / 1.03, atol=0.01)
    with np.load(tmp_path / "data/NormalizationParameters/meshes/toys/ball.npz") as arrays:
        assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
            "offset": (np.float32, (3,)),
            "scale": (np.float32, (1,)),
        }
        np.testing.assert_allclose(arrays["offset"], (-5, 0, 0), atol=1e-6)
        np.testing.assert_allclose(arrays["scale"], 1 / (1.03 * 2), rtol=1e-6)


@pytest.mark.usefixtures("quick")
def test_surface_samples_are_in_the_mesh_frame(source: Path, tmp_path: Path) -> None:
    work(source, "data", surface=True)
    data = DataSource.open(tmp_path / "data")
    points = data.load_surface(BALL)
    assert points.shape == (30_000, 3)
    radii = np.linalg.norm(points - (5, 0, 0), axis=1)
    assert 1.97 < radii.min() < radii.max() < 2.00001
    brick = np.abs(data.load_surface(BRICK) - (0, 0, 9)) - (0.5, 1, 1.5)
    np.testing.assert_allclose(brick.max(axis=1), 0, atol=1e-5)
    fitted = Normalization.fit(load_mesh(source / "toys/chair.obj"))
    assert data.load_normalization(CHAIR).scale == pytest.approx(fitted.scale, rel=1e-6)
    assert np.linalg.norm(fitted.apply(data.load_surface(CHAIR)), axis=1).max() < 1


@pytest.mark.usefixtures("quick")
def test_test_samples_are_fewer_and_wider(source: Path, tmp_path: Path) -> None:
    work(source, "narrow", BALL)
    work(source, "wide", BALL, test=True)
    spread = {}
    for name, count in (("narrow", 10_000), ("wide", 5_000)):
        samples = DataSource.open(tmp_path / name).load_samples(BALL)
        assert len(samples) == count
        near = np.abs(samples.distances)[np.linalg.norm(samples.points, axis=1) > 0]
        spread[name] = np.quantile(near, 0.6)
    assert spread["wide"] > 1.5 * spread["narrow"]


@pytest.mark.usefixtures("quick")
def test_same_seed_same_bits_whatever_the_order(source: Path, tmp_path: Path) -> None:
    work(source, "a", BALL, BRICK, CHAIR)
    work(source, "b", CHAIR, BALL, BRICK)
    work(source, "c", CHAIR)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert c.items() <= a.items()
    work(source, "d", CHAIR, seed=1)
    changed = {name for name, content in contents(tmp_path / "d").items() if content != c[name]}
    assert changed == {"SdfSamples/meshes/toys/chair.npz"}


@pytest.mark.usefixtures("quick")
def test_every_shape_has_draws_of_its_own(source: Path, tmp_path: Path) -> None:
    (source / "toys" / "twin.ply").write_bytes((source / "toys" / "ball.ply").read_bytes())
    twin = ShapeName("meshes", "toys", "twin")
    work(source, "data", BALL, twin)
    data = DataSource.open(tmp_path / "data")
    common = set(map(tuple, data.load_samples(BALL).points)) & set(map(tuple, data.load_samples(twin).points))
    assert not common


def test_same_seed_same_bits_whatever_the_number_of_workers(source: Path, tmp_path: Path) -> None:
    """In processes of their own, with the original's 250 000 samples."""
    for options in ({"test": True}, {"surface": True}):
        work(source, "one", BALL, BRICK, **options)
        result = work(source, "two", BALL, BRICK, workers=2, **options)
        assert sorted(result.done) == [BALL, BRICK]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(DataSource.open(tmp_path / "two").load_samples(BALL)) == 250_000


@pytest.mark.usefixtures("quick")
def test_skip_leaves_alone_what_is_there(source: Path, tmp_path: Path) -> None:
    work(source, "data", BALL)
    path = DataSource.open(tmp_path / "data").samples_path(BALL)
    path.write_bytes(b"mine")
    for hidden in (".brick.npz.k3j2.part", ".brick.0a1b2c3d.tmp.npz"):  # a run that was killed
        (path.parent / hidden).write_bytes(b"half")
    result = work(source, "data", BALL, BRICK, skip=True)
    assert (result.skipped, result.done) == ([BALL], [BRICK])
    assert path.read_bytes() == b"mine"
    # Samples there do not mean that surface samples are.
    assert work(source, "data", BALL, skip=True, surface=True).done == [BALL]
    assert work(source, "data", BALL, BRICK, CHAIR, skip=True).done == [CHAIR]
    result = work(source, "data", BALL, BRICK, CHAIR, skip=True)
    assert (result.skipped, result.done, result.failures) == ([BALL, BRICK, CHAIR], [], [])
    assert work(source, "data", BALL).done == [BALL]
    assert path.read_bytes() != b"mine"


def no_faces(path: Path) -> None:
    path.with_suffix(".obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")


def nan_vertices(path: Path) -> None:
    path.with_suffix(".off").write_text("OFF\n4 2 0\n0 0 0\n1 0 nan\n0 1 0\n0 0 1\n3 0 1 2\n3 0 2 3\n")


def no_extent(path: Path) -> None:
    path.with_suffix(".obj").write_text("v 1 2 3\nv 1 2 3\nv 1 2 3\nf 1 2 3\n")


def open_sheet(path: Path) -> None:
    path.with_suffix(".obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3\nf 1 3 4\n")


def cut_short(path: Path) -> None:
    trimesh.creation.icosphere(3).export(path.with_suffix(".ply"))
    path.with_suffix(".ply").write_bytes(path.with_suffix(".ply").read_bytes()[:3000])


BROKEN: dict[Callable[[Path], None], str] = {
    no_faces: "has no faces; a surface is needed, not a point cloud or an empty file",
    nan_vertices: "1 of 4 vertices are NaN or infinite; repair or export the file again",
    no_extent: "all faces lie in one point; a mesh needs an extent",
    open_sheet: "no sample is inside: the faces form open surfaces with no interior; pass --thicken 0.02",
    cut_short: "cannot be read as ply",
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
def test_a_broken_mesh_is_reported_and_the_others_go_on(
    source: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(source / "toys" / "broken")
    broken = ShapeName("meshes", "toys", "broken")
    result = work(source, "data", BALL, broken, BRICK)
    assert result.done == [BALL, BRICK]
    ((shape, reason),) = result.failures
    assert shape == broken
    assert BROKEN[spoil] in reason
    assert str(source / "toys" / "broken") in reason
    assert not [name for name in contents(tmp_path / "data") if "broken" in name and "Pictures" not in name]


@pytest.mark.usefixtures("quick")
def test_shapes_that_are_not_there(source: Path, tmp_path: Path) -> None:
    missing = ShapeName("meshes", "toys", "sofa")
    events = []
    result = work(source, "data", BALL, missing, on_progress=events.append)
    assert result.done == [BALL]
    ((shape, reason),) = result.failures
    failed = Progress(1, 2, shape=str(missing), error=reason)
    assert events == [Progress(0, 2), failed, Progress(2, 2, shape=str(BALL))]
    assert (shape, "there is no mesh of meshes/toys/sofa" in reason) == (missing, True)


@pytest.mark.usefixtures("quick")
def test_nothing_there_makes_nothing(source: Path, tmp_path: Path) -> None:
    missing = ShapeName("meshes", "toys", "sofa")
    with pytest.raises(
        InputError, match=r"^none of the 1 shapes of .*split\.json has a mesh in .*; first: there is no mesh"
    ):
        work(source, "data", missing)
    assert not (tmp_path / "data").exists()
    work(source, "data", BALL)
    before = contents(tmp_path / "data")
    registry = (tmp_path / "data/.datasources.json").read_bytes()
    with pytest.raises(InputError, match="none of the 1 shapes"):
        work(source, "data", missing)
    assert contents(tmp_path / "data") == before
    assert (tmp_path / "data/.datasources.json").read_bytes() == registry


@pytest.mark.usefixtures("quick")
def test_a_dataset_name_taken_by_other_meshes(source: Path, tmp_path: Path) -> None:
    work(source, "data", BALL)
    before = contents(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    source.rename(tmp_path / "elsewhere" / "meshes")
    with pytest.raises(InputError) as error:
        preprocess(tmp_path / "data", tmp_path / "elsewhere/meshes", tmp_path / "split.json")
    assert str(error.value) == (
        f"the dataset 'meshes' of {tmp_path / 'data'} was made from {source}, not from "
        f"{tmp_path / 'elsewhere/meshes'}; choose another name with --name"
    )
    assert contents(tmp_path / "data") == before


@pytest.mark.usefixtures("quick")
def test_only_the_named_dataset_of_a_split(source: Path) -> None:
    other = ShapeName("other", "toys", "ball")
    assert work(source, "data", BALL, other).done == [BALL]
    assert work(source, "data", BALL, other, name="other").done == [other]
    with pytest.raises(InputError, match=r"has no dataset 'meshes', only other; choose one with --name"):
        work(source, "data", other)


def test_no_folder_of_meshes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"there is no folder of meshes at {tmp_path / 'none'}"):
        preprocess(tmp_path / "data", tmp_path / "none", tmp_path / "split.json")
    assert not (tmp_path / "data").exists()
