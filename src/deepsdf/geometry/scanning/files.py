"""Reads scans from files: point clouds, partial meshes and depth maps.

To add a format, add one entry to `SCAN_FORMATS`. A mesh file is also a scan (points are drawn on its faces), and mesh
formats are registered in `deepsdf.geometry.formats` only. Help texts, error messages and the viewer derive from both.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh

from deepsdf.errors import InputError
from deepsdf.files import read_json
from deepsdf.geometry.formats import MESH_FORMATS
from deepsdf.geometry.meshes import load_mesh
from deepsdf.geometry.scanning.scan import POINTS, Scan
from deepsdf.geometry.sdf.sampling import area_points


class Cloud(NamedTuple):
    """Points in a file, before they become a `Scan`.

    Attributes:
        points: (n, 3) float64.
        normals: (n, 3) float64, or None.
        camera: (3,) float64, the camera position stored in the file, or None.
        from_faces: the normals are face normals of a mesh, so their orientation depends on the winding.
    """

    points: np.ndarray
    normals: np.ndarray | None = None
    camera: np.ndarray | None = None
    from_faces: bool = False


@dataclass(frozen=True)
class ScanFormat:
    """A scan file format.

    Attributes:
        suffix: lower case, with the dot.
        description: one line, for documentation.
        read: takes the path and a seed (for drawing points); returns the points, or a whole scan for depth maps. An
            `InputError` need not name the file; `load_scan` adds it.
        complete: one file holds the scan; False: a second file is needed beside it, so it cannot be uploaded alone.
    """

    suffix: str
    description: str
    read: Callable[[Path, int], Cloud | Scan]
    complete: bool = True


def scan_suffixes(*, complete: bool = False) -> tuple[str, ...]:
    """Suffixes that `load_scan` reads: mesh formats, then the other scan formats.

    Args:
        complete: only formats in which one file holds the scan.
    """
    others = (suffix for suffix, kind in SCAN_FORMATS.items() if kind.complete or not complete)
    return tuple(dict.fromkeys((*MESH_FORMATS, *others)))


def load_scan(path: str | os.PathLike[str], *, camera: np.ndarray | Any = None, seed: int = 0) -> Scan:
    """Read a scan: a point cloud, a mesh (points are drawn on its faces), or depth maps with their cameras.

    docs/completion.md lists what each format may contain.

    Args:
        path: a file of one of `scan_suffixes()`.
        camera: (3,), camera position in the scan's frame; replaces the one stored in the file. Ignored for depth maps,
            which have their own.
        seed: for drawing points on faces and for choosing which points to keep.
    Raises:
        InputError: the file does not exist, has another suffix, cannot be parsed or holds too few points.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in scan_suffixes():
        raise InputError(
            f"{path}: cannot read {suffix or 'files without a suffix'}; a scan is one of {', '.join(scan_suffixes())}"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        content = SCAN_FORMATS[suffix].read(path, seed) if suffix in SCAN_FORMATS else _mesh(path, seed)
        if isinstance(content, Scan):
            return content
        position = content.camera if camera is None else camera
        # A partial mesh may be wound either way. A known camera orients normals reliably, so then they are estimated.
        normals = None if content.from_faces and position is not None else content.normals
        return Scan.from_points(content.points, normals, position, seed=seed)
    except InputError as error:
        raise error if str(path) in str(error) else type(error)(f"{path}: {error}") from None


# Point clouds and meshes


def _ply(path: Path, seed: int) -> Cloud:
    with path.open("rb") as file:
        loaded = _parsed(path, lambda: trimesh.load(file, file_type="ply", process=False))
    if not hasattr(loaded, "vertices"):  # trimesh returns an empty scene for a file without vertices
        raise InputError("holds no points")
    raw = loaded.metadata.get("_ply_raw", {})

    def columns(element: str, names: tuple[str, ...]) -> np.ndarray | None:
        data = raw.get(element, {}).get("data", {})
        found = data.dtype.names if isinstance(data, np.ndarray) else data
        if not found or any(name not in found for name in names):
            return None
        return np.column_stack([np.asarray(data[name], np.float64).ravel() for name in names])

    # the element that MeshLab and the Stanford tools write
    positions = columns("camera", ("view_px", "view_py", "view_pz"))
    camera = None if positions is None or len(positions) != 1 else positions[0]
    if isinstance(loaded, trimesh.Trimesh) and len(loaded.faces):
        return _mesh(path, seed)._replace(camera=camera)
    return Cloud(np.asarray(loaded.vertices, np.float64), columns("vertex", ("nx", "ny", "nz")), camera)


def _mesh(path: Path, seed: int) -> Cloud:
    """Random points on the faces of a partial mesh, with the face normals."""
    mesh = load_mesh(path)
    rng = np.random.default_rng(seed)
    points, _, normals = area_points(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces), POINTS, rng)
    return Cloud(points, normals, from_faces=True)


