"""The folders and files of data sources and experiments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from conftest import Toys

from deepsdf.errors import InputError
from deepsdf.geometry.meshes import Normalization
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource, Experiment

SHAPE = ShapeName("d", "c", "i.v1")


def test_the_layout_is_the_originals() -> None:
    data, experiment = DataSource(Path("D")), Experiment(Path("E"))
    assert data.registry_path == Path("D/.datasources.json")
    assert data.samples_path(SHAPE) == Path("D/SdfSamples/d/c/i.v1.npz")
    assert data.surface_path(SHAPE) == Path("D/SurfaceSamples/d/c/i.v1.ply")
    assert data.normalization_path(SHAPE) == Path("D/NormalizationParameters/d/c/i.v1.npz")
    assert experiment.logs_path == Path("E/Logs.pth")
    assert experiment.model_path(100) == Path("E/ModelParameters/100.pth")
    assert experiment.optimizer_path("latest") == Path("E/OptimizerParameters/latest.pth")
    assert experiment.codes_path("latest") == Path("E/LatentCodes/latest.pth")
    assert experiment.reconstructed_mesh_path(7, SHAPE) == Path("E/Reconstructions/7/Meshes/d/c/i.v1.ply")
    assert experiment.reconstructed_code_path(7, SHAPE) == Path("E/Reconstructions/7/Codes/d/c/i.v1.pth")
    assert experiment.training_mesh_path(7, SHAPE) == Path("E/TrainingMeshes/7/d/c/i.v1.ply")
    assert experiment.evaluation_folder("latest") == Path("E/Evaluation/latest")


@pytest.mark.parametrize("name", ["../../x", "..", "a/b", "", "/etc/x"])
def test_a_checkpoints_name_stays_in_the_experiment(name: str) -> None:
    experiment = Experiment(Path("E"))
    for place in (
        experiment.model_path,
        experiment.optimizer_path,
        experiment.codes_path,
        experiment.evaluation_folder,
        lambda name: experiment.reconstructed_mesh_path(name, SHAPE),
        lambda name: experiment.reconstructed_code_path(name, SHAPE),
        lambda name: experiment.training_mesh_path(name, SHAPE),
    ):
        with pytest.raises(InputError, match=r"^the checkpoint's name: "):
            place(name)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data source at .*none; create one with `deepsdf preprocess -d .*none"):
        DataSource.open(tmp_path / "none")
    with pytest.raises(InputError, match=r"there is no experiment folder .*none"):
        Experiment.open(tmp_path / "none")
    with pytest.raises(InputError, match=r"is not an experiment: it has no specs.json"):
        Experiment.open(tmp_path)


def test_checkpoints_are_listed_by_epoch(toys: Toys) -> None:
    experiment = toys.experiment()
    assert experiment.checkpoints() == []
    (experiment.root / "ModelParameters").mkdir()
    for name in ("latest", "1000", "500", "99", ".99.1a2b.tmp"):
        (experiment.root / "ModelParameters" / f"{name}.pth").touch()
    assert experiment.checkpoints() == ["99", "500", "1000", "latest"]


def test_a_dataset_keeps_its_meshes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meshes").mkdir()
    data = DataSource(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    data.register("a", Path("meshes"))
    data.register("a", tmp_path / "meshes")
    data.register("b", tmp_path / "gone")
    assert json.loads(data.registry_path.read_text()) == {"a": str(tmp_path / "meshes"), "b": str(tmp_path / "gone")}
    with pytest.raises(InputError, match=r"the dataset 'a' of .* was made from .*/meshes, not from .*/other; .*--name"):
        data.register("a", Path("other"))
    assert json.loads(data.registry_path.read_text())["a"] == str(tmp_path / "meshes")
    assert data.meshes_of("a") == tmp_path / "meshes"
    assert data.meshes_of("b") is None
    assert data.meshes_of("c") is None
    assert DataSource(tmp_path).meshes_of("a") is None


def test_a_broken_registry(tmp_path: Path) -> None:
    data = DataSource(tmp_path)
    for content in ("[]", '{"a": 3}', "{"):
        data.registry_path.write_text(content)
        with pytest.raises(InputError, match=r"is not a data source registry"):
            data.meshes_of("a")
        with pytest.raises(InputError, match=r"is not a data source registry"):
            data.register("a", tmp_path)
        assert data.registry_path.read_text() == content


def test_a_normalization_goes_there_and_back(tmp_path: Path) -> None:
    data = DataSource(tmp_path)
    data.save_normalization(SHAPE, Normalization(np.array([0.1, -20.0, 3e-3]), 0.7))
    with np.load(data.normalization_path(SHAPE)) as arrays:
        assert sorted(arrays) == ["offset", "scale"]
        assert (arrays["offset"].shape, arrays["scale"].shape) == ((3,), (1,))
        assert arrays["offset"].dtype == arrays["scale"].dtype == np.float32
    found = data.load_normalization(SHAPE)
    np.testing.assert_allclose(found.offset, [0.1, -20.0, 3e-3], rtol=1e-6)
    assert found.scale == pytest.approx(0.7, rel=1e-6)
    points = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(found.invert(found.apply(points)), points, atol=1e-12)
    np.testing.assert_allclose(found.apply(points), (points + found.offset) * found.scale, atol=1e-12)


def save(path: Path, **arrays: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "arrays",
    [
        {"offset": np.zeros(3)},
        {"offset": np.zeros(2), "scale": np.ones(1)},
        {"offset": np.zeros(3), "scale": np.ones(2)},
        {"offset": np.array([0, np.nan, 0]), "scale": np.ones(1)},
        {"offset": np.zeros(3), "scale": np.zeros(1)},
        {"offset": np.zeros(3), "scale": np.array([-1.0])},
        {"offset": np.array(["a", "b", "c"]), "scale": np.ones(1)},
        {"offset": np.array([None, 0, 0]), "scale": np.ones(1)},
    ],
)
def test_a_normalization_that_is_none(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    data = DataSource(tmp_path)
    save(data.normalization_path(SHAPE), **arrays)
    with pytest.raises(InputError, match=r"i.v1.npz.*recreate it with `deepsdf preprocess --surface`"):
        data.load_normalization(SHAPE)


def test_a_normalization_file_cut_short_anywhere(tmp_path: Path) -> None:
    data = DataSource(tmp_path)
    path = data.normalization_path(SHAPE)
    with pytest.raises(InputError, match=r"there are no normalization parameters at .*i.v1.npz; recreate it"):
        data.load_normalization(SHAPE)
    data.save_normalization(SHAPE, Normalization.identity())
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"recreate it with"):
            data.load_normalization(SHAPE)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match=r"recreate it with"):
        data.load_normalization(SHAPE)


def test_surface_points_go_there_and_back(tmp_path: Path) -> None:
    data = DataSource(tmp_path)
    points = np.random.default_rng(0).normal(size=(50, 3))
    data.save_surface(SHAPE, points)
    np.testing.assert_allclose(data.load_surface(SHAPE), points, atol=1e-6)
    assert [path.name for path in data.surface_path(SHAPE).parent.iterdir()] == ["i.v1.ply"]


def test_surface_points_of_the_original_have_faces_beside_them(tmp_path: Path) -> None:
    data = DataSource(tmp_path)
    points = np.random.default_rng(0).normal(size=(30, 3))
    data.surface_path(SHAPE).parent.mkdir(parents=True)
    trimesh.Trimesh(points, np.arange(30).reshape(10, 3), process=False).export(data.surface_path(SHAPE))
    np.testing.assert_allclose(data.load_surface(SHAPE), points, atol=1e-6)


def test_surface_points_that_are_none(tmp_path: Path) -> None:
    data = DataSource(tmp_path)
    with pytest.raises(InputError, match=r"there are no surface points at"):
        data.load_surface(SHAPE)
    data.surface_path(SHAPE).parent.mkdir(parents=True)
    data.surface_path(SHAPE).write_bytes(b"ply\nformat")
    with pytest.raises(InputError, match=r"holds no readable points"):
        data.load_surface(SHAPE)


def test_missing_samples_are_an_input_error(toys: Toys) -> None:
    with pytest.raises(InputError, match=r"SdfSamples/d/c/i.v1.npz: no such file"):
        toys.data.load_samples(SHAPE)
    assert len(toys.data.load_samples(toys.shapes[0])) == 400
