"""A square on the floor with a shape at each corner; a ball on it tells how much of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import trimesh

from deepsdf.viewer.scene.stage import GROUND, Stage, quaternion, upright

CORNERS = ("A", "B", "C", "D")
PLACES = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
"""Of the corners on the square: x to the right, y away from the viewer."""

HALF, FORWARD = 0.62, 1.75
"""Half the square's side, and how far its middle lies before the shape."""

SMALL = 0.3
"""Size of the shapes at the corners."""

LIFT = 0.08
"""Radius of the ball."""

EYE, AT = (0.7, 1.9, 5.7), (0.0, -0.5, 0.85)
"""Where the camera goes, to have shape and square in sight."""


def floor_point(eye: np.ndarray, through: np.ndarray, frame: np.ndarray) -> tuple[float, float] | None:
    """Where the ray from an eye through a point meets the square, 0 to 1 each way and clipped; None if it does not.

    Args:
        frame: (3, 3), see `upright`.
    """
    a, b = frame.T @ eye, frame.T @ through
    way = b - a
    if abs(way[1]) < 1e-9 or (share := (GROUND + LIFT - a[1]) / way[1]) <= 0:
        return None
    met = a + share * way
    x, y = (met[0] / HALF + 1) / 2, (1 - (met[2] - FORWARD) / HALF) / 2
    return float(np.clip(x, 0, 1)), float(np.clip(y, 0, 1))


class Pad:
    """The square in the scene.

    Args:
        moved: told where the ball was dragged to, 0 to 1 each way.
    """

    def __init__(self, client: Any, stage: Stage, moved: Callable[[float, float], None]) -> None:
        self.client, self.stage, self._moved = client, stage, moved
        self._handles: list[Any] = []
        self._ball: Any = None
        self.at = (0.5, 0.5)

    @property
    def shown(self) -> bool:
        return self._ball is not None

    def place(self, x: float, y: float, height: float = 0.0) -> np.ndarray:
        """A point of the square in the scene."""
        return upright(self.stage.up) @ np.array([(2 * x - 1) * HALF, GROUND + height, FORWARD + (1 - 2 * y) * HALF])

    def show(self) -> None:
        if self.shown:
            return
        self.stage.look(EYE, AT)
        scene, frame = self.client.scene, upright(self.stage.up)
        edge = np.array([self.place(*PLACES[k], 0.01) for k in (0, 1, 3, 2, 0)])
        lines = np.stack([edge[:-1], edge[1:]], axis=1)
        self._handles.append(
            scene.add_line_segments("/pad/edge", lines, (90, 100, 120), thickness=2.0, thickness_units="screen")
        )
        for letter, corner in zip(CORNERS, PLACES, strict=True):
            self._handles.append(
                scene.add_label(f"/pad/{letter}", letter, position=self.place(*corner, 0.0), anchor="center-center")
            )
        self._ball = scene.add_icosphere(
            "/pad/ball", LIFT, (220, 90, 60), position=self.place(*self.at, LIFT), wxyz=quaternion(frame)
        )

        async def dragged(event: Any) -> None:
            found = floor_point(
                np.asarray(self.client.camera.position), np.asarray(event.end_position), upright(self.stage.up)
            )
            if found is not None:
                self.put(*found)
                self._moved(*found)

        self._ball.on_drag(dragged)

    def put(self, x: float, y: float) -> None:
        """Move the ball."""
        self.at = (x, y)
        if self._ball is not None:
            self._ball.position = self.place(x, y, LIFT)

    def corner(self, number: int, mesh: trimesh.Trimesh | None) -> None:
        """The small shape at a corner."""
        name = f"/pad/shape/{CORNERS[number]}"
        if mesh is None or not self.shown:
            self.stage.remove(name)
            return
        x, y = PLACES[number]
        low = float((np.asarray(mesh.vertices) @ upright(self.stage.up)[:, 1]).min())
        out = 1.5  # beyond the corner, so that the ball can stand on it
        at = self.place((x - 0.5) * out + 0.5, (y - 0.5) * out + 0.5, -low * SMALL)
        self.stage.mesh(name, mesh, (150, 160, 175), at=at, scale=SMALL)

    def hide(self) -> None:
        """Put the square away."""
        self.stage.home()
        for number in range(len(CORNERS)):
            self.stage.remove(f"/pad/shape/{CORNERS[number]}")
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._ball is not None:
            self._ball.remove()
            self._ball = None
