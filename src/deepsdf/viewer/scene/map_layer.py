"""The map of a space on a board beside the shape: a point for every code, and a ball where one stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import trimesh

from deepsdf.pipeline.latent_map import GREY, Colouring, Paint, painted
from deepsdf.viewer.content.catalogue import Catalogue, Entry
from deepsdf.viewer.content.chart import HALF, MIDDLE, Chart, coloured, met, tables
from deepsdf.viewer.content.place import Place
from deepsdf.viewer.pages.widgets import by_hand, guarded, notes, words
from deepsdf.viewer.scene.redraw import Jobs, mesh_of
from deepsdf.viewer.scene.stage import Stage, upright
from deepsdf.workspace import Experiment

EYE, AT = np.array([-0.75, 0.35, 5.0]), np.array([-0.85, -0.05, 0.0])
"""Where the camera goes, to have shape and board in sight in a window that is no higher than wide."""

BY = ("class", "set")
"""What can always be coloured by."""

DOT, BALL = 0.02, 0.034
"""Radii of the points, and of the ball."""

HERE = (225, 70, 40)
"""Colour of the ball."""

SMALL, SMALL_RESOLUTION, SMALL_COUNT = 0.12, 32, 40
"""Of the small shapes: scale, samples an axis of their meshes, and how many at most."""


def legend(colours: Colouring, paint: Paint) -> str:
    """HTML."""
    named = [*paint.names.items(), *([("not known" if colours.numeric else "others", GREY)] if paint.others else [])]
    lines = [f'<span style="color:{colour}">●</span> {words(name)}' for name, colour in named]
    if colours.numeric:
        steps = painted(Colouring("", [float(step) for step in range(9)])).colours
        bar = f"height:0.7em;border-radius:2px;background:linear-gradient(to right,{','.join(steps)})"
        low, high = (f"<span>{end:.3g}</span>" for end in paint.ends)
        ends = f'<div style="display:flex;justify-content:space-between">{low}{high}</div>'
        lines.insert(0, f'{words(colours.title)}<div style="{bar}"></div>{ends}')
    return notes(*lines)


class MapLayer:
    """The controls of a map, and its board.

    The controls are made where this is constructed, within the current container.

    Args:
        go: told the shape whose point was clicked.
    """

    def __init__(
        self,
        client: Any,
        stage: Stage,
        experiment: Experiment,
        checkpoint: str | int,
        catalogue: Catalogue,
        place: Place,
        go: Callable[[Entry], None],
    ) -> None:
        self.client, self.stage, self.catalogue, self.at, self._go = client, stage, catalogue, place, go
        self.experiment, self.checkpoint = experiment, checkpoint
        self.jobs = Jobs(f"map {client.client_id}")
        self.chart: Chart | None = None
        self.points = np.zeros((0, 3))
        self._nodes: list[Any] = []
        self._dots: Any = None
        self._ball: Any = None
        self._pictures: list[str] = []
        gui = client.gui
        gui.add_html(notes("Every code in the plane of most variance. Click a point: that shape is shown."))
        self.on = gui.add_checkbox("Show the map", False)
        self.small = gui.add_checkbox("Small shapes", True, hint="Of some of the codes, below their points")
        classes = {
            entry.shape and entry.shape.category for kind in catalogue.entries.values() for entry in kind.values()
        }
        self.by = gui.add_dropdown("Colours", BY, initial_value=BY[0] if len(classes) > 1 else BY[1])
        self.legend = gui.add_html("")
        by_hand(self.on, client, self._switched)
        by_hand(self.small, client, self.again)
        by_hand(self.by, client, lambda: self.jobs.ask("colours", lambda wanted: guarded(client, self._paint)))

    def _switched(self) -> None:
        if self.on.value:
            away = max(1.0, 1.0 / max(float(self.client.camera.aspect), 0.1))
            self.stage.look((AT + away * (EYE - AT)).tolist(), AT.tolist())
        else:
            self.stage.home()
        self._ask()

    def again(self) -> None:
        """Draw the map as the list of shapes and their codes are now, where it is shown."""
        if self.on.value:
            self._ask()

    def _ask(self) -> None:
        self.jobs.ask("map", lambda wanted: guarded(self.client, lambda: self._draw(wanted)))

    def stand(self) -> None:
        """The ball to where one stands."""
        chart, ball = self.chart, self._ball
        # A later checkpoint may have longer codes; its map is on the way then.
        if chart is not None and ball is not None and len(chart.mean) == len(self.at.code):
            ball.position = tuple(self.spot(chart))

    def spot(self, chart: Chart) -> np.ndarray:
        """(3,) of the ball."""
        return chart.on_board(chart.place(self.at.code), upright(self.stage.up), BALL)[0]

    def clicked(self, origin: Sequence[float], way: Sequence[float]) -> None:
        """A click on the points, by its ray."""
        if (chart := self.chart) is not None:
            self._go(chart.entries[met(self.points, origin, way)])

    def close(self) -> None:
        self.jobs.close()

    def _clear(self) -> None:
        self.chart, self._dots, self._ball = None, None, None
        for node in self._nodes:
            node.remove()
        self._nodes.clear()
        for name in self._pictures:
            self.stage.remove(name)
        self._pictures.clear()

    def _draw(self, wanted: Callable[[], bool]) -> None:
        self._clear()
        if not self.on.value:
            self.legend.content = ""
            return
        chart = Chart.of(self.catalogue, self.at.space)
        frame, scene = upright(self.stage.up), self.stage.scene
        self.points = chart.on_board(chart.places, frame)
        round_one = trimesh.creation.icosphere(1, DOT)
        self._dots = scene.add_batched_meshes_simple(
            "/map/points", np.asarray(round_one.vertices), np.asarray(round_one.faces),
            np.tile([1.0, 0, 0, 0], (len(self.points), 1)), self.points, lod="off", cast_shadow=False,
        )  # fmt: skip
        self._dots.on_click(
            lambda event: guarded(self.client, lambda: self.clicked(event.ray_origin, event.ray_direction))
        )
        self._ball = scene.add_icosphere("/map/here", BALL, HERE, position=tuple(self.spot(chart)), cast_shadow=False)
        self._nodes += [self._dots, self._ball, *self._board(chart, frame)]
        self.chart = chart
        self.stand()  # it may have moved meanwhile
        self.by.options = self._choices(chart)
        self._paint()
        if self.small.value:
            self._picture(chart, frame, wanted)

    def _board(self, chart: Chart, frame: np.ndarray) -> list[Any]:
        scene, out = self.stage.scene, 1.06 * HALF
        corners = (np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * out) @ np.eye(2, 3)
        edge = (corners + MIDDLE) @ frame.T
        lines = np.array(list(pairwise(edge)))
        label = f"{chart.shares[0]:.0%} of variance →   {chart.shares[1]:.0%} ↑"
        below = frame @ (MIDDLE + np.array([0, -1.12 * HALF, 0]))
        return [
            scene.add_line_segments("/map/edge", lines, (150, 156, 168), thickness=1.5, thickness_units="screen"),
            scene.add_label("/map/axes", label, position=tuple(below), anchor="center-center"),
        ]

    def _choices(self, chart: Chart) -> tuple[str, ...]:
        found = tables(self.experiment, chart.entries)
        measured = self.experiment.evaluation_folder(self.checkpoint).relative_to(self.experiment.root) / "metrics.csv"
        error = ["error"] if f"{measured.as_posix()}:chamfer" in found else []
        return (*BY, *error, *found)

    def _paint(self) -> None:
        if (chart := self.chart) is None:
            return
        colours = coloured(self.experiment, chart.entries, self.by.value, self.checkpoint)
        paint = painted(colours)
        rgb = [[int(shade[k : k + 2], 16) for k in (1, 3, 5)] for shade in paint.colours]
        self._dots.batched_colors = np.array(rgb, np.uint8)
        self.legend.content = legend(colours, paint)

    def _picture(self, chart: Chart, frame: np.ndarray, wanted: Callable[[], bool]) -> None:
        """Small shapes, below and behind their points so that they hide none."""
        chosen = chart.apart(SMALL_COUNT, 2 * SMALL / HALF)
        places = chart.on_board(chart.places[chosen], frame, -SMALL)
        for number, (one, place) in enumerate(zip(chosen, places, strict=True)):
            shape = self.at.space.shape(chart.codes[one])
            mesh = mesh_of(shape, SMALL_RESOLUTION, wanted, quick=True, last=True).mesh
            if mesh is None:
                continue
            top = float((np.asarray(mesh.vertices) @ frame[:, 1]).max())
            at = place - frame[:, 1] * (SMALL * top + 1.5 * DOT)
            self._pictures.append(f"/map/small/{number}")
            self.stage.mesh(self._pictures[-1], mesh, (165, 173, 186), at=at, scale=SMALL)
