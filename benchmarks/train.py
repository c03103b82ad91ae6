# ruff: noqa: T201
"""Training beside the original's own code, in one run; prints Markdown.

    git clone https://github.com/facebookresearch/DeepSDF /somewhere/DeepSDF
    python benchmarks/train.py speed --original /somewhere/DeepSDF --data DATA --split TRAIN.json
    python benchmarks/train.py precision --data DATA --split TRAIN.json
    python benchmarks/train.py loss --data DATA --split TRAIN.json
    python benchmarks/train.py memory --data DATA --split TRAIN.json

Each training runs in a process of its own. The original's is run unchanged, on the CPU: `.cuda()` does nothing there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from deepsdf.presets import PRESETS
from deepsdf.splits import read_split, write_split

_SPENT = """
import resource
spent = []
def mark():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    spent.append(sum(use.ru_utime + use.ru_stime for use in used))
def tell(marks):
    # The first epoch starts threads and loaders.
    seconds = min(after - before for before, after in list(marks)[1:])
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
"""Processor seconds of an epoch, loaders included, and the peak memory in MB."""

_ORIGINAL = (
    _SPENT
    + """
import sys, time, types, warnings
warnings.filterwarnings("ignore")
sys.modules["plyfile"] = types.ModuleType("plyfile")  # of meshing, which is not run
import torch
torch.Tensor.cuda = lambda self, *_, **__: self
torch.nn.Module.cuda = lambda self, *_, **__: self
torch.set_num_threads(int(sys.argv[3]))
torch.manual_seed(int(sys.argv[4]))
sys.path.insert(0, sys.argv[1])
import train_deep_sdf
def clock():  # asked when an epoch begins and when it ends
    mark()
    return time.time()
train_deep_sdf.time = types.SimpleNamespace(time=clock)
train_deep_sdf.main_function(sys.argv[2], None, int(sys.argv[5]))
tell(zip(spent[::2], spent[1::2]))
"""
)
_OURS = (
    _SPENT
    + """
import sys
import torch
from deepsdf.training.options import TrainingOptions
from deepsdf.training.train import train
torch.set_num_threads(int(sys.argv[2]))
limit = int(sys.argv[4])
options = TrainingOptions(seed=int(sys.argv[3]), memory_limit=limit if limit >= 0 else None)
train(sys.argv[1], device="cpu", options=options, on_epoch=lambda report: mark())
tell(zip(spent, spent[1:]))
"""
)