def _pcd(path: Path, seed: int) -> Cloud:
    from pypcd4 import PointCloud  # pyright: ignore[reportPrivateImportUsage]

    cloud = _parsed(path, lambda: PointCloud.from_path(path))
    if missing := [name for name in ("x", "y", "z") if name not in cloud.fields]:
        raise InputError(f"has no field {', '.join(missing)}, only {', '.join(cloud.fields)}")
    points = cloud.numpy(("x", "y", "z")).astype(np.float64)
    names = ("normal_x", "normal_y", "normal_z")
    normals = cloud.numpy(names).astype(np.float64) if set(names) <= set(cloud.fields) else None
    viewpoint = np.array(tuple(cloud.metadata.viewpoint)[:3], np.float64)
    # programs that know no camera position write 0 0 0
    return Cloud(points, normals, viewpoint if viewpoint.any() else None)


def _xyz(path: Path, seed: int) -> Cloud:
    def read() -> np.ndarray:
        with path.open(encoding="utf-8", errors="strict") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns about an empty file, which _columns reports as an error
            return np.loadtxt(file, np.float64, ndmin=2)

    return _columns(_parsed(path, read))


def _npy(path: Path, seed: int) -> Cloud | Scan:
    """Points (n, 3) or (n, 6); an array of any other width is a depth map."""
    array = _read_npy(path)
    if array.ndim == 2 and array.shape[1] not in (3, 6):
        return _depth_map(path, seed)
    return _columns(np.asarray(array, np.float64))


def _columns(rows: np.ndarray) -> Cloud:
    """Columns x y z, and normals if the next three have length 1; otherwise those are colours or similar."""
    if rows.ndim != 2 or rows.shape[1] < 3:
        raise InputError(f"holds an array of shape {rows.shape}; expected rows x y z or x y z nx ny nz")
    normals = None
    if rows.shape[1] >= 6:
        length = np.linalg.norm(rows[:, 3:6], axis=1)
        # Normals written with two decimals have lengths within 0.005 * sqrt(3) < 0.01 of 1; colours never come close.
        if np.nanmean(np.abs(length - 1) < 0.02) > 0.9:
            normals = rows[:, 3:6]
    return Cloud(rows[:, :3], normals)


def _read_npy(path: Path) -> np.ndarray:
    array = _parsed(path, lambda: np.load(path, allow_pickle=False))
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError("holds no numeric array; expected points (n, 3) or (n, 6), or a depth map (h, w)")
    return array


# Depth maps


def _depth_map(path: Path, seed: int) -> Scan:
    """A depth map with the JSON of its camera beside it."""
    return _views(path.with_suffix(".json"), seed, path)


def _views(path: Path, seed: int, depth: Path | None = None) -> Scan:
    """All depth maps of a JSON file: one view, or a list `views`.

    Args:
        depth: the depth map that the JSON describes; None: the JSON names its maps itself.
    """
    if depth is not None and not path.is_file():
        raise InputError(
            f"{depth} is a depth map without camera: there is no {path.name} beside it with intrinsics and pose. "
            'Create it as {"intrinsics": {"width": w, "height": h, "fx": ..., "fy": ..., "cx": ..., "cy": ...}, '
            '"pose": [[...], ...], "convention": "open3d", "depth_scale": 0.001}'
        )
    content = read_json(path, "a JSON of depth cameras")
    views = content.get("views", [content]) if isinstance(content, Mapping) else None
    if not isinstance(views, list) or not views or not all(isinstance(view, Mapping) for view in views):
        raise InputError(f"{path}: expected one view {{depth, intrinsics, pose}} or {{views: [...]}}")
    if depth is not None and len(views) != 1:
        raise InputError(f"{path} lists {len(views)} views; pass it instead of {depth}")
    shared = {key: value for key, value in content.items() if key != "views"}
    return Scan.join([_view(path, {**shared, **view}, depth, seed + number) for number, view in enumerate(views)])


