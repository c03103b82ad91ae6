"""The 3D half of a page: light, camera, and meshes, points and slices by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import trimesh

from deepsdf.rendering.camera import CLAY, Axis, Colour
from deepsdf.viewer.content.exports import glb_bytes

TRUTH: Colour = (214, 178, 118)
GROUND = -1.02
"""Height of the floor, unit frame."""

_UPS = {"x": np.array([1.0, 0, 0]), "y": np.array([0, 1.0, 0]), "z": np.array([0, 0, 1.0])}


def upright(up: Axis) -> np.ndarray:
    """(3, 3), columns right, up and towards the viewer, of a frame whose `up` is up."""
    towards = {"x": _UPS["z"], "y": _UPS["z"], "z": -_UPS["y"]}[up]
    return np.column_stack([np.cross(_UPS[up], towards), _UPS[up], towards])


def quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """w x y z of a rotation (3, 3)."""
    found = trimesh.transformations.quaternion_from_matrix(rotation)
    return (float(found[0]), float(found[1]), float(found[2]), float(found[3]))


def prepare(server: Any, up: Axis) -> None:
    """What is alike for all browsers: what is up, the light, and where the camera begins."""
    server.scene.set_up_direction(f"+{up}")
    server.scene.configure_default_lights(enabled=False)
    server.scene.configure_environment_map(None)
    place_camera(server.initial_camera, up)


def home(up: Axis) -> np.ndarray:
    """(3,) where the camera begins."""
    return upright(up) @ np.array([1.25, 0.7, 2.6])


def place_camera(camera: Any, up: Axis, away: float = 1.0) -> None:
    """Before the shape, a little to the right and above; `away` times as far as usual."""
    frame = upright(up)
    camera.position = tuple(away * home(up))
    camera.look_at = tuple(frame @ np.array([0.0, -0.05, 0.0]))
    setattr(camera, "up" if hasattr(camera, "up") else "up_direction", tuple(frame[:, 1]))
    camera.fov = 0.72


class Stage:
    """What one browser sees. Names of nodes are ours, never a file's."""

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
            position=tuple(frame[:, 1] * GROUND),
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
        for name, place, strength in (("key", (0.7, 1.0, 0.9), 1.8), ("fill", (-1.0, 0.3, 0.3), 0.5)):
            self.scene.add_light_directional(
                f"/light/{name}", intensity=strength, position=tuple(frame @ np.array(place) * 4.0)
            )

    def home(self, away: float = 1.0) -> None:
        """The camera where a visitor finds it first, or farther off."""
        place_camera(self.client.camera, self.up, away)

    def look(self, eye: Sequence[float], at: Sequence[float]) -> None:
        """The camera at a place, looking at another: right, up, and towards the visitor."""
        frame = upright(self.up)
        self.client.camera.position = tuple(frame @ np.asarray(eye, float))
        self.client.camera.look_at = tuple(frame @ np.asarray(at, float))

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
        """Draw a mesh, in one colour or with `colours` (v, 3) uint8 of its vertices; in place of one of that name."""
        place: dict[str, Any] = {"position": tuple(np.zeros(3) if at is None else at), "scale": scale}
        vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
        if not len(faces):
            self.remove(name)
            return
        if colours is None:
            handle = self.scene.add_mesh_simple(
                name, vertices, faces, color=colour, opacity=opacity, side="double", **place
            )
        else:
            handle = self.scene.add_glb(name, glb_bytes(mesh, colours), **place)
        self._handles[name] = handle

    def points(
        self, name: str, points: np.ndarray, colours: Any, size: float = 0.008, *, at: np.ndarray | None = None
    ) -> None:
        """Draw points (n, 3), of one colour or of (n, 3) uint8."""
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
        """Hang up a picture of `slice_image`."""
        # Its columns and rows run along these, whatever is up in the scene.
        right, above = {
            "x": (-_UPS["z"], _UPS["y"]),
            "y": (_UPS["x"], -_UPS["z"]),
            "z": (_UPS["x"], _UPS["y"]),
        }[axis]
        rotation = np.column_stack([right, -above, np.cross(right, -above)])
        self._handles[name] = self.scene.add_image(
            name,
            picture,
            2 * bound,
            2 * bound,
            format="png",
            wxyz=quaternion(rotation),
            position=tuple(_UPS[axis] * offset + (0.0 if at is None else at)),
            cast_shadow=False,
            receive_shadow=False,
        )

    def remove(self, name: str) -> None:
        """Nothing of that name is drawn any more."""
        handle = self._handles.pop(name, None)
        if handle is not None:
            handle.remove()
