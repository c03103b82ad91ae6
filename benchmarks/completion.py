"""How robust completion is, how well it finds a pose, how fast it is: on an experiment's held-out shapes.

    python benchmarks/completion.py -e EXP -d DATA -s TEST.json --out docs/measurements/completion --shapes 2

Writes curves.csv and curves.png, pose.csv, views.csv; prints the figures. Every part may be left out (--part).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from deepsdf import CompletionOptions, Scan, ShapeSpace
from deepsdf.geometry.scanning.depth_camera import DepthCamera
from deepsdf.geometry.scanning.scan import render_depth
from deepsdf.geometry.sdf.sampling import sample_surface
from deepsdf.library.truth import true_shape
from deepsdf.metrics.surfaces import chamfer
from deepsdf.pipeline.evaluate_completion import FIELD_OF_VIEW, view_of, viewpoint
from deepsdf.splits import ShapeName, read_split
from deepsdf.workspace import DataSource

PARTS = ("curves", "pose", "views", "speed")
CURVES: dict[str, tuple[float, ...]] = {
    "noise": (0.0, 0.01, 0.02, 0.03, 0.04, 0.05),
    "outliers": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5),
    "points": (10_000, 2000, 500, 200, 100, 50),
    "views": (1, 2, 4, 8),
    "yaw": (0, 45, 90, 135, 180),
    "scale": (0.5, 0.7, 1.0, 1.4, 2.0),
}
LABELS = {
    "noise": "standard deviation of depth, unit frame",
    "outliers": "share of the points that are outliers",
    "points": "points of the scan",
    "views": "depth views",
    "yaw": "yaw error, degrees",
    "scale": "scale error, factor",
}
POINTS = 30_000


def similarity(yaw: float, scale: float, shift: np.ndarray) -> np.ndarray:
    """(4, 4); yaw in degrees, about y."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * Rotation.from_euler("y", yaw, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def score(truth: trimesh.Trimesh, mesh: trimesh.Trimesh) -> float:
    """Chamfer × 10³, unit frame."""
    return 1e3 * chamfer(sample_surface(truth, POINTS, seed=0), sample_surface(mesh, POINTS, seed=1)).chamfer


def spoiled(truth: trimesh.Trimesh, shape: ShapeName, curve: str, value: float, seed: int) -> tuple[Scan, np.ndarray]:
    """A scan with one thing wrong, and the similarity (4, 4) that it was moved by."""
    rng = np.random.default_rng([seed, 7])
    eyes = [viewpoint(shape, seed, view) for view in range(int(value) if curve == "views" else 1)]
    noise = value if curve == "noise" else 0.0
    seen = Scan.join([view_of(truth, eye, noise=noise, seed=seed) for eye in eyes])
    if curve == "outliers":
        points = seen.points.copy()
        rows = rng.choice(len(points), int(value * len(points)), replace=False)
        points[rows] = rng.uniform(-1, 1, (len(rows), 3))
        seen = Scan.from_points(points, camera=seen.cameras)
    if curve == "points":
        rows = rng.choice(len(seen), min(len(seen), int(value)), replace=False)
        seen = Scan.from_points(seen.points[rows], camera=seen.cameras[rows])
    moved = np.eye(4)
    if curve in ("yaw", "scale"):
        yaw, scale = (value, 1.0) if curve == "yaw" else (0.0, value)
        moved = similarity(yaw, scale, 0.1 * rng.standard_normal(3))
    return seen.moved(moved), moved


def back(mesh: trimesh.Trimesh, moved: np.ndarray) -> trimesh.Trimesh:
    mesh.apply_transform(np.linalg.inv(moved))
    return mesh


def curves(space: ShapeSpace, shapes: Any, seed: int) -> Iterator[dict[str, Any]]:
    for shape, truth in shapes:
        for curve, values in CURVES.items():
            for value in values:
                seen, moved = spoiled(truth, shape, curve, value, seed)
                pose = "similarity" if curve in ("yaw", "scale") else "none"
                found = space.complete(seen, CompletionOptions(pose=pose, seed=seed))
                yield {
                    "curve": curve, "value": value, "shape": str(shape),
                    "chamfer": score(truth, back(found.mesh(128), moved)),
                    "explained": found.explained, "noise": found.noise, **errors(found.to_unit @ moved),
                }  # fmt: skip


def errors(motion: np.ndarray) -> dict[str, float]:
    """How far a similarity (4, 4) is from none: degrees, relative scale, shift."""
    scale = float(np.cbrt(np.linalg.det(motion[:3, :3])))
    turn = Rotation.from_matrix(motion[:3, :3] / scale).magnitude()
    shift = float(np.linalg.norm(motion[:3, 3]))
    return {"degrees": float(np.degrees(turn)), "scale": abs(scale - 1), "shift": shift}


