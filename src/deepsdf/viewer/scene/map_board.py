"""The map of the codes on a board beside the shape: a point for every code, and a ball at the current code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import trimesh

from deepsdf.figures.latent_map import GREY, Colouring, Paint, painted
from deepsdf.jobs.worker import IsWanted, Worker
from deepsdf.viewer.content.catalogue import Catalogue, Entry
from deepsdf.viewer.content.code_map import (
    BOARD_CENTRE,
    BOARD_HALF_SIZE,
    CodeMap,
    colour_columns,
    map_colours,
    nearest_to_ray,
)
from deepsdf.viewer.content.position import LatentPosition
from deepsdf.viewer.html import colour_bar, escape, note
from deepsdf.viewer.scene.meshing import mesh_shape
from deepsdf.viewer.scene.stage import BALL_COLOUR, Stage, upright
from deepsdf.viewer.widgets import guarded, on_input
from deepsdf.workspace import Experiment

EYE, TARGET = np.array([-0.75, 0.35, 5.0]), np.array([-0.85, -0.05, 0.0])
"""Camera position and target that show both the shape and the board in a square window."""

COLOUR_BY = ("class", "set")
"""Colourings that are always available."""

POINT_RADIUS, BALL_RADIUS = 0.02, 0.034
"""Radii on the board, unit frame: the ball covers the point of its shape."""

THUMBNAIL_SCALE, MAX_THUMBNAILS = 0.12, 40
"""Small shapes on the board: at this scale about 7 x 7 of them fit side by side."""


def legend(colours: Colouring, paint: Paint) -> str:
    """Legend of the map's colours (HTML)."""
    named = [*paint.names.items(), *([("unknown" if colours.numeric else "others", GREY)] if paint.others else [])]
    lines = [f'<span style="color:{colour}">●</span> {escape(name)}' for name, colour in named]
    if colours.numeric:
        steps = painted(Colouring("", [float(step) for step in range(9)])).colours
        low, high = (f"{end:.3g}" for end in paint.ends)
        lines.insert(0, f"{escape(colours.title)}{colour_bar(steps, low, high)}")
    return note(*lines)


