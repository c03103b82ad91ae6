"""Scan files: what was written is read back, and unusable files raise errors that name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image
from pypcd4 import Encoding, PointCloud  # pyright: ignore[reportPrivateImportUsage]

from deepsdf.errors import InputError
from deepsdf.geometry.scanning.depth_camera import DepthCamera
from deepsdf.geometry.scanning.files import load_scan
from deepsdf.geometry.scanning.scan import Scan, render_depth, scan

EYE = np.array([0.0, 0.4, 2.5])


@pytest.fixture(scope="module")
def seen() -> Scan:
    return scan(trimesh.creation.icosphere(3, radius=0.7), EYE, 64, device="cpu")


def ascii_ply(path: Path, rows: np.ndarray, camera: np.ndarray | None) -> None:
    names = ["x", "y", "z", "nx", "ny", "nz"][: rows.shape[1]]
    header = ["ply", "format ascii 1.0", f"element vertex {len(rows)}", *(f"property float {name}" for name in names)]
    if camera is not None:
        header += ["element camera 1", *(f"property float view_p{axis}" for axis in "xyz")]
    lines = [" ".join(map(str, row)) for row in [*rows, *([] if camera is None else [camera])]]
    path.write_text("\n".join([*header, "end_header", *lines]) + "\n")


def pcd(path: Path, rows: np.ndarray, camera: np.ndarray | None, encoding: Any = "binary_compressed") -> None:
    names = ["x", "y", "z", "normal_x", "normal_y", "normal_z"][: rows.shape[1]]
    cloud = PointCloud.from_points(rows.astype(np.float32), names, [np.float32] * len(names))
    if camera is not None:
        cloud.metadata.viewpoint = (*camera.tolist(), 1.0, 0.0, 0.0, 0.0)
    cloud.save(path, encoding=Encoding(encoding))


def test_clouds_with_normals_and_camera(tmp_path: Path, seen: Scan) -> None:
    rows = np.hstack([seen.points, seen.normals])
    ascii_ply(tmp_path / "a.ply", rows, EYE)
    np.savetxt(tmp_path / "a.xyz", rows)
    np.save(tmp_path / "a.npy", rows)
    files = ["a.ply", "a.xyz", "a.npy"]
    for encoding in ("ascii", "binary", "binary_compressed"):
        pcd(tmp_path / f"{encoding}.pcd", rows, EYE, encoding)
        files.append(f"{encoding}.pcd")
    for name in files:
        found = load_scan(tmp_path / name)
        np.testing.assert_allclose(found.points, seen.points, atol=1e-6)
        np.testing.assert_allclose(found.normals, seen.normals, atol=1e-5)
        assert found.oriented.all()
        camera = np.nan if name in ("a.xyz", "a.npy") else EYE
        np.testing.assert_allclose(found.cameras, np.broadcast_to(camera, seen.points.shape), atol=1e-6)


def test_clouds_without_normals(tmp_path: Path, seen: Scan) -> None:
    ascii_ply(tmp_path / "a.ply", seen.points, None)
    np.savetxt(tmp_path / "a.xyz", seen.points)
    np.savetxt(tmp_path / "colours.xyz", np.hstack([seen.points, np.full_like(seen.points, 128)]))
    np.save(tmp_path / "a.npy", seen.points.astype(np.float32))
    pcd(tmp_path / "a.pcd", seen.points, None)
    for name in ("a.ply", "a.xyz", "colours.xyz", "a.npy", "a.pcd"):
        found = load_scan(tmp_path / name)
        np.testing.assert_allclose(found.points, seen.points, atol=1e-6)
        assert not found.oriented.any()
        known = load_scan(tmp_path / name, camera=EYE)
        assert known.oriented.all()
        assert np.einsum("ni,ni->n", known.normals, seen.normals).min() > 0.99


def test_a_partial_mesh(tmp_path: Path) -> None:
    sphere = trimesh.creation.icosphere(3, radius=0.7)
    upper = sphere.submesh([np.flatnonzero(sphere.triangles_center[:, 2] > 0.2)], append=True)
    assert isinstance(upper, trimesh.Trimesh)
    for name in ("half.ply", "half.obj"):
        upper.export(tmp_path / name)
        found = load_scan(tmp_path / name)
        assert found.points[:, 2].min() > 0.1
        assert np.einsum("ni,ni->n", found.normals, found.points / 0.7).min() > 0.98
        assert found.oriented.all()
    upper.invert()
    upper.export(tmp_path / "inside_out.ply")
    found = load_scan(tmp_path / "inside_out.ply", camera=(0, 0, 3))
    assert np.einsum("ni,ni->n", found.normals, found.points / 0.7).min() > 0.95


@pytest.fixture
def depth_files(tmp_path: Path) -> tuple[Path, Scan, dict[str, Any]]:
    camera = DepthCamera.look_at(EYE, resolution=64)
    depth = render_depth(trimesh.creation.icosphere(3, radius=0.7), camera, device="cpu")
    np.save(tmp_path / "view.npy", depth.astype(np.float32))
    whole = np.where(np.isfinite(depth), np.rint(depth * 10_000), 0).astype(np.uint16)
    Image.fromarray(whole).save(tmp_path / "view.png")
    (fx, fy), (cx, cy) = camera.focal, camera.principal - 0.5
    view = {
        "intrinsics": {"width": 64, "height": 64, "fx": fx, "fy": fy, "cx": cx, "cy": cy},
        "pose": np.linalg.inv(camera.pose).tolist(),
    }
    return tmp_path, scan(trimesh.creation.icosphere(3, radius=0.7), camera, device="cpu"), view


def test_depth_maps_beside_their_json(depth_files: tuple[Path, Scan, dict[str, Any]]) -> None:
    folder, seen, view = depth_files
    (folder / "view.json").write_text(json.dumps(view))
    np.testing.assert_allclose(load_scan(folder / "view.npy").points, seen.points, atol=1e-6)
    (folder / "view.json").write_text(json.dumps({**view, "depth_scale": 1e-4}))
    np.testing.assert_allclose(load_scan(folder / "view.png").points, seen.points, atol=1e-3)
    assert not len(load_scan(folder / "view.png").empty)


def test_a_json_of_several_views_and_open3d_s_own(depth_files: tuple[Path, Scan, dict[str, Any]]) -> None:
    folder, seen, view = depth_files
    both = {"depth_scale": 1e-4, "views": [{**view, "depth": "view.png"}, {**view, "depth": "view.png"}]}
    (folder / "views.json").write_text(json.dumps(both))
    assert len(load_scan(folder / "views.json")) == 2 * len(seen)
    numbers = view["intrinsics"]
    matrix = np.array([[numbers["fx"], 0, numbers["cx"]], [0, numbers["fy"], numbers["cy"]], [0, 0, 1]])
    open3d = {
        "class_name": "PinholeCameraParameters",
        "extrinsic": np.array(view["pose"]).T.ravel().tolist(),
        "intrinsic": {"width": 64, "height": 64, "intrinsic_matrix": matrix.T.ravel().tolist()},
        "version_major": 1,
        "version_minor": 0,
    }
    (folder / "view.json").write_text(json.dumps(open3d))
    np.testing.assert_allclose(load_scan(folder / "view.npy").points, seen.points, atol=1e-6)


def test_unusable_files(depth_files: tuple[Path, Scan, dict[str, Any]]) -> None:
    folder, _, view = depth_files
    (folder / "empty.xyz").write_text("")
    (folder / "words.xyz").write_text("a b c\n")
    (folder / "three.xyz").write_text("0 0 0\n1 0 0\n0 1 0\n")
    (folder / "broken.ply").write_text("ply\nformat")
    (folder / "broken.pcd").write_text("VERSION .7\nFIELDS x y\n")
    Image.open(folder / "view.png").save(folder / "grey.png")
    np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    Image.new("RGB", (64, 64)).save(folder / "colour.png")
    (folder / "colour.json").write_text(json.dumps(view))
    (folder / "away.json").write_text(json.dumps({**view, "depth": "../view.png"}))
    (folder / "gone.json").write_text(json.dumps({**view, "depth": "gone.png"}))
    (folder / "none.json").write_text(json.dumps(view))
    (folder / "typo.json").write_text(json.dumps({**view, "depth": "view.png", "poses": 1}))
    (folder / "blind.json").write_text(json.dumps({"depth": "view.png"}))
    (folder / "list.json").write_text("[]")
    (folder / "words.json").write_text(json.dumps({**view, "depth": "view.png", "depth_scale": "mm"}))
    for name, message in {
        "gone.ply": r"gone\.ply: no such file",
        "scan.las": r"cannot read \.las; a scan is one of \.obj, .*, \.gltf, \.pcd, \.xyz, \.npy, \.png, \.json$",
        "empty.xyz": r"empty\.xyz: ",
        "words.xyz": r"words\.xyz: cannot be read: could not convert",
        "three.xyz": r"three\.xyz: the scan has 3 usable points of 3; it needs at least 20",
        "broken.ply": r"broken\.ply: cannot be read",
        "broken.pcd": r"broken\.pcd: ",
        "objects.npy": r"objects\.npy: cannot be read: Object arrays cannot be loaded",
        "grey.png": r"grey\.png is a depth map without camera: there is no grey\.json beside it .*\. Create it as \{",
        "colour.png": r"colour\.png: pixel format is RGB; expected one 16-bit channel of depths",
        "away.json": r"the depth map '\.\./view\.png' lies outside the folder of the JSON",
        "gone.json": r"there is no depth map 'gone\.png'",
        "none.json": r"the key 'depth' is missing; expected the name of a \.png or \.npy beside it",
        "typo.json": r"unknown key 'poses'; known keys are convention, depth, depth_scale, intrinsics, pose and views",
        "blind.json": r"the key 'intrinsics' is missing",
        "list.json": r"expected one view \{depth, intrinsics, pose\} or \{views: ",
        "words.json": r"words\.json, view\.png: could not convert string to float: 'mm'",
    }.items():
        with pytest.raises(InputError, match=message):
            load_scan(folder / name)
