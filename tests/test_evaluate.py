"""A split's reconstructions measured against the truth."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corruptions import concatenate
from helpers import EXTENTS, TEST, World, few_samples, is_picture, run, toy
from scipy.stats import norm

from deepsdf import InputError, MeshSDF, MetricOptions, ShapeSpace, sdf_error
from deepsdf.checkpoints import load_code
from deepsdf.geometry.meshes import load_mesh
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.jobs import processes as batch
from deepsdf.library.scores import Score
from deepsdf.metrics import summary
from deepsdf.metrics.registry import METRICS
from deepsdf.metrics.surfaces import compare
from deepsdf.pipeline import evaluate as module
from deepsdf.pipeline import evaluate_shape as shape_module
from deepsdf.pipeline.evaluate import Evaluation, evaluate
from deepsdf.progress import Progress
from deepsdf.splits import ShapeName, write_split

pytest_plugins = ("helpers",)

TALL, WIDE = TEST
VERB = ("evaluate", "-e", "exp", "-d", "data", "-s", "test.json")
QUICK = (*VERB, "--metrics", "chamfer", "--no-picture")
FEW = MetricOptions(points=1000, emd_points=50)
FULL = (*VERB, "--points", 1000, "--emd-points", 50, "--no-picture")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)


def measured(world: World, *, seed: int = 0, **options: Any) -> Evaluation:
    return evaluate(world.experiment, world.data, "test.json", replace(FEW, seed=seed), **options)


def chamfers(world: World) -> Evaluation:
    return evaluate(world.experiment, world.data, "test.json", which="chamfer")


def written(world: World, name: str = "metrics.csv", experiment: str = "exp") -> Path:
    return world.root / experiment / "Evaluation/latest" / name


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mesh_of(world: World, shape: ShapeName) -> Path:
    return world.experiment.reconstructed_mesh_path(200, shape)


# The original's chamfer


def test_scores_equal_those_of_compare(reconstructed: World) -> None:
    result = chamfers(reconstructed)
    assert [score.shape for score in result.scores] == TEST
    for score in result.scores:
        normalization = reconstructed.data.load_normalization(score.shape)
        mesh = load_mesh(mesh_of(reconstructed, score.shape))
        truth = reconstructed.data.load_surface(score.shape)
        by_hand = compare(truth, normalization.invert_mesh(mesh))
        assert score.mesh_frame == pytest.approx(by_hand.chamfer, rel=1e-5)
        unit = compare(normalization.apply(truth), mesh)
        assert score.unit_frame == pytest.approx(unit.chamfer, rel=1e-5)
    np.testing.assert_array_equal(result.unit_frame(), [score.unit_frame for score in result.scores])


def test_a_perfect_reconstruction_is_at_the_sampling_floor(reconstructed: World) -> None:
    """For any position and size of the mesh frame."""
    for shape in TEST:
        normalization = reconstructed.data.load_normalization(shape)
        normalization.apply_mesh(toy(shape)).export(mesh_of(reconstructed, shape))
    result = measured(reconstructed)
    for score in result.scores:
        floor = 2 * toy(score.shape).area / (np.pi * 30_000)
        assert score.mesh_frame == pytest.approx(floor, rel=0.06)
    assert result.values("hausdorff").max() < 1e-5  # the mesh file's float32
    assert result.values("volumetric_iou").min() > 0.9999
    assert result.values("f_score_half_percent").min() == 1


def test_chamfer_csv_has_the_format_of_the_original(reconstructed: World) -> None:
    result = chamfers(reconstructed)
    path = written(reconstructed, "chamfer.csv")
    lines = [f"{score.shape}, {score.mesh_frame}\n" for score in result.scores]
    assert path.read_bytes() == ("shape, chamfer_dist\n" + "".join(lines)).encode()
    assert lines[0].startswith("toys/box/tall, ")
    assert float(lines[0].split(", ")[1]) == result.scores[0].mesh_frame
    assert sorted(file.name for file in path.parent.iterdir()) == ["chamfer.csv"]


def test_chamfer_csv_does_not_depend_on_the_metrics(reconstructed: World) -> None:
    quickly = chamfers(reconstructed)
    alone = written(reconstructed, "chamfer.csv").read_bytes()
    whole = measured(reconstructed)
    assert written(reconstructed, "chamfer.csv").read_bytes() == alone
    assert whole.scores == quickly.scores
    full = {name: written(reconstructed, name).read_bytes() for name in ("metrics.csv", "summary.json")}
    chamfers(reconstructed)
    assert full == {name: written(reconstructed, name).read_bytes() for name in full}


def test_the_checkpoint_names_the_folder_and_the_epoch_the_meshes(reconstructed: World) -> None:
    """As the original: Evaluation/latest, of meshes under Reconstructions/200."""
    run(*FULL)
    run(*FULL, "-c", "200")
    latest, epoch = (reconstructed.root / "exp/Evaluation" / name for name in ("latest", "200"))
    for name in ("chamfer.csv", "metrics.csv"):
        assert (latest / name).read_bytes() == (epoch / name).read_bytes()
    about = [json.loads((folder / "summary.json").read_text()) for folder in (latest, epoch)]
    assert [one.pop("checkpoint") for one in about] == ["latest", "200"]
    assert about[0] == about[1]
    assert (about[0]["experiment"], about[0]["epoch"], about[0]["split"]) == ("exp", 200, "test.json")
    assert not (latest / "comparison.png").exists()
    failed = run(*FULL, "-c", "100", status=2)
    assert "none of the 2 shapes of test.json can be evaluated; first: there is no reconstruction at" in failed.stderr
    assert not (reconstructed.root / "exp/Evaluation/100").exists()


# metrics.csv


def test_metrics_equal_those_of_compare_and_of_the_field(reconstructed: World) -> None:
    """Every cell, to the last digit."""
    result = measured(reconstructed, seed=3)
    space = ShapeSpace.load(reconstructed.experiment, device="cpu")
    rows = table(written(reconstructed))
    assert [row["shape"] for row in rows] == [str(shape) for shape in TEST]
    for shape, row, kept in zip(TEST, rows, result.rows, strict=True):
        normalization = reconstructed.data.load_normalization(shape)
        truth = MeshSDF(
            normalization.apply_mesh(load_mesh(reconstructed.root / f"meshes/{shape.category}/{shape.instance}.obj"))
        )
        by_hand = compare(truth, load_mesh(mesh_of(reconstructed, shape)), replace(FEW, seed=3), device="cpu").values
        field = space.shape(load_code(reconstructed.experiment.reconstructed_code_path(200, shape)))
        error = sdf_error(field, reconstructed.data.load_samples(shape), 0.1)
        assert {name: float(row[name]) for name in by_hand} == by_hand
        assert float(row["sdf_clamped_l1"]) == pytest.approx(error.clamped_l1, rel=1e-5)
        assert float(row["sdf_wrong_signs"]) == pytest.approx(error.wrong_signs, abs=1e-3)
        assert (row["status"], row["reason"]) == ("ok", "")
        assert dict(kept.metrics) == {name: float(row[name]) for name in METRICS}


def test_the_columns_are_those_of_the_file_format(reconstructed: World) -> None:
    measured(reconstructed)
    assert written(reconstructed).read_text().splitlines()[0] == (
        "shape,status,reason,chamfer,chamfer_to_reference,chamfer_to_surface,chamfer_l1,earth_mover_distance,"
        "mesh_accuracy,mesh_completion,cosine_to_reference,cosine_to_surface,f_score_half_percent,f_score_one_percent,"
        "f_score_two_percent,hausdorff,hausdorff_95,volumetric_iou,sdf_clamped_l1,sdf_wrong_signs"
    )


def test_a_missing_and_a_damaged_reconstruction_are_failures(reconstructed: World) -> None:
    """Each has its row, in the order of the split; the other shapes are measured."""
    whole = {row["shape"]: row for row in (measured(reconstructed), table(written(reconstructed)))[1]}
    absent = ShapeName("toys", "egg", "absent")
    reconstructed.data.surface_path(TALL).rename(reconstructed.data.surface_path(TALL).with_name("absent.ply"))
    shutil.copy(reconstructed.data.surface_path(TALL).with_name("absent.ply"), reconstructed.data.surface_path(TALL))
    mesh_of(reconstructed, TALL).write_bytes(mesh_of(reconstructed, TALL).read_bytes()[:500])
    write_split("test.json", [TALL, absent, WIDE])
    result = run(*FULL, status=1)
    broken, missing, fine = table(written(reconstructed))
    assert [row["status"] for row in (broken, missing, fine)] == ["failed", "failed", "ok"]
    assert fine == whole[str(WIDE)]
    assert "tall.ply: cannot be read as ply" in broken["reason"]
    assert missing["reason"].startswith("there is no reconstruction at exp/Reconstructions/200/Meshes/toys/egg/absent")
    assert {row[name] for row in (broken, missing) for name in METRICS} == {""}
    about = json.loads(written(reconstructed, "summary.json").read_text())
    assert (about["shapes"], about["failed"], about["metrics"]["chamfer"]["shapes"]) == (3, 2, 1)
    assert f"error: {TALL}: exp/" in result.stderr
    assert f"error: {absent}: there is no reconstruction at exp/" in result.stderr
    assert "run `deepsdf reconstruct` to create it" in result.stderr
    assert "│ exp        │      1 │      2 │" in result.stdout
    assert len(written(reconstructed, "chamfer.csv").read_text().splitlines()) == 2


def test_missing_truth_is_a_failure(reconstructed: World) -> None:
    reconstructed.data.surface_path(TALL).unlink()
    reconstructed.data.normalization_path(WIDE).unlink()
    result = run(*FULL, status=2)
    assert "there are no surface points at data/SurfaceSamples/toys/box/tall.ply" in result.stderr


def test_surface_samples_replace_a_missing_true_mesh(reconstructed: World) -> None:
    """Metrics that need a mesh are empty cells."""
    (reconstructed.root / "meshes").rename(reconstructed.root / "moved")
    result = measured(reconstructed)
    for row in table(written(reconstructed)):
        assert row["status"] == "ok"
        assert row["reason"].startswith(
            "compared with its surface samples: the folder with the meshes of toys is unknown"
        )
        empty = {name for name in METRICS if not row[name]}
        assert empty == {"cosine_to_reference", "cosine_to_surface", "volumetric_iou"}
    for shape, row in zip(TEST, result.rows, strict=True):
        truth = reconstructed.data.load_normalization(shape).apply(reconstructed.data.load_surface(shape))
        by_hand = compare(truth, load_mesh(mesh_of(reconstructed, shape)), FEW)
        assert row.metrics["chamfer"] == by_hand.chamfer
        assert row.metrics["hausdorff"] == by_hand.hausdorff
    about = json.loads(written(reconstructed, "summary.json").read_text())
    assert about["conditions"]["references"] == {"surface samples": 2}
    iou = about["metrics"]["volumetric_iou"]
    assert iou.pop("direction") == "higher"
    assert iou.pop("shapes") == 0
    assert set(iou.values()) == {None}


def test_a_changed_mesh_is_not_used_as_the_truth(reconstructed: World) -> None:
    """Changed since, or thickened: the samples are what the reconstruction was made for."""
    toy(TALL).apply_scale(1.1).export(reconstructed.root / "meshes/box/tall.obj")
    (reconstructed.root / "meshes/egg/wide.obj").write_text("no mesh")
    measured(reconstructed)
    changed, broken = table(written(reconstructed))
    assert "is not the surface that was sampled (distance 0." in changed["reason"]
    assert "wide.obj: " in broken["reason"]
    assert changed["volumetric_iou"] == broken["volumetric_iou"] == ""


def test_inner_walls_of_the_truth_do_not_count(reconstructed: World) -> None:
    """Its outer surface is the reference, so a perfect shape without them is perfect."""

    inner = toy(TALL)
    inner.apply_translation(-inner.centroid).apply_scale(0.5).apply_translation(toy(TALL).centroid)
    concatenate([toy(TALL), inner]).export(reconstructed.root / "meshes/box/tall.obj")
    normalization = reconstructed.data.load_normalization(TALL)
    normalization.apply_mesh(toy(TALL)).export(mesh_of(reconstructed, TALL))
    row = measured(reconstructed).rows[0]
    assert row.reason == ""
    assert row.metrics["mesh_completion"] == 1
    assert row.metrics["hausdorff"] == pytest.approx(0, abs=1e-5)
    assert row.metrics["volumetric_iou"] == pytest.approx(1, abs=1e-4)


def test_without_code_or_samples_there_is_no_sdf_error(reconstructed: World) -> None:
    reconstructed.experiment.reconstructed_code_path(200, TALL).unlink()
    reconstructed.data.samples_path(WIDE).unlink()
    run(*FULL)
    tall, wide = table(written(reconstructed))
    for row in (tall, wide):
        assert row["status"] == "ok"
        assert row["sdf_clamped_l1"] == row["sdf_wrong_signs"] == ""
        assert float(row["volumetric_iou"]) > 0
    assert tall["reason"] == "no SDF error: no such code file: exp/Reconstructions/200/Codes/toys/box/tall.pth"
    assert wide["reason"].startswith("no SDF error: data/SdfSamples/toys/egg/wide.npz: no such file")


def test_the_number_of_sdf_samples_is_limited(reconstructed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape_module, "SDF_SAMPLES", 400)
    some = shape_module._subset(reconstructed.data.load_samples(TALL), seed=1)
    assert len(some) == 400
    known = {
        row.tobytes() for samples in (reconstructed.data.load_samples(TALL),) for row in [*samples.pos, *samples.neg]
    }
    assert {row.tobytes() for row in [*some.pos, *some.neg]} <= known
    again = shape_module._subset(reconstructed.data.load_samples(TALL), seed=1)
    np.testing.assert_array_equal(some.points, again.points)
    few = SDFSamples(some.pos[:3], some.neg[:3])
    assert shape_module._subset(few, seed=1) is few


def test_chamfer_csv_is_written_even_if_a_metric_fails(reconstructed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise InputError("no, thank you")

    monkeypatch.setattr(shape_module, "compare", broken)
    result = measured(reconstructed)
    assert [score.shape for score in result.scores] == TEST
    assert [failure.reason for failure in result.failures] == ["no, thank you"] * 2
    assert [row["status"] for row in table(written(reconstructed))] == ["failed"] * 2


def test_a_shape_listed_twice_has_two_rows(reconstructed: World) -> None:
    (reconstructed.root / "test.json").write_text(json.dumps({"toys": {"box": ["tall", "tall"]}}))
    assert len(measured(reconstructed).scores) == 2
    assert len(table(written(reconstructed))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"which": "emd"}, "^which is 'emd'; expected 'all' or 'chamfer'$"),
        ({"checkpoint": 7}, "exp has no checkpoint '7'; existing checkpoints: 100, 200, latest"),
    ],
)
def test_invalid_settings(reconstructed: World, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured(reconstructed, **options)
    assert not (reconstructed.root / "exp/Evaluation").exists()


def test_files_depend_on_the_seed_and_not_on_the_workers(reconstructed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> list[bytes]:
        return [written(reconstructed, name).read_bytes() for name in ("chamfer.csv", "metrics.csv", "summary.json")]

    measured(reconstructed)
    first = files()
    monkeypatch.setattr(module, "run_batch", batch.run_batch)
    events: list[Progress] = []
    measured(reconstructed, workers=2, on_progress=events.append)
    assert files() == first
    assert [(event.done, event.total) for event in events] == [(0, 2), (1, 2), (2, 2)]
    assert {event.shape for event in events[1:]} == {str(shape) for shape in TEST}
    assert not any(event.error for event in events)
    measured(reconstructed, seed=1)
    assert all(one != other for one, other in zip(files(), first, strict=True))


# summary.json


def test_the_summary_equals_numpy_on_the_table(reconstructed: World) -> None:
    measured(reconstructed, seed=2)
    about = json.loads(written(reconstructed, "summary.json").read_text())
    rows = table(written(reconstructed))
    assert (about["shapes"], about["failed"], about["frame"]) == (2, 0, "unit")
    assert list(about["metrics"]) == list(METRICS)
    for name, found in about["metrics"].items():
        values = np.array([float(row[name]) for row in rows])
        for statistic in ("mean", "median", "std", "min", "max"):
            assert found[statistic] == getattr(np, statistic)(values)
        for percent in (5, 25, 75, 95):
            assert found[f"p{percent:02d}"] == np.percentile(values, percent)
        assert found["mean_interval"][0] <= found["mean"] <= found["mean_interval"][1]
        assert found["median_interval"][0] <= found["median"] <= found["median_interval"][1]
        assert found["direction"] == METRICS[name].direction
        assert found["shapes"] == 2
    conditions = about["conditions"]
    assert {name: conditions[name] for name in ("seed", "points", "emd_points", "sdf_clamp")} == {
        "seed": 2, "points": 1000, "emd_points": 50, "sdf_clamp": 0.1
    }  # fmt: skip
    assert (conditions["references"], conditions["emd_methods"]) == ({"mesh": 2}, {"exact": 2})
    assert conditions["bootstrap"] == {"resamples": 2000, "level": 0.95, "seed": 2}


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_bootstrap_of_normal_values_is_near_the_closed_form(level: float) -> None:
    """mean ± z s / √n; median ± z s √(π / 2n)."""
    values = np.random.default_rng(5).normal(3, 0.5, 2000)
    mean, median = summary.bootstrap(values, seed=1, level=level)
    half = norm.ppf((1 + level) / 2) * values.std() / np.sqrt(2000)
    np.testing.assert_allclose(mean, [values.mean() - half, values.mean() + half], atol=0.12 * half)
    assert mean[0] < values.mean() < mean[1]
    assert median[0] < np.median(values) < median[1]
    assert (median[1] - median[0]) / 2 == pytest.approx(half * np.sqrt(np.pi / 2), rel=0.3)


def test_bootstrap_is_seeded_and_does_not_depend_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).exponential(size=37)
    first = summary.bootstrap(values, seed=4)
    assert summary.bootstrap(values, seed=4) == first
    assert summary.bootstrap(values, seed=5) != first
    monkeypatch.setattr(summary, "_BLOCK_VALUES", 1001)
    assert summary.bootstrap(values, seed=4) == first


def test_statistics_of_one_and_of_none() -> None:
    alone = summary.statistics(np.array([0.25]))
    assert alone.pop("std") == 0
    assert alone.pop("mean_interval") == alone.pop("median_interval") == [0.25, 0.25]
    assert set(alone.values()) == {0.25}
    empty = summary.statistics(np.zeros(0))
    assert set(empty) == {*alone, "std", "mean_interval", "median_interval"}
    assert set(empty.values()) == {None}


# What is printed


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def rows_of(text: str) -> list[list[str]]:
    return [cells(line) for line in text.splitlines() if line.startswith("│")]


def test_the_table_and_the_worst(reconstructed: World) -> None:
    result = run(*FULL)
    found = measured(reconstructed)
    row, *worst = rows_of(result.stdout)
    assert row[:3] == ["exp", "2", "0"]
    assert row[3:5] == [
        f"{1e3 * value:.3f}" for value in (found.values("chamfer").mean(), np.median(found.values("chamfer")))
    ]
    names = ["earth_mover_distance", "mesh_accuracy", "mesh_completion", "cosine_to_surface", "f_score_one_percent"]
    shown = [f"{found.values(name).mean():.{4 if number < 2 else 3}f}" for number, name in enumerate(names)]
    assert row[5:] == [*shown, f"{found.values('volumetric_iou').mean():.3f}"]
    assert worst == [[str(score.shape), f"{score.unit_frame * 1e3:.3f}"] for score in found.worst()]
    scores = [Score(shape, value, value) for value, shape in enumerate(EXTENTS)]
    assert [score.mesh_frame for score in Evaluation(scores, []).worst(3)] == [5, 4, 3]


def test_the_quick_table(reconstructed: World) -> None:
    row = rows_of(run(*QUICK).stdout)[0]
    values = 1e3 * chamfers(reconstructed).unit_frame()
    assert row == ["exp", "2", "0", *(f"{value:.3f}" for value in (values.mean(), np.median(values), values.max()))]
    assert not written(reconstructed).exists()


def perfect(world: World, name: str, *shapes: ShapeName) -> None:
    """Another experiment, whose reconstructions of some shapes are the truth."""
    shutil.copytree(world.root / "exp", world.root / name)
    for shape in shapes:
        path = world.root / name / mesh_of(world, shape).relative_to(world.experiment.root)
        world.data.load_normalization(shape).apply_mesh(toy(shape)).export(path)


def test_two_experiments_side_by_side(reconstructed: World) -> None:
    perfect(reconstructed, "better", *TEST)
    result = run(*FULL, "-e", "better")
    worse, better = rows_of(result.stdout)
    assert (worse[:3], better[:3]) == (["exp", "2", "0"], ["better", "2", "0"])
    assert all(a.endswith("*") != b.endswith("*") for a, b in zip(worse[3:], better[3:], strict=True))
    assert all(cell.endswith("*") for cell in better[3:5] + better[6:])  # 50 points' EMD is chance
    assert result.stdout.count("Over the") == 0
    for name in ("exp", "better"):
        assert len(table(written(reconstructed, experiment=name))) == 2
        assert json.loads(written(reconstructed, "summary.json", name).read_text())["experiment"] == name
    alone = rows_of(run(*FULL).stdout)[0]
    assert alone == [cell.rstrip("*") for cell in worse]


def test_two_experiments_of_which_one_lacks_a_shape(reconstructed: World) -> None:
    """One table over all shapes of each experiment, and one over the shapes that both have."""
    perfect(reconstructed, "better", WIDE)
    mesh_of(reconstructed, TALL).unlink()
    result = run(*FULL, "-e", "better", status=1)
    assert "Over the 1 of 2 shapes that all runs have" in result.stdout
    worse, better, fair_worse, fair_better = rows_of(result.stdout)
    assert [row[:3] for row in (worse, better)] == [["exp", "1", "1"], ["better", "2", "0"]]
    assert not any("*" in cell for cell in worse + better)
    assert [cell.rstrip("*") for cell in fair_worse] == [worse[0], worse[1], *worse[3:]]
    assert fair_better[:2] == ["better", "1"]
    assert all(a.endswith("*") != b.endswith("*") for a, b in zip(fair_worse[2:], fair_better[2:], strict=True))
    assert all(cell.endswith("*") for cell in fair_better[2:4] + fair_better[5:])  # 50 points' EMD is chance
    assert f"error: {TALL}: exp: there is no reconstruction at exp/" in result.stderr


def test_experiments_with_nothing_in_common(reconstructed: World) -> None:
    perfect(reconstructed, "better", WIDE)
    mesh_of(reconstructed, TALL).unlink()
    (reconstructed.root / "better" / mesh_of(reconstructed, WIDE).relative_to(reconstructed.experiment.root)).unlink()
    result = run(*QUICK, "-e", "better", status=1)
    assert "No shape was evaluated in all runs, so their values cannot be compared" in result.stdout
    assert "*" not in result.stdout


def test_two_checkpoints_side_by_side(reconstructed: World) -> None:
    result = run(*QUICK, "-c", "latest", "-c", "200", "-c", "200")
    assert [row[0] for row in rows_of(result.stdout)] == ["exp, latest", "exp, 200"]


def test_the_table_is_not_cut_in_a_narrow_terminal(reconstructed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = run(*FULL).stdout
    monkeypatch.setenv("COLUMNS", "40")
    assert run(*FULL).stdout == wide


def test_the_picture_needs_no_meshes(reconstructed: World) -> None:
    """Surface samples replace missing meshes."""
    (reconstructed.root / "meshes").rename(reconstructed.root / "moved")
    run(*FULL[:-1])
    assert is_picture(reconstructed.root / "exp/Evaluation/latest/comparison.png")
