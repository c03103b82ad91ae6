"""Scans: what depth cameras saw of a surface, and virtual cameras that take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh

from deepsdf.errors import InputError
from deepsdf.geometry.scanning.depth_camera import Convention, DepthCamera
from deepsdf.geometry.scanning.normals import estimate_normals, towards
from deepsdf.kernels.launch import in_chunks, kernels, to_device, warp_mesh
from deepsdf.kernels.runtime import get_warp, warp_device

FEWEST = 20
"""Points that a scan has at least."""

POINTS = 10_000
"""Points that a scan keeps, at random; normals are estimated from all of them, up to `_MOST`."""

RAYS = 4096
"""Rays into the empty that a scan keeps: half of them those that pass nearest to what was seen, the others at random.
Near the outline they tell most."""

_MOST = 300_000
_AWAY = 0.5  # share of normals that may point away from the camera: above it they are all the other way round


@dataclass(frozen=True, eq=False)
class Scan:
    """Surface points that cameras saw, in the scan's own frame and lengths.

    Attributes:
        points: (n, 3) float64.
        normals: (n, 3) float64, unit, outward; of either orientation where neither normals nor a camera were given.
        cameras: (n, 3) float64, where the camera of each point stood, NaN where that is not known. Between it and
            the point space is free.
        oriented: (n,) bool, where the normal is known to point outward.
        thickness: (n,) float64, standard deviation across the surface of the points around: noise, and bends.
        empty: (m, 7) float64, origin and unit direction of rays that met nothing, and the way along each to where it
            passes what was seen next to it.
    """

    points: np.ndarray
    normals: np.ndarray
    cameras: np.ndarray
    oriented: np.ndarray
    thickness: np.ndarray
    empty: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    @property
    def noise(self) -> float:
        """Standard deviation of the points across the surface, where it is least bent and no outliers are near."""
        return float(np.quantile(self.thickness, 0.25))

    @classmethod
    def from_points(
        cls,
        points: np.ndarray | Any,
        normals: np.ndarray | Any = None,
        camera: np.ndarray | Any = None,
        *,
        seed: int = 0,
    ) -> Scan:
        """From a point cloud.

        Points that are not finite are left out; of more than `POINTS` some are, at random.

        Args:
            points: (n, 3), the scan's frame.
            normals: (n, 3), outward, of any length; None: estimated, and turned to the camera where one is known.
            camera: (3,), or (n, 3) one a point: where it stood. None: not known; then no space is known to be free.
            seed: of what is left out.
        Raises:
            InputError: fewer than `FEWEST` points, arrays that do not match, a camera that is NaN, or most normals
                pointing away from the camera.
        """
        points = _array(points, "points", None)
        cameras = np.full_like(points, np.nan)
        if camera is not None:
            given = np.asarray(camera, np.float64)
            if given.shape not in ((3,), points.shape) or not np.isfinite(given).all():
                raise InputError(f"the camera is {given.shape} numbers, or not finite; give (3,) or one a point (n, 3)")
            cameras[:] = given
        if normals is not None:
            normals = _unit(_array(normals, "normals", len(points)))
        return _scan(points, normals, cameras, np.zeros((0, 7)), seed)

    @classmethod
    def from_depth(
        cls,
        depth: np.ndarray | Any,
        intrinsics: np.ndarray | Mapping[str, Any] | Any,
        pose: np.ndarray | Any = None,
        *,
        convention: Convention = "open3d",
        depth_scale: float = 1.0,
        seed: int = 0,
    ) -> Scan:
        """From a depth map: lengths along the camera's axis, not along each pixel's ray.

        0 and NaN are pixels without a reading: nothing is known there. Infinity says that the ray met nothing, and
        so that the space along it is free.

        Args:
            depth: (h, w), times `depth_scale` lengths of the scan's frame.
            intrinsics, pose, convention: see `DepthCamera.of`.
            seed: of the pixels that are left out where there are more than `POINTS`.
        Raises:
            InputError: no camera, or not one of this image; depths that are all NaN or 0, or negative.
        """
        image = np.asarray(depth)
        if image.ndim != 2 or image.dtype.kind not in "fiu":
            raise InputError(f"a depth map is (height, width) numbers, not {image.dtype} of shape {image.shape}")
        if not (np.isfinite(depth_scale) and depth_scale > 0):
            raise InputError(f"depth_scale {depth_scale} is no scale; give a positive number, 0.001 for millimetres")
        camera = DepthCamera.of(intrinsics, pose, size=(image.shape[1], image.shape[0]), convention=convention)
        return _from_camera(image.astype(np.float64) * depth_scale, camera, seed)

    @classmethod
    def join(cls, scans: Sequence[Scan]) -> Scan:
        """Several views in one frame as one scan."""
        if not scans:
            raise InputError("there is no scan to join")
        names = ("points", "normals", "cameras", "oriented", "thickness", "empty")
        return cls(*(np.concatenate([getattr(scan, name) for scan in scans]) for name in names))

    def moved(self, matrix: np.ndarray) -> Scan:
        """This scan in another frame, which a similarity (4, 4) takes its own to."""
        scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
        turn = matrix[:3, :3] / scale

        def place(points: np.ndarray) -> np.ndarray:
            return points @ matrix[:3, :3].T + matrix[:3, 3]

        empty = np.hstack([place(self.empty[:, :3]), self.empty[:, 3:6] @ turn.T, self.empty[:, 6:] * scale])
        return Scan(
            place(self.points),
            self.normals @ turn.T,
            place(self.cameras),
            self.oriented,
            self.thickness * scale,
            empty,
        )


def scan(
    mesh: trimesh.Trimesh,
    camera: DepthCamera | Sequence[DepthCamera] | np.ndarray | Any,
    resolution: int = 256,
    noise: float = 0.0,
    *,
    field_of_view: float = 40.0,
    seed: int = 0,
    device: str = "auto",
) -> Scan:
    """What virtual depth cameras see of a mesh, in its frame. Normals are estimated, as of a real scan.

    Args:
        camera: a DepthCamera, or the place (3,) of one that looks at the middle of the mesh; or several of either.
        resolution: pixels a side, of cameras given by their places.
        noise: standard deviation of Gaussian noise on each depth, lengths of the mesh's frame.
        field_of_view: degrees, of cameras given by their places.
        seed: of the noise, and of the pixels that are left out where there are more than `POINTS`.
        device: "auto", "cpu" or a CUDA device, for Warp.
    Raises:
        InputError: no camera, or one that sees fewer than `FEWEST` points.
        MeshError: a mesh without faces.
    """
    if not 0 <= noise < np.inf:
        raise InputError(f"noise {noise} is no standard deviation; give a length, 0 for none")
    rng = np.random.default_rng(seed)
    views = []
    for one in _cameras(mesh, camera, resolution, field_of_view):
        depth = render_depth(mesh, one, device=device)
        views.append(_from_camera(depth + noise * rng.standard_normal(depth.shape), one, seed))
    return Scan.join(views)


def render_depth(mesh: trimesh.Trimesh, camera: DepthCamera, *, device: str = "auto") -> np.ndarray:
    """The depth map (height, width) float64 that a camera takes of a mesh; infinite where it sees nothing."""
    wp, device = get_warp(), warp_device(device)
    if not len(mesh.faces):
        raise InputError("a mesh without faces cannot be scanned")
    shape = warp_mesh(np.asarray(mesh.vertices) - camera.centre, np.asarray(mesh.faces), device)
    kernel, rays = kernels(device).camera_kernel, camera.rays().astype(np.float32)
    depth = np.full(len(rays), np.inf)
    forward = camera.pose[:3, 2].astype(np.float32)

    def work(start: int, stop: int) -> None:
        count = stop - start
        hit = wp.zeros(count, dtype=wp.int32, device=device)
        position, normal = (wp.zeros(count, dtype=wp.vec3, device=device) for _ in range(2))
        directions = rays[start:stop] / np.linalg.norm(rays[start:stop], axis=1, keepdims=True)
        inputs = [to_device(np.zeros_like(directions), wp.vec3, device), to_device(directions, wp.vec3, device)]
        wp.launch(kernel, count, inputs=[shape.id, *inputs], outputs=[hit, position, normal], device=device)
        depth[start:stop] = np.where(hit.numpy() >= 0, position.numpy() @ forward, np.inf)

    in_chunks(len(rays), work, device)
    return depth.reshape(camera.height, camera.width)


def _cameras(mesh: trimesh.Trimesh, given: Any, resolution: int, field_of_view: float) -> list[DepthCamera]:
    if isinstance(given, DepthCamera):
        return [given]
    if isinstance(given, Sequence) and given and all(isinstance(one, DepthCamera) for one in given):
        return list(given)
    places = np.atleast_2d(np.asarray(given, np.float64))
    if places.ndim != 2 or places.shape[1] != 3 or not len(places) or not np.isfinite(places).all():
        raise InputError(f"cameras are places (3,) or (v, 3), or DepthCameras, not numbers of shape {places.shape}")
    middle = np.asarray(mesh.bounds, np.float64).mean(axis=0)
    return [DepthCamera.look_at(place, middle, field_of_view=field_of_view, resolution=resolution) for place in places]


def _from_camera(depth: np.ndarray, camera: DepthCamera, seed: int) -> Scan:
    depth, rays = depth.ravel(), camera.rays()
    seen = np.isfinite(depth) & (depth != 0)
    behind = int((depth[seen] < 0).sum())
    if behind > 0.5 * seen.sum():
        raise InputError(
            f"{behind} of {int(seen.sum())} depths are negative: they lie behind the camera. Depths grow along the "
            "direction it looks in; OpenGL's z must be negated"
        )
    seen &= depth > 0
    if seen.sum() < FEWEST:
        raise InputError(
            f"{int(seen.sum())} of {depth.size} pixels have a depth (NaN: {int(np.isnan(depth).sum())}, 0: "
            f"{int((depth == 0).sum())}, infinite: {int(np.isinf(depth).sum())}); a scan needs {FEWEST}"
        )
    points = camera.centre + depth[seen, None] * rays[seen]
    empty = _empty_rays(depth, seen, camera, seed)
    return _scan(points, None, np.broadcast_to(camera.centre, points.shape), empty, seed)


def _empty_rays(depth: np.ndarray, seen: np.ndarray, camera: DepthCamera, seed: int) -> np.ndarray:
    """(m, 7), see `Scan.empty`, of a camera's pixels (h * w,)."""
    from scipy.ndimage import distance_transform_edt

    shape = (camera.height, camera.width)
    gaps, nearest = distance_transform_edt(~seen.reshape(shape), return_indices=True)  # pyright: ignore[reportGeneralTypeIssues]
    missed = np.flatnonzero(np.isposinf(depth))
    order = missed[np.argsort(gaps.ravel()[missed], kind="stable")]
    close, rest = order[: RAYS // 2], order[RAYS // 2 :]
    kept = np.concatenate([close, rest[_some(len(rest), RAYS - len(close), seed)]])
    beside = np.ravel_multi_index((nearest[0].ravel()[kept], nearest[1].ravel()[kept]), shape)
    rays = camera.rays()[kept]
    length = np.linalg.norm(rays, axis=1, keepdims=True)
    return np.hstack([np.broadcast_to(camera.centre, rays.shape), rays / length, depth[beside, None] * length])


def _scan(points: np.ndarray, normals: np.ndarray | None, cameras: np.ndarray, empty: np.ndarray, seed: int) -> Scan:
    good = np.isfinite(points).all(axis=1)
    if normals is not None:
        good &= np.isfinite(normals).all(axis=1)
    if good.sum() < FEWEST:
        raise InputError(f"the scan has {int(good.sum())} usable points of {len(points)}; it needs {FEWEST}")
    rows = np.flatnonzero(good)[_some(int(good.sum()), _MOST, seed)]
    kept = rows[_some(len(rows), POINTS, seed + 1)]
    if not np.ptp(points[rows], axis=0).max() > 0:
        raise InputError(f"all {len(rows)} points of the scan are the same")
    estimated, thickness = estimate_normals(points[rows], points[kept])
    where, camera = points[kept], cameras[kept]
    known = np.asarray(np.isfinite(camera).all(axis=1))
    if normals is None:
        return Scan(where, towards(estimated, where, camera), np.array(camera), known, thickness, empty)
    own = normals[kept]
    away = np.einsum("ni,ni->n", own[known], camera[known] - where[known]) < 0
    if away.sum() > _AWAY * max(1, known.sum()):
        raise InputError(
            f"{away.mean():.0%} of the normals point away from the camera, so it cannot have seen their points: turn "
            "the normals round, leave them out so that they are estimated, or correct the camera's place"
        )
    return Scan(where, towards(own, where, camera), np.array(camera), np.ones(len(where), bool), thickness, empty)


def _some(count: int, most: int, seed: int) -> np.ndarray:
    """Rows of at most so many, at random, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _array(given: Any, what: str, count: int | None) -> np.ndarray:
    try:
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} are not numbers; (n, 3) were expected") from None
    if array.ndim != 2 or array.shape[1] != 3 or count not in (None, len(array)):
        raise InputError(f"{what} have shape {array.shape}; ({'n' if count is None else count}, 3) was expected")
    return array


def _unit(normals: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, np.nan)
