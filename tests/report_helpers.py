"""A page to look at: the tiny world of `helpers`, all of it evaluated, among it shapes whose names are hostile.

PYTEST_DONT_REWRITE: test modules import it as well.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import EXTENTS, World, chdir, few_samples, reconstructed_once, run

from deepsdf.figures.options import ReportOptions
from deepsdf.figures.report import Report, report
from deepsdf.figures.report.packing import Packed
from deepsdf.splits import ShapeName, write_split
from deepsdf.workspace import DataSource, Experiment

HOSTILE = [
    ShapeName("toys", "<script>document.title='pwned'<", "<img src=x onerror=alert(1)>"),
    ShapeName("toys", '"><b onmouseover="alert(1)', "<!--<script>"),
]
"""Shapes without samples; they are in the split and therefore on the page."""

SHAPES = [*EXTENTS, *HOSTILE]


@functools.cache
def evaluated_once() -> World:
    """Read only."""
    root = Path(tempfile.mkdtemp(prefix="deepsdf-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    world = _copied(reconstructed_once(), root)
    write_split(world.root / "all.json", SHAPES)
    common = ("-d", "data", "-s", "all.json")
    with chdir(world.root), pytest.MonkeyPatch.context() as patch:
        few_samples(patch)
        surface = ("-s", "meshes", "-n", "toys", "--surface", "--threads", 1, "--device", "cpu")
        run("preprocess", "-d", "data", *surface, "--split", "train.json")
        run("reconstruct", "-e", "exp", *common, "--resolution", 40, "--device", "cpu", "--skip", status=1)
        few = ("--points", 1000, "--emd-points", 50, "--no-picture")
        run("evaluate", "-e", "exp", *common, *few, status=1)
    return world


def _copied(world: World, folder: Path) -> World:
    root = folder / "world"
    shutil.copytree(world.root, root)
    (root / "data" / ".datasources.json").write_text(json.dumps({"toys": str(root / "meshes")}))
    return World(root)


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of the evaluated world; its root is the current folder."""
    world = _copied(evaluated_once(), tmp_path)
    monkeypatch.chdir(world.root)
    return world


def made(options: ReportOptions = ReportOptions(), **settings: Any) -> tuple[Report, str]:
    """A report of the current folder's world, and its HTML."""
    done = report(Experiment.open("exp"), DataSource.open("data"), options=options, **settings)
    return done, done.path.read_text(encoding="utf-8")


def small_pictures(patch: pytest.MonkeyPatch) -> None:
    """Smaller pictures: drawing them takes most of the time of a report."""
    patch.setattr("deepsdf.figures.report.SIZE", 64)


@functools.cache
def page_once() -> Path:
    """The page of the evaluated world. Read only."""
    world = evaluated_once()
    with chdir(world.root), pytest.MonkeyPatch.context() as patch:
        small_pictures(patch)
        return made(out=world.root.parent / "report.html")[0].path


def unpack(mesh: Packed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (v, 3), faces (f, 3) and values (v,), unpacked by the specification in `Packed`."""
    import zlib

    content = zlib.decompress(mesh.content)

    def planes(count: int, width: int) -> list[int]:
        nonlocal content
        taken, content = content[: count * width], content[count * width :]
        return [int.from_bytes(taken[k::count], "little") for k in range(count)]

    columns = []
    for _ in range(3):
        column, q = [], 0
        for code in planes(mesh.vertices, 2):
            q = (q + (-(code + 1) // 2 if code % 2 else code // 2)) % 2**16
            column.append(q)
        columns.append(column)
    vertices = np.array(mesh.origin) + mesh.step * np.array(columns, np.float64).T.reshape(-1, 3)
    corners, following = [], 0
    for code in planes(3 * mesh.faces, 2 if mesh.vertices <= 2**16 else 4):
        corners.append(following - code)
        following += code == 0
    values, level = [], 0
    if mesh.value_max:
        for code in planes(mesh.vertices, 1):
            level = (level + code) % 256
            values.append((level / 255) ** 2 * mesh.value_max)
    assert content == b""
    return vertices, np.array(corners, np.int64).reshape(-1, 3), np.array(values)
