# ruff: noqa: T201
"""Seconds to draw a mesh at 512 x 512, beside matplotlib's plot_trisurf in the same run; prints Markdown.

    python benchmarks/render.py MESH ...

Without a mesh, a generated stone of 81 920 faces. Both take turns, best of `--repeat`, warm. plot_trisurf paints flat
faces from back to front, by one core: no shadows, no hidden surface between faces that pass through one another.
The first picture of a process, and the first ever, for which the kernels are compiled, are measured in processes of
their own.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import trimesh
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepsdf.geometry.meshes import load_mesh
from deepsdf.rendering.render import PictureOptions, render_mesh

SIZE = 512
FIRST = """
import time; start = time.perf_counter()
import trimesh
from deepsdf.rendering.render import render_mesh
ready = time.perf_counter()
render_mesh(trimesh.creation.icosphere(3))
print(ready - start, time.perf_counter() - ready)
"""


def stone() -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(6)
    waves = np.random.default_rng(0).normal(0, 4, (3, 6))
    radius = 1 + 0.06 * np.sin(mesh.vertices @ waves).sum(axis=1)
    return trimesh.Trimesh(mesh.vertices * radius[:, None], mesh.faces, process=False)


def by_matplotlib(mesh: trimesh.Trimesh) -> None:
    figure = Figure(figsize=(SIZE / 100, SIZE / 100), dpi=100)
    axes = figure.add_subplot(projection="3d")
    axes.plot_trisurf(*mesh.vertices.T, triangles=mesh.faces)  # pyright: ignore[reportAttributeAccessIssue]
    axes.set_axis_off()
    FigureCanvasAgg(figure).draw()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def first_picture(cache: str | None) -> tuple[float, float]:
    """Seconds of a new process: to import, to draw a ball. `cache`: the folder of compiled kernels."""
    environment = os.environ if cache is None else {**os.environ, "WARP_CACHE_PATH": cache}
    told = subprocess.run([sys.executable, "-c", FIRST], env=environment, capture_output=True, text=True, check=True)
    imported, drawn = map(float, told.stdout.split())
    return imported, drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("meshes", nargs="*", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    meshes = {path.stem: load_mesh(path) for path in given.meshes} or {"stone (generated)": stone()}
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("warp-lang", "numpy", "matplotlib"))
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}\n")
    print("| mesh | faces | deepsdf, s | plot_trisurf, s | ratio |\n|---|---|---|---|---|")
    for name, mesh in meshes.items():
        render_mesh(mesh, PictureOptions(size=SIZE))
        rounds = [
            (
                seconds(lambda mesh=mesh: render_mesh(mesh, PictureOptions(size=SIZE))),
                seconds(lambda mesh=mesh: by_matplotlib(mesh)),
            )
            for _ in range(given.repeat)
        ]
        ours, theirs = np.min(rounds, axis=0)
        print(f"| {name} | {len(mesh.faces)} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.1f} |")
    with tempfile.TemporaryDirectory() as empty:
        print("\nFirst picture ever: import {:.1f} s, compile and draw {:.1f} s".format(*first_picture(empty)))
    print("First picture of a process: import {:.1f} s, draw {:.1f} s".format(*first_picture(None)))


if __name__ == "__main__":
    main()
