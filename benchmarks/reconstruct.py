"""Fits of held-out shapes: Gauss-Newton over a whole split beside the original's 800 Adam steps of 8000 samples.

    python benchmarks/reconstruct.py -e EXP -d DATA -s TEST.json --adam 2 --out reconstruct.csv

Both run in this process on the same threads. Losses are of all samples of a shape, half outside, half inside; chamfer
distances x 10^3, unit frame, 30 000 points each way, of meshes of --resolution. Adam fits one shape at a time, as the
original does, and only the first --adam shapes, with each of --seeds.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh

from deepsdf import Fit, FitOptions, ShapeSpace
from deepsdf.errors import NoSurfaceError
from deepsdf.geometry.sdf.sampling import SDFSamples, sample_surface
from deepsdf.library.truth import true_shape
from deepsdf.metrics.surfaces import chamfer
from deepsdf.network.objective import clamped_l1
from deepsdf.splits import ShapeName, read_split
from deepsdf.workspace import DataSource

POINTS = 30_000
PART = 16_384


@dataclass(frozen=True)
class Row:
    """One fit; `seconds` and `processor` (seconds of all threads) of a batch are divided by its shapes."""

    shape: str
    optimizer: str
    seed: int
    loss: float
    chamfer: float
    steps: int
    reason: str
    uncertainty: float
    seconds: float
    processor: float
    warnings: str


@torch.no_grad()
def full_loss(space: ShapeSpace, code: torch.Tensor, samples: SDFSamples) -> float:
    """Mean clamped L1 of all samples, half outside and half inside; δ is 0.1, as in the original's fit."""
    sides = []
    for rows in (torch.from_numpy(samples.pos), torch.from_numpy(samples.neg)):
        total = 0.0
        for part in rows.to(space.device).split(PART):
            errors = clamped_l1(space.decoder(code[None], part[None, :, :3])[0], part[:, 3], 0.1)
            total += float(errors.double().sum())
        sides.append(total / len(rows))
    return sum(sides) / 2


def distance(space: ShapeSpace, code: torch.Tensor, truth: trimesh.Trimesh, resolution: int) -> float:
    """Infinite where there is no surface."""
    try:
        mesh = space.shape(code).mesh(resolution)
    except NoSurfaceError:
        return float("inf")
    return 1e3 * chamfer(sample_surface(truth, POINTS, seed=0), sample_surface(mesh, POINTS, seed=1)).chamfer


def rows_of(
    space: ShapeSpace,
    data: DataSource,
    named: list[tuple[ShapeName, SDFSamples]],
    fit: Fit,
    spent: tuple[float, float],
    optimizer: str,
    seed: int,
    resolution: int,
) -> list[Row]:
    found = []
    for k, (shape, samples) in enumerate(named):
        code = fit.codes[k]
        row = Row(
            str(shape), optimizer, seed, full_loss(space, code, samples),
            distance(space, code, true_shape(data, shape).mesh, resolution),
            int(fit.steps[k]), fit.reasons[k], float(fit.uncertainty[k]),
            spent[0] / len(named), spent[1] / len(named), "; ".join(fit.warnings[k]),
        )  # fmt: skip
        say(f"{row.shape} {optimizer} seed {seed}: loss {row.loss:.5f}, chamfer {row.chamfer:.3f}, {row.seconds:.1f} s,"
            f" {row.steps} steps, {row.reason}")  # fmt: skip
        found.append(row)
    return found


def compare(rows: list[Row]) -> None:
    """Shape by shape, where both were run: losses' ratio and seconds' ratio; chamfers of all."""
    lm = {(row.shape, row.seed): row for row in rows if row.optimizer == "lm"}
    pairs = [(lm[row.shape, row.seed], row) for row in rows if row.optimizer == "adam"]
    if pairs:
        ratios = np.array([one.loss / other.loss for one, other in pairs])
        speed = np.array([other.seconds / one.seconds for one, other in pairs])
        work = np.array([other.processor / one.processor for one, other in pairs])
        say(f"loss of lm / adam: median {np.median(ratios):.3f}, worst {ratios.max():.3f}, "
            f"{(ratios <= 1).sum()} of {len(pairs)} as good or better")  # fmt: skip
        say(f"seconds of adam / lm: median {np.median(speed):.1f}, least {speed.min():.1f}; processor's: median "
            f"{np.median(work):.1f}, least {work.min():.1f}")  # fmt: skip
    for optimizer in ("lm", "adam"):
        own = [row for row in rows if row.optimizer == optimizer]
        if own:
            chamfers = np.array([row.chamfer for row in own])
            say(f"{optimizer}: {len(own)} fits, {np.mean([row.seconds for row in own]):.2f} s a shape, chamfer median "
                f"{np.median(chamfers):.3f}, worst {chamfers.max():.3f}")  # fmt: skip


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    now = clocks()
    return now[0] - start[0], now[1] - start[1]


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-e", "--experiment", required=True)
    parser.add_argument("-d", "--data", required=True)
    parser.add_argument("-s", "--split", required=True)
    parser.add_argument("--shapes", type=int, help="of the split, the first so many; all by default")
    parser.add_argument("--adam", type=int, default=1, help="so many of them by adam as well")
    parser.add_argument("--steps", type=int, help="of lm, at most")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="a csv with every fit")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    space, data = ShapeSpace.load(given.experiment, device=given.device), DataSource.open(given.data)
    named = [(shape, data.load_samples(shape)) for shape in read_split(given.split)[: given.shapes]]
    rows: list[Row] = []
    space.fit(named[0][1], FitOptions(steps=2))  # warms up
    for seed in range(given.seeds):
        start = clocks()
        fit = space.fit([samples for _, samples in named], FitOptions(steps=given.steps, seed=seed))
        rows += rows_of(space, data, named, fit, since(start), "lm", seed, given.resolution)
        for one in named[: given.adam]:
            start = clocks()
            fit = space.fit(one[1], FitOptions(optimizer="adam", seed=seed))
            rows += rows_of(space, data, [one], fit, since(start), "adam", seed, given.resolution)
    compare(rows)
    if given.out:
        with given.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    main()