def poses(space: ShapeSpace, shapes: Any, seed: int) -> Iterator[dict[str, Any]]:
    """From a random yaw, shift, and a scale that is 20 % too large or too small."""
    for number, (shape, truth) in enumerate(shapes):
        rng = np.random.default_rng([seed, number])
        moved = similarity(rng.uniform(0, 360), rng.choice([0.8, 1.2]), 0.2 * rng.standard_normal(3))
        seen = view_of(truth, viewpoint(shape, seed), seed=seed)
        found = space.complete(seen.moved(moved), CompletionOptions(pose="similarity", seed=seed))
        yield {"shape": str(shape), **errors(found.to_unit @ moved), "explained": found.explained}


def views(space: ShapeSpace, shapes: Any, seed: int) -> Iterator[dict[str, Any]]:
    """Eight viewpoints round the first shape."""
    shape, truth = shapes[0]
    for azimuth in range(0, 360, 45):
        a = np.radians(azimuth)
        seen = view_of(truth, 3.0 * np.array([np.sin(a), 0.2, np.cos(a)]), seed=seed)
        found = space.complete(seen, CompletionOptions(seed=seed))
        yield {"shape": str(shape), "azimuth": azimuth, "chamfer": score(truth, found.mesh(128))}


def speed(space: ShapeSpace, shapes: Any, seed: int) -> Iterator[dict[str, Any]]:
    """Seconds from a depth map to a mesh of 128³, after one round that warms up."""
    for number, (shape, truth) in enumerate([shapes[0], *shapes]):
        camera = DepthCamera.look_at(viewpoint(shape, seed), field_of_view=FIELD_OF_VIEW, resolution=200)
        depth = render_depth(truth, camera)
        for pose in ("none", "similarity"):
            start = time.perf_counter()
            seen = Scan.from_depth(
                depth, [*camera.focal, *camera.principal], np.linalg.inv(camera.pose), convention="colmap"
            )
            read = time.perf_counter()
            found = space.complete(seen, CompletionOptions(pose=pose, seed=seed))
            fitted = time.perf_counter()
            found.mesh(128)
            end = time.perf_counter()
            if number:
                times = {"scan": read - start, "fit": fitted - read, "mesh": end - fitted, "seconds": end - start}
                yield {"shape": str(shape), "pose": pose, **times}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(2, 3, figsize=(11, 5.6), constrained_layout=True)
    for axis, (curve, values) in zip(axes.flat, CURVES.items(), strict=True):
        own = [row for row in rows if row["curve"] == curve]
        for shape in dict.fromkeys(row["shape"] for row in own):
            axis.plot(values, [row["chamfer"] for row in own if row["shape"] == shape], color="#a4bed8", marker=".")
        medians = [np.median([row["chamfer"] for row in own if row["value"] == value]) for value in values]
        axis.plot(values, medians, color="#28303c", marker="o", linewidth=2)
        axis.set(
            xlabel=LABELS[curve], yscale="log", xscale="log" if curve in ("points", "views", "scale") else "linear"
        )
        if curve in ("points", "views", "scale"):
            axis.set_xticks(values, [f"{value:g}" for value in values], minor=False)
            axis.minorticks_off()
        if curve == "points":
            axis.invert_xaxis()
    for axis in axes[:, 0]:
        axis.set_ylabel("chamfer × 10³")
    figure.savefig(path, dpi=90)


def write(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()})


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-e", "--experiment", required=True)
    parser.add_argument("-d", "--data", required=True)
    parser.add_argument("-s", "--split", required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/measurements/completion"))
    parser.add_argument("--name", default="", help="put before the files' names")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--shapes", type=int, default=2, help="of the split, the first so many")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    space, data = ShapeSpace.load(given.experiment), DataSource.open(given.data)
    shapes = [(shape, true_shape(data, shape).mesh) for shape in read_split(given.split)[: given.shapes]]
    given.out.mkdir(parents=True, exist_ok=True)
    measures: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
        "curves": curves, "pose": poses, "views": views, "speed": speed,
    }  # fmt: skip
    for part in given.part or PARTS:
        rows = []
        for row in measures[part](space, shapes, given.seed):
            rows.append(row)
            say(part, *(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
        write(rows, given.out / f"{given.name}{part}.csv")
        if part == "curves":
            draw(rows, given.out / f"{given.name}curves.png")
        if part == "pose":
            good = sum(row["degrees"] <= 5 and row["scale"] <= 0.03 for row in rows)
            say(f"within 5 degrees and 3 %: {good} of {len(rows)}")
        if part == "views":
            found = [row["chamfer"] for row in rows]
            say(f"worst by best of {len(found)} views: {max(found) / min(found):.2f}")
        if part == "speed":
            for pose in ("none", "similarity"):
                say(pose, f"median {np.median([row['seconds'] for row in rows if row['pose'] == pose]):.2f} s")


if __name__ == "__main__":
    main()
