"""Pinhole depth cameras, and the conventions in which other programs store them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from deepsdf.errors import InputError

Convention = Literal["open3d", "colmap", "opengl"]

CONVENTIONS = {
    "open3d": "the pose maps the scan's frame to the camera's (x right, y down, z forward); pixel centres at integers",
    "colmap": "as open3d, but pixel centres at half-integers; the pose may be qw qx qy qz tx ty tz",
    "opengl": "the pose maps the camera's frame (x right, y up, z backward) to the scan's; pixel centres as colmap",
}


@dataclass(frozen=True, eq=False)
class DepthCamera:
    """A pinhole camera in a scan's frame.

    Attributes:
        width, height: image size in pixels.
        focal: (2,), focal lengths fx and fy in pixels.
        principal: (2,), principal point cx and cy in pixels; the centre of column u, row v is at (u + ½, v + ½).
        pose: (4, 4), maps the camera's frame (x right, y down, z forward) to the scan's; a rotation and a translation.
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
        """A camera from intrinsics and pose as another program stores them.

        Args:
            intrinsics: a matrix (3, 3); or fx, fy, cx, cy; or these by name, with or without width and height.
            pose: (4, 4) or (3, 4); for "colmap" also its 7 numbers. None: the scan's frame is the camera's.
            size: width and height of the image in pixels.
            convention: a key of `CONVENTIONS`.
        Raises:
            InputError: an unknown convention, invalid intrinsics or pose, or intrinsics of another image size.
        """
        if convention not in CONVENTIONS:
            raise InputError(f"convention is {convention!r}; expected one of {', '.join(get_args(Convention))}")
        focal, principal, given_size = _intrinsics(intrinsics)
        if given_size is not None and given_size != tuple(size):
            raise InputError(
                f"the intrinsics belong to an image of {given_size[0]} x {given_size[1]} pixels, the depth map has "
                f"{size[0]} x {size[1]}; scale fx, fy, cx, cy by the same factor as the image"
            )
        # Intrinsics without image size may belong to an image of twice or half the resolution. Then the principal point
        # is near an edge of this one or outside it, whereas a camera has it near the centre.
        edge = np.multiply(size, 0.1)
        if given_size is None and not ((principal > edge) & (principal < np.subtract(size, edge))).all():
            raise InputError(
                f"the principal point {principal.tolist()} is not near the centre of the {size[0]} x {size[1]} depth "
                "map, so the intrinsics belong to an image of another size. If the map is a crop, also give its width "
                "and height"
            )
        if convention == "open3d":  # pixel centres at integers, here at half-integers
            principal = principal + 0.5
        to_scan = _pose(pose)
        if convention == "opengl":  # y up and z backward, here y down and z forward
            to_scan = to_scan @ np.diag([1.0, -1.0, -1.0, 1.0])
        else:  # the pose maps to the camera, here to the scan
            to_scan = np.linalg.inv(to_scan)
        return cls(int(size[0]), int(size[1]), focal, principal, to_scan)

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
            eye: (3,), camera position.
            target: (3,), point shown at the image centre.
            up: (3,), direction that is up in the image; replaced by another if the camera looks along it.
            field_of_view: horizontal field of view in degrees.
            resolution: image width and height in pixels.
        Raises:
            InputError: the position equals the target, or the field of view is not between 0 and 180 degrees.
        """
        position, aim = np.asarray(eye, np.float64), np.asarray(target, np.float64)
        forward = aim - position
        length = np.linalg.norm(forward)
        if position.shape != (3,) or not length > 0 or not 0 < field_of_view < 180 or resolution < 1:
            raise InputError(
                f"invalid camera: position {position.tolist()}, target {aim.tolist()}, field of view {field_of_view} "
                f"degrees, resolution {resolution}; position and target must differ, the field of view be within 0 and "
                "180 degrees and the resolution at least 1"
            )
        forward = forward / length
        right = np.cross(forward, np.asarray(up, np.float64))
        if np.linalg.norm(right) < 1e-6:
            right = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        pose[:3, 3] = position
        focal = np.full(2, resolution / 2 / np.tan(np.radians(field_of_view) / 2))
        return cls(resolution, resolution, focal, np.full(2, resolution / 2), pose)

    @property
    def centre(self) -> np.ndarray:
        """(3,), camera position in the scan's frame."""
        return self.pose[:3, 3]

    def rays(self) -> np.ndarray:
        """Ray of each pixel, (height * width, 3), row by row: the point seen at depth d is `centre + d * ray`."""
        u, v = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        across = (np.stack([u, v], axis=-1).reshape(-1, 2) - self.principal) / self.focal
        return np.column_stack([across, np.ones(len(across))]) @ self.pose[:3, :3].T


def _intrinsics(given: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
    """Focal lengths (2,), principal point (2,), and the image size if it is given."""
    size = None
    try:
        if isinstance(given, Mapping):
            if "width" in given or "height" in given:
                size = (int(given["width"]), int(given["height"]))
            given = [given[name] for name in ("fx", "fy", "cx", "cy")]
        numbers = np.asarray(given, np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"invalid intrinsics ({error}); expected fx, fy, cx, cy, with or without width, height"
        ) from None
    if numbers.shape == (3, 3):
        if not np.allclose(numbers[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], [0, 0, 0, 0, 1]):
            raise InputError(f"invalid intrinsics {numbers.tolist()}; expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
        numbers = numbers[[0, 1, 0, 1], [0, 1, 2, 2]]
    if numbers.shape != (4,) or not np.isfinite(numbers).all() or not (numbers[:2] > 0).all():
        raise InputError(f"invalid intrinsics {numbers.tolist()}; expected fx > 0, fy > 0, cx, cy, or a matrix (3, 3)")
    return numbers[:2], numbers[2:], size


def _pose(given: Any) -> np.ndarray:
    """Pose (4, 4), checked to be a rotation and a translation."""
    if given is None:
        return np.eye(4)
    try:
        numbers = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise InputError("invalid pose; expected a numeric matrix (4, 4) or (3, 4)") from None
    if numbers.shape == (7,):
        numbers = np.column_stack([_rotation(numbers[:4]), numbers[4:]])
    if numbers.shape not in ((4, 4), (3, 4)) or not np.isfinite(numbers).all():
        expected = "a finite matrix (4, 4) or (3, 4), or qw qx qy qz tx ty tz"
        raise InputError(f"invalid pose {numbers.tolist()}; expected {expected}")
    turn = numbers[:3, :3]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise InputError(
            f"invalid pose: {turn.tolist()} is not a rotation (it mirrors, scales or shears); expected a rotation "
            "and a translation"
        )
    if len(numbers) == 4 and not np.allclose(numbers[3], [0, 0, 0, 1]):
        raise InputError(f"invalid pose: its last row is {numbers[3].tolist()}, not 0 0 0 1; is it column-major?")
    return np.vstack([numbers[:3], [0, 0, 0, 1]])


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of a quaternion (w, x, y, z)."""
    from scipy.spatial.transform import Rotation

    if not np.linalg.norm(quaternion) > 0:
        raise InputError("invalid pose: the quaternion qw qx qy qz is zero")
    return Rotation.from_quat(quaternion[[1, 2, 3, 0]]).as_matrix()