class MapBoard:
    """The board, with its controls, which are created in the current container.

    Args:
        on_pick: receives the entry whose point was clicked.
    """

    def __init__(
        self,
        client: Any,
        stage: Stage,
        experiment: Experiment,
        checkpoint: str | int,
        catalogue: Catalogue,
        position: LatentPosition,
        on_pick: Callable[[Entry], None],
    ) -> None:
        self.client, self.stage, self.catalogue, self.position = client, stage, catalogue, position
        self._on_pick = on_pick
        self.experiment, self.checkpoint = experiment, checkpoint
        self.worker = Worker(f"map {client.client_id}")
        self.map: CodeMap | None = None
        self.points = np.zeros((0, 3))
        self._nodes: list[Any] = []
        self._dots: Any = None
        self._ball: Any = None
        self._thumbnails: list[str] = []
        gui = client.gui
        gui.add_html(note("All codes in the plane of largest variance. Click a point to show its shape."))
        self.on = gui.add_checkbox("Show the map", False)
        self.thumbnails = gui.add_checkbox("Small shapes", True, hint="Meshes of some codes, below their points")
        classes = {
            entry.shape and entry.shape.category for kind in catalogue.entries.values() for entry in kind.values()
        }
        self.by = gui.add_dropdown(
            "Colour by", COLOUR_BY, initial_value=COLOUR_BY[0] if len(classes) > 1 else COLOUR_BY[1]
        )
        self.legend = gui.add_html("")
        on_input(self.on, client, self._switched)
        on_input(self.thumbnails, client, self.refresh)
        on_input(self.by, client, lambda: self.worker.submit("colours", lambda is_wanted: guarded(client, self._paint)))

    def _switched(self) -> None:
        if self.on.value:
            distance = max(1.0, 1.0 / max(float(self.client.camera.aspect), 0.1))  # farther in narrow windows
            self.stage.look_at((TARGET + distance * (EYE - TARGET)).tolist(), TARGET.tolist())
        else:
            self.stage.reset_camera()
        self._request()

    def refresh(self) -> None:
        """Redraw the map, if it is on, after the list of shapes or their codes have changed."""
        if self.on.value:
            self._request()

    def _request(self) -> None:
        self.worker.submit("map", lambda is_wanted: guarded(self.client, lambda: self._draw(is_wanted)))

    def move_ball(self) -> None:
        """Move the ball to the current code."""
        code_map, ball = self.map, self._ball
        # A later checkpoint may have codes of another length; its map is drawn soon.
        if code_map is not None and ball is not None and len(code_map.mean) == len(self.position.code):
            ball.position = tuple(self.ball_position(code_map))

    def ball_position(self, code_map: CodeMap) -> np.ndarray:
        """Scene coordinates (3,) of the ball."""
        return code_map.on_board(code_map.project(self.position.code), upright(self.stage.up), BALL_RADIUS)[0]

    def click(self, origin: Sequence[float], direction: Sequence[float]) -> None:
        """Pick the shape whose point is nearest to the ray of a click."""
        if (code_map := self.map) is not None:
            self._on_pick(code_map.entries[nearest_to_ray(self.points, origin, direction)])

    def close(self) -> None:
        """Stop drawing."""
        self.worker.close()

    def _clear(self) -> None:
        self.map, self._dots, self._ball = None, None, None
        for node in self._nodes:
            node.remove()
        self._nodes.clear()
        for name in self._thumbnails:
            self.stage.remove(name)
        self._thumbnails.clear()

    def _draw(self, is_wanted: IsWanted) -> None:
        self._clear()
        if not self.on.value:
            self.legend.content = ""
            return
        code_map = CodeMap.of(self.catalogue, self.position.space)
        frame, scene = upright(self.stage.up), self.stage.scene
        self.points = code_map.on_board(code_map.positions, frame)
        sphere = trimesh.creation.icosphere(1, POINT_RADIUS)
        self._dots = scene.add_batched_meshes_simple(
            "/map/points", np.asarray(sphere.vertices), np.asarray(sphere.faces),
            np.tile([1.0, 0, 0, 0], (len(self.points), 1)), self.points, lod="off", cast_shadow=False,
        )  # fmt: skip
        self._dots.on_click(
            lambda event: guarded(self.client, lambda: self.click(event.ray_origin, event.ray_direction))
        )
        self._ball = scene.add_icosphere(
            "/map/ball", BALL_RADIUS, BALL_COLOUR, position=tuple(self.ball_position(code_map)), cast_shadow=False
        )
        self._nodes += [self._dots, self._ball, *self._board(code_map, frame)]
        self.map = code_map
        self.move_ball()  # the code may have changed meanwhile
        self.by.options = self._choices(code_map)
        self._paint()
        if self.thumbnails.value:
            self._draw_thumbnails(code_map, frame, is_wanted)

    def _board(self, code_map: CodeMap, frame: np.ndarray) -> list[Any]:
        scene, half = self.stage.scene, 1.06 * BOARD_HALF_SIZE  # a margin for points at the edge
        corners = (np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * half) @ np.eye(2, 3)
        edge = (corners + BOARD_CENTRE) @ frame.T
        lines = np.array(list(pairwise(edge)))
        label = f"{code_map.shares[0]:.0%} of variance →   {code_map.shares[1]:.0%} ↑"
        below = frame @ (BOARD_CENTRE + np.array([0, -1.12 * BOARD_HALF_SIZE, 0]))
        return [
            scene.add_line_segments("/map/edge", lines, (150, 156, 168), thickness=1.5, thickness_units="screen"),
            scene.add_label("/map/axes", label, position=tuple(below), anchor="center-center"),
        ]

    def _choices(self, code_map: CodeMap) -> tuple[str, ...]:
        found = colour_columns(self.experiment, code_map.entries)
        measured = self.experiment.evaluation_folder(self.checkpoint).relative_to(self.experiment.root) / "metrics.csv"
        error = ["error"] if f"{measured.as_posix()}:chamfer" in found else []
        return (*COLOUR_BY, *error, *found)

    def _paint(self) -> None:
        if (code_map := self.map) is None:
            return
        colours = map_colours(self.experiment, code_map.entries, self.by.value, self.checkpoint)
        paint = painted(colours)
        rgb = [[int(shade[k : k + 2], 16) for k in (1, 3, 5)] for shade in paint.colours]
        self._dots.batched_colors = np.array(rgb, np.uint8)
        self.legend.content = legend(colours, paint)

    def _draw_thumbnails(self, code_map: CodeMap, frame: np.ndarray, is_wanted: IsWanted) -> None:
        """Draw small shapes below and behind their points, where they hide none of them."""
        chosen = code_map.spread(MAX_THUMBNAILS, 2 * THUMBNAIL_SCALE / BOARD_HALF_SIZE)
        points = code_map.on_board(code_map.positions[chosen], frame, -THUMBNAIL_SCALE)
        for number, (row, point) in enumerate(zip(chosen, points, strict=True)):
            shape = self.position.space.shape(code_map.codes[row])
            mesh = mesh_shape(shape, 32, is_wanted, quick=True, last=True).mesh
            if mesh is None:
                continue
            top = float((np.asarray(mesh.vertices) @ frame[:, 1]).max())
            at = point - frame[:, 1] * (THUMBNAIL_SCALE * top + 1.5 * POINT_RADIUS)
            self._thumbnails.append(f"/map/small/{number}")
            self.stage.mesh(self._thumbnails[-1], mesh, (165, 173, 186), at=at, scale=THUMBNAIL_SCALE)
