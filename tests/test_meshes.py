"""Loading, cleaning and normalising meshes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from deepsdf.errors import MeshError
from deepsdf.geometry.formats import MESH_FORMATS
from deepsdf.geometry.meshes import Normalization, clean_mesh, load_mesh


def build(vertices, faces) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices, faces, process=False)


@pytest.mark.parametrize("suffix", MESH_FORMATS)
def test_every_suffix_keeps_the_geometry(suffix: str, tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere(2).apply_translation((1, 2, 3))
    path = tmp_path / f"ball{suffix}"
    if suffix == ".gltf":
        files = trimesh.Scene(mesh).export(file_type="gltf")
        assert isinstance(files, dict)
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        path = next(tmp_path.glob("*.gltf"))
    else:
        mesh.export(path)
    found = load_mesh(path)
    assert len(found.faces) == len(mesh.faces)
    assert found.vertices.dtype == np.float64
    np.testing.assert_allclose(found.triangles, mesh.triangles, atol=1e-6)


def test_suffix_in_capitals(tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / "box.stl")
    (tmp_path / "box.stl").rename(tmp_path / "BOX.STL")
    assert len(load_mesh(tmp_path / "BOX.STL").faces) == 12


def test_parts_of_a_scene_are_joined_with_their_transforms(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box(), transform=trimesh.transformations.translation_matrix((5, 0, 0)))
    scene.add_geometry(trimesh.creation.box(), transform=trimesh.transformations.translation_matrix((-5, 0, 0)))
    scene.export(tmp_path / "two.glb")
    mesh = load_mesh(tmp_path / "two.glb")
    assert len(mesh.faces) == 24
    np.testing.assert_allclose(mesh.bounds, [[-5.5, -0.5, -0.5], [5.5, 0.5, 0.5]])


def test_vertices_are_not_merged(tmp_path: Path) -> None:
    corners = trimesh.creation.box().triangles.reshape(-1, 3)
    build(corners, np.arange(36).reshape(12, 3)).export(tmp_path / "soup.ply")
    assert len(load_mesh(tmp_path / "soup.ply").vertices) == 36


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gone.obj", None, "no such file"),
        ("mesh.txt", "v 0 0 0", "a mesh is one of .obj, .ply"),
        ("bad.ply", "this is no ply", "cannot be read as ply"),
        ("points.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no faces"),
        ("nan.obj", "v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "1 of 3 vertices are NaN or infinite"),
        ("inf.obj", "v inf 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN or infinite"),
        ("dot.obj", "v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "all faces lie in one point"),
    ],
)
def test_errors_name_the_file_and_the_reason(name: str, text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(MeshError, match=words) as caught:
        load_mesh(tmp_path / name)
    assert name in str(caught.value)


def test_materials_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.mtl").write_text("newmtl m\nKd 1 0 0\n")
    folder = tmp_path / "meshes"
    folder.mkdir()
    text = "mtllib ../secret.mtl\nmtllib missing.mtl\nusemtl m\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    (folder / "a.obj").write_text(text)
    assert len(load_mesh(folder / "a.obj").faces) == 1


def _triangle_gltf(uri: str) -> tuple[str, bytes]:
    data = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32).tobytes() + np.array([0, 1, 2], np.uint32).tobytes()
    tree = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "buffers": [{"uri": uri, "byteLength": len(data)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 12},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 0]},
            {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"},
        ],
    }  # fmt: skip
    return json.dumps(tree), data


@pytest.mark.parametrize("uri", ["../outside.bin", "%2e%2e/outside.bin", "{absolute}", "link.bin"])
def test_a_gltf_reads_nothing_outside_its_folder(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "meshes"
    folder.mkdir()
    text, data = _triangle_gltf(uri.replace("{absolute}", str(tmp_path / "outside.bin")))
    (tmp_path / "outside.bin").write_bytes(data)
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    (folder / "a.gltf").write_text(text)
    with pytest.raises(MeshError, match="outside its own folder"):
        load_mesh(folder / "a.gltf")


def test_a_gltf_reads_its_own_buffers(tmp_path: Path) -> None:
    text, data = _triangle_gltf("my%20data.bin")
    (tmp_path / "my data.bin").write_bytes(data)
    (tmp_path / "a.gltf").write_text(text)
    assert len(load_mesh(tmp_path / "a.gltf").faces) == 1
    uri = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    (tmp_path / "b.gltf").write_text(_triangle_gltf(uri)[0])
    assert len(load_mesh(tmp_path / "b.gltf").faces) == 1


def test_normalisation_equals_that_of_the_original() -> None:
    box = trimesh.creation.box((2, 4, 4)).apply_translation((10, 0, -3))
    stray = build(np.concatenate([box.vertices, [[1e3, 1e3, 1e3]]]), box.faces)  # no face uses it
    norm = Normalization.fit(stray)
    np.testing.assert_allclose(norm.offset, [-10, 0, 3])
    assert norm.scale == pytest.approx(1 / (1.03 * 3))
    assert np.linalg.norm(norm.apply(box.vertices), axis=1).max() == pytest.approx(1 / 1.03)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3),
    st.floats(1e-3, 1e3),
    st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3),
)
def test_normalisation_and_its_inverse(offset: list[float], scale: float, point: list[float]) -> None:
    norm = Normalization(np.array(offset), scale)
    np.testing.assert_allclose(norm.invert(norm.apply(np.array([point]))), [point], atol=1e-9)


def test_normalised_meshes_are_copies() -> None:
    mesh = trimesh.creation.box().apply_translation((3, 0, 0))
    before = mesh.vertices.copy()
    norm = Normalization.fit(mesh)
    np.testing.assert_allclose(norm.invert_mesh(norm.apply_mesh(mesh)).vertices, before)
    np.testing.assert_array_equal(mesh.vertices, before)
    np.testing.assert_array_equal(Normalization.identity().apply(before), before)


def test_a_mesh_without_extent_cannot_be_normalised() -> None:
    with pytest.raises(MeshError, match="radius 0"):
        Normalization.fit(build(np.ones((3, 3)), [[0, 1, 2]]))
    with pytest.raises(MeshError, match="without faces"):
        Normalization.fit(build(np.ones((3, 3)), np.zeros((0, 3), int)))
    with pytest.raises(MeshError, match=r"scale is 0\.0; expected a positive number"):
        Normalization(np.zeros(3), 0.0)


def test_cleaning_counts_removed_faces() -> None:
    box = trimesh.creation.box()
    soup = box.triangles.reshape(-1, 3)
    faces = np.arange(36).reshape(12, 3)
    line = [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    mesh = build(
        np.concatenate([soup, line, [[9, 9, 9]]]),
        np.concatenate([faces, faces[:5, ::-1], faces[:2], [[36, 37, 38], [0, 0, 1]]]),
    )
    clean = clean_mesh(mesh)
    assert (clean.degenerate, clean.doubled) == (2, 7)
    assert clean.mesh.is_watertight
    assert len(clean.mesh.vertices) == 8
    np.testing.assert_array_equal(clean.source_faces, np.arange(12))


def test_a_mesh_without_area_cannot_be_cleaned() -> None:
    with pytest.raises(MeshError, match="no area"):
        clean_mesh(build([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]]))
