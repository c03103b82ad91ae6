"""Check an installed deepsdf from meshes to a fit. Run it in an empty folder, outside the source tree.

    python smoke.py [FOLDER OF THE SOURCE TREE]

Writes seven boxes, runs the verbs `split`, `preprocess` and `train` as a user does, fits a held-out box through the
public API, and compares its mesh with the true one. Takes about half a minute on one core.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import trimesh

import deepsdf

SETTINGS = {
    "Description": "boxes",
    "DataSource": "data",
    "TrainSplit": "splits/meshes_train.json",
    "NetworkArch": "deep_sdf_decoder",
    "NetworkSpecs": {"dims": [64, 64, 64], "latent_in": [2]},
    "CodeLength": 4,
    "NumEpochs": 800,
    "SnapshotFrequency": 800,
    "LogFrequency": 400,
    "LearningRateSchedule": [
        {"Type": "Cosine", "Initial": rate, "Length": 800, "Warmup": 20} for rate in (4e-3, 2e-2)
    ],
    "SamplesPerScene": 1024,
    "ScenesPerBatch": 6,
    "ClampingDistance": 0.1,
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

    rng = np.random.default_rng(0)
    for number in range(7):
        path = Path("meshes") / "box" / f"box{number}.obj"
        path.parent.mkdir(parents=True, exist_ok=True)
        trimesh.creation.box(rng.uniform(0.5, 1.5, 3)).export(path)
    deepsdf_verb("split", "-s", "meshes", "-o", "splits", "--test", "1")
    for split in ("train", "test"):
        deepsdf_verb("preprocess", "-s", "meshes", "-d", "data", "--split", f"splits/meshes_{split}.json")
    Path("experiment").mkdir()
    Path("experiment/specs.json").write_text(json.dumps(SETTINGS))
    deepsdf_verb("train", "-e", "experiment", "--device", "cpu")

    space = deepsdf.ShapeSpace.load("experiment", device="cpu")
    (held_out,) = Path("data").glob(
        f"SdfSamples/*/*/{json.loads(Path('splits/meshes_test.json').read_text())['meshes']['box'][0]}.npz"
    )
    fit = space.fit(deepsdf.SDFSamples.load(held_out))
    mesh = space.shape(fit.codes[0]).mesh(64)
    mesh_path = Path("meshes") / "box" / f"{held_out.stem}.obj"
    truth = deepsdf.load_mesh(mesh_path)
    truth = deepsdf.Normalization.fit(truth).apply_mesh(truth)
    chamfer = deepsdf.compare(truth, mesh).chamfer
    print(f"{version}: a held-out box is reconstructed with a chamfer distance of {1000 * float(chamfer):.3f} × 10⁻³")
    assert mesh.is_watertight
    assert float(chamfer) < 5e-3, "unit frame, squared distances"


if __name__ == "__main__":
    main()
