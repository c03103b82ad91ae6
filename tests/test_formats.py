"""A mesh or scan format is registered in one place, and every reader, search, message and help text knows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner

from deepsdf.cli import main
from deepsdf.errors import InputError, MeshError
from deepsdf.figures.subjects import of_file as subject_of
from deepsdf.geometry.formats import MESH_FORMATS, MeshFormat, written_suffixes
from deepsdf.geometry.meshes import load_mesh, save_mesh
from deepsdf.geometry.scanning.files import SCAN_FORMATS, Cloud, ScanFormat, load_scan, scan_suffixes
from deepsdf.library.sources import find_mesh, list_shapes
from deepsdf.splits import ShapeName
from deepsdf.viewer.content.previews import preview_file
from deepsdf.viewer.content.uploads import upload_suffixes

DOCS = Path(__file__).parent.parent / "docs"


def _read_box(path: Path) -> trimesh.Trimesh:
    """The toy mesh format: a text file with the three sides of a box."""
    return trimesh.creation.box([float(word) for word in path.read_text().split()])


def _write_box(mesh: trimesh.Trimesh, path: Path, normals: bool) -> None:
    path.write_text(" ".join(map(str, mesh.extents)))


def _read_points(path: Path, seed: int) -> Cloud:
    """The toy scan format: raw float64 triples."""
    return Cloud(np.fromfile(path).reshape(-1, 3))


@pytest.fixture
def toy_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MESH_FORMATS, ".boxes", MeshFormat(".boxes", "sides of a box", _read_box, _write_box))
    monkeypatch.setitem(SCAN_FORMATS, ".raw", ScanFormat(".raw", "float64 triples", _read_points))


def help_of(verb: str) -> str:
    shown = CliRunner().invoke(main, [verb, "--help"])
    assert shown.exit_code == 0
    return " ".join(shown.output.split())


@pytest.mark.usefixtures("toy_formats")
def test_one_entry_registers_a_mesh_format(tmp_path: Path) -> None:
    path = tmp_path / "cars" / "a.boxes"
    save_mesh(trimesh.creation.box((1, 2, 3)), path)
    mesh = load_mesh(path)
    assert mesh.volume == pytest.approx(6)
    assert list_shapes(tmp_path, "toys") == [ShapeName("toys", "cars", "a")]
    assert find_mesh(tmp_path, ShapeName("toys", "cars", "a")) == path
    assert np.ptp(load_scan(path).points, axis=0) == pytest.approx([1, 2, 3], rel=0.01)
    for seen in (subject_of(path, "cpu").mesh, preview_file(path).mesh):
        assert seen is not None
        assert len(seen.faces) == 12
    assert ".boxes" in upload_suffixes()
    with pytest.raises(MeshError, match=r"a mesh is one of .*\.gltf, \.boxes$"):
        load_mesh(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"is written as one of .*\.glb, \.boxes$"):
        save_mesh(mesh, tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"there are no meshes in .*\.boxes\)"):
        list_shapes(DOCS)
    for verb in ("preprocess", "render", "interpolate", "complete", "edit"):
        assert ".boxes" in help_of(verb), verb


@pytest.mark.usefixtures("toy_formats")
def test_one_entry_registers_a_scan_format(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    points.tofile(tmp_path / "a.raw")
    np.testing.assert_array_equal(load_scan(tmp_path / "a.raw").points, points)
    shown = preview_file(tmp_path / "a.raw").points
    assert shown is not None
    assert len(shown) == 50
    assert ".raw" in upload_suffixes()
    with pytest.raises(InputError, match=r"a scan is one of .*\.json, \.raw$"):
        load_scan(tmp_path / "a.txt")
    for verb in ("interpolate", "complete"):
        assert ".raw" in help_of(verb), verb


def test_help_is_not_changed_by_being_shown() -> None:
    assert help_of("complete") == help_of("complete")
    assert "{" not in help_of("complete")
    assert not {".boxes", ".raw"} & {*MESH_FORMATS, *SCAN_FORMATS}


def test_entries_are_consistent() -> None:
    for registry in (MESH_FORMATS, SCAN_FORMATS):
        for suffix, entry in registry.items():
            assert entry.suffix == suffix == suffix.lower()
            assert entry.description


def test_a_depth_map_cannot_be_uploaded_without_its_json() -> None:
    assert set(scan_suffixes()) - set(scan_suffixes(complete=True)) == {".png", ".json"}


def test_the_docs_list_every_format() -> None:
    rows = [line for line in (DOCS / "formats.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `.")]
    listed = {row.split("`")[1]: "| yes" in row for row in rows if row.split("`")[1] in MESH_FORMATS}
    assert listed == {suffix: suffix in written_suffixes() for suffix in MESH_FORMATS}
    scans = (DOCS / "completion.md").read_text(encoding="utf-8").split("## Scan files")[1]
    for suffix in SCAN_FORMATS:
        assert f"`{suffix}`" in scans, suffix
