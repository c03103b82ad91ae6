"""Pinhole depth cameras: where each pixel looks, by the conventions that depth maps come with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from deepsdf.errors import InputError

Convention = Literal["open3d", "colmap", "opengl"]

_MIDDLE = 0.1
"""Where an image's size is not told, the principal point must lie farther than this share of it from its edges."""

CONVENTIONS = {
    "open3d": "the pose takes the scan's frame to the camera's (x right, y down, z forward); pixel centres are whole",
    "colmap": "as open3d, but pixel centres are at halves; the pose may be qw qx qy qz tx ty tz",
    "opengl": "the pose takes the camera's frame (x right, y up, z backward) to the scan's; pixel centres at halves",
}


@dataclass(frozen=True, eq=False)
class DepthCamera:
    """A pinhole camera in a scan's frame.

    Attributes:
        width, height: of its image, pixels.
        focal: (2,), fx and fy, pixels.
        principal: (2,), cx and cy, pixels; the centre of column u, row v is at (u + ½, v + ½).
        pose: (4, 4), the camera's frame (x right, y down, z forward) to the scan's; a rotation and a translation.
    """

    width: int
    height: int
    focal: np.ndarray
    principal: np.ndarray
    pose: np.ndarray

    @classmethod
    def of(
        cls,
        intrinsics: np.ndarray | Mapping[str, Any] | Any,
        pose: np.ndarray | Any = None,
        *,
        size: tuple[int, int],
        convention: Convention = "open3d",
    ) -> DepthCamera:
        """From the numbers of another program.

        Args:
            intrinsics: a matrix (3, 3); or fx, fy, cx, cy; or these by name, with or without width and height.
            pose: (4, 4) or (3, 4); of "colmap" also its 7 numbers. None: the scan's frame is the camera's.
            size: width and height of the image.
            convention: a name of `CONVENTIONS`.
        Raises:
            InputError: an unknown convention, numbers that are no camera, or a camera of another image.
        """
        if convention not in CONVENTIONS:
            raise InputError(f"convention is {convention!r}; it may be {', '.join(get_args(Convention))}")
        focal, principal, told = _intrinsics(intrinsics)
        if told is not None and told != tuple(size):
            raise InputError(
                f"the intrinsics are of an image of {told[0]} x {told[1]} pixels, the depth map has "
                f"{size[0]} x {size[1]}; scale fx, fy, cx, cy as the image was scaled"
            )
        edge = np.multiply(size, 0.0 if told else _MIDDLE)
        if told is None and not ((principal > edge) & (principal < np.subtract(size, edge))).all():
            raise InputError(
                f"the principal point {principal.tolist()} is not near the middle of the {size[0]} x {size[1]} depth "
                "map: the intrinsics are of an image of another size; if the map is a crop, give its width and height"
            )
        if convention == "open3d":
            principal = principal + 0.5
        placed = _pose(pose)
        if convention == "opengl":
            placed = placed @ np.diag([1.0, -1.0, -1.0, 1.0])
        else:
            placed = np.linalg.inv(placed)
        return cls(int(size[0]), int(size[1]), focal, principal, placed)

    @classmethod
    def look_at(
        cls,
        eye: np.ndarray | Any,
        target: np.ndarray | Any = (0.0, 0.0, 0.0),
        *,
        up: np.ndarray | Any = (0.0, 1.0, 0.0),
        field_of_view: float = 40.0,
        resolution: int = 256,
    ) -> DepthCamera:
        """A camera at `eye` that looks at `target`, with a square image.

        Args:
            up: what is up in the image; any direction where it is the one the camera looks in.
            field_of_view: of the image's width, degrees.
            resolution: pixels a side.
        """
        place, aim = np.asarray(eye, np.float64), np.asarray(target, np.float64)
        forward = aim - place
        length = np.linalg.norm(forward)
        if place.shape != (3,) or not length > 0 or not 0 < field_of_view < 180 or resolution < 1:
            raise InputError(
                f"no camera stands at {place.tolist()}, looks at {aim.tolist()}, sees {field_of_view} degrees and has "
                f"{resolution} pixels a side"
            )
        forward = forward / length
        right = np.cross(forward, np.asarray(up, np.float64))
        if np.linalg.norm(right) < 1e-6:
            right = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        pose[:3, 3] = place
        focal = np.full(2, resolution / 2 / np.tan(np.radians(field_of_view) / 2))
        return cls(resolution, resolution, focal, np.full(2, resolution / 2), pose)

    @property
    def centre(self) -> np.ndarray:
        """(3,), the scan's frame."""
        return self.pose[:3, 3]

    def rays(self) -> np.ndarray:
        """(height * width, 3), row after row: what to add to the centre for each unit of depth."""
        u, v = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        across = (np.stack([u, v], axis=-1).reshape(-1, 2) - self.principal) / self.focal
        return np.column_stack([across, np.ones(len(across))]) @ self.pose[:3, :3].T


def _intrinsics(given: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
    """Focal lengths (2,), principal point (2,), and the image's size where it is told."""
    size = None
    try:
        if isinstance(given, Mapping):
            if "width" in given or "height" in given:
                size = (int(given["width"]), int(given["height"]))
            given = [given[name] for name in ("fx", "fy", "cx", "cy")]
        numbers = np.asarray(given, np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"intrinsics are fx, fy, cx, cy, with or without width and height; {error} is wrong") from None
    if numbers.shape == (3, 3):
        if not np.allclose(numbers[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], [0, 0, 0, 0, 1]):
            raise InputError(f"{numbers.tolist()} is no matrix of intrinsics: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
        numbers = numbers[[0, 1, 0, 1], [0, 1, 2, 2]]
    if numbers.shape != (4,) or not np.isfinite(numbers).all() or not (numbers[:2] > 0).all():
        raise InputError(f"intrinsics {numbers.tolist()} are not fx, fy > 0, cx, cy, nor a matrix (3, 3) of them")
    return numbers[:2], numbers[2:], size


def _pose(given: Any) -> np.ndarray:
    """(4, 4), checked to be a rotation and a translation."""
    if given is None:
        return np.eye(4)
    try:
        numbers = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise InputError("a pose is a matrix (4, 4) or (3, 4) of numbers") from None
    if numbers.shape == (7,):
        numbers = np.column_stack([_rotation(numbers[:4]), numbers[4:]])
    if numbers.shape not in ((4, 4), (3, 4)) or not np.isfinite(numbers).all():
        raise InputError(f"a pose is a finite matrix (4, 4) or (3, 4), or qw qx qy qz tx ty tz, not {numbers.tolist()}")
    turn = numbers[:3, :3]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise InputError(
            f"the pose's {turn.tolist()} is not a rotation (it mirrors, scales or shears); a pose moves and turns only"
        )
    if len(numbers) == 4 and not np.allclose(numbers[3], [0, 0, 0, 1]):
        raise InputError(f"the pose's last row is {numbers[3].tolist()}, not 0 0 0 1; is it stored by columns?")
    return np.vstack([numbers[:3], [0, 0, 0, 1]])


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) of (w, x, y, z)."""
    from scipy.spatial.transform import Rotation

    if not np.linalg.norm(quaternion) > 0:
        raise InputError("the pose's quaternion qw qx qy qz is zero")
    return Rotation.from_quat(quaternion[[1, 2, 3, 0]]).as_matrix()
