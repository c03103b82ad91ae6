# ruff: noqa: T201
"""How often a field is evaluated, and how far meshes lie off its level set; prints Markdown.

    python benchmarks/meshing.py EXPERIMENT ... [--shapes 2] [--large]

For training shapes of each experiment and two exact solids: evaluations of `polygonize`'s search beside the dense grid,
and the distance of 20 000 random points of a mesh from the level set (a few Newton steps along the gradient), of the
"exact" mesh at 128 samples an axis and of marching cubes ("linear") at 256. `--large` meshes a torus at 1024 and prints
the most memory that took.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time

import numpy as np
import torch
import trimesh

from deepsdf import ShapeSpace, polygonize
from deepsdf.geometry.crossing import Grid, crossing_sparse
from deepsdf.geometry.hermite import values_and_gradients
from deepsdf.geometry.primitives import Box, Cylinder, Field, Rotated, Torus

POINTS = 20_000


def off(mesh: trimesh.Trimesh, field: Field) -> tuple[float, float]:
    """Mean and 99th percentile of the distance from a mesh's points to the level set."""
    points = np.asarray(trimesh.sample.sample_surface(mesh, POINTS, seed=0)[0])
    moved = points.copy()
    for _ in range(6):
        values, gradients = values_and_gradients(field, moved, 2e-4)
        step = -(values / np.maximum((gradients**2).sum(axis=1), 1e-3))[:, None] * gradients
        moved += step * np.minimum(1, 0.01 / np.maximum(np.linalg.norm(step, axis=1), 1e-12))[:, None]
    distance = np.linalg.norm(moved - points, axis=1)
    return float(distance.mean()), float(np.quantile(distance, 0.99))


def row(name: str, field: Field) -> None:
    fewer = [n**3 / crossing_sparse(field, Grid(n, 1.0)).queries for n in (256, 512)]
    start = time.perf_counter()
    exact = polygonize(field, resolution=128)
    middle = time.perf_counter()
    linear = polygonize(field, resolution=256, vertices="linear")
    end = time.perf_counter()
    ours, theirs = off(exact, field), off(linear, field)
    print(
        f"| {name} | {fewer[0]:.0f} x | {fewer[1]:.0f} x | {ours[0] * 1e5:.1f} / {ours[1] * 1e5:.0f} | "
        f"{theirs[0] * 1e5:.1f} / {theirs[1] * 1e5:.0f} | {exact.is_watertight and exact.is_winding_consistent} | "
        f"{(middle - start) / (end - middle):.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*")
    parser.add_argument("--shapes", type=int, default=2)
    parser.add_argument("--large", action="store_true")
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}\n")
    if given.large:
        mesh = polygonize(Rotated(Torus(0.6, 0.2), (1, 2, 3), 0.7), resolution=1024, vertices="linear")
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"A torus at 1024: {len(mesh.faces)} triangles, at most {most:.2f} GiB\n")
    print("| field | fewer at 256 | at 512 | exact 128, mean / 99 % (1e-5) | linear 256 | closed | seconds, ratio |")
    print("|---|---|---|---|---|---|---|")
    row("box", Rotated(Box((0.5, 0.3, 0.4)), (1, 2, 3), 0.7))
    row("cylinder", Rotated(Cylinder(0.4, 0.5), (1, 2, 3), 0.7))
    for path in given.experiments:
        space = ShapeSpace.load(path, device="cpu")
        for number in range(min(given.shapes, len(space.codes))):
            row(f"{os.path.basename(os.path.normpath(path))} {number}", space.shape(number))


if __name__ == "__main__":
    main()
