"""The controls that move through a space: sliders, between two shapes, among four."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from deepsdf.viewer.content.place import Directions, between, blend, corner_weights
from deepsdf.viewer.pages.widgets import by_hand, notes, on_click
from deepsdf.viewer.scene.pad import CORNERS, Pad

STEP = 0.05
"""Of a slider, standard deviations."""


class Sliders:
    """One slider for each leading principal direction.

    Args:
        moved: told the direction and its value.
    """

    def __init__(self, client: Any, directions: Directions, moved: Callable[[int, float], None]) -> None:
        gui = client.gui
        gui.add_html(notes("Each slider is a way in which the learned shapes differ, and how much of it."))
        reach = directions.reach
        self.handles = [
            gui.add_slider(name, -reach, reach, STEP, 0.0, hint="standard deviations of the training shapes")
            for name in directions.names()
        ]
        for number, handle in enumerate(self.handles):
            by_hand(handle, client, lambda number=number, handle=handle: moved(number, float(handle.value)))

    def put(self, values: Sequence[float]) -> None:
        """Show where the code is."""
        for handle, value in zip(self.handles, values, strict=False):
            handle.value = float(min(max(value, handle.min), handle.max))

    def name(self, directions: Directions) -> None:
        """New names, of a later checkpoint's directions."""
        for handle, name in zip(self.handles, directions.names(), strict=False):
            handle.label = name


class Between:
    """Two shapes by name, and the way from one to the other.

    Args:
        code_of: the code of a name of the list.
        went: told the code in between.
    """

    def __init__(
        self, client: Any, names: Sequence[str], code_of: Callable[[str], Tensor], went: Callable[[Tensor], None]
    ) -> None:
        gui = client.gui
        self._code_of, self._went = code_of, went
        names = tuple(names)
        self.first = gui.add_dropdown("From", names, initial_value=names[0])
        self.second = gui.add_dropdown("To", names, initial_value=names[-1])
        self.share = gui.add_slider("Way", 0.0, 1.0, 0.01, 0.0, marks=((0.0, "from"), (0.5, "half"), (1.0, "to")))
        for handle in (self.first, self.second, self.share):
            by_hand(handle, client, self.go)

    def go(self) -> None:
        first, second = self._code_of(self.first.value), self._code_of(self.second.value)
        self._went(between(first, second, float(self.share.value)))

    def offer(self, names: Sequence[str]) -> None:
        for handle in (self.first, self.second):
            handle.options = tuple(names)


class Blend:
    """Four shapes by name, and the square on the floor.

    Args:
        code_of, went: as of `Between`.
        corners: told to draw the shapes of the corners' names.
    """

    def __init__(
        self,
        client: Any,
        pad: Pad,
        names: Sequence[str],
        code_of: Callable[[str], Tensor],
        went: Callable[[Tensor], None],
        corners: Callable[[Sequence[str]], None],
    ) -> None:
        gui = client.gui
        self.pad, self._code_of, self._went, self._corners = pad, code_of, went, corners
        names = tuple(names)
        gui.add_html(notes("Drag the red ball on the floor: the nearer a corner, the more of its shape."))
        self.toggle = gui.add_button("Show the square")
        self.handles = [
            gui.add_dropdown(letter, names, initial_value=names[number * (len(names) - 1) // (len(CORNERS) - 1)])
            for number, letter in enumerate(CORNERS)
        ]
        self.right = gui.add_slider("A to B", 0.0, 1.0, 0.01, 0.5)
        self.away = gui.add_slider("A to C", 0.0, 1.0, 0.01, 0.5)
        on_click(self.toggle, client, self.switch)
        for handle in self.handles:
            by_hand(handle, client, self._picked)
        for handle in (self.right, self.away):
            by_hand(handle, client, lambda: self.go(float(self.right.value), float(self.away.value)))

    def switch(self) -> None:
        """Show the square, or put it away."""
        if self.pad.shown:
            self.pad.hide()
            self.toggle.label = "Show the square"
            return
        self.pad.show()
        self.toggle.label = "Hide the square"
        self._picked()

    def _picked(self) -> None:
        if self.pad.shown:
            self._corners([handle.value for handle in self.handles])
        self.go(*self.pad.at)

    def go(self, x: float, y: float) -> None:
        """To a place of the square, 0 to 1 each way."""
        self.pad.put(x, y)
        self.right.value, self.away.value = round(x, 2), round(y, 2)
        self._went(blend([self._code_of(handle.value) for handle in self.handles], corner_weights(x, y)))

    def offer(self, names: Sequence[str]) -> None:
        for handle in self.handles:
            handle.options = tuple(names)