class Run:
    """One training: its logs, processor seconds and peak memory."""

    def __init__(self, folder: Path, command: list[str], samples_per_step: int) -> None:
        import torch

        told = subprocess.run([sys.executable, "-c", *command], capture_output=True, text=True, cwd=folder)
        if told.returncode:
            raise SystemExit(told.stderr)
        processor, self.peak_mb = map(float, told.stdout.split()[-2:])
        logs = torch.load(folder / "Logs.pth", weights_only=False)
        self.losses = np.array(logs["loss"])
        steps = len(self.losses) // len(logs["timing"])
        # The first epoch starts loaders and threads; of the others the quickest was least disturbed.
        self.rate = samples_per_step * steps / min(logs["timing"][1:])
        self.processor_rate = samples_per_step * steps / processor

    @property
    def final(self) -> float:
        """Mean loss of the last fifth of the steps."""
        return float(self.losses[-max(1, len(self.losses) // 5) :].mean())


class Bench:
    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.scenes = read_split(given.split)[: given.scenes]
        self.split = folder / "split.json"
        write_split(self.split, self.scenes)
        self._number = 0

    def specs(self, **changes: Any) -> Path:
        """An experiment of the original's network and settings, on the benchmark's scenes."""
        self._number += 1
        folder = self.folder / str(self._number)
        folder.mkdir()
        specs = PRESETS["deepsdf"](
            data_source=str(self.given.data.resolve()),
            train_split=str(self.split),
            scenes=len(self.scenes),
            epochs=self.given.epochs,
        )
        specs.save(folder / "specs.json")
        content = json.loads((folder / "specs.json").read_text())
        content |= {
            "SamplesPerScene": self.given.samples,
            "SnapshotFrequency": self.given.epochs,
            "AdditionalSnapshots": [],
            "LogFrequency": self.given.epochs,
            **changes,
        }
        (folder / "specs.json").write_text(json.dumps(content))
        return folder

    @property
    def _samples(self) -> int:
        return self.given.samples * min(64, len(self.scenes))

    def ours(self, seed: int = 0, limit: int = -1, **changes: Any) -> Run:
        folder = self.specs(**changes)
        return Run(folder, [_OURS, str(folder), str(self.given.threads), str(seed), str(limit)], self._samples)

    def original(self, seed: int = 0, **changes: Any) -> Run:
        folder = self.specs(**changes)
        where = str(self.given.original.resolve())
        # A batch of 64 x 16384 needs more memory at once than most machines have; the gradients are the same.
        split = str(max(1, self._samples // 65536))
        return Run(folder, [_ORIGINAL, where, str(folder), str(self.given.threads), str(seed), split], self._samples)


def speed(bench: Bench) -> None:
    """Samples a second, in turns, so that whatever else the machine does meets both."""
    kinds = {
        "original, float32": bench.original,
        "deepsdf, float32": bench.ours,
        "deepsdf, bfloat16": lambda seed: bench.ours(seed, Precision="bfloat16"),
    }
    runs: dict[str, list[Run]] = {kind: [] for kind in kinds}
    for seed in range(bench.given.repeat):
        for kind, make in kinds.items():
            runs[kind].append(make(seed))
    base = max(run.rate for run in runs["original, float32"])
    base_processor = max(run.processor_rate for run in runs["original, float32"])
    print("| code | samples/s | ratio | samples per processor second | ratio | loss of the last fifth | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for kind, found in runs.items():
        rate, processor = max(run.rate for run in found), max(run.processor_rate for run in found)
        finals = ", ".join(f"{run.final:.5f}" for run in found)
        peak = max(run.peak_mb for run in found)
        print(
            f"| {kind} | {rate:,.0f} | {rate / base:.2f} | {processor:,.0f} | {processor / base_processor:.2f} "
            f"| {finals} | {peak:,.0f} |"
        )


def precision(bench: Bench) -> None:
    """Final losses in bfloat16 beside float32: the same seeds, so the same samples in the same order."""
    print("| seed | float32 | bfloat16 | bfloat16 / float32 |")
    print("|---|---|---|---|")
    ratios = []
    for seed in range(bench.given.repeat):
        one, other = bench.ours(seed).final, bench.ours(seed, Precision="bfloat16").final
        ratios.append(other / one)
        print(f"| {seed} | {one:.6f} | {other:.6f} | {other / one:.4f} |", flush=True)
    print(f"\nMean ratio {np.mean(ratios):.4f}")


def loss(bench: Bench) -> None:
    """The original's clamp beside the loss that still pulls, judged by the original's loss of the last fifth."""
    print("| seed | clamped_l1 | pulling_l1 | of samples |f| > δ at the end: clamped_l1, pulling_l1 |")
    print("|---|---|---|---|")
    for seed in range(bench.given.repeat):
        finals = [bench.ours(seed, Precision="bfloat16", Loss=kind).final for kind in ("clamped_l1", "pulling_l1")]
        print(f"| {seed} | {finals[0]:.6f} | {finals[1]:.6f} | |", flush=True)


def memory(bench: Bench) -> None:
    """Samples in memory beside samples mapped from a file."""
    print("| samples | samples/s | ratio | peak MB |")
    print("|---|---|---|---|")
    runs = [(bench.ours(seed), bench.ours(seed, limit=1)) for seed in range(bench.given.repeat)]
    base = max(inside.rate for inside, _ in runs)
    for place, name in enumerate(("in memory", "mapped")):
        rate, peak = max(pair[place].rate for pair in runs), max(pair[place].peak_mb for pair in runs)
        print(f"| {name} | {rate:,.0f} | {rate / base:.2f} | {peak:,.0f} |")


WHAT = {"speed": speed, "precision": precision, "loss": loss, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--data", type=Path, required=True, help="a data source")
    parser.add_argument("--split", type=Path, required=True, help="a split of it")
    parser.add_argument("--original", type=Path, help="a copy of facebookresearch/DeepSDF")
    parser.add_argument("--scenes", type=int, default=16, help="the first so many of the split")
    parser.add_argument("--samples", type=int, default=1024, help="of a scene, a step")
    parser.add_argument("--epochs", type=int, default=4, help="each one step where a batch holds all scenes")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    if given.what == "speed" and not given.original:
        parser.error("speed needs --original")
    with tempfile.TemporaryDirectory() as folder:
        WHAT[given.what](Bench(given, Path(folder)))


if __name__ == "__main__":
    main()
