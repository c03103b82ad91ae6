"""The verdict on each hard mesh, generated or real, agrees with that of a person who inspected it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hard_meshes import HARD, parameters, real_meshes

from deepsdf.errors import MeshError
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import sample_sdf
from deepsdf.library.quality import Quality, assess
from deepsdf.splits import ShapeName

REJECTED = {
    "trimesh_points_emptyface": "has no faces; a surface is needed, not a point cloud or an empty file",
    "trimesh_soup": "the sign is arbitrary for",
}
DOUBTFUL = {
    "ICT_generic_neutral_mesh": "of the surface is caps that close 9 holes",  # an open neck, eye sockets
    "oded_plane_holes": "5% of the surface is caps that close 27 holes",
    "quaternius_Book3_Closed": "of the samples are uncertain",  # pages that overlap the cover
    "trimesh_teapot": "of the surface is caps that close 5 holes",
    "trimesh_wallhole": "22% of the surface is caps that close 3 holes",  # a house without a floor
}
OK = {
    "aws_aws_ChairA_01_visual": True, "aws_aws_SofaB_01_visual": False,
    "manifold_self_intersectA": True, "oded_nefertiti-lowres": True, "oded_scorpion": True, "oded_spot": True,
    "oded_sword": True, "oded_wingnut": True, "pcu_truck": False, "quaternius_PalmTree_1": True,
    "trimesh_1002_tray_bottom": True, "trimesh_chair_model": False, "trimesh_negative_indices": True,
}  # fmt: skip
"""Whether the given mesh was closed, where the verdict is ok."""


def judge(path: Path) -> Quality:
    mesh = load_mesh(path)
    field = MeshSDF(Normalization.fit(mesh).apply_mesh(mesh))
    return assess(ShapeName("d", "c", path.stem), field, sample_sdf(field, 20_000))


@pytest.mark.parametrize("name", HARD)
def test_generated_meshes(name: str, tmp_path: Path) -> None:
    expected = HARD[name]
    path = expected.write(tmp_path / name)
    if expected.verdict == "rejected":
        with pytest.raises(MeshError, match=expected.reason):
            judge(path)
        return
    found = judge(path)
    assert (found.verdict, found.closed) == (expected.verdict, expected.closed), found.reason
    assert expected.reason in found.reason


def test_a_generated_fish_with_closed_fins(tmp_path: Path) -> None:
    found = judge(HARD["thin_fins"].write(tmp_path / "fish"))
    assert (found.verdict, found.closed, found.uncertain) == ("ok", True, 0)


def test_a_generated_fish_with_fins_that_are_sheets(tmp_path: Path) -> None:
    found = judge(HARD["open_fins"].write(tmp_path / "fish"))
    assert found.sheets == 144, "two fins of 72 faces"
    assert (found.holes, found.capped) == (1, 0)
    assert 0.2 < found.inside < 0.5


@pytest.mark.parametrize("path", parameters(real_meshes("hard/meshes")))
def test_hard_meshes(path: Path) -> None:
    if path.stem in REJECTED:
        with pytest.raises(MeshError, match=REJECTED[path.stem]):
            judge(path)
        return
    found = judge(path)
    if path.stem in DOUBTFUL:
        assert found.verdict == "doubtful"
        assert DOUBTFUL[path.stem] in found.reason
    else:
        assert (found.verdict, found.closed) == ("ok", OK[path.stem]), found.reason


@pytest.mark.parametrize("path", parameters(real_meshes("classes/fish")))
def test_fish(path: Path) -> None:
    """The fish of one pack have open sheets as fins and a body that is open below the eyes."""
    found = judge(path)
    if path.stem.startswith("fish_pack"):
        assert (found.verdict, found.closed, found.uncertain) == ("ok", True, 0)
    else:
        assert (found.verdict, found.closed) == ("doubtful", False)
        assert "holes are too large to close" in found.reason
        assert found.sheets > 0
        assert 0.2 < found.inside < 0.5
