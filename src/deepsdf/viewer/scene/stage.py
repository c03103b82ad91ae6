"""The 3D scene of a page: lights, camera, and named meshes, points and slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import trimesh

from deepsdf.rendering.camera import CLAY, Axis, Colour
from deepsdf.viewer.content.exports import glb_bytes

TRUTH: Colour = (214, 178, 118)
FLOOR = -1.02
"""Height of the floor, unit frame: just below the unit sphere, which contains every shape."""

BALL_COLOUR: Colour = (220, 90, 60)
"""Colour of the balls that mark the current code."""

_AXES = dict(zip("xyz", np.eye(3), strict=True))


def upright(up: Axis) -> np.ndarray:
    """Rotation (3, 3) from viewer axes to scene axes: its columns are right, up and towards the viewer."""
    towards = {"x": _AXES["z"], "y": _AXES["z"], "z": -_AXES["y"]}[up]
    return np.column_stack([np.cross(_AXES[up], towards), _AXES[up], towards])


def quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """Quaternion (w, x, y, z) of a rotation (3, 3)."""
    found = trimesh.transformations.quaternion_from_matrix(rotation)
    return (float(found[0]), float(found[1]), float(found[2]), float(found[3]))


def prepare(server: Any, up: Axis) -> None:
    """Settings that all browsers share: up direction, lights, and the initial camera."""
    server.scene.set_up_direction(f"+{up}")
    server.scene.configure_default_lights(enabled=False)
    server.scene.configure_environment_map(None)
    place_camera(server.initial_camera, up)


def home(up: Axis) -> np.ndarray:
    """Initial position (3,) of the camera."""
    return upright(up) @ np.array([1.25, 0.7, 2.6])


def place_camera(camera: Any, up: Axis, distance: float = 1.0) -> None:
    """Move a camera in front of the shape, slightly right and above, at a multiple of the initial distance."""
    frame = upright(up)
    camera.position = tuple(distance * home(up))
    camera.look_at = tuple(frame @ np.array([0.0, -0.05, 0.0]))
    setattr(camera, "up" if hasattr(camera, "up") else "up_direction", tuple(frame[:, 1]))
    camera.fov = 0.72


class Stage:
    """The scene of one browser. Node names are chosen by the program, never taken from files."""

    def __init__(self, client: Any, up: Axis = "y") -> None:
        self.client, self.scene = client, client.scene
        self.up: Axis = up
        self._handles: dict[str, Any] = {}
        self._lights()
        frame = upright(up)
        self.scene.add_grid(
            "/floor",
            4.0,
            4.0,
            plane="xz",
            wxyz=quaternion(frame),
            position=tuple(frame[:, 1] * FLOOR),
            cell_size=0.25,
            section_size=1.0,
            cell_color=(226, 226, 232),
            section_color=(200, 200, 210),
        )

    def _lights(self) -> None:
        frame = upright(self.up)
        self.scene.add_light_hemisphere(
            "/light/sky",
            sky_color=(255, 255, 255),
            ground_color=(150, 150, 160),
            intensity=1.5,
            wxyz=quaternion(frame),
            position=tuple(frame[:, 1]),
        )
        for name, position, strength in (("key", (0.7, 1.0, 0.9), 1.8), ("fill", (-1.0, 0.3, 0.3), 0.5)):
            self.scene.add_light_directional(
                f"/light/{name}", intensity=strength, position=tuple(frame @ np.array(position) * 4.0)
            )

    def reset_camera(self, distance: float = 1.0) -> None:
        """Move the camera to its initial direction, at a multiple of the initial distance."""
        place_camera(self.client.camera, self.up, distance)

    def look_at(self, eye: Sequence[float], target: Sequence[float]) -> None:
        """Place the camera at `eye`, looking at `target` (both: right, up, towards the viewer)."""
        frame = upright(self.up)
        self.client.camera.position = tuple(frame @ np.asarray(eye, float))
        self.client.camera.look_at = tuple(frame @ np.asarray(target, float))

    def mesh(
        self,
        name: str,
        mesh: trimesh.Trimesh,
        colour: Colour = CLAY,
        *,
        colours: np.ndarray | None = None,
        opacity: float | None = None,
        at: np.ndarray | None = None,
        scale: float = 1.0,
    ) -> None:
        """Draw a mesh, replacing the node of that name.

        Args:
            colours: (v, 3) uint8 vertex colours; None: `colour`.
            at: (3,) position of the mesh's origin.
        """
        placement: dict[str, Any] = {"position": tuple(np.zeros(3) if at is None else at), "scale": scale}
        vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
        if not len(faces):
            self.remove(name)
            return
        if colours is None:
            handle = self.scene.add_mesh_simple(
                name, vertices, faces, color=colour, opacity=opacity, side="double", **placement
            )
        else:
            handle = self.scene.add_glb(name, glb_bytes(mesh, colours), **placement)
        self._handles[name] = handle

    def points(
        self, name: str, points: np.ndarray, colours: Any, size: float = 0.008, *, at: np.ndarray | None = None
    ) -> None:
        """Draw points (n, 3) in one colour or in colours (n, 3) uint8, replacing the node of that name."""
        if not len(points):
            self.remove(name)
            return
        self._handles[name] = self.scene.add_point_cloud(
            name,
            np.asarray(points, np.float32),
            colours,
            point_size=size,
            point_shape="circle",
            point_shading="flat",
            precision="float32",
            position=tuple(np.zeros(3) if at is None else at),
        )

    def slice(
        self, name: str, picture: np.ndarray, axis: Axis, offset: float, bound: float, at: np.ndarray | None = None
    ) -> None:
        """Draw a picture of `slice_image` on its plane, replacing the node of that name."""
        # Directions of the picture's columns and rows; they do not depend on the up axis of the scene.
        right, above = {
            "x": (-_AXES["z"], _AXES["y"]),
            "y": (_AXES["x"], -_AXES["z"]),
            "z": (_AXES["x"], _AXES["y"]),
        }[axis]
        rotation = np.column_stack([right, -above, np.cross(right, -above)])
        self._handles[name] = self.scene.add_image(
            name,
            picture,
            2 * bound,
            2 * bound,
            format="png",
            wxyz=quaternion(rotation),
            position=tuple(_AXES[axis] * offset + (0.0 if at is None else at)),
            cast_shadow=False,
            receive_shadow=False,
        )

    def remove(self, name: str) -> None:
        """Remove the node of that name, if there is one."""
        handle = self._handles.pop(name, None)
        if handle is not None:
            handle.remove()
