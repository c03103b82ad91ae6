"""Scans in files: point clouds, partial meshes, depth maps."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh

from deepsdf.errors import InputError
from deepsdf.files import read_json
from deepsdf.geometry.meshes import MESH_SUFFIXES, load_mesh
from deepsdf.geometry.scanning.scan import POINTS, Scan
from deepsdf.geometry.sdf.sampling import area_points

SCAN_SUFFIXES = (".ply", ".pcd", ".xyz", ".npy", ".png", ".json", *(s for s in MESH_SUFFIXES if s != ".ply"))

_CAMERA = ("view_px", "view_py", "view_pz")  # MeshLab's and Stanford's element in a .ply
_UNIT = 0.02  # how far from 1 the length of what may be normals or colours


def load_scan(path: str | os.PathLike[str], *, camera: np.ndarray | Any = None, seed: int = 0) -> Scan:
    """See `Scan.load`."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SCAN_SUFFIXES:
        raise InputError(
            f"{path}: cannot read {suffix or 'files without a suffix'}; a scan is one of {', '.join(SCAN_SUFFIXES)}"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if suffix == ".json":
            return _views(path, seed)
        if suffix == ".png" or (suffix == ".npy" and _is_depth(path)):
            return _views(path.with_suffix(".json"), seed, path)
        cloud = _READERS.get(suffix, _mesh)(path, seed)
        place = cloud.camera if camera is None else camera
        # A mesh's faces may be wound either way; with a camera they need not tell.
        normals = None if cloud.wound and place is not None else cloud.normals
        return Scan.from_points(cloud.points, normals, place, seed=seed)
    except InputError as error:
        raise error if str(path) in str(error) else type(error)(f"{path}: {error}") from None


class Cloud(NamedTuple):
    """Points (n, 3), normals (n, 3), the camera's place (3,); `wound`: the normals are those of a mesh's faces."""

    points: np.ndarray
    normals: np.ndarray | None = None
    camera: np.ndarray | None = None
    wound: bool = False


def _ply(path: Path, seed: int) -> Cloud:
    with path.open("rb") as file:
        loaded = _parsed(path, lambda: trimesh.load(file, file_type="ply", process=False))
    if not hasattr(loaded, "vertices"):  # trimesh makes an empty scene of a file without vertices
        raise InputError("holds no points")
    raw = loaded.metadata.get("_ply_raw", {})

    def columns(element: str, names: tuple[str, ...]) -> np.ndarray | None:
        data = raw.get(element, {}).get("data", {})
        found = data.dtype.names if isinstance(data, np.ndarray) else data
        if not found or any(name not in found for name in names):
            return None
        return np.column_stack([np.asarray(data[name], np.float64).ravel() for name in names])

    places = columns("camera", _CAMERA)
    camera = None if places is None or len(places) != 1 else places[0]
    if isinstance(loaded, trimesh.Trimesh) and len(loaded.faces):
        return _mesh(path, seed)._replace(camera=camera)
    return Cloud(np.asarray(loaded.vertices, np.float64), columns("vertex", ("nx", "ny", "nz")), camera)


def _mesh(path: Path, seed: int) -> Cloud:
    """A partial mesh: points of its faces, with their normals as wound."""
    mesh = load_mesh(path)
    rng = np.random.default_rng(seed)
    points, _, normals = area_points(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces), POINTS, rng)
    return Cloud(points, normals, wound=True)


def _pcd(path: Path, seed: int) -> Cloud:
    from pypcd4 import PointCloud  # pyright: ignore[reportPrivateImportUsage]

    cloud = _parsed(path, lambda: PointCloud.from_path(path))
    if missing := [name for name in ("x", "y", "z") if name not in cloud.fields]:
        raise InputError(f"has no field {', '.join(missing)}, only {', '.join(cloud.fields)}")
    points = cloud.numpy(("x", "y", "z")).astype(np.float64)
    names = ("normal_x", "normal_y", "normal_z")
    normals = cloud.numpy(names).astype(np.float64) if set(names) <= set(cloud.fields) else None
    place = np.array(tuple(cloud.metadata.viewpoint)[:3], np.float64)
    # 0 0 0 is what programs write that know of none
    return Cloud(points, normals, place if place.any() else None)


def _xyz(path: Path, seed: int) -> Cloud:
    def read() -> np.ndarray:
        with path.open(encoding="utf-8", errors="strict") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which is told below
            return np.loadtxt(file, np.float64, ndmin=2)

    return _columns(_parsed(path, read))


def _npy(path: Path, seed: int) -> Cloud:
    return _columns(np.asarray(_read_npy(path), np.float64))


