"""The folder and memory parts of preprocess.py.

Everything runs in fresh processes whose main module is a string: spawned workers import their parent's main module,
and must not be made to import a benchmark.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import trimesh

from deepsdf.library.sources import dataset_name, list_shapes
from deepsdf.splits import write_split

_PREPROCESS = """
import sys, time
from deepsdf.pipeline.preprocess import preprocess
start = time.perf_counter()
result = preprocess(*sys.argv[1:4], workers=int(sys.argv[4]))
seconds = time.perf_counter() - start
assert result.done and not result.failures, result.failures
try:  # ru_maxrss also counts the process that started this one
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
except OSError:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(seconds, peak)
"""
_START = """
import time
from deepsdf.jobs.processes import BatchResult, run_batch
from deepsdf.pipeline.preprocess import warp_device
from deepsdf.splits import ShapeName
for turn in range(2):
    start = time.perf_counter()
    run_batch(warp_device, {ShapeName("d", "c", "i"): ("auto",)}, BatchResult(), workers=1)
    print(time.perf_counter() - start)
"""
"""Seconds until a worker has begun and started Warp: the first, for which everything is imported, and a second."""


def _fresh(device: str, program: str, *arguments: object) -> list[float]:
    """The numbers that a program prints in an interpreter of its own, where a GPU is out of sight or not."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    return [float(word) for word in subprocess.check_output(command, text=True, env=os.environ | hidden).split()]


def measure_folder(source: Path, count: int, device: str, repeat: int) -> dict[str, float]:
    """Seconds of the first `count` meshes of a folder with one worker and with two, of a shape, of a worker's start."""
    with tempfile.TemporaryDirectory() as folder:
        split = Path(folder, "split.json")
        write_split(split, list_shapes(source, dataset_name(source))[:count])
        times: dict[int, list[float]] = {1: [], 2: []}
        start = []
        for turn in range(repeat):
            start.append(_fresh(device, _START))
            for workers in times:
                target = Path(folder, f"data-{workers}-{turn}")
                times[workers].append(_fresh(device, _PREPROCESS, target, source, split, workers)[0])
    one, two = min(times[1]), min(times[2])
    return {
        "shapes": count, "one worker": one, "two workers": two, "ratio": one / two,
        "a shape": one / count,
        "start of the first worker": min(first for first, _ in start),
        "of another": min(second for _, second in start),
    }  # fmt: skip


def measure_memory(mesh: trimesh.Trimesh, device: str) -> dict[str, float]:
    """Peak memory of preprocessing one mesh, in MB, and the seconds that takes."""
    with tempfile.TemporaryDirectory() as folder:
        source, split = Path(folder, "shapes"), Path(folder, "split.json")
        source.mkdir()
        mesh.export(source / "large.ply")
        write_split(split, list_shapes(source))
        seconds, peak = _fresh(device, _PREPROCESS, Path(folder, "data"), source, split, 0)  # in that process
    return {"faces": len(mesh.faces), "seconds": seconds, "peak MB": peak / 1024}
