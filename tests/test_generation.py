"""Coverage, minimum matching distance and 1-NN accuracy, on sets whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from deepsdf.errors import InputError
from deepsdf.metrics.generated_sets import generation_metrics, one_nn_accuracy, shape_distances
from deepsdf.metrics.surfaces import chamfer
from deepsdf.metrics.transport import assign


def places(*at: float) -> list[np.ndarray]:
    """One cloud of 5 equal points for each number: chamfer distances are twice the squared differences."""
    return [np.tile([x, 0.0, 0.0], (5, 1)) for x in at]


def test_distances_equal_those_of_the_metrics() -> None:
    rng = np.random.default_rng(0)
    a, b = ([rng.normal(size=(40, 3)) for _ in range(count)] for count in (2, 3))
    for name, measure in (
        ("chamfer", lambda x, y: chamfer(x, y).chamfer),
        ("emd", lambda x, y: assign(x, y).distance),
    ):
        found = shape_distances(a, b, distance=name)  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(found, [[measure(x, y) for y in b] for x in a], rtol=1e-12)
        own = shape_distances(b, distance=name)  # pyright: ignore[reportArgumentType]
        np.testing.assert_array_equal(own, own.T)
        np.testing.assert_array_equal(np.diag(own), 0)


def test_the_same_set_twice_is_a_set_of_copies() -> None:
    shapes = places(0, 1, 3, 7)
    found = generation_metrics(shapes, shapes)
    assert found.coverage == 1
    assert found.minimum_matching_distance == 0
    assert found.one_nn_accuracy == 0  # each one's nearest other shape is its copy in the other set
    assert (found.generated, found.references, found.compared, found.distance) == (4, 4, 4, "chamfer")


def test_sets_far_apart() -> None:
    found = generation_metrics(places(0, 1, 2, 3), places(100, 101, 102, 103))
    assert found.one_nn_accuracy == 1
    assert found.coverage == 1 / 4  # of all, the reference at 100 is nearest
    # From each reference to the generated shape at 3: 2 (97² + 98² + 99² + 100²) / 4
    assert found.minimum_matching_distance == pytest.approx((97**2 + 98**2 + 99**2 + 100**2) / 2)


def test_a_collapsed_generator_covers_one_reference() -> None:
    found = generation_metrics(places(0, 0, 0, 0), places(0, 1, 2, 3))
    assert found.coverage == 1 / 4
    assert found.minimum_matching_distance == pytest.approx(2 * (0 + 1 + 4 + 9) / 4)


def test_a_distribution_is_indistinguishable_from_itself() -> None:
    """Positions on a line instead of shapes: the mean over many draws is ½ (Lopez-Paz and Oquab)."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        a, b = rng.normal(size=(2, 50, 1))
        found.append(one_nn_accuracy(np.abs(a - a.T), np.abs(a - b.T), np.abs(b - b.T)))
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / np.sqrt(200))


def test_ties_count_half() -> None:
    """0 and 2 against 1 and 1: generated shapes tie at best, references have each other."""
    a, b = np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]])
    assert one_nn_accuracy(np.abs(a - a.T), np.abs(a - b.T), np.abs(b - b.T)) == 0.5
    same = np.zeros((3, 3))
    assert one_nn_accuracy(same, same, same) == 0.5


def test_order_and_unequal_numbers() -> None:
    rng = np.random.default_rng(1)
    a, b = ([rng.normal(size=(20, 3)) for _ in range(count)] for count in (6, 4))
    found, turned = generation_metrics(a, b), generation_metrics(b, a)
    assert found.compared == turned.compared == 4
    assert found.one_nn_accuracy == turned.one_nn_accuracy
    assert found.coverage == generation_metrics(a[::-1], b[::-1]).coverage


def test_wrong_input() -> None:
    good = places(0, 1)
    for wrong, message in (
        ([], "^cannot compare an empty set of shapes; expected at least one shape in each set$"),
        ([np.zeros((0, 3))], r"^shape 0 has points of shape \(0, 3\); expected \(n, 3\) with n > 0$"),
        (
            [*good, np.full((4, 3), np.nan)],
            r"^shape 2 has points that are NaN or infinite; expected finite points \(n, 3\)$",
        ),
    ):
        with pytest.raises(InputError, match=message):
            generation_metrics(wrong, good)
    with pytest.raises(InputError, match=r"^distance is 'cosine'; expected 'chamfer' or 'emd'$"):
        generation_metrics(good, good, distance="cosine")  # pyright: ignore[reportArgumentType]
