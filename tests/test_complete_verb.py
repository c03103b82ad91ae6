"""`deepsdf complete` and `evaluate --completion`, as a user types them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from corruptions import concatenate
from helpers import TEST, World, is_picture, run

from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.scanning.scan import scan
from deepsdf.pipeline.evaluate_completion import METHODS, viewpoint
from deepsdf.splits import ShapeName

pytest_plugins = ["helpers"]

EYE = np.array([1.0, 0.8, 2.6])
CUBE = ShapeName("toys", "box", "cube")


@pytest.fixture
def scanned(world: World) -> World:
    """scan.ply and whole.npz: a cube of the training shapes, in its mesh frame, far from the unit frame."""
    mesh = load_mesh(world.root / "meshes" / "box" / "cube.obj")
    normalization = Normalization.fit(mesh)
    seen = scan(mesh, normalization.invert(EYE[None])[0], 64, device="cpu")
    trimesh.PointCloud(seen.points).export(world.root / "scan.ply")
    np.savez(world.root / "whole.npz", offset=normalization.offset, scale=[normalization.scale])
    camera = normalization.invert(EYE[None])[0]
    (world.root / "camera").write_text(",".join(map(str, camera)))
    return world


def complete(world: World, *options: object, status: int = 0) -> str:
    camera = (world.root / "camera").read_text()
    common = ("complete", "-e", "exp", "scan.ply", "-o", "out/whole.ply", "--device", "cpu", "--camera", camera)
    return run(*common, "--resolution", 40, *options, status=status).output


def test_a_scan_in_its_own_frame(scanned: World) -> None:
    said = complete(scanned, "--normalization", "whole.npz", "--samples", 2)
    assert "Explained" in said
    assert "Wrote out/whole.ply" in said
    mesh = load_mesh(scanned.root / "out" / "whole.ply")
    np.testing.assert_allclose(mesh.bounds, [[25, -25, 0], [35, -15, 10]], atol=2.0)
    header = (scanned.root / "out" / "whole.ply").read_bytes()[:600].decode("ascii", "replace")
    assert "property uchar seen" in header
    assert "property float spread" in header
    assert "property uchar red" in header
    assert is_picture(scanned.root / "out" / "whole.png")
    figures = json.loads((scanned.root / "out" / "whole.json").read_text())
    assert figures["explained"] > 0.5
    assert len(figures["code"]) == 4
    assert 0 < figures["seen"] < 1
    for number in (1, 2):
        assert len(load_mesh(scanned.root / "out" / f"whole-sample-{number}.ply").faces)


def test_nothing_known_of_the_frame(scanned: World) -> None:
    said = complete(scanned, "--pose", "similarity", "--no-picture")
    assert "unit lengths per length of the scan; the pose is in out/whole.json" in said
    figures = json.loads((scanned.root / "out" / "whole.json").read_text())
    matrix = np.array(figures["scan_to_unit"])
    middle = matrix @ [30, -20, 5, 1]
    assert np.linalg.norm(middle[:3]) < 0.15
    # One view of a box among boxes and eggs of all sizes does not tell its size well.
    assert figures["scale"] == pytest.approx(Normalization.fit(trimesh.creation.box((10, 10, 10))).scale, rel=0.25)
    assert not (scanned.root / "out" / "whole.png").exists()


def test_unusable_scans_end_with_2(scanned: World) -> None:
    assert "not in the unit frame" in complete(scanned, status=2)
    (scanned.root / "scan.ply").write_text("ply\nformat ascii 1.0\nelement vertex 0\nend_header\n")
    assert "scan.ply: holds no points" in " ".join(complete(scanned, status=2).split())
    assert not (scanned.root / "out").exists()
    missing = run("complete", "-e", "exp", "gone.ply", "-o", "x.ply", status=2).output
    assert "gone.ply: no such file" in missing
    bad = run("complete", "-e", "exp", "scan.ply", "-o", "x.ply", "--camera", "1,2", status=2).output
    assert "is not a position; expected X,Y,Z, for example 0,1.5,2" in bad
    bad = run("complete", "-e", "exp", "scan.ply", "-o", "x.ply", "--normalization", "no.npz", status=2).output
    assert "no normalization parameters at no.npz" in " ".join(bad.split())


def test_a_scan_of_another_class_ends_with_1(scanned: World) -> None:
    rod = trimesh.creation.box((1.9, 0.06, 0.06))
    turned = rod.copy().apply_transform(trimesh.transformations.rotation_matrix(1.5, (0, 0, 1)))
    seen = scan(concatenate([rod, turned]), EYE, 96, device="cpu")
    trimesh.PointCloud(seen.points).export(scanned.root / "scan.ply")
    (scanned.root / "camera").write_text(",".join(map(str, EYE)))
    said = " ".join(complete(scanned, "--no-picture", status=1).split())
    assert "the space does not explain the scan well: " in said
    assert "% of its points lie within" in said
    assert (scanned.root / "out" / "whole.ply").is_file()


def test_evaluate_by_one_view_of_each_shape(world: World) -> None:
    options = ("evaluate", "--completion", "-e", "exp", "-d", "data", "-s", "test.json", "--points", 2000)
    said = run(*options, "--emd-points", 50).output
    for method in METHODS:
        assert method in said
    folder = Path("exp", "Evaluation", "latest")
    with (folder / "completion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["shape"], row["method"]) for row in rows] == [(str(s), m) for s in TEST for m in METHODS]
    assert all(0 < float(row["chamfer"]) < 0.1 for row in rows)
    summary = json.loads((folder / "completion.json").read_text())
    assert summary["methods"]["completion"]["chamfer"]["median"] > 0
    assert is_picture(folder / "completion.png")
    before = (folder / "completion.csv").read_bytes()
    run(*options, "--emd-points", 50, "--no-picture")
    assert (folder / "completion.csv").read_bytes() == before


def test_a_shape_whose_mesh_is_gone_costs_itself_alone(world: World) -> None:
    (world.root / "meshes" / "egg" / "wide.obj").unlink()
    options = ("evaluate", "--completion", "-e", "exp", "-d", "data", "-s", "test.json", "--points", 500)
    said = run(*options, "--emd-points", 0, "--no-picture", status=1).output
    assert "toys/egg/wide: there is no mesh" in said
    assert "1 shape from one depth view" in said


def test_viewpoints_are_by_seed_and_name() -> None:
    np.testing.assert_array_equal(viewpoint(CUBE, 0), viewpoint(CUBE, 0))
    others = [viewpoint(CUBE, 1), viewpoint(CUBE, 0, 1), viewpoint(TEST[0], 0)]
    assert all(np.linalg.norm(other - viewpoint(CUBE, 0)) > 0.1 for other in others)
    np.testing.assert_allclose([np.linalg.norm(other) for other in others], 3.0)
