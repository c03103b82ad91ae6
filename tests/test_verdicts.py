"""The verdict on every hard mesh and every fish is the one a person gives who looks at them."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepsdf.errors import MeshError
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import sample_sdf
from deepsdf.library.quality import Quality, assess
from deepsdf.splits import ShapeName

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

REJECTED = {
    "trimesh_points_emptyface": "has no faces; a surface is needed, not a point cloud or an empty file",
    "trimesh_soup": "inside and outside are a matter of chance",
}
DOUBTFUL = {
    "ICT_generic_neutral_mesh": "of the surface are caps on 9 holes, a guess",  # an open neck, eye sockets
    "oded_plane_holes": "5% of the surface are caps on 27 holes, a guess",
    "quaternius_Book3_Closed": "of the samples are uncertain",  # pages that overlap the cover
    "trimesh_teapot": "of the surface are caps on 5 holes, a guess",
    "trimesh_wallhole": "22% of the surface are caps on 3 holes, a guess",  # a house without a floor
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


def meshes(folder: str) -> list[Path]:
    return sorted(path for path in (DATA / folder).glob("*") if path.suffix.lower() in {".obj", ".ply", ".stl"})


@pytest.mark.skipif(not meshes("hard/meshes"), reason=f"no hard meshes in {DATA}; shared/data is needed")
@pytest.mark.parametrize("path", meshes("hard/meshes"), ids=lambda path: path.stem)
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


@pytest.mark.skipif(not meshes("classes/fish"), reason=f"no fish in {DATA}; shared/data is needed")
@pytest.mark.parametrize("path", meshes("classes/fish"), ids=lambda path: path.stem)
def test_fish(path: Path) -> None:
    """Those of one pack have fins that are open sheets, and an open body below their eyes."""
    found = judge(path)
    if path.stem.startswith("fish_pack"):
        assert (found.verdict, found.closed, found.uncertain) == ("ok", True, 0)
    else:
        assert (found.verdict, found.closed) == ("doubtful", False)
        assert "holes are too large to close" in found.reason
        assert found.sheets > 0
        assert 0.2 < found.inside < 0.5
