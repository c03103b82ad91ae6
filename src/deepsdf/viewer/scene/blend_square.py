"""A square on the floor with a shape at each corner; a draggable ball sets the blending weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import trimesh

from deepsdf.viewer.scene.stage import BALL_COLOUR, FLOOR, Stage, quaternion, upright

CORNERS = ("A", "B", "C", "D")
CORNER_POSITIONS = tuple((x, y) for y in (0.0, 1.0) for x in (0.0, 1.0))
"""Corners of the square: x to the right, y away from the viewer.

    C-----D
    |     |   ^ y
    A-----B   +-> x
"""

HALF_SIZE, FORWARD = 0.62, 1.75
"""Half the square's side, and the distance of its centre in front of the shape, unit frame: the square, with its small
shapes, ends in front of the unit sphere."""

THUMBNAIL_SCALE = 0.3
"""Scale of the shapes at the corners: neighbours do not overlap (2 * 0.3 < 1.5 * 2 * HALF_SIZE)."""

BALL_RADIUS = 0.08

EYE, TARGET = (0.7, 1.9, 5.7), (0.0, -0.5, 0.85)
"""Camera position and target that show both the shape and the square."""


def floor_point(eye: np.ndarray, through: np.ndarray, frame: np.ndarray) -> tuple[float, float] | None:
    """Position on the square, clipped to [0, 1], of the ray from `eye` (3,) through a point (3,).

    Args:
        frame: (3, 3), see `upright`.
    Returns:
        None if the ray does not hit the plane of the ball's centre.
    """
    a, b = frame.T @ eye, frame.T @ through
    direction = b - a
    if abs(direction[1]) < 1e-9 or (share := (FLOOR + BALL_RADIUS - a[1]) / direction[1]) <= 0:
        return None
    hit = a + share * direction
    x, y = (hit[0] / HALF_SIZE + 1) / 2, (1 - (hit[2] - FORWARD) / HALF_SIZE) / 2
    return float(np.clip(x, 0, 1)), float(np.clip(y, 0, 1))


class BlendSquare:
    """The square in the scene.

    Args:
        on_move: receives the ball's position, 0 to 1 along each side, while it is dragged.
    """

    def __init__(self, client: Any, stage: Stage, on_move: Callable[[float, float], None]) -> None:
        self.client, self.stage, self._on_move = client, stage, on_move
        self._handles: list[Any] = []
        self._ball: Any = None
        self.position = (0.5, 0.5)

    @property
    def shown(self) -> bool:
        """Whether the square is in the scene."""
        return self._ball is not None

    def scene_point(self, x: float, y: float, height: float = 0.0) -> np.ndarray:
        """Scene coordinates (3,) of a point of the square."""
        flat = np.array([(2 * x - 1) * HALF_SIZE, FLOOR + height, FORWARD + (1 - 2 * y) * HALF_SIZE])
        return upright(self.stage.up) @ flat

    def show(self) -> None:
        """Add the square to the scene, and move the camera to show it."""
        if self.shown:
            return
        self.stage.look_at(EYE, TARGET)
        scene, frame = self.client.scene, upright(self.stage.up)
        edge = np.array([self.scene_point(*CORNER_POSITIONS[k], 0.01) for k in (0, 1, 3, 2, 0)])
        lines = np.stack([edge[:-1], edge[1:]], axis=1)
        self._handles.append(
            scene.add_line_segments("/blend/edge", lines, (90, 100, 120), thickness=2.0, thickness_units="screen")
        )
        for letter, corner in zip(CORNERS, CORNER_POSITIONS, strict=True):
            self._handles.append(
                scene.add_label(
                    f"/blend/{letter}", letter, position=self.scene_point(*corner, 0.0), anchor="center-center"
                )
            )
        self._ball = scene.add_icosphere(
            "/blend/ball",
            BALL_RADIUS,
            BALL_COLOUR,
            position=self.scene_point(*self.position, BALL_RADIUS),
            wxyz=quaternion(frame),
        )

        async def dragged(event: Any) -> None:
            found = floor_point(
                np.asarray(self.client.camera.position), np.asarray(event.end_position), upright(self.stage.up)
            )
            if found is not None:
                self.move_ball(*found)
                self._on_move(*found)

        self._ball.on_drag(dragged)

    def move_ball(self, x: float, y: float) -> None:
        """Move the ball to a position, 0 to 1 along each side."""
        self.position = (x, y)
        if self._ball is not None:
            self._ball.position = self.scene_point(x, y, BALL_RADIUS)

    def set_corner(self, number: int, mesh: trimesh.Trimesh | None) -> None:
        """Draw a small shape at a corner; None removes it."""
        name = f"/blend/shape/{CORNERS[number]}"
        if mesh is None or not self.shown:
            self.stage.remove(name)
            return
        x, y = CORNER_POSITIONS[number]
        low = float((np.asarray(mesh.vertices) @ upright(self.stage.up)[:, 1]).min())
        outward = 1.5  # outside the corner, so that the ball can be moved onto it
        at = self.scene_point((x - 0.5) * outward + 0.5, (y - 0.5) * outward + 0.5, -low * THUMBNAIL_SCALE)
        self.stage.mesh(name, mesh, (150, 160, 175), at=at, scale=THUMBNAIL_SCALE)

    def hide(self) -> None:
        """Remove the square, and reset the camera."""
        self.stage.reset_camera()
        for number in range(len(CORNERS)):
            self.stage.remove(f"/blend/shape/{CORNERS[number]}")
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._ball is not None:
            self._ball.remove()
            self._ball = None
