"""Packed meshes."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from report_helpers import unpack
from scipy.spatial import KDTree

from deepsdf.figures.report.packing import EDGE, LEVELS, for_view, pack
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF

SPHERE = trimesh.creation.icosphere(4, radius=0.8)


def same(found: np.ndarray, back: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> float:
    """Largest displacement of the vertices; asserts equal faces and orientation."""
    which = np.asarray(KDTree(vertices).query(found)[1])
    assert len(set(which)) == len(found)

    def known(triangles: np.ndarray) -> list[tuple[int, ...]]:
        return sorted(tuple(np.roll(face, -int(face.argmin()))) for face in triangles)

    assert known(which[back]) == known(faces)
    return float(np.abs(found - vertices[which]).max())


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-6, 0.0), (3e5, -7e5)])
def test_a_mesh_comes_back_within_half_a_step(scale: float, shift: float) -> None:
    vertices = np.asarray(SPHERE.vertices) * [1, 0.3, 2]
    packed = pack(vertices * scale + shift, np.asarray(SPHERE.faces))
    found, faces, _ = unpack(packed)
    assert packed.step == pytest.approx(3.2 * scale / LEVELS)
    away = same((found - shift) / scale, faces, vertices, np.asarray(SPHERE.faces))
    assert 0 < away <= 0.501 * packed.step / scale


def test_values_come_back_within_half_a_level() -> None:
    values = np.linspace(0, 0.37, len(SPHERE.vertices)) ** 2
    found, _, levels = unpack(pack(np.asarray(SPHERE.vertices), np.asarray(SPHERE.faces), values))
    nearest = np.linalg.norm(found[:, None] - SPHERE.vertices[None], axis=2).argmin(axis=1)
    half = 0.5 / 255
    assert np.abs(levels - values[nearest]).max() <= values.max() * (2 * half + half**2) * 1.001
    small = values[nearest] < 0.01 * values.max()  # where an even scale of 255 levels would know three
    assert np.abs(levels - values[nearest])[small].max() <= values.max() * (2 * half * 0.1 + half**2) * 1.001


def test_values_that_are_all_zero_are_not_stored() -> None:
    packed = pack(np.asarray(SPHERE.vertices), np.asarray(SPHERE.faces), np.zeros(len(SPHERE.vertices)))
    assert packed.value_max == 0
    assert packed == pack(np.asarray(SPHERE.vertices), np.asarray(SPHERE.faces))


def test_faces_in_any_order_and_far_from_one_another() -> None:
    rng = np.random.default_rng(0)
    vertices, faces = rng.uniform(-1, 1, (400, 3)), rng.integers(0, 400, (900, 3))
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    packed = pack(vertices, faces)
    found, back, _ = unpack(packed)
    assert len(found) == len(np.unique(faces))
    assert same(found, back, vertices, faces) <= 0.501 * packed.step


def test_more_vertices_than_16_bits_number() -> None:
    mesh = trimesh.creation.icosphere(7)
    assert len(mesh.vertices) > 2**16
    packed = pack(np.asarray(mesh.vertices), np.asarray(mesh.faces))
    found, faces, _ = unpack(packed)
    assert len(faces) == len(mesh.faces)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=packed.step)
    assert trimesh.Trimesh(found, faces, process=False).volume == pytest.approx(mesh.volume, rel=1e-4)


def test_points_alone() -> None:
    points = np.random.default_rng(0).normal(size=(1000, 3))
    packed = pack(points, np.zeros((0, 3), np.int64), np.linalg.norm(points, axis=1))
    found, faces, values = unpack(packed)
    assert packed.faces == len(faces) == 0
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(points, axis=0), atol=packed.step)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), values, atol=0.02)


def test_a_mesh_is_packed_tightly() -> None:
    """About 5 bytes per face; as floats and integers it would be 18."""
    packed = pack(np.asarray(SPHERE.vertices), np.asarray(SPHERE.faces))
    assert len(packed.content) < 6 * len(SPHERE.faces)


def test_too_many_faces_are_collapsed_and_look_the_same() -> None:
    fine = trimesh.creation.icosphere(6, radius=0.8)
    vertices, faces = for_view(fine, 2000)
    assert 1500 < len(faces) <= 2000
    assert np.abs(np.linalg.norm(vertices[np.unique(faces)], axis=1) - 0.8).max() < 0.01
    found = trimesh.Trimesh(vertices, faces)
    assert found.is_watertight
    assert found.volume == pytest.approx(fine.volume, rel=0.01)


def test_long_edges_are_split_while_there_is_room() -> None:
    box = trimesh.creation.box((1.0, 0.6, 0.2))
    vertices, faces = for_view(box, 20_000)
    edges = np.linalg.norm(vertices[faces] - np.roll(vertices[faces], -1, axis=1), axis=2)
    assert edges.max() <= EDGE
    assert np.abs(MeshSDF(box).distance(vertices)).max() < 1e-6
    assert trimesh.Trimesh(vertices, faces, process=False).volume == pytest.approx(box.volume)
    for room in (12, 50, 1000):
        assert len(for_view(box, room)[1]) <= room


def test_duplicate_and_degenerate_faces_are_removed() -> None:
    faces = np.asarray(SPHERE.faces)
    apart = np.asarray(SPHERE.vertices)[faces].reshape(-1, 3)  # every face with vertices of its own
    own = np.arange(len(apart)).reshape(-1, 3)
    twice = np.concatenate([own, own[:, ::-1], own[:5, [0, 0, 1]]])
    vertices, found = for_view(trimesh.Trimesh(apart, twice, process=False), len(faces))
    assert len(vertices) == len(SPHERE.vertices)
    assert len(found) == len(faces)
