"""Pictures: what they show, compared with the closed form of the camera, and what must not change them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from corruptions import concatenate
from PIL import Image

from deepsdf.errors import InputError, MeshError
from deepsdf.rendering.camera import FIELD_OF_VIEW, MARGIN, Axis, Camera, PictureOptions
from deepsdf.rendering.render import grid_image, render_mesh, render_points, save_image, slice_image

WHITE = np.array([255, 255, 255])


def disc_radius(radius: float, bound: float, size: int) -> float:
    """Radius in pixels of a ball at the centre of the picture: its cone of tangents."""
    distance = MARGIN * bound / np.sin(FIELD_OF_VIEW / 2)
    return size / 2 * np.tan(np.arcsin(radius / distance)) / np.tan(FIELD_OF_VIEW / 2)


def covered(picture: np.ndarray) -> np.ndarray:
    return (picture != WHITE).any(axis=-1)


def middle(mask: np.ndarray) -> tuple[float, float]:
    """Mean position (right, up) of the covered pixels, in pixels from the centre of the picture."""
    rows, columns = np.nonzero(mask)
    return columns.mean() + 0.5 - mask.shape[1] / 2, mask.shape[0] / 2 - rows.mean() - 0.5


@pytest.fixture(scope="module")
def cup() -> trimesh.Trimesh:
    """A box and a ball that intersects it: hard edges, loose parts, no symmetry."""
    box = trimesh.creation.box((1.0, 0.7, 0.5))
    ball = trimesh.creation.icosphere(3, 0.4).apply_translation((0.3, 0.5, 0.2))
    return concatenate([box, ball])


@pytest.mark.parametrize(("radius", "bound"), [(1.0, None), (0.5, 1.0), (2.0, 3.0)])
def test_a_sphere_is_a_disc_of_the_expected_radius(radius: float, bound: float | None):
    size = 200
    sphere = trimesh.creation.icosphere(5, radius)
    picture = render_mesh(sphere, PictureOptions(size=size, azimuth=50, elevation=30, bound=bound, ground=False))
    expected = disc_radius(radius, bound or radius, size)
    rows, columns = np.indices((size, size)) + 0.5 - size / 2
    distance = np.hypot(rows, columns)
    mask = covered(picture)
    assert mask[distance < expected - 1.0].all()
    assert not mask[distance > expected + 1.0].any()


def test_points_are_discs_of_the_expected_radius():
    size = 200
    picture = render_points(np.zeros((1, 3)), PictureOptions(bound=1.0, size=size, ground=False), radius=0.6)
    rows, columns = np.indices((size, size)) + 0.5 - size / 2
    distance = np.hypot(rows, columns)
    mask = covered(picture)
    expected = size / 2 * 0.6 / MARGIN * np.sin(FIELD_OF_VIEW / 2) / np.tan(FIELD_OF_VIEW / 2)
    assert mask[distance < expected - 1.5].all()
    assert not mask[distance > expected + 1.5].any()


@pytest.mark.parametrize(
    ("up", "azimuth", "elevation", "place", "side"),
    [
        ("y", 0, 0, (0.5, 0, 0), (1, 0)),
        ("y", 0, 0, (0, 0.5, 0), (0, 1)),
        ("y", 90, 0, (0, 0, 0.5), (-1, 0)),
        ("y", 0, 90, (0, 0, 0.5), (0, -1)),
        ("z", 0, 0, (0.5, 0, 0), (1, 0)),
        ("z", 0, 0, (0, 0, 0.5), (0, 1)),
        ("z", 90, 0, (0, 0.5, 0), (1, 0)),
        ("x", 0, 0, (0.5, 0, 0), (0, 1)),
    ],
)
def test_camera_conventions_of_meshes_and_points(up, azimuth, elevation, place, side):
    view = PictureOptions(64, azimuth, elevation, up, bound=1.0, ground=False)
    mesh = trimesh.creation.icosphere(2, 0.1).apply_translation(place)
    of_mesh = middle(covered(render_mesh(mesh, view)))
    of_point = middle(covered(render_points(np.array([place]), view, radius=0.1)))
    expected = np.array(side) * 0.5 / MARGIN * 32
    assert of_mesh == pytest.approx(expected, abs=1.0)
    assert of_point == pytest.approx(expected, abs=1.0)


def test_near_points_hide_far_ones():
    points = np.array([[0, 0, -0.5], [0, 0, 0.5]])
    colours = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    view = PictureOptions(bound=1.0, size=65, elevation=0)
    front, back = (
        render_points(points, replace(view, azimuth=0), colors=colours, radius=0.2)[32, 32],
        render_points(points, replace(view, azimuth=180), colors=colours, radius=0.2)[32, 32],
    )
    assert front[2] > 100
    assert front[0] < 10
    assert back[0] > 100
    assert back[2] < 10


def test_pictures_are_deterministic(cup: trimesh.Trimesh):
    assert np.array_equal(render_mesh(cup, PictureOptions(size=96)), render_mesh(cup, PictureOptions(size=96)))
    points = np.random.default_rng(0).normal(size=(500, 3))
    assert np.array_equal(
        render_points(points, PictureOptions(size=96)), render_points(points, PictureOptions(size=96))
    )


def test_face_orientation_does_not_matter(cup: trimesh.Trimesh):
    picture = render_mesh(cup, PictureOptions(size=96)).astype(int)
    inside_out = trimesh.Trimesh(cup.vertices, cup.faces[:, ::-1], process=False)
    assert np.abs(render_mesh(inside_out, PictureOptions(size=96)) - picture).max() <= 2
    faces = cup.faces.copy()
    at_random = np.random.default_rng(0).random(len(faces)) < 0.5
    faces[at_random] = faces[at_random, ::-1]
    mixed = trimesh.Trimesh(cup.vertices, faces, process=False)
    assert np.abs(render_mesh(mixed, PictureOptions(size=96)) - picture).max() <= 2
    doubled = trimesh.Trimesh(cup.vertices, np.vstack([cup.faces, cup.faces[:, ::-1]]), process=False)
    assert np.abs(render_mesh(doubled, PictureOptions(size=96)) - picture).mean() < 0.05


def test_faces_with_separate_vertices_look_like_joined_ones():
    ball = trimesh.creation.icosphere(2)
    loose = trimesh.Trimesh(ball.triangles.reshape(-1, 3), np.arange(len(ball.faces) * 3).reshape(-1, 3), process=False)
    difference = render_mesh(loose, PictureOptions(size=96)).astype(int) - render_mesh(ball, PictureOptions(size=96))
    assert np.abs(difference).max() <= 2


def test_a_fitted_picture_does_not_depend_on_the_unit_of_length(cup: trimesh.Trimesh):
    far = cup.copy().apply_scale(1000).apply_translation((5000, -300, 200))
    difference = render_mesh(far, PictureOptions(size=96)).astype(int) - render_mesh(cup, PictureOptions(size=96))
    assert np.abs(difference).mean() < 0.05


def test_flat_faces_are_even_and_meet_in_a_hard_edge():
    """Seen from straight ahead each face of a box has one normal, so its light changes only slowly."""
    picture = render_mesh(
        trimesh.creation.box((1, 1, 1)), PictureOptions(size=128, azimuth=45, elevation=0, ground=False)
    )
    row = picture[64].astype(int).sum(axis=1)
    left, right = row[30:62], row[66:98]
    assert np.abs(np.diff(left)).max() <= 6
    assert np.abs(np.diff(right)).max() <= 6
    assert abs(left.mean() - right.mean()) > 60


@pytest.mark.parametrize("background", [(255, 255, 255), (32, 36, 44), (201, 3, 77)])
def test_background_is_exact(cup: trimesh.Trimesh, background: tuple[int, int, int]):
    for ground in (False, True):
        picture = render_mesh(cup, PictureOptions(size=64, background=background, ground=ground))
        assert (picture[[0, 0, -1, -1], [0, -1, 0, -1]] == background).all()
    assert (render_points(cup.vertices, PictureOptions(size=64, background=background))[0, 0] == background).all()


def test_ground_only_adds_a_shadow(cup: trimesh.Trimesh):
    bare = render_mesh(cup, PictureOptions(size=96, ground=False)).astype(int)
    grounded = render_mesh(cup, PictureOptions(size=96, ground=True)).astype(int)
    outside = ~covered(bare)
    assert (grounded[outside] <= 255).all()
    assert (grounded[outside] < 235).any()
    from_below = PictureOptions(size=96, elevation=-40)
    assert np.array_equal(
        covered(render_mesh(cup, from_below)),
        covered(render_mesh(cup, replace(from_below, ground=False))),
    )


def test_vertex_colours():
    ball = trimesh.creation.icosphere(3)
    left = ball.vertices[:, 0] < 0
    colours = np.where(left[:, None], [200, 30, 30], [30, 30, 200]).astype(np.uint8)
    view = PictureOptions(size=64, azimuth=0, elevation=0, ground=False)
    picture = render_mesh(ball, view, vertex_colors=colours).astype(int)
    assert picture[32, 16, 0] > picture[32, 16, 2] + 80
    assert picture[32, 48, 2] > picture[32, 48, 0] + 50
    assert np.array_equal(render_mesh(ball, view, vertex_colors=colours / 255), picture)


def test_slice_zero_line_and_sides():
    size, radius = 200, 0.5

    def sphere(points: np.ndarray) -> np.ndarray:
        assert points.dtype == np.float32
        return np.linalg.norm(points, axis=1) - radius

    picture = slice_image(sphere, size=size).astype(int)
    row = picture[size // 2]
    dark = np.flatnonzero(row.sum(axis=1) < 250)
    right = dark[dark > size // 2]
    assert right.mean() + 0.5 == pytest.approx(size / 2 * (1 + radius), abs=1.0)
    assert row[size // 2 + 20, 2] > row[size // 2 + 20, 0]  # blue inside
    assert row[-3, 0] > row[-3, 2]  # red outside
    # A plane higher up cuts a smaller circle, by Pythagoras.
    row = slice_image(sphere, size=size, offset=0.3, axis="x").astype(int)[size // 2]
    dark = np.flatnonzero(row.sum(axis=1) < 250)
    assert dark[dark > size // 2].mean() + 0.5 == pytest.approx(size / 2 * 1.4, abs=1.0)


@pytest.mark.parametrize(
    ("axis", "right", "above"),
    [("x", (0, 0, -1), (0, 1, 0)), ("y", (1, 0, 0), (0, 0, -1)), ("z", (1, 0, 0), (0, 1, 0))],
)
def test_slice_orientation(axis, right, above):
    """A ball at the middle of the right edge, then of the upper edge, is blue there."""
    for direction, (row, column) in ((right, (32, 60)), (above, (3, 32))):
        centre = np.array(direction) * 0.9
        picture = slice_image(lambda p, c=centre: np.linalg.norm(p - c, axis=1) - 0.3, axis=axis, size=64)
        assert int(picture[row, column, 2]) > int(picture[row, column, 0])


def test_a_clamped_field_has_no_lines_where_it_is_flat():
    picture = slice_image(lambda p: np.clip(np.linalg.norm(p, axis=1) - 0.5, -0.1, 0.1), size=64)
    assert (picture[:5] == picture[0, 0]).all()


def test_grid_size_places_and_holes():
    red, wide = np.full((20, 30, 3), (255, 0, 0), np.uint8), np.full((40, 50, 3), (0, 0, 255), np.uint8)
    sheet = grid_image([[red, None], [None, wide], [red]], pad=4)
    assert sheet.shape == (20 + 40 + 20 + 4 * 4, 30 + 50 + 3 * 4, 3)
    assert (sheet[4:24, 4:34] == (255, 0, 0)).all()
    assert (sheet[28:68, 38:88] == (0, 0, 255)).all()
    assert (sheet[4:24, 38:88] == 255).all()
    assert (sheet == (255, 0, 0)).all(axis=-1).sum() == 2 * red.shape[0] * red.shape[1]


def test_grid_labels_do_not_touch_the_pictures():
    cell = np.full((60, 60, 3), 255, np.uint8)
    plain = grid_image([[cell, cell]])
    sheet = grid_image([[cell, cell]], row_labels=["a very long name, too long to fit"], column_labels=["x", "y"])
    height, width = (big - small for big, small in zip(sheet.shape, plain.shape, strict=True) if big != small)
    assert (sheet[:height] < 128).any()
    assert (sheet[:, :width] < 128).any()
    assert (sheet[height + 8 :, width + 8 :] == 255).all()


def test_png_round_trip(tmp_path: Path):
    picture = np.random.default_rng(0).integers(0, 256, (17, 23, 3)).astype(np.uint8)
    path = tmp_path / "new" / "folder" / "picture.png"
    save_image(path, picture)
    save_image(path, picture)
    assert np.array_equal(np.asarray(Image.open(path)), picture)
    assert [entry.name for entry in path.parent.iterdir()] == ["picture.png"]


def test_error_messages(tmp_path: Path, cup: trimesh.Trimesh):
    with pytest.raises(MeshError, match=r"^cannot draw a mesh without faces; it has 0 vertices$"):
        render_mesh(trimesh.Trimesh())
    broken = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, np.nan, 0]], [[0, 1, 2]], process=False)
    with pytest.raises(MeshError, match=r"^cannot draw a mesh with NaN or infinite vertices; 1 are not finite$"):
        render_mesh(broken)
    with pytest.raises(InputError, match=r"^up is 'w'; expected one of 'x', 'y', 'z'$"):
        PictureOptions(up="w")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^bound is 0; it must be greater than 0$"):
        PictureOptions(bound=0)
    with pytest.raises(
        InputError, match=r"^colours have shape \(2, 3\); expected \(\d+, 3\), uint8 or float in \[0, 1\]$"
    ):
        render_mesh(cup, vertex_colors=np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"^size is 0; it must be at least 1$"):
        PictureOptions(size=0)
    with pytest.raises(InputError, match=r"^a picture of 9000 pixels with 2 rays .* must be at most 16384$"):
        render_mesh(cup, PictureOptions(size=9000))
    with pytest.raises(
        InputError, match=r"^cannot draw points of shape \(0, 3\); expected finite points \(n, 3\), n > 0$"
    ):
        render_points(np.zeros((0, 3)))
    with pytest.raises(InputError, match=r"^cannot draw a grid without pictures; expected at least one$"):
        grid_image([[None]])
    with pytest.raises(InputError, match=r"^there are 1 column labels for 2 columns; expected one per column$"):
        grid_image([[np.zeros((4, 4, 3), np.uint8)] * 2], column_labels=["a"])
    with pytest.raises(InputError, match=r"picture\.jpg: unknown picture format; expected \.png$"):
        save_image(tmp_path / "picture.jpg", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(
        InputError, match=r"picture\.png: the picture is \(4, 4, 3\) float64; expected \(h, w, 3\) uint8$"
    ):
        save_image(tmp_path / "picture.png", np.zeros((4, 4, 3)))


def ball_seen(camera: Camera, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (size, size, 3) of the unit ball seen by each pixel, NaN outside; and the cosine to the view direction."""
    across = (np.arange(size) + 0.5 - size / 2) * camera.pixel(size)
    right, above, forward = camera.axes
    rays = across[None, :, None] * right - across[:, None, None] * above + forward
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    nearest = -rays @ camera.eye
    chord = 1 - (camera.eye @ camera.eye - nearest**2)
    with np.errstate(invalid="ignore"):
        points = camera.eye + (nearest - np.sqrt(chord))[..., None] * rays
    return points, -(points * rays).sum(axis=2)