def _columns(rows: np.ndarray) -> Cloud:
    """x y z, and normals where the next three columns have length 1; others are colours or the like."""
    if rows.ndim != 2 or rows.shape[1] < 3:
        raise InputError(f"holds numbers of shape {rows.shape}; rows x y z, or x y z nx ny nz, were expected")
    normals = None
    if rows.shape[1] >= 6:
        length = np.linalg.norm(rows[:, 3:6], axis=1)
        if np.nanmean(np.abs(length - 1) < _UNIT) > 0.9:
            normals = rows[:, 3:6]
    return Cloud(rows[:, :3], normals)


_READERS = {".ply": _ply, ".pcd": _pcd, ".xyz": _xyz, ".npy": _npy}


def _read_npy(path: Path) -> np.ndarray:
    array = _parsed(path, lambda: np.load(path, allow_pickle=False))
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError("holds no array of numbers; points (n, 3) or (n, 6), or a depth map (h, w), were expected")
    return array


def _is_depth(path: Path) -> bool:
    array = _read_npy(path)
    return array.ndim == 2 and array.shape[1] not in (3, 6)


def _views(path: Path, seed: int, depth: Path | None = None) -> Scan:
    """Depth maps by their .json: one view, or a list `views`; `depth` is the map that the .json stands beside."""
    if depth is not None and not path.is_file():
        raise InputError(
            f"{depth} is a depth map, and there is no {path.name} beside it with its intrinsics and pose; "
            'write one: {"intrinsics": {"width": w, "height": h, "fx": ..., "fy": ..., "cx": ..., "cy": ...}, '
            '"pose": [[...], ...], "convention": "open3d", "depth_scale": 0.001}'
        )
    content = read_json(path, "a JSON of depth cameras")
    views = content.get("views", [content]) if isinstance(content, Mapping) else None
    if not isinstance(views, list) or not views or not all(isinstance(view, Mapping) for view in views):
        raise InputError(f"{path}: one view {{depth, intrinsics, pose}}, or {{views: [...]}} of such was expected")
    if depth is not None and len(views) != 1:
        raise InputError(f"{path} names {len(views)} views; give it instead of {depth}")
    shared = {key: value for key, value in content.items() if key != "views"}
    return Scan.join([_view(path, {**shared, **view}, depth, seed + number) for number, view in enumerate(views)])


_KEYS = {"depth", "intrinsics", "pose", "convention", "depth_scale"}
_OPEN3D = {"intrinsic", "extrinsic"}


def _view(path: Path, view: Mapping[str, Any], depth: Path | None, seed: int) -> Scan:
    if _OPEN3D <= set(view):  # its own PinholeCameraParameters, stored by columns
        try:
            matrix = np.array(view["intrinsic"]["intrinsic_matrix"], np.float64).reshape(3, 3).T
            size = {name: view["intrinsic"][name] for name in ("width", "height")}
            pose = np.array(view["extrinsic"], np.float64).reshape(4, 4).T
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: Open3D's intrinsic or extrinsic is broken ({error})") from None
        numbers = dict(zip(("fx", "fy", "cx", "cy"), matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist(), strict=True))
        kept = {key: value for key, value in view.items() if key in _KEYS}
        view = {**kept, "intrinsics": size | numbers, "pose": pose}
    elif unknown := sorted(set(view) - _KEYS):
        raise InputError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}, and views")
    if "intrinsics" not in view:
        raise InputError(f"{path}: the key 'intrinsics' is missing")
    file = depth or _beside(path, view.get("depth"))
    image = _image(file) if file.suffix.lower() == ".png" else _read_npy(file)
    whole = image.dtype.kind in "iu"
    try:
        scale = float(view.get("depth_scale", 0.001 if whole else 1.0))
        return Scan.from_depth(
            image, view["intrinsics"], view.get("pose"), convention=view.get("convention", "open3d"),
            depth_scale=scale, seed=seed,
        )  # fmt: skip
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"{path}, {file.name}: {error}") from None


def _beside(path: Path, name: Any) -> Path:
    """A depth map that a .json names: in its own folder, or below."""
    if not isinstance(name, str) or not name:
        raise InputError(f"{path}: the key 'depth', the name of a .png or .npy beside it, is missing")
    file = (path.parent / name).resolve()
    if not file.is_relative_to(path.parent.resolve()):
        raise InputError(f"{path}: the depth map {name!r} lies outside its folder; copy it there")
    if file.suffix.lower() not in (".png", ".npy") or not file.is_file():
        raise InputError(f"{path}: there is no depth map {name!r} (.png or .npy) beside it")
    return file


def _image(path: Path) -> np.ndarray:
    from PIL import Image

    def read() -> np.ndarray:
        with Image.open(path) as image:
            if image.mode not in ("I;16", "I;16B", "I"):
                raise InputError(f"its pixels are {image.mode}; a depth map has one channel of 16 bits")
            return np.array(image).astype(np.int64)

    return _parsed(path, read)


def _parsed(path: Path, read: Any) -> Any:
    try:
        return read()
    except InputError:
        raise
    except Exception as error:  # every parser fails in its own way
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: cannot be read: {words}") from None
