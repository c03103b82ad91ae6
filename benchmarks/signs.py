# ruff: noqa: T201
"""How often deepsdf's sign of a spoiled mesh is right, and its verdicts on hard real meshes; prints Markdown.

    python benchmarks/signs.py --data ../shared/data

The first table is the corruption suite of the tests (tests/corruptions.py) with 250 000 samples a mesh, drawn as for
training, against the exact sign of the clean mesh. The second runs `assess` on every mesh of the given folders.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import corruptions  # noqa: E402
import test_corruptions as suite  # noqa: E402

from deepsdf.errors import DeepSDFError  # noqa: E402
from deepsdf.geometry.meshes import Normalization, load_mesh  # noqa: E402
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF  # noqa: E402
from deepsdf.geometry.sdf.sampling import sample_sdf  # noqa: E402
from deepsdf.library.quality import assess  # noqa: E402
from deepsdf.splits import ShapeName  # noqa: E402

GROUPS = {
    "box, torus, capsule, chair": list(suite.GENERATED),
    "5 bodies": ["body3", "body15", "body30", "body45", "body60"],
    "5 closed hard meshes": list(suite.HARD_CLOSED),
}


def corruption_table() -> None:
    """Lowest share of each group, per corruption."""
    print("| corruption | asked: all, far | " + " | ".join(GROUPS) + " | uncertain |")
    print("|---|---|" + "---|" * (len(GROUPS) + 1))
    for corruption, (everywhere, far) in corruptions.SUITE.items():
        cells, uncertain = [], []
        for names in GROUPS.values():
            found = [suite.shares(name, corruption) for name in names]
            cells.append(f"{min(a for a, _, _ in found):.3f}, {min(b for _, b, _ in found):.3f}")
            for name, (_, _, field) in zip(names, found, strict=True):
                uncertain.append(100 * float(field.uncertain(suite.truth(name)[0][::25]).mean()))
        told = f"{np.median(uncertain):.2f}, up to {max(uncertain):.2f}"
        print(f"| {corruption.__name__} | {everywhere}, {far} | " + " | ".join(cells) + f" | {told} |", flush=True)


def verdict_table(folder: Path) -> None:
    """What `preprocess` says of each mesh."""
    print("| mesh | verdict | reason | uncertain | inside |")
    print("|---|---|---|---|---|")
    for path in sorted(folder.iterdir()):
        try:
            mesh = load_mesh(path)
            field = MeshSDF(Normalization.fit(mesh).apply_mesh(mesh))
            found = assess(ShapeName("d", "c", path.stem), field, sample_sdf(field, 100_000))
            told = f"{found.verdict} | {found.reason} | {found.uncertain:.1%} | {found.inside:.0%}"
        except DeepSDFError as error:
            told = f"rejected | {str(error).removeprefix(f'{path}: ')} | |"
        if path.suffix.lower() in (".obj", ".ply", ".stl", ".off", ".glb", ".gltf"):
            print(f"| {path.name} | {told} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of real meshes")
    parser.add_argument("--samples", type=int, default=250_000)
    parser.add_argument("--only", choices=("corruptions", "verdicts"))
    given = parser.parse_args()
    suite.COUNT = given.samples
    if given.only != "verdicts":
        corruption_table()
    if given.only != "corruptions":
        for folder in ("hard/meshes", "classes/fish"):
            print(f"\n{folder}\n")
            verdict_table(given.data / folder)


if __name__ == "__main__":
    main()
