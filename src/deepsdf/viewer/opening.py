"""The page for the arguments of `deepsdf view`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepsdf.errors import InputError
from deepsdf.rendering.camera import Axis
from deepsdf.viewer.content.catalogue import catalogue_of
from deepsdf.viewer.content.previews import data_shapes, preview_file
from deepsdf.viewer.content.watcher import CheckpointWatcher
from deepsdf.viewer.pages.preview_pages import DataPage, FilePage
from deepsdf.viewer.pages.space_page import SharedSpace, SpacePage
from deepsdf.viewer.scene.meshing import FINE
from deepsdf.viewer.serve import Page
from deepsdf.workspace import DataSource, Experiment


@dataclass(frozen=True)
class PageFactory:
    """Makes a page for every browser that connects.

    Attributes:
        title: what is shown, for messages.
        make: makes the page of a browser, given viser's `ClientHandle`.
        close: ends the work that the pages share.
    """

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
) -> PageFactory:
    """The page of an experiment, a data source or a file.

    Args:
        what: files and folders. With an experiment: completions (.json) and code files (.pth) of it.
        finest: grid resolution of the finest mesh.
    Raises:
        InputError: nothing to show, or files that cannot be read.
    """
    paths = list(what)
    if experiment is None and len(paths) == 1 and (paths[0] / "specs.json").is_file():
        experiment, paths = paths[0], []
    if experiment is not None:
        return _space(Experiment.open(experiment), paths, checkpoint, up, finest, device)
    if len(paths) != 1:
        raise InputError(f"{len(paths)} files or folders were given; expected one, or an experiment (-e EXP)")
    if paths[0].is_dir():
        data = DataSource.open(paths[0])
        shapes = data_shapes(data)
        return PageFactory(f"Data source {data.root}", lambda client: DataPage(client, data, shapes, up))
    preview = preview_file(paths[0])
    return PageFactory(f"{paths[0]}", lambda client: FilePage(client, preview, up))


def _space(
    experiment: Experiment, files: Sequence[Path], checkpoint: str | int, up: Axis, finest: int, device: str
) -> PageFactory:
    watcher = CheckpointWatcher(experiment, checkpoint, device)
    space = watcher.space
    if len(space.trained_codes) < 2:
        raise InputError(
            f"{experiment.root} has {len(space.trained_codes)} trained codes at epoch {space.epoch}; "
            "the viewer needs at least 2"
        )
    shared = SharedSpace(watcher, catalogue_of(experiment, space, files), up, finest)
    watcher.start()
    return PageFactory(f"Shape space of {experiment.root}", lambda client: SpacePage(client, shared), watcher.close)
