"""The record of how sure the signs are."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import trimesh
from corruptions import concatenate
from helpers import World, run

from deepsdf.errors import MeshError
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import sample_sdf
from deepsdf.library.quality import VERDICTS, Quality, QualityFile, assess
from deepsdf.splits import ShapeName, read_split, write_split

pytest_plugins = ("helpers",)

NAME = ShapeName("d", "c", "i")


def quality(mesh: trimesh.Trimesh, thicken: float = 0.0) -> Quality:
    field = MeshSDF(mesh, device="cpu", thicken=thicken)
    return assess(NAME, field, sample_sdf(field, 4000))


def test_a_closed_mesh_is_sure() -> None:
    box = trimesh.creation.box((1, 1, 1))
    found = quality(box)
    assert found[:4] == ("d/c/i", "ok", "closed", 0)
    assert (found.closed, found.faces, found.flipped, found.dropped, found.holes) == (True, 12, 0, 0, 0)
    half = box.copy()
    half.faces = np.concatenate([box.faces[:6, ::-1], box.faces[6:], box.faces])
    turned = quality(half)
    assert (turned.verdict, turned.closed, turned.dropped, turned.flipped) == ("ok", True, 12, 6)


def test_a_large_hole_and_a_sheet_are_doubtful() -> None:
    sphere = trimesh.creation.icosphere(3)
    sphere.update_faces(sphere.triangles_center[:, 1] > -0.3)
    opened = quality(sphere)
    assert (opened.verdict, opened.closed) == ("doubtful", False)
    assert "1 holes are too large to close; signs there follow the winding number" in opened.reason
    assert opened.uncertain > 0
    fin = trimesh.Trimesh([[0, 0.4, 0], [0, 0.9, 0], [0, 0.9, 0.5]], [[0, 1, 2]], process=False)
    finned = quality(concatenate([trimesh.creation.box((0.6, 0.6, 0.6)), fin]))
    assert (finned.verdict, finned.sheets) == ("doubtful", 1)
    assert "1 of 13 faces form open surfaces with no interior; they are lost unless you pass --thicken" in finned.reason


def test_a_cap_that_is_much_of_the_surface_is_a_guess() -> None:
    cylinder = trimesh.creation.cylinder(radius=0.3, height=1.2, sections=64)
    cylinder.update_faces(cylinder.triangles_center[:, 2] < 0.59)  # without its lid
    found = quality(cylinder)
    lid = 0.3 / (2 * (0.3 + 1.2))  # pi r² of 2 pi r (r + h)
    assert (found.verdict, found.capped) == ("doubtful", 1)
    assert found.caps == pytest.approx(lid, rel=0.02)
    assert "10% of the surface is caps that close 1 holes" in found.reason


def test_faces_that_enclose_nothing_are_refused() -> None:
    rng = np.random.default_rng(0)
    soup = trimesh.Trimesh(rng.uniform(-0.5, 0.5, (300, 3)), np.arange(300).reshape(100, 3), process=False)
    with pytest.raises(MeshError, match=r"^the sign is arbitrary for \d+% of the samples"):
        quality(soup)
    assert quality(soup, thicken=0.02).verdict in VERDICTS
    square = trimesh.Trimesh(
        [[-0.5, 0, -0.5], [0.5, 0, -0.5], [0.5, 0, 0.5], [-0.5, 0, 0.5]], [[0, 1, 2], [0, 2, 3]], process=False
    )
    with pytest.raises(
        MeshError, match=r"^no sample is inside: the faces form open surfaces with no interior; pass --thicken"
    ):
        quality(square)
    assert quality(square, thicken=0.02)[1:3] == ("ok", "closed")


def test_rows_of_other_shapes_stay(tmp_path: Path) -> None:
    path = tmp_path / "preprocess.csv"
    first, second = QualityFile(path), QualityFile(path)
    first.add(Quality("b", "ok", "closed", closed=True, seconds=0.5))
    first.add(Quality("a", "rejected", 'no "faces", none'))
    second.add(Quality("b", "doubtful", "a hole", uncertain=0.25))
    second.add(Quality("c", "ok", "closed"))
    assert not path.exists()
    first.flush()
    second.flush()
    first.flush()
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == list(Quality._fields)
    assert [row[:3] for row in rows[1:]] == [
        ["a", "rejected", 'no "faces", none'],
        ["b", "doubtful", "a hole"],
        ["c", "ok", "closed"],
    ]
    assert list(first.read().values()) == [
        Quality("a", "rejected", 'no "faces", none'),
        Quality("b", "doubtful", "a hole", uncertain=0.25),
        Quality("c", "ok", "closed"),
    ]


def test_a_file_of_another_form_is_not_kept_up(tmp_path: Path) -> None:
    record = QualityFile(tmp_path / "preprocess.csv")
    for content in (b"shape,verdict\na,ok\n", b"\xff\xfe", b""):
        record.path.write_bytes(content)
        assert record.read() == {}
    record.add(Quality("a", "ok", "closed"))
    record.flush()
    assert list(record.read()) == ["a"]
    record.path.write_text(record.path.read_text() + "b,splendid," + "," * (len(Quality._fields) - 3) + "\n")
    assert list(record.read()) == ["a"]


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
