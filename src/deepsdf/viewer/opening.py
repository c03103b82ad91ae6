"""Which page a command asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepsdf.errors import InputError
from deepsdf.rendering.camera import Axis
from deepsdf.viewer.content.catalogue import catalogue_of
from deepsdf.viewer.content.follow import Follower
from deepsdf.viewer.content.looks import of_path, shapes_of
from deepsdf.viewer.pages.look_page import DataPage, FilePage
from deepsdf.viewer.pages.space_page import SpacePage, World
from deepsdf.viewer.scene.redraw import FINE
from deepsdf.viewer.serve import Page
from deepsdf.workspace import DataSource, Experiment


@dataclass(frozen=True)
class Opened:
    """A page for every browser that comes, and what ends what they share."""

    title: str
    make: Callable[[Any], Page]
    close: Callable[[], None] = lambda: None


def open_page(
    what: Sequence[Path],
    experiment: Path | None = None,
    *,
    checkpoint: str | int = "latest",
    up: Axis = "y",
    finest: int = FINE,
    device: str = "auto",
) -> Opened:
    """The page of an experiment, a data source or a file.

    Raises:
        InputError: nothing to look at, or something that cannot be read.
    """
    paths = list(what)
    if experiment is None and len(paths) == 1 and (paths[0] / "specs.json").is_file():
        experiment, paths = paths[0], []
    if experiment is not None:
        return _space(Experiment.open(experiment), paths, checkpoint, up, finest, device)
    if len(paths) != 1:
        raise InputError(f"{len(paths)} files or folders were given to look at; give one, or an experiment with -e EXP")
    if paths[0].is_dir():
        data = DataSource.open(paths[0])
        shapes = shapes_of(data)
        return Opened(f"The data source {data.root}", lambda client: DataPage(client, data, shapes, up))
    look = of_path(paths[0])
    return Opened(f"{paths[0]}", lambda client: FilePage(client, look, up))


def _space(
    experiment: Experiment, files: Sequence[Path], checkpoint: str | int, up: Axis, finest: int, device: str
) -> Opened:
    follower = Follower(experiment, checkpoint, device)
    if len(follower.space.trained_codes) < 2:
        raise InputError(
            f"{experiment.root} has {len(follower.space.trained_codes)} trained codes at epoch {follower.space.epoch}; "
            "a space to walk in needs at least 2"
        )
    world = World(follower, catalogue_of(experiment, follower.space, files), up, finest)
    follower.start()
    return Opened(f"The shape space of {experiment.root}", lambda client: SpacePage(client, world), follower.close)
