"""Controls that change the code: sliders, interpolation of two shapes, blending of four."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from deepsdf.viewer.content.position import PrincipalDirections, blend, corner_weights, interpolate
from deepsdf.viewer.html import note
from deepsdf.viewer.scene.blend_square import CORNERS, BlendSquare
from deepsdf.viewer.widgets import on_click, on_input


class Sliders:
    """A slider for each leading principal direction.

    Args:
        on_move: receives the direction and its value in standard deviations.
    """

    def __init__(self, client: Any, directions: PrincipalDirections, on_move: Callable[[int, float], None]) -> None:
        gui = client.gui
        gui.add_html(note("Principal directions of the training codes, and their share of the variance."))
        reach = directions.reach
        self.handles = [
            gui.add_slider(name, -reach, reach, 0.05, 0.0, hint="standard deviations of the training shapes")
            for name in directions.names()
        ]
        for number, handle in enumerate(self.handles):
            on_input(handle, client, lambda number=number, handle=handle: on_move(number, float(handle.value)))

    def show(self, values: Sequence[float]) -> None:
        """Move the sliders to values."""
        for handle, value in zip(self.handles, values, strict=False):
            handle.value = float(min(max(value, handle.min), handle.max))

    def rename(self, directions: PrincipalDirections) -> None:
        """Show the names of a later checkpoint's directions."""
        for handle, name in zip(self.handles, directions.names(), strict=False):
            handle.label = name


class Interpolation:
    """Two shapes by name, and a slider between them.

    Args:
        code_of: returns the code of a name.
        on_code: receives the interpolated code.
    """

    def __init__(
        self, client: Any, names: Sequence[str], code_of: Callable[[str], Tensor], on_code: Callable[[Tensor], None]
    ) -> None:
        gui = client.gui
        self._code_of, self._on_code = code_of, on_code
        names = tuple(names)
        self.first = gui.add_dropdown("From", names, initial_value=names[0])
        self.second = gui.add_dropdown("To", names, initial_value=names[-1])
        self.share = gui.add_slider("Position", 0.0, 1.0, 0.01, 0.0, marks=((0.0, "from"), (0.5, "half"), (1.0, "to")))
        for handle in (self.first, self.second, self.share):
            on_input(handle, client, self._update)

    def _update(self) -> None:
        first, second = self._code_of(self.first.value), self._code_of(self.second.value)
        self._on_code(interpolate(first, second, float(self.share.value)))

    def set_names(self, names: Sequence[str]) -> None:
        """Change the names that can be chosen."""
        for handle in (self.first, self.second):
            handle.options = tuple(names)


class Blend:
    """Four shapes by name, and the square on the floor that sets their weights.

    Args:
        code_of: returns the code of a name.
        on_code: receives the blended code.
        draw_corners: draws the shapes of four names at the corners.
    """

    def __init__(
        self,
        client: Any,
        square: BlendSquare,
        names: Sequence[str],
        code_of: Callable[[str], Tensor],
        on_code: Callable[[Tensor], None],
        draw_corners: Callable[[Sequence[str]], None],
    ) -> None:
        gui = client.gui
        self.square, self._code_of, self._on_code, self._draw_corners = square, code_of, on_code, draw_corners
        names = tuple(names)
        gui.add_html(note("Drag the red ball on the floor: the closer to a corner, the more of its shape."))
        self.toggle = gui.add_button("Show the square")
        self.handles = [
            gui.add_dropdown(letter, names, initial_value=names[number * (len(names) - 1) // (len(CORNERS) - 1)])
            for number, letter in enumerate(CORNERS)
        ]
        self.x = gui.add_slider("A to B", 0.0, 1.0, 0.01, 0.5)
        self.y = gui.add_slider("A to C", 0.0, 1.0, 0.01, 0.5)
        on_click(self.toggle, client, self._toggle)
        for handle in self.handles:
            on_input(handle, client, self._names_changed)
        for handle in (self.x, self.y):
            on_input(handle, client, lambda: self.move(float(self.x.value), float(self.y.value)))

    def _toggle(self) -> None:
        if self.square.shown:
            self.square.hide()
            self.toggle.label = "Show the square"
            return
        self.square.show()
        self.toggle.label = "Hide the square"
        self._names_changed()

    def _names_changed(self) -> None:
        if self.square.shown:
            self._draw_corners([handle.value for handle in self.handles])
        self.move(*self.square.position)

    def move(self, x: float, y: float) -> None:
        """Move the ball to a position of the square, 0 to 1 along each side, and blend."""
        self.square.move_ball(x, y)
        self.x.value, self.y.value = round(x, 2), round(y, 2)
        self._on_code(blend([self._code_of(handle.value) for handle in self.handles], corner_weights(x, y)))

    def set_names(self, names: Sequence[str]) -> None:
        """Change the names that can be chosen."""
        for handle in self.handles:
            handle.options = tuple(names)
