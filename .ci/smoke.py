"""Check an installed deepsdf from meshes to a fit. Run it in an empty folder, outside the source tree.

    python smoke.py [SOURCE_TREE]

Samples boxes of seven heights, trains on six of them with the verb `train`, fits the seventh, of middle height, through
the public API, and compares its mesh with the true one. Takes about half a minute on one core.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import trimesh

import deepsdf
from deepsdf.splits import ShapeName

SETTINGS = {
    "Description": "boxes",
    "DataSource": "data",
    "TrainSplit": "train.json",
    "NetworkArch": "encoded_decoder",
    "NetworkSpecs": {"dims": [48, 48, 48, 48], "latent_in": [2], "octaves": 1},
    "CodeLength": 4,
    "NumEpochs": 700,
    "SnapshotFrequency": 700,
    "LogFrequency": 700,
    "LearningRateSchedule": [
        {"Type": "Cosine", "Initial": rate, "Length": 700, "Warmup": 20} for rate in (2e-3, 4e-3, 2e-2)
    ],
    "SamplesPerScene": 512,
    "ScenesPerBatch": 6,
    "ClampingDistance": 0.1,
    "Optimizer": "muon",
}


def deepsdf_verb(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("deepsdf")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    installed = Path(deepsdf.__file__).resolve()
    if len(sys.argv) > 1 and installed.is_relative_to(Path(sys.argv[1]).resolve() / "src"):
        sys.exit(f"{installed} is the source tree; the installed wheel was expected")
    version = deepsdf_verb("--version").strip()
    assert deepsdf.__version__ in version, version

    names, meshes = [f"box{number}" for number in range(7)], {}
    data = deepsdf.DataSource(Path("data"))
    for name, height in zip(names, np.linspace(0.6, 1.4, len(names)), strict=True):
        trimesh.creation.box((1.0, height, 0.8)).export(f"{name}.obj")
        mesh = deepsdf.load_mesh(f"{name}.obj")
        meshes[name] = deepsdf.Normalization.fit(mesh).apply_mesh(mesh)
        samples = deepsdf.sample_sdf(deepsdf.MeshSDF(meshes[name]), 30_000, seed=0)
        samples.save(data.samples_path(ShapeName("boxes", "box", name)))
    held_out = names.pop(3)
    Path("train.json").write_text(json.dumps({"boxes": {"box": names}}))
    Path("experiment").mkdir()
    Path("experiment/specs.json").write_text(json.dumps(SETTINGS))
    deepsdf_verb("train", "-e", "experiment", "--device", "cpu")

    space = deepsdf.ShapeSpace.load("experiment", device="cpu")
    fit = space.fit(data.load_samples(ShapeName("boxes", "box", held_out)))
    mesh = space.shape(fit.codes[0]).mesh(64)
    chamfer = float(deepsdf.compare(meshes[held_out], mesh).chamfer)
    print(f"{version}: a held-out box is reconstructed with a chamfer distance of {1000 * chamfer:.3f} × 10⁻³")
    assert mesh.is_watertight
    assert chamfer < 0.5e-3, "two samplings of the true box differ by 0.16e-3, boxes of adjacent heights by 2.3e-3"


if __name__ == "__main__":
    main()
