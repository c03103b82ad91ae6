# ruff: noqa: T201
"""How often the viewer redraws while a hand drags, and how soon it answers a move; prints Markdown.

    python benchmarks/view.py EXPERIMENT ... [--moves 40] [--threads 2]

No browser: a hand that drags the first slider without rest, and asks again as soon as a coarse mesh is there. Processor
seconds of a redraw stand beside, which other programs on the machine disturb less. "answer": from a move that
interrupts a mesh of 256 samples an axis to its own coarse mesh, the median and the worst.
"""

from __future__ import annotations

import argparse
import os
import platform
import threading
import time

import numpy as np
import torch

from deepsdf import ShapeSpace
from deepsdf.viewer.content.position import LatentPosition
from deepsdf.viewer.scene.meshing import COARSE, FINE, MIDDLE, ProgressiveMesher, ShapeMesh


class Hand:
    """Notes when a mesh is there."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, ShapeMesh]] = []
        self.came = threading.Condition()

    def __call__(self, drawn: ShapeMesh) -> None:
        with self.came:
            self.seen.append((time.perf_counter(), drawn))
            self.came.notify_all()

    def wait(self, resolution: int, after: float) -> float:
        """When the first mesh of that resolution came that was asked for at `after`."""

        def there() -> list[float]:
            return [at for at, drawn in self.seen if drawn.resolution == resolution and at > after]

        with self.came:
            self.came.wait_for(there, 120)
            return there()[0]


def row(path: str, moves: int) -> str:
    position, hand = LatentPosition(ShapeSpace.load(path, device="cpu")), Hand()
    mesher = ProgressiveMesher(hand)
    position.set_code(position.space.codes[0])
    for stages in ((COARSE,), (COARSE, MIDDLE)):  # warm
        mesher.request(position.shape, stages)
        mesher.wait()
    start, busy = time.perf_counter(), time.process_time()
    for move in range(moves):
        position.set_coordinate(0, 2.0 * np.sin(move / 5))
        asked = time.perf_counter()
        mesher.request(position.shape)
        hand.wait(COARSE, asked)
    wall, busy = (time.perf_counter() - start) / moves, (time.process_time() - busy) / moves
    asked = time.perf_counter()
    position.set_coordinate(0, 0.5)
    mesher.request(position.shape)
    times = [hand.wait(resolution, asked) - asked for resolution in (MIDDLE, FINE)]
    answers = []
    for move in range(8):
        mesher.request(position.shape, (COARSE, FINE))
        hand.wait(COARSE, time.perf_counter() - 1e-9)
        time.sleep(0.15)
        position.set_coordinate(1, move / 10)
        asked = time.perf_counter()
        mesher.request(position.shape, (COARSE, FINE))
        answers.append(hand.wait(COARSE, asked) - asked)
    mesher.close()
    name = os.path.basename(os.path.normpath(path))
    return (
        f"| {name} | {1 / wall:.1f} | {1000 * busy:.0f} | {times[0]:.1f} | {times[1]:.1f} | "
        f"{1000 * np.median(answers):.0f} / {1000 * max(answers):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, load {load:.1f}"
    print(f"{machine}, torch {torch.__version__}\n")
    print(f"| experiment | redraws/s at {COARSE}³ | processor ms each | s to {MIDDLE}³ | s to {FINE}³ | answer, ms |")
    print("|---|---|---|---|---|---|")
    for path in given.experiments:
        print(row(path, given.moves), flush=True)


if __name__ == "__main__":
    main()
