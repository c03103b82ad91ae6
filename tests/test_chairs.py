"""Generated chairs: valid meshes, plausible sizes, reproducible by seed, all styles drawn."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from deepsdf.errors import InputError
from deepsdf.geometry.chairs import ChairDesign, generate_chair, generate_chairs

LEGS = ("square", "round", "frame", "pedestal")
BACKS = ("solid", "slats", "ladder", "frame")
ARMS = ("none", "posts", "solid")


@pytest.fixture(scope="module")
def chairs() -> dict[str, trimesh.Trimesh]:
    return generate_chairs(64, seed=0)


def assert_sound(mesh: trimesh.Trimesh) -> None:
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0.0  # faces outward
    assert mesh.body_count == 1
    assert mesh.area_faces.min() > 0.0


def test_each_chair_is_one_watertight_solid(chairs: dict[str, trimesh.Trimesh]) -> None:
    for mesh in chairs.values():
        assert_sound(mesh)


@pytest.mark.parametrize(("legs", "back", "arms"), list(itertools.product(LEGS, BACKS, ARMS)))
def test_every_combination_of_styles_is_sound(legs: Any, back: Any, arms: Any) -> None:
    for seed in range(2):
        design = ChairDesign.sample(np.random.default_rng(seed))
        assert_sound(dataclasses.replace(design, legs=legs, back=back, arms=arms, stretchers=True).build())


def test_sizes_and_place(chairs: dict[str, trimesh.Trimesh]) -> None:
    for mesh in chairs.values():
        width, height, depth = mesh.extents
        assert 0.4 < width < 0.65
        assert 0.7 < height < 1.1
        assert 0.4 < depth < 0.7
        assert mesh.bounds[0, 1] == 0.0
        assert abs(mesh.bounds[:, 0].sum()) < 1e-6  # as far to the left as to the right
        assert 0.005 < mesh.volume < 0.08


def test_the_back_is_behind(chairs: dict[str, trimesh.Trimesh]) -> None:
    for mesh in chairs.values():
        top = mesh.vertices[mesh.vertices[:, 1] > 0.9 * mesh.bounds[1, 1]]
        assert np.all(top[:, 2] < -0.1)


def test_the_same_seed_gives_the_same_chair() -> None:
    first, again = generate_chair(5), generate_chair(np.random.default_rng(5))
    np.testing.assert_array_equal(first.vertices, again.vertices)
    np.testing.assert_array_equal(first.faces, again.faces)


def test_a_generator_is_advanced() -> None:
    rng = np.random.default_rng(5)
    assert not np.allclose(generate_chair(rng).extents, generate_chair(rng).extents)


def test_all_chairs_differ(chairs: dict[str, trimesh.Trimesh]) -> None:
    volumes = np.sort([mesh.volume for mesh in chairs.values()])
    assert np.diff(volumes).min() > 1e-9
    assert generate_chairs(1, seed=1)["chair_000"].volume not in volumes


def test_names_sort_and_a_larger_count_keeps_the_smaller_ones(chairs: dict[str, trimesh.Trimesh]) -> None:
    assert list(chairs) == sorted(chairs)
    assert list(chairs)[:2] == ["chair_000", "chair_001"]
    for name, mesh in generate_chairs(3, seed=0).items():
        np.testing.assert_array_equal(mesh.vertices, chairs[name].vertices)


def test_each_style_is_frequent_enough_to_be_learned() -> None:
    designs = [ChairDesign.sample(np.random.default_rng([0, index])) for index in range(48)]
    for field, styles in (("legs", LEGS), ("back", BACKS), ("arms", ARMS)):
        drawn = [getattr(design, field) for design in designs]
        assert min(drawn.count(style) for style in styles) >= 4


def test_no_part_is_too_thin_to_learn() -> None:
    for seed in range(200):
        design = ChairDesign.sample(np.random.default_rng(seed))
        height = design.seat_height + design.back_height
        foot = design.leg_width * design.leg_taper
        others = (design.seat_thickness, design.back_thickness, design.rail_width, design.bar_width)
        assert foot > 0.049 * height
        assert design.leg_width < 0.09 * height
        assert min(*others, design.stretcher_width, design.arm_width) > 0.035 * height


@pytest.mark.parametrize("file_type", ["obj", "ply", "stl"])
def test_chairs_survive_a_file(chairs: dict[str, trimesh.Trimesh], file_type: str, tmp_path: Path) -> None:
    for mesh in itertools.islice(chairs.values(), 16):
        path = tmp_path / f"chair.{file_type}"
        mesh.export(path)
        assert_sound(trimesh.load_mesh(path))


def test_no_chairs_and_fewer_than_none() -> None:
    assert generate_chairs(0, seed=0) == {}
    with pytest.raises(InputError, match=r"^count is -1; it must not be negative$"):
        generate_chairs(-1, seed=0)
