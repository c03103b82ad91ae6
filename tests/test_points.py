"""Reading point cloud files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from deepsdf.errors import InputError
from deepsdf.geometry.point_clouds import load_points
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource

POINTS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


def write_ply(path: Path, points: np.ndarray, faces: list[tuple[int, int, int]]) -> Path:
    """A file in the format of the original: points, and possibly meaningless faces."""
    head = ["ply", "format ascii 1.0", f"element vertex {len(points)}", *(f"property float {axis}" for axis in "xyz")]
    if faces:
        head += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    rows = ["{!r} {!r} {!r}".format(*map(float, point)) for point in points]
    rows += ["3 {} {} {}".format(*face) for face in faces]
    path.write_text("\n".join([*head, "end_header", *rows]) + "\n")
    return path


@pytest.mark.parametrize("faces", [[], [(0, 1, 2), (0, 0, 0), (3, 4, 5)]], ids=["points", "meaningless faces"])
def test_vertices_are_the_points(tmp_path: Path, faces: list[tuple[int, int, int]]) -> None:
    found = load_points(write_ply(tmp_path / "points.ply", POINTS, faces))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, POINTS)


def test_equal_points_are_not_merged(tmp_path: Path) -> None:
    twice = np.concatenate([POINTS, POINTS])
    np.testing.assert_array_equal(load_points(write_ply(tmp_path / "points.ply", twice, [(0, 1, 2)])), twice)


def test_round_trip_through_a_data_source(tmp_path: Path) -> None:
    data, shape = DataSource(tmp_path), ShapeName("d", "c", "i")
    data.save_surface(shape, POINTS)
    np.testing.assert_array_equal(data.load_surface(shape), POINTS)


def test_vertices_of_a_mesh_are_read(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    box.export(tmp_path / "box.ply")
    np.testing.assert_allclose(load_points(tmp_path / "box.ply"), box.vertices, atol=1e-6)


AGAIN = "make it again with `deepsdf preprocess --surface`"


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load_points(tmp_path / "none.ply")
    assert str(error.value) == f"there are no surface points at {tmp_path / 'none.ply'}; {AGAIN}"


@pytest.mark.parametrize("content", [b"", b"not a cloud", b"ply\nformat ascii 1.0\n"])
def test_not_a_cloud(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.ply"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_points(path)
    assert str(path) in str(error.value)
    assert str(error.value).endswith(AGAIN)


def test_a_truncated_file(tmp_path: Path) -> None:
    data, shape = DataSource(tmp_path), ShapeName("d", "c", "i")
    data.save_surface(shape, POINTS)
    path = data.surface_path(shape)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="no readable points"):
        load_points(path)


def test_nan_and_empty_clouds(tmp_path: Path) -> None:
    broken = POINTS.copy()
    broken[7, 1] = np.nan
    for points in (broken, POINTS[:0]):
        with pytest.raises(InputError, match=r"no (usable|readable) points"):
            load_points(write_ply(tmp_path / "points.ply", points, []))
