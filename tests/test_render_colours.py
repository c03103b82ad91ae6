"""Colours of errors and signed distances, legends, and parsing of colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepsdf.errors import InputError
from deepsdf.rendering.camera import CLAY, INK, PictureOptions
from deepsdf.rendering.colours import UNKNOWN, nice_maximum, sdf_colours, ticks
from deepsdf.rendering.render import error_colours, error_picture, legend, parse_colour


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB (n, 3), from the standard's formulas."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def test_greater_errors_are_darker():
    light = lightness(error_colours(np.linspace(0, 3, 500), 3.0))
    assert np.diff(light).max() <= 0.25  # a step of one level in one channel
    assert (np.diff(light[::20]) < 0).all()
    assert light[0] > 90
    assert light[-1] < 35


def test_errors_beyond_the_ends_and_nan():
    shown = error_colours(np.array([-1, 0, 2, 5, np.inf, np.nan]), 2.0)
    assert shown.dtype == np.uint8
    assert (shown[0] == shown[1]).all()
    assert (shown[2:5] == shown[2]).all()
    assert tuple(shown[5]) == UNKNOWN
    assert not np.ptp(UNKNOWN)
    assert (np.ptp(error_colours(np.linspace(0, 1, 100), 1.0).astype(int), axis=1) > 0).all()  # none else is grey


def test_the_unit_of_length_does_not_matter():
    values = np.linspace(0, 1, 64)
    assert np.array_equal(error_colours(values, 1.0), error_colours(values * 1024, 1024.0))


@pytest.mark.parametrize("maximum", [0.0, -1.0, np.inf, np.nan])
def test_invalid_maximum(maximum: float):
    with pytest.raises(
        InputError, match=f"^the end of the error scale is {maximum}; expected a positive finite length$"
    ):
        error_colours(np.ones(3), maximum)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines are slow
@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=50))
def test_nice_maximum_is_a_round_number_just_above_the_percentile(values: list[float]):
    top, high = nice_maximum(np.array(values)), np.percentile(values, 99)
    assert high * (1 - 1e-6) <= top <= 2 * high * (1 + 1e-6)
    assert float(f"{top:.0e}") == pytest.approx(top)
    assert f"{top:.0e}"[0] in "12358"


def test_nice_maximum_of_odd_errors():
    assert nice_maximum(np.zeros(5)) == 1.0
    assert nice_maximum(np.array([np.nan, np.inf])) == 1.0
    assert nice_maximum(np.array([np.nan, -0.7, 0.1])) == pytest.approx(0.8)
    assert nice_maximum(np.array([0.03] * 999 + [7.0])) == pytest.approx(0.03)  # one outlier does not pale the rest


def test_signed_distances_are_blue_inside_and_red_outside():
    shown = sdf_colours(np.array([-9, -0.1, -0.05, 0, 0.05, 0.1, 9]), 0.1)
    assert (shown[0] == shown[1]).all()
    assert (shown[-1] == shown[-2]).all()
    assert (shown[:3, 2] > shown[:3, 0] + 40).all()
    assert (shown[4:, 0] > shown[4:, 2] + 40).all()
    assert np.ptp(shown[3]) < 5


@pytest.mark.parametrize(
    ("low", "high", "labels", "power"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"], 0),
        (0, 0.03, ["0.00", "0.01", "0.02", "0.03"], 0),
        (0, 5e-5, ["0", "1", "2", "3", "4", "5"], -5),
        (0, 20_000, ["0.0", "0.5", "1.0", "1.5", "2.0"], 4),
        (-0.1, 0.1, ["−0.10", "−0.05", "0.00", "0.05", "0.10"], 0),
    ],
)
def test_ticks(low: float, high: float, labels: list[str], power: int):
    values, shown, found = ticks(low, high)
    assert (shown, found) == (labels, power)
    assert [float(label.replace("−", "-")) * 10.0**power for label in shown] == pytest.approx(values)


def test_the_bar_of_a_legend_is_its_scale():
    bar = legend(2.0, height=300)
    assert bar.shape[0] == 300
    column = bar[:, 3].astype(int)
    coloured = np.flatnonzero((column != 255).any(axis=1) & (np.ptp(column, axis=1) > 15))
    top, bottom = coloured[0], coloured[-1]
    share = 1 - (np.arange(top, bottom + 1) - top + 0.5) / (bottom - top + 1)
    expected = error_colours(2 * share, 2.0).astype(int)
    assert bottom - top > 200
    assert np.abs(column[top : bottom + 1] - expected).max() <= 1


def test_a_legend_marks_larger_values_and_can_be_transparent():
    plain, more = legend(2.0, height=200), legend(2.0, height=200, over=True)
    assert plain.shape != more.shape or (plain != more).any()
    assert np.array_equal(plain[:, :15], more[:, :15])
    clear = legend(2.0, height=200, background=None)
    assert clear.shape[2] == 4
    assert (clear[-1, :, 3] == 0).all()
    dark = legend(2.0, height=200, background=INK)
    assert tuple(dark[-1, -1]) == INK
    assert dark.max() > 200  # its letters
    wrongs: list[dict[str, Any]] = [{"maximum": 0.0}, {"maximum": np.nan}, {"maximum": 1.0, "height": 0}]
    for wrong in wrongs:
        with pytest.raises(
            InputError,
            match=r"^cannot draw a legend from 0\.0 to .* pixels high; expected minimum < maximum and height > 0$",
        ):
            legend(**wrong)


def test_parse_colour():
    assert parse_colour("clay") == CLAY
    assert parse_colour(" Teal ") == (0, 128, 128)
    for text in ("164,190,216", "164, 190, 216", "#a4bed8", "rgb(164,190,216)"):
        assert parse_colour(text) == (164, 190, 216)
    assert parse_colour("#fff") == (255, 255, 255)


@pytest.mark.parametrize("text", ["", "tael", "1,2", "1,2,3,4", "256,0,0", "-1,0,0", "#12", "0.5,0.5,0.5"])
def test_parse_colour_errors(text: str):
    with pytest.raises(InputError) as caught:
        parse_colour(text)
    assert (
        str(caught.value) == f"{text!r} is not a colour; expected R,G,B (0 to 255), #a4bed8 or a CSS name such as teal"
    )


def from_shifted_ball(points: np.ndarray) -> np.ndarray:
    return np.abs(np.linalg.norm(points - (0.2, 0.1, 0), axis=1) - 1)


def test_errors_of_points_and_of_vertices_agree_on_a_fine_mesh():
    ball = trimesh.creation.icosphere(6)
    by_point = error_picture(ball, from_shifted_ball, PictureOptions(size=128), maximum=0.25).astype(int)
    by_vertex = error_picture(ball, from_shifted_ball(ball.vertices), PictureOptions(size=128), maximum=0.25)
    assert np.abs(by_point - by_vertex).max() <= 3
    assert len(np.unique(by_vertex.reshape(-1, 3), axis=0)) > 500


def test_errors_within_a_face_are_visible():
    """The middle of a box's face is nearer to its centre than any vertex."""
    box = trimesh.creation.box((1, 1, 1))
    view = PictureOptions(size=65, azimuth=0, elevation=0, ground=False)
    scale = {"legend": False, "maximum": 0.9}
    picture = error_picture(box, lambda points: np.linalg.norm(points, axis=1), view, **scale).astype(int).sum(axis=2)
    flat = error_picture(box, np.linalg.norm(box.vertices, axis=1), view, **scale).astype(int).sum(axis=2)
    assert picture[32, 32] > picture[18, 18] + 60
    assert abs(flat[32, 32] - flat[18, 18]) < 30


def test_the_error_scale_is_chosen_from_the_errors_and_drawn_on_the_right():
    ball = trimesh.creation.icosphere(3)
    distances = from_shifted_ball(ball.vertices)
    chosen = error_picture(ball, distances, PictureOptions(size=96))
    top = nice_maximum(distances)
    over = bool(distances.max() > top)
    assert np.array_equal(chosen, error_picture(ball, distances, PictureOptions(size=96), maximum=top))
    assert np.array_equal(chosen[:, :96], error_picture(ball, distances, PictureOptions(size=96), legend=False))
    assert np.array_equal(chosen[:, 96:], legend(top, height=96, over=over))
    with pytest.raises(InputError, match=r"^distances have shape \(3,\); expected \(642,\), one per vertex$"):
        error_picture(ball, np.zeros(3))
    with pytest.raises(InputError, match=r"^the end of the error scale is 0; expected a positive finite length$"):
        error_picture(ball, distances, maximum=0)
