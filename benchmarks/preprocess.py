# ruff: noqa: T201
"""Signed distance sampling against its peers, in one run, as ratios; and preprocessing a folder.

    python benchmarks/preprocess.py --data FOLDER --peers PYTHON --json results.json

PYTHON is an interpreter that has the peers (default: this one); those it lacks are named and left out:

    python -m venv peers
    peers/bin/python -m pip install open3d point-cloud-utils libigl mesh-to-sdf

FOLDER holds `classes/human_body` and `hard/meshes`; without it generated meshes stand in. The parts, `--part`:

    clean    500 000 samples, drawn as for training, of closed meshes: from vertices and faces to signed distances
    dirty    the same of one mesh spoiled in five ways, repair included
    folder   twelve meshes by `deepsdf.pipeline.preprocess` with one worker and two; what starting a worker costs
    memory   the peak of a worker for a mesh of more than 1 M faces

Each tool runs in a process of its own, warmed up on a tetrahedron. Tools take turns, best of `--repeat`, so that the
noise of a shared machine meets all alike. The 9 runs of mesh-to-sdf take 11 minutes; `--without` leaves tools out.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import _folder
import _peers
import click
import numpy as np
import trimesh

from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import TRAIN_COUNT, sample_sdf

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import corruptions  # the tests' own ways to spoil a mesh

OWN, SAMPLING = "deepsdf", "deepsdf sample_sdf"
PARTS = ("clean", "dirty", "folder", "memory")
BODY = "classes/human_body/asian-female-old_maxmuscle_averageweight.ply"
HEAD = "hard/meshes/oded_nefertiti-lowres.obj"
DIRTY = (corruptions.doubled, corruptions.flipped, corruptions.thinned, corruptions.soup, corruptions.cut_up)
CLEAN_SHARES = (99.99, 100.0)
FAR = 0.02


@dataclass(frozen=True, eq=False)
class Case:
    """A mesh, points, and their exact distances; the shares of right signs that count as right (all, farther)."""

    name: str
    mesh: trimesh.Trimesh
    points: np.ndarray
    exact: np.ndarray
    wanted: tuple[float, float]


@dataclass
class Outcome:
    """What one tool made of one case: best seconds, percent of right signs, or what went wrong."""

    seconds: float = float("inf")
    right: float = float("nan")
    right_far: float = float("nan")
    error: str = ""

    def is_right(self, wanted: tuple[float, float]) -> bool:
        return self.right >= wanted[0] and self.right_far >= wanted[1]


@dataclass
class Row:
    """One line of a table."""

    mesh: str
    faces: int
    wanted: tuple[float, float]
    tools: dict[str, Outcome] = field(default_factory=dict)


# --- meshes


def bumpy(subdivisions: int, seed: int = 0) -> trimesh.Trimesh:
    """A closed star-shaped stone of 20 * 4^subdivisions faces."""
    mesh = trimesh.creation.icosphere(subdivisions)
    waves = np.random.default_rng(seed).normal(0, 4, (3, 6))
    radius = 1 + 0.06 * np.sin(mesh.vertices @ waves).sum(axis=1)
    return trimesh.Trimesh(mesh.vertices * radius[:, None], mesh.faces, process=False)


def clean_meshes(data: Path | None) -> dict[str, trimesh.Trimesh]:
    """Closed meshes that do not pass through themselves, of 5 to 70 thousand faces; the second is the one to spoil."""
    torus = trimesh.creation.torus(0.7, 0.25, major_sections=174, minor_sections=87)
    generated = {"stone (generated)": bumpy(4), "stone (finer)": bumpy(5), "torus (generated)": torus}
    if data is None:
        return generated | {"stone (finest)": bumpy(6)}
    generated.pop("stone (finer)")
    stone, torus = generated.items()
    return dict([stone, ("human body", load_mesh(data / BODY)), torus, ("nefertiti", load_mesh(data / HEAD))])


def cases(data: Path | None, parts: tuple[str, ...], count: int) -> Iterator[Case]:
    """The cases of the parts clean and dirty."""
    for index, (name, mesh) in enumerate(clean_meshes(data).items()):
        unit = Normalization.fit(mesh).apply_mesh(mesh)
        points = sample_sdf(lambda p: np.zeros(len(p), np.float32), count, mesh=unit).points  # in the order drawn
        exact = MeshSDF(unit, sign="winding", device="cpu")(points)
        if "clean" in parts:
            yield Case(name, unit, points, exact, CLEAN_SHARES)
        if "dirty" in parts and index == 1:
            for spoil in DIRTY:
                spoilt = spoil(unit, np.random.default_rng(0))
                yield Case(f"{name}, {spoil.__name__}", spoilt, points, exact, corruptions.SUITE[spoil])


# --- tools


def own_tool(name: str, device: str) -> _peers.Run:
    """deepsdf: the field at given points, or the whole of `sample_sdf`."""

    def run(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray | None:
        mesh = MeshSDF(trimesh.Trimesh(vertices, faces, process=False), device=device)
        if name == OWN:
            return mesh(points)
        sample_sdf(mesh, len(points))
        return None

    return run


class Tool:
    """A tool's process, from its start to the end of the `with` statement."""

    def __init__(self, name: str, peers: str, device: str) -> None:
        own = [sys.executable, __file__, "--device", device, "--serve", name]
        command = own if name in (OWN, SAMPLING) else [peers, _peers.__file__, name]
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> Tool:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        return json.loads(line) if line else {"error": f"its process died ({self._process.wait()})"}

    def measure(self, given: Path, found: Path) -> dict[str, Any]:
        try:
            print(json.dumps({"input": str(given), "output": str(found)}), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return {"error": "its process died"}
        return self.answer()


def compare(case: Case, names: list[str], peers: str, device: str, repeat: int, versions: dict[str, str]) -> Row:
    """All tools on one mesh, taking turns."""
    row = Row(case.name, len(case.mesh.faces), case.wanted, {name: Outcome() for name in names})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        given, found = Path(folder, "given.npz"), Path(folder, "found.npy")
        np.savez(given, vertices=case.mesh.vertices, faces=case.mesh.faces, points=case.points)
        tools = [stack.enter_context(Tool(name, peers, device)) for name in names]
        for tool in tools:
            hello = tool.answer()
            if "error" in hello:
                row.tools[tool.name].error = f"absent: {hello['error']}"
            versions[tool.name] = hello.get("version", row.tools[tool.name].error)
        for turn in range(repeat):
            for tool in tools:
                outcome = row.tools[tool.name]
                if outcome.error or (turn and tool.name in _peers.SLOW):
                    continue
                answer = tool.measure(given, found)
                if "error" in answer:
                    outcome.error = f"failed: {answer['error']}"
                    continue
                outcome.seconds = min(outcome.seconds, answer["seconds"])
                if tool.name != SAMPLING:
                    judge(outcome, np.load(found), case.exact)
    return row


def judge(outcome: Outcome, found: np.ndarray, exact: np.ndarray) -> None:
    right = (found.ravel() > 0) == (exact > 0)
    outcome.right, outcome.right_far = 100 * right.mean(), 100 * right[np.abs(exact) > FAR].mean()


# --- a folder, and memory


def folder_part(data: Path | None, device: str, repeat: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        source = (data / BODY).parent if data else Path(folder)
        if data is None:
            for k in range(12):
                bumpy(5, seed=k).export(source / f"stone{k}.ply")
        return _folder.measure_folder(source, 12, device, repeat)


def memory_part(data: Path | None, device: str) -> dict[str, dict[str, float]]:
    meshes = {"stone": bumpy(8), "stone, doubled": corruptions.doubled(bumpy(8), np.random.default_rng(0))}
    if data:
        meshes["nefertiti, finer"] = load_mesh(data / HEAD).subdivide().subdivide()
    return {name: _folder.measure_memory(mesh, device) for name, mesh in meshes.items()}


# --- the answer


def cell(outcome: Outcome, own: Outcome | None) -> str:
    if outcome.error:
        return outcome.error.split(":")[0]
    ratio = f" ({outcome.seconds / own.seconds:.1f} ×)" if own else ""
    signs = "" if np.isnan(outcome.right) else f"; {outcome.right:.3f} / {outcome.right_far:.3f}"
    return f"{outcome.seconds:.2f} s{ratio}{signs}"


def fastest(row: Row, peers: dict[str, Outcome]) -> str:
    done = {name: outcome for name, outcome in peers.items() if not outcome.error}
    if not done:
        return "none"
    name = min(done, key=lambda name: done[name].seconds)
    return f"{name} ({done[name].seconds / row.tools[OWN].seconds:.1f} ×)"


def table(rows: list[Row]) -> str:
    names = list(rows[0].tools)
    head = ["mesh", "faces", *names, "fastest peer", "fastest peer with right signs"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        peers = {name: outcome for name, outcome in row.tools.items() if name not in (OWN, SAMPLING)}
        right = {name: outcome for name, outcome in peers.items() if outcome.is_right(row.wanted)}
        own = row.tools[OWN]
        cells = [cell(outcome, None if name == OWN else own) for name, outcome in row.tools.items()]
        lines.append([row.mesh, str(row.faces), *cells, fastest(row, peers), fastest(row, right)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


@click.command(help=(__doc__ or "").split("\n", 1)[0])
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of real meshes.")
@click.option("--peers", default=sys.executable, help="Interpreter that has the peers.")
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help="Default: all.")
@click.option("--without", type=click.Choice(list(_peers.TOOLS)), multiple=True, help="Leave a tool out.")
@click.option("--repeat", default=3, show_default=True)
@click.option("--samples", default=TRAIN_COUNT, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="deepsdf's: cpu, cuda or auto.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there, too.")
@click.option("--serve", type=click.Choice([OWN, SAMPLING]), hidden=True)
def main(data, peers, parts, without, repeat, samples, device, file, serve) -> None:
    if serve:
        _peers.serve(serve, "deepsdf", lambda: own_tool(serve, device))
        return
    parts = parts or PARTS
    names = [OWN, SAMPLING, *(name for name in _peers.TOOLS if name not in without)]
    versions = {name: metadata.version(name) for name in ("deepsdf", "warp-lang", "numpy", "trimesh")}
    result: dict[str, Any] = {"machine": machine(), "date": time.strftime("%Y-%m-%d %H:%M")}
    result |= {"command": shlex.join(sys.argv), "device": device, "versions": versions}
    rows = []
    for case in cases(data, parts, samples):
        click.echo(f"{case.name}, {len(case.mesh.faces)} faces ...", err=True)
        rows.append(compare(case, names, peers, device, repeat, versions))
    print("\n".join(f"{key}: {value}" for key, value in result.items()), end="\n\n")
    if rows:
        print("Best seconds (times deepsdf's); percent of right signs of all samples / of those farther than 0.02\n")
        print(table(rows), end="\n\n")
    if "folder" in parts:
        result["folder"] = folder_part(data, device, repeat)
        print("Folder, seconds:", ", ".join(f"{key} {value:.2f}" for key, value in result["folder"].items()))
    if "memory" in parts:
        result["memory"] = memory_part(data, device)
        for name, found in result["memory"].items():
            print(f"Memory, {name}:", ", ".join(f"{key} {value:.1f}" for key, value in found.items()))
    if file:
        file.write_text(json.dumps(result | {"rows": [asdict(row) for row in rows]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
