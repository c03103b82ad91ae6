"""The record of how sure the signs are."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import trimesh
from helpers import World, run

from deepsdf.geometry.distance import MeshSDF
from deepsdf.geometry.sampling import sample_sdf
from deepsdf.pipeline.quality import Quality, assess, write_qualities
from deepsdf.splits import ShapeName, read_split, write_split

pytest_plugins = ("helpers",)

NAME = ShapeName("d", "c", "i")


def quality(mesh: trimesh.Trimesh) -> Quality:
    field = MeshSDF(mesh, device="cpu")
    return assess(NAME, field.oriented, sample_sdf(field, 4000), 0.5)


def test_a_closed_mesh_is_sure() -> None:
    box = trimesh.creation.box((1, 1, 1))
    found = quality(box)
    assert found[:4] == ("d/c/i", "ok", "closed", 12)
    assert (found.closed, found.flipped, found.dropped, found.holes) == (True, 0, 0, 0)
    half = box.copy()
    half.faces = np.concatenate([box.faces[:6, ::-1], box.faces[6:], box.faces])
    turned = quality(half)
    assert (turned.verdict, turned.closed, turned.dropped, turned.flipped) == ("ok", True, 12, 6)


def test_a_large_hole_and_a_sheet_are_doubtful() -> None:
    sphere = trimesh.creation.icosphere(3)
    sphere.update_faces(sphere.triangles_center[:, 1] > -0.3)
    opened = quality(sphere)
    assert (opened.verdict, opened.closed) == ("doubtful", False)
    assert "1 holes are too large to close; the winding number decides there" in opened.reason
    fin = trimesh.Trimesh([[0, 0.4, 0], [0, 0.9, 0], [0, 0.9, 0.5]], [[0, 1, 2]], process=False)
    finned = quality(trimesh.util.concatenate([trimesh.creation.box((0.6, 0.6, 0.6)), fin]))
    assert (finned.verdict, finned.sheets) == ("doubtful", 1)
    assert "1 of 13 faces are open sheets, which enclose nothing" in finned.reason


def test_rows_of_other_shapes_stay(tmp_path: Path) -> None:
    path = tmp_path / "preprocess.csv"
    write_qualities(path, [Quality("b", "ok", "closed"), Quality("a", "rejected", 'no "faces", none')])
    write_qualities(path, [Quality("b", "doubtful", "a hole"), Quality("c", "ok", "closed")])
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == list(Quality._fields)
    assert [row[:3] for row in rows[1:]] == [
        ["a", "rejected", 'no "faces", none'],
        ["b", "doubtful", "a hole"],
        ["c", "ok", "closed"],
    ]


def test_preprocess_writes_it_and_names_the_doubtful(world: World) -> None:
    shapes = read_split("train.json")
    open_one, broken = shapes[:2]
    meshes = {shape: next((world.root / "meshes" / shape.category).glob(f"{shape.instance}.obj")) for shape in shapes}
    mesh = trimesh.creation.icosphere(3)
    mesh.update_faces(mesh.triangles_center[:, 1] > -0.3)
    mesh.export(meshes[open_one])
    meshes[broken].write_text("v 0 0 0\n")
    write_split("two.json", [open_one, broken])
    common = ("preprocess", "-d", "data", "-s", "meshes", "-n", "toys", "--threads", 1, "--device", "cpu")
    result = run(*common, "--split", "two.json", "--samples", 2000, status=1)
    assert f"Doubtful: {open_one}: 1 holes are too large to close" in result.output
    rows = {row["shape"]: row for row in csv.DictReader(Path("data/preprocess.csv").read_text().splitlines())}
    assert rows[str(open_one)]["verdict"] == "doubtful"
    assert rows[str(broken)]["verdict"] == "rejected"
    assert "has no faces" in rows[str(broken)]["reason"]
    assert {rows[str(shape)]["verdict"] for shape in shapes[2:]} == {"ok"}  # of the earlier run
    assert len(rows) == 6
