"""Training recipes judged by what they are for: the held-out chamfer distance after the same time on a processor.

    python benchmarks/recipes.py -d DATA -s TRAIN.json -t TEST.json --seconds 120
    python benchmarks/recipes.py ... --only base fast --seeds 0 1 2

Each recipe is `base`, what the preset `fast` was when the search began, with one thing changed, trained for as many
epochs as take --seconds of processor time (of all threads together; an epoch is timed first), in a process of its own.
Then the codes of the held-out shapes are fitted by `lm`, and meshes of 128 cells a side compared with the true surface:
30 000 points each way, unit frame, chamfer x 10^3. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepsdf import ShapeSpace
from deepsdf.errors import NoSurfaceError
from deepsdf.geometry.sdf.sampling import sample_surface
from deepsdf.metrics.surfaces import chamfer
from deepsdf.presets import PRESETS
from deepsdf.splits import read_split
from deepsdf.workspace import DataSource

POINTS = 30_000

BASE: dict[str, Any] = {"SamplesPerScene": 128, "CodeLength": 64, "net": {"octaves": 4}}
FAST: dict[str, Any] = {"SamplesPerScene": 64, "CodeLength": 128, "net": {"octaves": 2}}

RECIPES: dict[str, dict[str, Any]] = {
    "base": {},
    # network
    "no encoding": {"net": {"octaves": 0}},
    "2 octaves": {"net": {"octaves": 2}},
    "6 octaves": {"net": {"octaves": 6}},
    "width 128": {"net": {"dims": [128] * 8}},
    "width 512": {"net": {"dims": [512] * 8}},
    "depth 4": {"net": {"dims": [256] * 4, "latent_in": [2]}},
    "SiLU": {"net": {"activation": "silu"}},
    "dropout 0.2": {"net": {"dropout": list(range(8)), "dropout_prob": 0.2}},
    "codes of 32": {"CodeLength": 32},
    "codes of 128": {"CodeLength": 128},
    # steps
    "Adam": {"Optimizer": "adam", "rates": [1e-3, 2e-3]},
    "Adam, twice the rate": {"Optimizer": "adam", "rates": [2e-3, 4e-3]},
    "Muon, twice the rate": {"rates": [1e-3, 2e-3, 2e-2]},
    "Muon, half the rate": {"rates": [1e-3, 2e-3, 5e-3]},
    "codes' rate 5e-3": {"rates": [1e-3, 5e-3, 1e-2]},
    "64 samples a scene": {"SamplesPerScene": 64},
    "32 samples a scene": {"SamplesPerScene": 32},
    "64 samples a scene, 2 octaves": {"SamplesPerScene": 64, "net": {"octaves": 2}},
    "fast": FAST,
    # where the code comes in again, its numbers take the place of hidden ones, unless the layer is as much wider
    "fast, the code beside 256": FAST | {"net": FAST["net"] | {"dims": [256] * 3 + [399] + [256] * 4}},
    "fast, codes of 256 beside 256": FAST
    | {"CodeLength": 256, "net": FAST["net"] | {"dims": [256] * 3 + [527] + [256] * 4}},
    "512 samples a scene": {"SamplesPerScene": 512},
    "half the scenes a step": {"batch": 0.5},
    # loss
    "pulling loss": {"Loss": "pulling_l1"},
    "clamped at .05": {"ClampingDistance": 0.05},
    "hard samples count 1.5": {"Curriculum": [{"FromEpoch": 0, "HardWeight": 0.5}]},
    "eikonal term": {"EikonalWeight": 1e-3},
    "the paper's prior": {"CodePrior": "square"},
    "codes' prior x 10": {"CodeRegularizationLambda": 1e-3},
}

_TRAIN = """
import sys, time
import torch
from deepsdf.training.train import train
folder, threads, stop, seed = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
spent, losses = [time.process_time()], []
def mark(report):
    spent.append(time.process_time())
    losses.append(report.loss)
