"""Meshes found in folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trimesh

from deepsdf.errors import InputError
from deepsdf.geometry.formats import MESH_FORMATS
from deepsdf.library.sources import dataset_name, find_mesh, list_shapes
from deepsdf.splits import ShapeName


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".obj", ".ply", ".stl", ".off", ".glb"):
            trimesh.creation.box().export(path, file_type=path.suffix[1:].lower())
        else:
            path.write_text("nothing to see")
    return root


LAYOUTS = {
    "file a shape": {"cars/a.obj": ("cars", "a"), "cars/b.ply": ("cars", "b"), "mugs/a.stl": ("mugs", "a")},
    "folder a shape": {"cars/a/mesh.obj": ("cars", "a"), "cars/b/deep/er/model.off": ("cars", "b")},
    "ShapeNetCore": {"02691156/1a04/models/model_normalized.obj": ("02691156", "1a04")},
    "flat": {"a.obj": ("meshes", "a"), "b.glb": ("meshes", "b"), "c.STL": ("meshes", "c")},
    "all at once": {"a.obj": ("meshes", "a"), "cars/b.ply": ("cars", "b"), "cars/c/c.obj": ("cars", "c")},
    "dots in names": {"cars/v1.2.obj": ("cars", "v1.2"), "cars/x.y/m.obj": ("cars", "x.y")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_list_and_find_agree(tmp_path: Path, layout: str) -> None:
    files = LAYOUTS[layout]
    root = put(tmp_path / "meshes", *files)
    shapes = list_shapes(root)
    assert shapes == sorted(ShapeName("meshes", *names) for names in files.values())
    for file, names in files.items():
        assert find_mesh(root, ShapeName("meshes", *names)) == root / file


@pytest.mark.parametrize("suffix", [suffix for suffix in MESH_FORMATS if suffix != ".gltf"])
def test_every_suffix(tmp_path: Path, suffix: str) -> None:
    root = put(tmp_path, f"cars/a{suffix}", f"cars/b/mesh{suffix}")
    for shape in list_shapes(root, "toys"):
        assert shape.dataset == "toys"
        assert find_mesh(root, shape).suffix == suffix


def test_capital_suffixes_are_found(tmp_path: Path) -> None:
    root = put(tmp_path, "cars/a.OBJ", "cars/b/mesh.PLY")
    for shape in list_shapes(root):
        assert find_mesh(root, shape).is_file()


def test_a_folder_of_one_class_may_be_the_source_itself(tmp_path: Path) -> None:
    root = put(tmp_path / "cars", "a.obj")
    assert find_mesh(root, ShapeName("cars", "cars", "a")) == root / "a.obj"


def test_the_source_may_be_named_relatively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "cars", "a.obj")
    monkeypatch.chdir(tmp_path / "cars")
    assert dataset_name(".") == "cars"
    assert list_shapes(".") == [ShapeName("cars", "cars", "a")]
    assert find_mesh(".", ShapeName("cars", "cars", "a")) == Path("a.obj")


def test_hidden_and_other_files_are_not_seen(tmp_path: Path) -> None:
    root = put(tmp_path, "cars/a.obj", "cars/.b.obj", ".git/c/d.obj", "cars/.e/e.obj", "cars/f.txt", "cars/g/h.mtl")
    put(tmp_path, "cars/a2/mesh.obj", "cars/a2/.mesh.1234.tmp.obj")
    assert [shape.instance for shape in list_shapes(root)] == ["a", "a2"]
    assert find_mesh(root, ShapeName("x", "cars", "a2")).name == "mesh.obj"


def test_an_obj_goes_before_others_in_a_folder(tmp_path: Path) -> None:
    root = put(tmp_path, "cars/a/mesh.ply", "cars/a/mesh.obj", "cars/a/mesh.glb")
    assert find_mesh(root, ShapeName("x", "cars", "a")).name == "mesh.obj"


def test_the_top_goes_before_what_is_below(tmp_path: Path) -> None:
    root = put(tmp_path, "cars/a/mesh.ply", "cars/a/parts/wheel.obj", "cars/a/parts/door.obj")
    assert find_mesh(root, ShapeName("x", "cars", "a")) == root / "cars/a/mesh.ply"


def test_several_meshes_are_named(tmp_path: Path) -> None:
    root = put(tmp_path, "cars/a/one.obj", "cars/a/two.obj", "cars/b/x/one.ply", "cars/b/y/two.stl")
    with pytest.raises(InputError) as error:
        find_mesh(root, ShapeName("x", "cars", "a"))
    assert str(error.value) == f"x/cars/a has 2 meshes in {root / 'cars/a'} (one.obj, two.obj); keep one of them"
    with pytest.raises(InputError, match=r"has 2 meshes .* \(x/one\.ply, y/two\.stl\)"):
        find_mesh(root, ShapeName("x", "cars", "b"))


def test_the_same_name_with_several_suffixes(tmp_path: Path) -> None:
    """Beside each other they could be two shapes as well as one: the user says which."""
    root = put(tmp_path, "cars/a.ply", "cars/a.stl")
    with pytest.raises(InputError, match=r"2 meshes .* \(a\.ply, a\.stl\); keep one"):
        find_mesh(root, ShapeName("x", "cars", "a"))


def test_none(tmp_path: Path) -> None:
    root = put(tmp_path / "meshes", "cars/a/readme.txt")
    with pytest.raises(InputError, match=r"no mesh of x/cars/b in .*; supported layouts: SOURCE/<class>/<instance>"):
        find_mesh(root, ShapeName("x", "cars", "b"))
    with pytest.raises(InputError, match=r"no mesh of x/cars/a in .*cars/a \(\.obj, \.ply"):
        find_mesh(root, ShapeName("x", "cars", "a"))
    with pytest.raises(InputError, match=r"there are no meshes in .* \(\.obj, .*supported layouts"):
        list_shapes(root)
    shutil.rmtree(root)
    for attempt in (lambda: list_shapes(root), lambda: find_mesh(root, ShapeName("x", "cars", "a"))):
        with pytest.raises(InputError, match=f"there is no folder of meshes at {root}"):
            attempt()
