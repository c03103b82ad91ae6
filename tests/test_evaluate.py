"""Chamfer distances of a split."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import EXTENTS, TEST, World, is_picture, run

from deepsdf.geometry.meshes import load_mesh
from deepsdf.geometry.metrics import compare
from deepsdf.pipeline.evaluate import Evaluation, Score, evaluate

pytest_plugins = ("helpers",)

TALL, WIDE = TEST
VERB = ("evaluate", "-e", "exp", "-d", "data", "-s", "test.json")


def test_the_numbers_are_those_of_compare(reconstructed: World) -> None:
    result = evaluate(reconstructed.experiment, reconstructed.data, "test.json")
    assert [score.shape for score in result.scores] == TEST
    for score in result.scores:
        normalization = reconstructed.data.load_normalization(score.shape)
        mesh = load_mesh(reconstructed.experiment.reconstructed_mesh_path(200, score.shape))
        truth = reconstructed.data.load_surface(score.shape)
        by_hand = compare(truth, normalization.invert_mesh(mesh), seed=0)
        assert score.mesh_frame == pytest.approx(by_hand.chamfer, rel=1e-5)
        unit = compare(normalization.apply(truth), mesh, seed=0)
        assert score.unit_frame == pytest.approx(unit.chamfer, rel=1e-5)
    np.testing.assert_array_equal(result.unit_frame(), [score.unit_frame for score in result.scores])


def test_a_perfect_reconstruction_is_at_the_sampling_floor(reconstructed: World) -> None:
    """Whatever the mesh frame's place and size."""
    from helpers import toy

    for shape in TEST:
        normalization = reconstructed.data.load_normalization(shape)
        path = reconstructed.experiment.reconstructed_mesh_path(200, shape)
        normalization.apply_mesh(toy(shape)).export(path)
    for score in evaluate(reconstructed.experiment, reconstructed.data, "test.json").scores:
        floor = 2 * toy(score.shape).area / (np.pi * 30_000)
        assert score.mesh_frame == pytest.approx(floor, rel=0.06)


def test_chamfer_csv_is_the_originals(reconstructed: World) -> None:
    result = evaluate(reconstructed.experiment, reconstructed.data, "test.json")
    path = reconstructed.root / "exp/Evaluation/latest/chamfer.csv"
    lines = [f"{score.shape}, {score.mesh_frame}\n" for score in result.scores]
    assert path.read_bytes() == ("shape, chamfer_dist\n" + "".join(lines)).encode()
    assert lines[0].startswith("toys/box/tall, ")
    assert float(lines[0].split(", ")[1]) == result.scores[0].mesh_frame


def test_the_checkpoint_names_the_folder_and_the_epoch_the_meshes(reconstructed: World) -> None:
    """As the original: Evaluation/latest, of meshes under Reconstructions/200."""
    run(*VERB, "--no-picture")
    run(*VERB, "-c", "200", "--no-picture")
    latest, epoch = (reconstructed.root / "exp/Evaluation" / name / "chamfer.csv" for name in ("latest", "200"))
    assert latest.read_bytes() == epoch.read_bytes()
    assert not (latest.parent / "comparison.png").exists()
    failed = run(*VERB, "-c", "100", status=2)
    assert "none of the 2 shapes of test.json can be evaluated; first: there is no reconstruction at" in failed.stderr
    assert not (reconstructed.root / "exp/Evaluation/100").exists()


def test_a_missing_reconstruction_is_a_failure(reconstructed: World) -> None:
    path = reconstructed.experiment.reconstructed_mesh_path(200, TALL)
    path.unlink()
    result = run(*VERB, status=1)
    assert f"error: {TALL}: there is no reconstruction at exp/" in result.stderr
    assert "`deepsdf reconstruct` makes it" in result.stderr
    rows = (reconstructed.root / "exp/Evaluation/latest/chamfer.csv").read_text().splitlines()
    assert [row.split(", ")[0] for row in rows] == ["shape", str(WIDE)]
    assert is_picture(reconstructed.root / "exp/Evaluation/latest/comparison.png")


def test_missing_truth_is_a_failure(reconstructed: World) -> None:
    reconstructed.data.surface_path(TALL).unlink()
    reconstructed.data.normalization_path(WIDE).unlink()
    result = run(*VERB, status=2)
    assert "there are no surface points at data/SurfaceSamples/toys/box/tall.ply" in result.stderr


def test_the_table_and_the_worst(reconstructed: World) -> None:
    result = run(*VERB)
    values = 1e3 * evaluate(reconstructed.experiment, reconstructed.data, "test.json").unit_frame()
    for value in (values.mean(), np.median(values), values.max()):
        assert f"{value:.3f}" in result.stdout
    scores = [Score(shape, value, value) for value, shape in enumerate(EXTENTS)]
    assert [score.mesh_frame for score in Evaluation(scores, []).worst(3)] == [5, 4, 3]


def test_the_picture_needs_no_meshes(reconstructed: World) -> None:
    """Where the source is gone, the surface samples stand for the truth."""
    (reconstructed.root / "meshes").rename(reconstructed.root / "moved")
    run(*VERB)
    assert is_picture(reconstructed.root / "exp/Evaluation/latest/comparison.png")