train(folder, device="cpu", seed=seed, on_epoch=mark, should_stop=lambda: bool(stop) and len(spent) > stop)
# The first epochs start threads and find their sizes.
print(min(after - before for before, after in zip(spent[2:], spent[3:])), spent[-1] - spent[0])
print(sum(losses[-20:]) / len(losses[-20:]))
"""


def specs(folder: Path, given: argparse.Namespace, changes: dict[str, Any], epochs: int) -> None:
    """Writes the recipe's specs.json."""
    scenes = len(read_split(given.split))
    PRESETS["fast"](data_source=str(given.data), train_split=str(given.split), scenes=scenes, epochs=epochs).save(
        folder / "specs.json"
    )
    content = json.loads((folder / "specs.json").read_text())
    changes = BASE | changes
    content["NetworkSpecs"] |= BASE["net"] | changes.pop("net")
    rates = changes.pop("rates", None)
    if rates:
        schedules = content["LearningRateSchedule"][: len(rates)]
        content["LearningRateSchedule"] = [
            schedule | {"Initial": rate} for schedule, rate in zip(schedules, rates, strict=True)
        ]
    content["ScenesPerBatch"] = int(content["ScenesPerBatch"] * changes.pop("batch", 1))
    content |= {"LogFrequency": epochs, **changes}
    (folder / "specs.json").write_text(json.dumps(content))


def trained(folder: Path, threads: int, stop: int, seed: int) -> tuple[float, float, float]:
    """Processor seconds of an epoch and of all, and the mean loss of the last 20 epochs."""
    told = subprocess.run(
        [sys.executable, "-c", _TRAIN, str(folder), str(threads), str(stop), str(seed)], capture_output=True, text=True
    )
    if told.returncode:
        raise SystemExit(told.stderr)
    epoch, spent, loss = map(float, told.stdout.split()[-3:])
    return epoch, spent, loss


def held_out(space: ShapeSpace, data: DataSource, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Fits' losses and chamfer x 10^3, shape by shape; infinite where there is no surface."""
    shapes = read_split(split)
    fit = space.fit([data.load_samples(shape) for shape in shapes])
    found = []
    for shape, code in zip(shapes, fit.codes, strict=True):
        truth = data.load_normalization(shape).apply(data.load_surface(shape))
        try:
            mesh = space.shape(code).mesh(128)
        except NoSurfaceError:
            found.append(np.inf)
            continue
        found.append(1e3 * chamfer(truth, sample_surface(mesh, POINTS, seed=0)).chamfer)
    return fit.losses.numpy(), np.array(found)


def run(name: str, seed: int, given: argparse.Namespace, data: DataSource, root: Path) -> None:
    changes = RECIPES[name]
    probe, folder = root / f"{name} {seed} probe", root / f"{name} {seed}"
    for each in (probe, folder):
        each.mkdir(parents=True)
    specs(probe, given, changes, 100_000)
    epoch, _, _ = trained(probe, given.threads, 12, seed)
    epochs = max(20, int(given.seconds / epoch))
    specs(folder, given, changes, epochs)
    _, spent, loss = trained(folder, given.threads, 0, seed)
    losses, found = held_out(ShapeSpace.load(folder, device="cpu"), data, given.test)
    say(f"| {name} | {seed} | {epochs} | {spent:.0f} | {loss:.5f} | {losses.mean():.5f} "
        f"| {found.mean():.4f} | {np.median(found):.4f} | {found.max():.4f} |")  # fmt: skip


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--data", type=Path, required=True, help="a data source")
    parser.add_argument("-s", "--split", required=True, help="shapes to learn from")
    parser.add_argument("-t", "--test", required=True, help="held-out shapes")
    parser.add_argument("--seconds", type=float, default=120, help="of processor time for each training")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep the experiments here")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data = DataSource.open(given.data)
    say("| recipe | seed | epochs | processor s | training loss | held-out loss | chamfer, mean | median | worst |")
    say("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only:
            for seed in given.seeds:
                run(name, seed, given, data, given.out or Path(folder))


if __name__ == "__main__":
    main()
