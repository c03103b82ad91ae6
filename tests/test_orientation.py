"""Mesh repair: patches, outward faces, buried parts, caps."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np
import pytest
import trimesh
from corruptions import join

from deepsdf.geometry.repair import patches
from deepsdf.geometry.repair.holes import cap_holes
from deepsdf.geometry.repair.orientation import orient_mesh, working_frame
from deepsdf.geometry.repair.patches import boundary_of, orient_patches, signed_volumes


def build(vertices, faces) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices, faces, process=False)


def moved(mesh: trimesh.Trimesh, offset=(0, 0, 0), inward: bool = False) -> trimesh.Trimesh:
    return build(mesh.vertices + np.array(offset), mesh.faces[:, ::-1] if inward else mesh.faces)


def mesh_of(oriented, faces=None) -> trimesh.Trimesh:
    vertices = oriented.vertices / oriented.scale + oriented.center
    return build(vertices, oriented.faces if faces is None else faces)


@pytest.mark.parametrize("seed", range(5))
def test_random_flips_are_undone(seed: int) -> None:
    ball = trimesh.creation.icosphere(3)
    turn = np.random.default_rng(seed).random(len(ball.faces)) < 0.5
    oriented = orient_mesh(build(ball.vertices, np.where(turn[:, None], ball.faces[:, ::-1], ball.faces)))
    assert oriented.closed
    assert oriented.sealed
    assert oriented.flipped == turn.sum()
    assert mesh_of(oriented).volume == pytest.approx(ball.volume, rel=1e-5)


def test_doubled_faces_leave_one_outward_surface() -> None:
    ball = trimesh.creation.torus(1, 0.3)
    oriented = orient_mesh(build(ball.vertices, np.concatenate([ball.faces[:, ::-1], ball.faces])))
    assert oriented.doubled == len(ball.faces)
    assert oriented.closed
    assert mesh_of(oriented).volume == pytest.approx(ball.volume, rel=1e-5)


def test_a_moebius_strip_is_cut_open() -> None:
    turn = np.linspace(0, 2 * np.pi, 41)[:-1]
    rim = [np.stack([(1 + s * np.cos(turn / 2)) * np.cos(turn), (1 + s * np.cos(turn / 2)) * np.sin(turn),
                     s * np.sin(turn / 2)], axis=1) for s in (-0.3, 0.3)]  # fmt: skip
    k = np.arange(40)
    low, high = k, k + 40
    nl, nh = np.append(low[1:], high[0]), np.append(high[1:], low[0])
    faces = np.concatenate([np.stack([low, nl, high], 1), np.stack([high, nl, nh], 1)])
    flip, patch, number = orient_patches(faces)
    assert number == 1
    assert flip.shape == patch.shape == (80,)
    assert orient_mesh(build(np.concatenate(rim), faces)).closed is False


def test_boundaries_and_volumes_of_patches() -> None:
    box = trimesh.creation.box((1, 2, 3))
    faces = np.asarray(box.faces)
    label = np.zeros(12, int)
    assert len(boundary_of(faces, label)) == 0
    assert signed_volumes(box.vertices, faces, label, 1)[0] == pytest.approx(6)
    open_box = faces[1:]
    chain = boundary_of(open_box, label[1:])[:, :2]
    assert {tuple(edge) for edge in chain.tolist()} == {
        tuple(np.roll(faces[0], k)[:2][::-1].tolist()) for k in range(3)
    }


def test_caps_restore_the_volume() -> None:
    ball = trimesh.creation.icosphere(3)
    keep = np.flatnonzero(ball.triangles_center[:, 2] < 0.85)
    caps = cap_holes(ball.vertices, np.asarray(ball.faces)[keep], np.zeros(len(keep), int))
    whole = build(np.concatenate([ball.vertices, caps.added]), np.concatenate([ball.faces[keep], caps.faces]))
    assert caps.capped == 1
    assert caps.open_loops == 0
    assert len(boundary_of(np.asarray(whole.faces), np.zeros(len(whole.faces), int))) == 0
    assert whole.volume == pytest.approx(ball.volume, rel=0.004)  # domed; a flat cap would lose 1 %


def test_a_sheet_encloses_nothing() -> None:
    sheet = build([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    oriented = orient_mesh(sheet)
    assert oriented.sheets == 2
    assert len(oriented.solid_faces) == 0
    assert oriented.closed is False


def test_inner_walls_and_parts_are_buried() -> None:
    box = trimesh.creation.box((2, 2, 2)).subdivide().subdivide()
    wall = build([[-0.9, -0.9, 0.1], [0.9, -0.9, 0.1], [0.9, 0.9, 0.1]], [[0, 1, 2]])
    inner = trimesh.creation.box((0.5, 0.5, 0.5))
    oriented = orient_mesh(join(box, wall, inner))
    assert oriented.buried == 13
    assert oriented.closed
    np.testing.assert_array_equal(oriented.source_faces, np.arange(len(box.faces)))


def test_a_room_divided_by_a_wall_is_one_solid() -> None:
    """Edges of three faces: the wall splits the box into patches of which each alone is open."""
    halves = [trimesh.creation.box((1, 1, 1)).apply_translation((x, 0, 0)) for x in (-0.5, 0.5)]
    oriented = orient_mesh(join(*halves))  # the shared wall is there twice: one is dropped, the other buried
    assert oriented.closed
    assert mesh_of(oriented).volume == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize("inward", [False, True])
def test_nested_shells_are_filled(inward: bool) -> None:
    outer, inner = trimesh.creation.icosphere(3), trimesh.creation.icosphere(3, radius=0.6)
    oriented = orient_mesh(join(outer, moved(inner, inward=inward)))
    assert oriented.buried == len(inner.faces)
    assert mesh_of(oriented).volume == pytest.approx(outer.volume, rel=1e-5)


@pytest.mark.parametrize("whole_inside_out", [False, True])
def test_cavities_are_kept_when_asked(whole_inside_out: bool) -> None:
    outer, inner = trimesh.creation.icosphere(3), trimesh.creation.icosphere(3, radius=0.6)
    core = trimesh.creation.icosphere(2, radius=0.2)
    mesh = join(outer, moved(inner, inward=True), core)
    oriented = orient_mesh(moved(mesh, inward=whole_inside_out), keep_cavities=True)
    assert oriented.closed
    assert oriented.buried == 0
    assert mesh_of(oriented).volume == pytest.approx(outer.volume - inner.volume + core.volume, rel=1e-5)


def test_scaling_by_the_working_frame_is_exact() -> None:
    vertices = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    center, scale = working_frame(vertices)
    np.testing.assert_array_equal(center, (vertices.min(axis=0) + vertices.max(axis=0)) / 2)
    np.testing.assert_array_equal(vertices * np.float32(scale) / np.float32(scale), vertices)
    assert 1 < np.ptp(vertices * scale, axis=0).max() <= 2


def randomly_flipped(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces of a sphere, about half of them flipped, and which."""
    faces = np.asarray(trimesh.creation.icosphere(subdivisions).faces)
    turn = np.random.default_rng(0).random(len(faces)) < 0.5
    return np.where(turn[:, None], faces[:, ::-1], faces), turn


def lines_run(faces: np.ndarray) -> int:
    """How many lines of patches.py `orient_patches` runs."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "line" and frame.f_code.co_filename == patches.__file__
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        orient_patches(faces)
    finally:
        sys.settrace(before)
    return count


def test_patches_are_found_without_a_loop_over_faces() -> None:
    small, large = (lines_run(randomly_flipped(level)[0]) for level in (1, 4))  # 80 and 5120 faces
    assert 0 < small == large


def test_a_large_mesh_is_one_patch() -> None:
    faces, turn = randomly_flipped(7)  # 327 680 faces
    flip, patch, number = orient_patches(faces)
    assert number == 1
    assert not patch.any()
    assert (flip == turn).all() or (flip != turn).all()
