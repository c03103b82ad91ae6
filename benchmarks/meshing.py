# ruff: noqa: T201
"""Evaluations of a field by the search, and distances of meshes from its level set; prints Markdown.

    python benchmarks/meshing.py EXPERIMENT ... [--shapes 2] [--codes 16 ...] [--solids] [--large]
    python benchmarks/meshing.py EXPERIMENT ... --loss [--shapes 8] [--resolution 129]

For shapes of each experiment (training codes, those of `--codes` or evenly among all, and as many drawn from the
prior) and, with `--solids`, two exact solids: evaluations of `polygonize`'s search beside the dense grid, and the
distance of 10 000 random points of a mesh from the level set (a few Newton steps along the gradient), of the "exact"
mesh at 128 samples per axis and of marching cubes ("linear") at 256. `--large` meshes a torus and a shape of
each experiment at 1024 instead, and prints the peak memory.

`--loss` looks for active cells that the search does not find, or finds with another sign at a corner, beside the dense
grid. Values of the dense grid beyond 0.02 from zero are computed in bfloat16 (more than ten times its largest error
measured), others and all values of the search in float32.
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
from scipy.ndimage import label

from deepsdf import Meshing, ShapeSpace, polygonize
from deepsdf.geometry.fields import Field, values_and_gradients
from deepsdf.geometry.isosurface.active_cells import Grid, find_dense
from deepsdf.geometry.isosurface.search import COARSE_CELLS, find_sparse
from deepsdf.geometry.primitives import Box, Cylinder, Rotated, Torus

POINTS = 10_000
FAR = 0.02


def off(mesh: trimesh.Trimesh, field: Field) -> tuple[float, float]:
    """Mean and 99th percentile of the distance from a mesh's points to the level set."""
    points = np.asarray(trimesh.sample.sample_surface(mesh, POINTS, seed=0)[0])
    moved = points.copy()
    for _ in range(5):
        values, gradients = values_and_gradients(field, moved, 2e-4)
        step = -(values / np.maximum((gradients**2).sum(axis=1), 1e-3))[:, None] * gradients
        moved += step * np.minimum(1, 0.01 / np.maximum(np.linalg.norm(step, axis=1), 1e-12))[:, None]
    distance = np.linalg.norm(moved - points, axis=1)
    return float(distance.mean()), float(np.quantile(distance, 0.99))


def row(name: str, field: Field) -> None:
    fewer = [n**3 / find_sparse(quick(field), Grid(n, 1.0)).evaluations for n in (256, 512)]
    start = time.perf_counter()
    exact = polygonize(field, 128)
    middle = time.perf_counter()
    linear = polygonize(field, Meshing(resolution=256, vertices="linear"))
    end = time.perf_counter()
    ours, theirs = off(exact, field), off(linear, field)
    print(
        f"| {name} | {fewer[0]:.0f} x | {fewer[1]:.0f} x | {ours[0] * 1e5:.1f} / {ours[1] * 1e5:.0f} | "
        f"{theirs[0] * 1e5:.1f} / {theirs[1] * 1e5:.0f} | {exact.is_watertight and exact.is_winding_consistent} | "
        f"{(middle - start) / (end - middle):.2f} |",
        flush=True,
    )


def quick(field: Field) -> Field:
    """The field's signs, at a fraction of the time."""

    def values(points: np.ndarray) -> np.ndarray:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = field(points)
        near = np.abs(found) < FAR
        exact = field(points[near])
        if near.any() and np.abs(exact - found[near]).max() > FAR / 3:
            raise RuntimeError("bfloat16 is too coarse for this field")
        found[near] = exact
        return found

    return values


def loss(name: str, field: Field, resolution: int) -> bool:
    """Prints a row; returns whether all is there."""
    grid = Grid(resolution, 1.0)
    sparse, dense = find_sparse(field, grid), find_dense(quick(field), grid)
    found, whole = grid.key(sparse.cells), grid.key(dense.cells)
    missing = ~np.isin(whole, found)
    both = np.isin(found, whole), np.isin(whole, found)
    signs = ((sparse.values[both[0]] > 0) != (dense.values[both[1]] > 0)).sum()
    lost = np.zeros((resolution - 1,) * 3, bool)
    lost[tuple(dense.cells[missing].T)] = True
    parts, count = label(lost, np.ones((3, 3, 3)))  # pyright: ignore[reportGeneralTypeIssues]
    sizes = [np.ptp(np.argwhere(parts == part), axis=0).max() + 1 for part in range(1, count + 1)]
    print(
        f"| {name} | {len(whole)} | {missing.sum()} | {count} | {max(sizes, default=0)} | {(~both[0]).sum()} | "
        f"{signs} | {resolution**3 / sparse.evaluations:.0f} x |",
        flush=True,
    )
    return not missing.any() and bool(both[0].all()) and not signs


def shapes(path: str, count: int, codes: list[int]) -> list[tuple[str, Field]]:
    """Training shapes (those given, or evenly among all), and as many draws from the prior."""
    space = ShapeSpace.load(path, device="cpu")
    name = os.path.basename(os.path.normpath(path))
    numbers = codes or np.linspace(0, len(space.codes) - 1, count - count // 2).astype(int).tolist()
    found: list[tuple[str, Field]] = [(f"{name} {number}", space.shape(number)) for number in numbers]
    drawn = space.sample(count // 2) if count > 1 else []
    return found + [(f"{name} drawn {k}", shape) for k, shape in enumerate(drawn)]


def losses(paths: list[str], count: int, codes: list[int], resolution: int) -> None:
    coarse = (resolution - 1) / COARSE_CELLS
    print(f"Dense grid of {resolution} samples an axis; two coarse cells are at most {2 * coarse:.0f} of its cells\n")
    print("| field | active cells | lost | in parts | longest, cells | invented | other signs | fewer evaluations |")
    print("|---|---|---|---|---|---|---|---|")
    fields = [field for path in paths for field in shapes(path, count, codes)]
    whole = [loss(name, field, resolution) for name, field in fields]
    print(f"\n{sum(whole)} of {len(whole)} without any difference")


def large(name: str, field: Field) -> None:
    """The most memory that a mesh takes is the same in bfloat16, which is quicker."""

    def rough(points: np.ndarray) -> np.ndarray:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return field(points)

    mesh = polygonize(rough, Meshing(resolution=1024, vertices="linear"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name} at 1024: {len(mesh.faces)} triangles, at most {most:.2f} GiB so far", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*")
    parser.add_argument("--shapes", type=int, default=2)
    parser.add_argument("--codes", type=int, nargs="*", default=[])
    parser.add_argument("--solids", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--resolution", type=int, default=129)
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}\n")
    if given.loss:
        losses(given.experiments, given.shapes, given.codes, given.resolution)
        return
    if given.large:
        large("torus", Rotated(Torus(0.6, 0.2), (1, 2, 3), 0.7))
        for path in given.experiments:
            large(*shapes(path, 1, given.codes)[0])
        return
    print("| field | fewer at 256 | at 512 | exact 128, mean / 99 % (1e-5) | linear 256 | closed | seconds, ratio |")
    print("|---|---|---|---|---|---|---|")
    if given.solids:
        row("box", Rotated(Box((0.5, 0.3, 0.4)), (1, 2, 3), 0.7))
        row("cylinder", Rotated(Cylinder(0.4, 0.5), (1, 2, 3), 0.7))
    for path in given.experiments:
        for name, field in shapes(path, given.shapes, given.codes):
            row(name, field)


if __name__ == "__main__":
    main()