@pytest.mark.parametrize(("axis", "offset"), [("x", 0.2), ("y", -0.4), ("z", 0.5)])
def test_the_line_of_a_cut_lies_on_its_plane(axis: Axis, offset: float):
    size = 256
    ball = trimesh.creation.icosphere(6)
    view = PictureOptions(size=size, azimuth=40, elevation=30, up="z", bound=1.0, ground=False)
    plain = render_mesh(ball, view).astype(int)
    marked = np.asarray((np.abs(render_mesh(ball, view, cut=(axis, offset)) - plain) > 12).any(axis=2))
    camera = Camera.fit(np.zeros((1, 3)), view)
    placed, facing = ball_seen(camera, size)
    away = np.abs(camera.back(placed)[..., "xyz".index(axis)] - offset)
    pixel = camera.pixel(size) * np.linalg.norm(camera.eye)
    clear = facing > 0.3  # a pixel at the rim sees much of the ball
    assert marked[clear].sum() > 50
    assert away[clear & marked].max() < 2 * pixel / 0.3
    assert marked[clear & (away < 0.25 * pixel)].all()
    with pytest.raises(InputError, match=r"^axis is 'w'; expected 'x', 'y' or 'z'$"):
        render_mesh(ball, PictureOptions(size=8), cut=("w", 0.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("up", ["x", "y", "z"])
@pytest.mark.parametrize("bound", [None, 2.5])
def test_back_is_the_inverse_of_place(up: Axis, bound: float | None):
    points = np.random.default_rng(0).normal(3, 10, (50, 3))
    camera = Camera.fit(points, PictureOptions(azimuth=20, elevation=40, up=up, bound=bound))
    assert camera.back(camera.place(points)) == pytest.approx(points, abs=1e-9)
    if bound is None:
        assert np.linalg.norm(camera.place(points), axis=1).max() == pytest.approx(1)
    high = camera.place(points)[:, 1]
    assert (np.argsort(high) == np.argsort(points[:, "xyz".index(up)])).all()


def test_isolines_end_with_the_colours():
    size, clamp = 400, 0.2
    row = slice_image(lambda p: np.linalg.norm(p, axis=1) - 0.5, size=size, clamp=clamp)[size // 2].astype(int)
    light = row[size // 2 :].sum(axis=1)
    dips = np.flatnonzero((light[1:-1] < light[:-2]) & (light[1:-1] <= light[2:])) + 1
    found = (dips + 0.5) / (size / 2)
    assert (row[-int(0.29 * size / 2) :] == row[-1]).all()
    assert found[found < 0.69] == pytest.approx([0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65], abs=2 / size)