_KEYS = {"depth", "intrinsics", "pose", "convention", "depth_scale"}
_OPEN3D = {"intrinsic", "extrinsic"}


def _view(path: Path, view: Mapping[str, Any], depth: Path | None, seed: int) -> Scan:
    if set(view) >= _OPEN3D:  # Open3D writes PinholeCameraParameters with column-major matrices
        try:
            matrix = np.array(view["intrinsic"]["intrinsic_matrix"], np.float64).reshape(3, 3).T
            size = {name: view["intrinsic"][name] for name in ("width", "height")}
            pose = np.array(view["extrinsic"], np.float64).reshape(4, 4).T
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: invalid Open3D intrinsic or extrinsic ({error})") from None
        numbers = dict(zip(("fx", "fy", "cx", "cy"), matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist(), strict=True))
        kept = {key: value for key, value in view.items() if key in _KEYS}
        view = {**kept, "intrinsics": size | numbers, "pose": pose}
    elif unknown := sorted(set(view) - _KEYS):
        raise InputError(f"{path}: unknown key {unknown[0]!r}; known keys are {', '.join(sorted(_KEYS))} and views")
    if "intrinsics" not in view:
        raise InputError(f"{path}: the key 'intrinsics' is missing")
    file = depth or _beside(path, view.get("depth"))
    image = _image(file) if file.suffix.lower() == ".png" else _read_npy(file)
    # by convention integer maps hold millimetres and float maps metres
    default_scale = 0.001 if image.dtype.kind in "iu" else 1.0
    try:
        scale = float(view.get("depth_scale", default_scale))
        return Scan.from_depth(
            image, view["intrinsics"], view.get("pose"), convention=view.get("convention", "open3d"),
            depth_scale=scale, seed=seed,
        )  # fmt: skip
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"{path}, {file.name}: {error}") from None


def _beside(path: Path, name: Any) -> Path:
    """Path of a depth map that a JSON names; it must lie in the folder of the JSON or below."""
    if not isinstance(name, str) or not name:
        raise InputError(f"{path}: the key 'depth' is missing; expected the name of a .png or .npy beside it")
    file = (path.parent / name).resolve()
    if not file.is_relative_to(path.parent.resolve()):
        raise InputError(f"{path}: the depth map {name!r} lies outside the folder of the JSON; copy it there")
    if file.suffix.lower() not in (".png", ".npy") or not file.is_file():
        raise InputError(f"{path}: there is no depth map {name!r} (.png or .npy) beside it")
    return file


def _image(path: Path) -> np.ndarray:
    from PIL import Image

    def read() -> np.ndarray:
        with Image.open(path) as image:
            if image.mode not in ("I;16", "I;16B", "I"):
                raise InputError(f"{path}: pixel format is {image.mode}; expected one 16-bit channel of depths")
            return np.array(image).astype(np.int64)

    return _parsed(path, read)


def _parsed(path: Path, read: Any) -> Any:
    try:
        return read()
    except InputError:
        raise
    except Exception as error:  # a parser may raise anything on a damaged file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}") from None


SCAN_FORMATS: dict[str, ScanFormat] = {
    entry.suffix: entry
    for entry in (
        ScanFormat(".ply", "points, with or without normals and camera; or a partial mesh", _ply),
        ScanFormat(".pcd", "Point Cloud Library: points, with or without normals and viewpoint", _pcd),
        ScanFormat(".xyz", "text, rows x y z or x y z nx ny nz", _xyz),
        ScanFormat(".npy", "NumPy array: points (n, 3) or (n, 6), or a depth map (h, w) with a .json beside it", _npy),
        ScanFormat(".png", "16-bit depth map with a .json beside it", _depth_map, complete=False),
        ScanFormat(".json", "cameras and names of one or several depth maps", _views, complete=False),
    )
}
"""Scan formats by suffix, besides the mesh formats. An entry for a mesh suffix takes precedence (.ply)."""
