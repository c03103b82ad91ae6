"""preprocess as a user starts it: interrupted, killed, late, twice at once."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trimesh

from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.splits import ShapeName, write_split
from deepsdf.workspace import DataSource

SHAPES = 24
PATIENCE = 120.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def meshes(folder: Path, name: str, count: int) -> list[ShapeName]:
    """Bricks, and their split file beside them."""
    (folder / name / "bricks").mkdir(parents=True)
    shapes = [ShapeName(name, "bricks", f"{k:02}") for k in range(count)]
    for k, shape in enumerate(shapes):
        brick = trimesh.creation.box((1, 1 + k / 10, 2)).subdivide().subdivide()
        brick.export(folder / name / "bricks" / f"{shape.instance}.ply")
    write_split(folder / f"{name}.json", shapes)
    return shapes


def start(folder: Path, name: str, *options: object) -> subprocess.Popen[str]:
    typed = ["preprocess", "-s", name, "-d", "data", "--split", f"{name}.json", "--threads", "2", "--no-pictures"]
    return subprocess.Popen(
        [sys.executable, "-c", "from deepsdf.cli import main; main()", *typed, *map(str, options)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def written(folder: Path) -> list[Path]:
    return sorted((folder / "data" / "SdfSamples").rglob("[!.]*.npz"))


def rows(folder: Path) -> dict[str, str]:
    with (folder / "data" / "preprocess.csv").open(newline="") as file:
        return {row["shape"]: row["verdict"] for row in csv.DictReader(file)}


def workers(pid: int) -> list[int]:
    """Descendants without children of their own that run the work: those that have loaded Warp."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    found = [worker for child in children for worker in workers(child)]
    return found or [pid] * ("warp" in Path(f"/proc/{pid}/maps").read_text())


def all_whole(folder: Path, shapes: Sequence[ShapeName], count: int) -> None:
    data = DataSource.open(folder / "data")
    for shape in shapes:
        assert len(data.load_samples(shape)) == count
        data.load_normalization(shape)
    assert not list((folder / "data").rglob("*.tmp*"))


def test_control_c_leaves_whole_files_and_skip_goes_on(tmp_path: Path) -> None:
    shapes = meshes(tmp_path, "bricks", SHAPES)
    with start(tmp_path, "bricks", "--samples", 400_000) as run:
        wait_for(lambda: len(written(tmp_path)) >= 3)
        os.killpg(run.pid, signal.SIGINT)
        _, told = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130
    assert "stopped; all written files are complete; continue with --skip" in told
    assert "Traceback" not in told
    there = written(tmp_path)
    assert 3 <= len(there) < SHAPES
    for path in there:
        assert len(SDFSamples.load(path)) == 400_000
    assert not list((tmp_path / "data").rglob("*.tmp*"))
    # A worker may have written a file whose end it could not report any more.
    assert len(there) - 2 <= len(rows(tmp_path)) <= len(there)
    before = {path: path.stat().st_mtime_ns for path in there}
    with start(tmp_path, "bricks", "--samples", 400_000, "--skip") as run:
        said, _ = run.communicate(timeout=PATIENCE)
    assert (run.returncode, f"{len(there)} skipped" in said) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in there} == before
    all_whole(tmp_path, shapes, 400_000)


def test_a_killed_worker_costs_nothing_but_its_own_time(tmp_path: Path) -> None:
    shapes = meshes(tmp_path, "bricks", SHAPES)
    with start(tmp_path, "bricks", "--samples", 200_000) as run:
        wait_for(lambda: len(written(tmp_path)) >= 2)
        os.kill(workers(run.pid)[0], signal.SIGKILL)
        said, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0
    assert f"Wrote {SHAPES} shapes" in said
    all_whole(tmp_path, shapes, 200_000)


def test_a_shape_that_takes_too_long_is_reported(tmp_path: Path) -> None:
    shapes = meshes(tmp_path, "bricks", 3)
    huge = trimesh.creation.icosphere(8)
    huge.export(tmp_path / "bricks" / "bricks" / f"{shapes[1].instance}.ply")
    with start(tmp_path, "bricks", "--samples", 1000, "--timeout", 5) as run:
        said, told = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1
    assert f"{shapes[1]}: took longer than --timeout 5 s and was stopped" in told
    assert "Wrote 2 shapes" in said
    assert rows(tmp_path) == {str(shapes[0]): "ok", str(shapes[1]): "rejected", str(shapes[2]): "ok"}
    all_whole(tmp_path, [shapes[0], shapes[2]], 1000)


def test_two_runs_on_one_data_source(tmp_path: Path) -> None:
    first, second = meshes(tmp_path, "first", 8), meshes(tmp_path, "second", 8)
    runs = [start(tmp_path, name, "--samples", 2000) for name in ("first", "second")]
    for run in runs:
        run.communicate(timeout=PATIENCE)
        assert run.returncode == 0
    known = json.loads((tmp_path / "data" / ".datasources.json").read_text())
    assert known == {name: str(tmp_path / name) for name in ("first", "second")}
    assert rows(tmp_path) == {str(shape): "ok" for shape in (*first, *second)}
    all_whole(tmp_path, [*first, *second], 2000)
