"""Scans: surface points seen by depth cameras, and virtual cameras that scan a mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh

from deepsdf.errors import InputError
from deepsdf.geometry.scanning.depth_camera import Convention, DepthCamera
from deepsdf.geometry.scanning.normals import estimate_normals, towards
from deepsdf.kernels.queries import QueryMesh
from deepsdf.kernels.runtime import warp_device

FEWEST = 20
"""Minimum number of points of a scan: normals are estimated from 16 neighbours."""

POINTS = 10_000
"""Maximum number of points of a scan; of more, a random subset is kept. A fit uses 500 of them by default."""

RAYS = 4096
"""Maximum number of rays without a hit that a scan keeps. Half are those that pass closest to the seen points, because
rays near the outline constrain the shape most; the others are a random subset."""

_POINTS_FOR_NORMALS = 300_000
"""Maximum number of points from which normals are estimated."""


@dataclass(frozen=True, eq=False)
class Scan:
    """Surface points seen by one or several cameras, in the scan's own frame and unit of length.

    Attributes:
        points: (n, 3) float64.
        normals: (n, 3) float64, unit length, outward; of either orientation where `oriented` is False.
        cameras: (n, 3) float64, camera position of each point, NaN if unknown. The space between camera and point is
            free.
        oriented: (n,) bool, the normal is known to point outward.
        thickness: (n,) float64, standard deviation of the neighbouring points across the surface, caused by noise and
            curvature.
        empty: (m, 7) float64, rays that hit nothing: origin, unit direction, and the length along the ray at which it
            passes the nearest seen point.
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
        """Standard deviation of the noise, estimated from the least curved quarter of the surface."""
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
        """A scan from a point cloud.

        Points that are not finite are dropped; of more than `POINTS`, a random subset is kept.

        Args:
            points: (n, 3).
            normals: (n, 3), outward, of any length; None: estimated, and turned towards the camera if it is known.
            camera: camera position (3,), or one per point (n, 3); None: unknown, so no space is known to be free.
            seed: for the random subset.
        Raises:
            InputError: fewer than `FEWEST` usable points, arrays of different lengths, a camera that is not finite, or
                most normals pointing away from the camera.
        """
        points = _array(points, "points", None)
        cameras = np.full_like(points, np.nan)
        if camera is not None:
            given = np.asarray(camera, np.float64)
            if given.shape not in ((3,), points.shape) or not np.isfinite(given).all():
                raise InputError(
                    f"invalid camera of shape {given.shape}; expected finite numbers (3,), or (n, 3) one per point"
                )
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
        """A scan from a depth map. Depths are measured along the optical axis, not along the ray of each pixel.

        0 and NaN mark pixels without a reading, where nothing is known. Infinity means that the ray hit nothing, so the
        space along it is free.

        Args:
            depth: (h, w); multiplied by `depth_scale`, it is in the scan's unit of length.
            intrinsics, pose, convention: see `DepthCamera.of`.
            depth_scale: 0.001 for depths in millimetres and a scan in metres.
            seed: for the random subset of more than `POINTS` pixels.
        Raises:
            InputError: an invalid camera or one of another image size; all depths missing, or most of them negative.
        """
        image = np.asarray(depth)
        if image.ndim != 2 or image.dtype.kind not in "fiu":
            raise InputError(
                f"invalid depth map: {image.dtype} of shape {image.shape}; expected numbers (height, width)"
            )
        if not (np.isfinite(depth_scale) and depth_scale > 0):
            raise InputError(f"depth_scale is {depth_scale}; expected a positive number, such as 0.001 for millimetres")
        camera = DepthCamera.of(intrinsics, pose, size=(image.shape[1], image.shape[0]), convention=convention)
        return _from_camera(image.astype(np.float64) * depth_scale, camera, seed)

    @classmethod
    def join(cls, scans: Sequence[Scan]) -> Scan:
        """Several scans in the same frame as one."""
        if not scans:
            raise InputError("cannot join zero scans")
        names = ("points", "normals", "cameras", "oriented", "thickness", "empty")
        return cls(*(np.concatenate([getattr(scan, name) for scan in scans]) for name in names))

    def moved(self, matrix: np.ndarray) -> Scan:
        """This scan transformed by a similarity (4, 4)."""
        # The linear part is scale * rotation, so its determinant is scale^3.
        scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
        rotation = matrix[:3, :3] / scale

        def transformed(points: np.ndarray) -> np.ndarray:
            return points @ matrix[:3, :3].T + matrix[:3, 3]

        empty = np.hstack([transformed(self.empty[:, :3]), self.empty[:, 3:6] @ rotation.T, self.empty[:, 6:] * scale])
        return Scan(
            transformed(self.points),
            self.normals @ rotation.T,
            transformed(self.cameras),
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
    """Scan a mesh with virtual depth cameras, in the mesh's frame. Normals are estimated, as for a real scan.

    Args:
        camera: a DepthCamera, or the position (3,) of one that looks at the centre of the mesh; or several of either.
        resolution: image width and height in pixels, for cameras given by position.
        noise: standard deviation of Gaussian noise added to each depth, in the mesh's unit of length.
        field_of_view: in degrees, for cameras given by position.
        seed: for the noise, and for the random subset of more than `POINTS` pixels.
        device: "auto", "cpu" or a CUDA device.
    Raises:
        InputError: a mesh without faces, an invalid camera, or one that sees fewer than `FEWEST` points.
    """
    if not 0 <= noise < np.inf:
        raise InputError(f"noise is {noise}; expected a standard deviation of at least 0")
    rng = np.random.default_rng(seed)
    views = []
    for one in _cameras(mesh, camera, resolution, field_of_view):
        depth = render_depth(mesh, one, device=device)
        views.append(_from_camera(depth + noise * rng.standard_normal(depth.shape), one, seed))
    return Scan.join(views)


def render_depth(mesh: trimesh.Trimesh, camera: DepthCamera, *, device: str = "auto") -> np.ndarray:
    """Depth map (height, width) float64 of a mesh; infinite where a ray hits nothing."""
    device = warp_device(device)
    if not len(mesh.faces):
        raise InputError("a mesh without faces cannot be scanned")
    # Relative to the camera, so that float32 keeps its digits even if the mesh is far from the origin.
    surface = QueryMesh(np.asarray(mesh.vertices) - camera.centre, np.asarray(mesh.faces), device)
    rays = camera.rays().astype(np.float32)
    directions = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    hit, position, _ = surface.first_hits(np.zeros_like(directions), directions)
    depth = np.where(hit, position @ camera.pose[:3, 2].astype(np.float32), np.inf)
    return depth.reshape(camera.height, camera.width)


def _cameras(mesh: trimesh.Trimesh, given: Any, resolution: int, field_of_view: float) -> list[DepthCamera]:
    if isinstance(given, DepthCamera):
        return [given]
    if isinstance(given, Sequence) and given and all(isinstance(one, DepthCamera) for one in given):
        return list(given)
    eyes = np.atleast_2d(np.asarray(given, np.float64))
    if eyes.ndim != 2 or eyes.shape[1] != 3 or not len(eyes) or not np.isfinite(eyes).all():
        raise InputError(
            f"invalid camera: numbers of shape {eyes.shape}; expected finite positions (3,) or (n, 3), or DepthCameras"
        )
    middle = np.asarray(mesh.bounds, np.float64).mean(axis=0)
    return [DepthCamera.look_at(eye, middle, field_of_view=field_of_view, resolution=resolution) for eye in eyes]


def _from_camera(depth: np.ndarray, camera: DepthCamera, seed: int) -> Scan:
    depth, rays = depth.ravel(), camera.rays()
    seen = np.isfinite(depth) & (depth != 0)
    behind = int((depth[seen] < 0).sum())
    if behind > 0.5 * seen.sum():
        raise InputError(
            f"{behind} of {int(seen.sum())} depths are negative, i.e. behind the camera; depths must increase in the "
            "viewing direction, so negate OpenGL's z"
        )
    seen &= depth > 0
    if seen.sum() < FEWEST:
        raise InputError(
            f"{int(seen.sum())} of {depth.size} pixels have a depth (NaN: {int(np.isnan(depth).sum())}, 0: "
            f"{int((depth == 0).sum())}, infinite: {int(np.isinf(depth).sum())}); a scan needs at least {FEWEST}"
        )
    points = camera.centre + depth[seen, None] * rays[seen]
    empty = _empty_rays(depth, seen, camera, seed)
    return _scan(points, None, np.broadcast_to(camera.centre, points.shape), empty, seed)


def _empty_rays(depth: np.ndarray, seen: np.ndarray, camera: DepthCamera, seed: int) -> np.ndarray:
    """`Scan.empty` (m, 7) from the depths (h * w,) of a camera's pixels and which of them hit the surface (h * w,)."""
    from scipy.ndimage import distance_transform_edt

    shape = (camera.height, camera.width)
    # distance in pixels from each pixel to the nearest one that hit the surface, and the indices of that one
    gaps, nearest = distance_transform_edt(~seen.reshape(shape), return_indices=True)  # pyright: ignore[reportGeneralTypeIssues]
    missed = np.flatnonzero(np.isposinf(depth))
    order = missed[np.argsort(gaps.ravel()[missed], kind="stable")]
    close, rest = order[: RAYS // 2], order[RAYS // 2 :]
    kept = np.concatenate([close, rest[_subset(len(rest), RAYS - len(close), seed)]])
    beside = np.ravel_multi_index((nearest[0].ravel()[kept], nearest[1].ravel()[kept]), shape)
    rays = camera.rays()[kept]
    length = np.linalg.norm(rays, axis=1, keepdims=True)
    return np.hstack([np.broadcast_to(camera.centre, rays.shape), rays / length, depth[beside, None] * length])


def _scan(points: np.ndarray, normals: np.ndarray | None, cameras: np.ndarray, empty: np.ndarray, seed: int) -> Scan:
    good = np.isfinite(points).all(axis=1)
    if normals is not None:
        good &= np.isfinite(normals).all(axis=1)
    if good.sum() < FEWEST:
        raise InputError(f"the scan has {int(good.sum())} usable points of {len(points)}; it needs at least {FEWEST}")
    rows = np.flatnonzero(good)[_subset(int(good.sum()), _POINTS_FOR_NORMALS, seed)]
    kept = rows[_subset(len(rows), POINTS, seed + 1)]
    if not np.ptp(points[rows], axis=0).max() > 0:
        raise InputError(f"all {len(rows)} points of the scan are the same")
    estimated, thickness = estimate_normals(points[rows], points[kept])
    at, camera = points[kept], cameras[kept]
    known = np.asarray(np.isfinite(camera).all(axis=1))
    if normals is None:
        return Scan(at, towards(estimated, at, camera), np.array(camera), known, thickness, empty)
    own = normals[kept]
    # A camera sees surfaces that face it. A few normals may be wrong by noise; most of them are so only if all normals
    # point inward or the camera position is wrong.
    away = np.einsum("ni,ni->n", own[known], camera[known] - at[known]) < 0
    if away.sum() > 0.5 * max(1, known.sum()):
        raise InputError(
            f"{away.mean():.0%} of the normals point away from the camera, which cannot see their points: negate the "
            "normals, omit them so that they are estimated, or correct the camera position"
        )
    return Scan(at, towards(own, at, camera), np.array(camera), np.ones(len(at), bool), thickness, empty)


def _subset(count: int, most: int, seed: int) -> np.ndarray:
    """Sorted rows of a random subset of at most `most` of `count`."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _array(given: Any, what: str, count: int | None) -> np.ndarray:
    try:
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} are not numbers; expected (n, 3)") from None
    if array.ndim != 2 or array.shape[1] != 3 or count not in (None, len(array)):
        raise InputError(f"{what} have shape {array.shape}; expected ({'n' if count is None else count}, 3)")
    return array


def _unit(normals: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, np.nan)
