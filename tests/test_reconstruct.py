"""Codes and meshes of a split's shapes."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import EXTENTS, TEST, TRAIN, World, run

from deepsdf.checkpoints import load_code
from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.geometry.meshes import load_mesh, save_mesh
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.fit.options import FitOptions
from deepsdf.inference.shape import Shape
from deepsdf.inference.space import ShapeSpace
from deepsdf.jobs.processes import BatchResult
from deepsdf.options import declared_options
from deepsdf.pipeline import reconstruct as module
from deepsdf.pipeline.reconstruct import reconstruct, training_meshes
from deepsdf.progress import Progress
from deepsdf.splits import ShapeName, write_split

pytest_plugins = ("helpers",)

TALL, WIDE = TEST


def again(world: World, **options: Any) -> BatchResult:
    """Reconstruct the test shapes on coarse grids with few steps; `options` are fields of the options, or arguments."""
    fit = {name: options.pop(name) for name in declared_options(FitOptions) if name in options}
    meshing = {name: options.pop(name) for name in declared_options(Meshing) if name in options}
    return reconstruct(
        world.experiment,
        world.data,
        "test.json",
        FitOptions(**{"steps": 2, **fit}),
        Meshing(**{"resolution": 24, **meshing}),
        device="cpu",
        **options,
    )


def test_codes_and_meshes_are_where_the_original_has_them(reconstructed: World) -> None:
    experiment = reconstructed.experiment
    space = ShapeSpace.load(experiment, device="cpu")
    for shape in TEST:
        code = torch.load(reconstructed.root / f"exp/Reconstructions/200/Codes/{shape}.pth", weights_only=True)
        assert (code.shape, code.dtype) == ((1, 1, 4), torch.float32)
        mesh = load_mesh(reconstructed.root / f"exp/Reconstructions/200/Meshes/{shape}.ply")
        own = space.shape(code).mesh(40)
        np.testing.assert_allclose(mesh.vertices, own.vertices, atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, own.faces)
        assert mesh.volume > 0


def test_meshes_are_in_the_unit_frame(world: World) -> None:
    """Of shapes that the space knows: four toys do not teach it others."""
    write_split("known.json", TRAIN)
    assert reconstruct(world.experiment, world.data, "known.json", meshing=Meshing(40), device="cpu").done == TRAIN
    for shape in TRAIN:
        mesh = load_mesh(world.experiment.reconstructed_mesh_path(200, shape))
        # The farthest vertex of the truth is at 1 / 1.03 from the centre.
        extents = np.multiply(EXTENTS[shape], 1 / 1.03 / (0.5 * np.linalg.norm(EXTENTS[shape])))
        if shape.category == "egg":
            extents = np.divide(EXTENTS[shape], 1.03 * max(EXTENTS[shape]) / 2)
        np.testing.assert_allclose(mesh.extents, extents, atol=0.25)


def test_a_snapshot_has_a_folder_of_its_own(world: World) -> None:
    assert again(world, checkpoint="100").done == TEST
    assert os.listdir("exp/Reconstructions") == ["100"]
    assert again(world, checkpoint="latest").done == TEST
    assert sorted(os.listdir("exp/Reconstructions")) == ["100", "200"]


def test_same_seed_same_code(world: World) -> None:
    codes = []
    for seed in (0, 0, 1):
        again(world, seed=seed)
        codes.append(load_code(world.experiment.reconstructed_code_path(200, TALL)))
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])


def test_skip_and_progress(reconstructed: World) -> None:
    path = reconstructed.experiment.reconstructed_mesh_path(200, TALL)
    reconstructed.experiment.reconstructed_mesh_path(200, WIDE).unlink()
    before = path.read_bytes()
    path.with_name(".wide.01234567.tmp.ply").write_bytes(b"half")
    events: list[Progress] = []
    fits = []
    result = again(
        reconstructed,
        skip=True,
        on_fit=fits.append,
        on_progress=events.append,
    )
    assert (result.skipped, result.done, result.failures) == ([TALL], [WIDE], [])
    assert path.read_bytes() == before
    assert [event for event in events if not event.task] == [Progress(0, 1), Progress(1, 1, shape=str(WIDE))]
    assert [fit.shape for fit in fits] == [WIDE]
    assert 0 < fits[0].loss < 0.1
    steps = [event for event in events if event.task]
    assert {(event.task, event.total) for event in steps} == {("fitting", 2)}
    assert steps[-1].done == 2


def test_the_table_tells_of_every_fit_and_doubts_are_warnings(world: World) -> None:
    shown = run("reconstruct", "-e", "exp", "-d", "data", "-s", "test.json", "--resolution", 16)
    path = world.experiment.reconstruction_table_path(200)
    rows = {row["shape"]: row for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}
    assert list(rows) == [str(shape) for shape in TEST]
    for shape in TEST:
        row = rows[str(shape)]
        assert 0 < float(row["loss"]) < 0.1
        assert row["reason"] in ("converged", "stuck", "steps ran out")
        assert float(row["fit_seconds"]) > 0
        assert float(row["mesh_seconds"]) > 0
        # Four toys do not teach a space these.
        assert row["warnings"].startswith("no shape of this space is similar to the observations: the best fit leaves ")
        assert f"warning: {shape}: {row['warnings']}" in shown.stderr
    world.experiment.reconstructed_mesh_path(200, WIDE).unlink()
    again(world, skip=True)
    later = {row["shape"]: row for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}
    assert later[str(TALL)] == rows[str(TALL)]
    assert later[str(WIDE)]["steps"] == "2"


def test_a_shape_without_surface_costs_itself_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, calls = Shape.mesh, []

    def empty_once(shape: Shape, meshing: Meshing):
        calls.append(shape)
        if len(calls) == 1:
            raise NoSurfaceError("its values lie between 0.1 and 0.2")
        return mesh(shape, meshing)

    monkeypatch.setattr(Shape, "mesh", empty_once)
    result = run("reconstruct", "-e", "exp", "-d", "data", "-s", "test.json", "--resolution", 24, status=1)
    assert f"error: {TALL}: its values lie between 0.1 and 0.2" in result.stderr
    assert "Reconstructed 1 shape in exp/Reconstructions, 1 failed" in result.stdout
    assert world.experiment.reconstructed_mesh_path(200, WIDE).is_file()
    assert not world.experiment.reconstructed_mesh_path(200, TALL).exists()


def test_missing_and_broken_samples_cost_their_shapes_alone(world: World) -> None:
    absent = ShapeName("toys", "box", "absent")
    write_split("test.json", [absent, *TEST])
    world.data.samples_path(TALL).write_bytes(b"PK nothing")
    result = again(world)
    assert result.done == [WIDE]
    assert [failure.shape for failure in result.failures] == [absent, TALL]
    for shape, reason in result.failures:
        assert str(world.data.samples_path(shape)) in reason
        assert "`deepsdf preprocess` makes it again" in reason


@pytest.mark.parametrize("factor", [np.inf, np.nan])
def test_unusable_samples_cost_their_shape_alone(world: World, factor: float) -> None:
    """A file that can be read, without a number in it."""
    path = world.data.samples_path(TALL)
    samples = SDFSamples.load(path)
    SDFSamples(samples.pos * np.float32(factor), samples.neg * np.float32(factor)).save(path)
    result = again(world)
    assert result.done == [WIDE]
    ((shape, reason),) = result.failures
    assert (
        shape,
        str(path) in reason,
        "contains no finite samples; run `deepsdf preprocess` to write it again" in reason,
    ) == (TALL, True, True)


@pytest.mark.parametrize("side", ["pos", "neg"])
def test_samples_of_one_side_alone_are_fitted(world: World, side: str) -> None:
    path = world.data.samples_path(TALL)
    samples = SDFSamples.load(path)
    SDFSamples(**{"pos": samples.pos, "neg": samples.neg, side: samples.pos[:0]}).save(path)
    result = again(world, resolution=9)
    assert TALL not in [failure.shape for failure in result.failures if "samples" in failure.reason]
    assert WIDE in result.done
    assert torch.isfinite(load_code(world.experiment.reconstructed_code_path(200, TALL))).all()


def test_no_samples_at_all(world: World) -> None:
    write_split("test.json", [ShapeName("toys", "box", "absent")])
    before = world.hashes()
    with pytest.raises(InputError, match=r"^none of the 1 shapes of test\.json has samples in .*data; .*absent\.npz"):
        again(world)
    assert world.hashes() == before


def test_many_shapes_are_fitted_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIT_BATCH", {"cpu": 1})
    assert again(world).done == TEST


def test_the_originals_optimizer(world: World) -> None:
    assert again(world, optimizer="adam", steps=3).done == TEST


def test_training_meshes_in_both_frames(world: World) -> None:
    """They differ by the normalization, exactly."""
    run("mesh", "-e", "exp", "--resolution", 32)
    unit = {}
    own = {shape: load_mesh(f"exp/TrainingMeshes/200/{shape}.ply") for shape in TRAIN}
    run("mesh", "-e", "exp", "--resolution", 32, "--keep_normalization")
    for shape in TRAIN:
        unit[shape] = load_mesh(f"exp/TrainingMeshes/200/{shape}.ply")
        normalization = world.data.load_normalization(shape)
        taken_back = normalization.invert(unit[shape].vertices)
        np.testing.assert_allclose(own[shape].vertices, taken_back, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(own[shape].faces, unit[shape].faces)
        expected = (unit[shape].bounds / normalization.scale) - normalization.offset
        np.testing.assert_allclose(own[shape].bounds, expected, rtol=1e-5, atol=1e-4)
        assert np.abs(unit[shape].bounds).max() <= 1
        np.testing.assert_allclose(own[shape].bounds.mean(axis=0), (30, -20, 5), atol=2.5)
        assert own[shape].volume > 0


def test_training_meshes_skip(world: World) -> None:
    assert training_meshes(world.experiment, Meshing(16), device="cpu").done == TRAIN
    world.experiment.training_mesh_path(200, TRAIN[1]).unlink()
    result = training_meshes(world.experiment, Meshing(16), device="cpu", skip=True)
    assert (result.done, result.skipped) == (TRAIN[1:2], [TRAIN[0], *TRAIN[2:]])


def test_a_code_that_was_never_trained(world: World) -> None:
    path = world.experiment.codes_path("latest")
    content = torch.load(path, weights_only=True)
    content["latent_codes"]["weight"][2] = 0
    torch.save(content, path)
    result = training_meshes(world.experiment, Meshing(16), device="cpu")
    assert [(failure.shape, failure.reason) for failure in result.failures] == [
        (TRAIN[2], "the code was not trained: the shape had no samples")
    ]
    assert len(result.done) == 3


def test_a_split_that_was_not_trained_on(world: World) -> None:
    write_split("train.json", TRAIN[:3])
    with pytest.raises(InputError, match=r"^train\.json names 3 shapes, but the checkpoint holds 4 codes; it is not"):
        training_meshes(world.experiment, Meshing(16), device="cpu")


def test_training_meshes_without_normalization(world: World) -> None:
    world.data.normalization_path(TRAIN[0]).unlink()
    result = training_meshes(world.experiment, Meshing(16), device="cpu")
    assert result.done == TRAIN[1:]
    assert "there are no normalization parameters at" in result.failures[0].reason
    assert training_meshes(world.experiment, Meshing(16), device="cpu", keep_normalization=True).done == TRAIN


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl", ".off", ".glb"])
def test_meshes_are_written_whole(tmp_path: Path, suffix: str) -> None:
    import trimesh

    save_mesh(trimesh.creation.box(), tmp_path / "deep" / f"box{suffix}")
    assert load_mesh(tmp_path / "deep" / f"box{suffix}").volume == pytest.approx(1)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [f"box{suffix}"]


def test_a_suffix_no_writer_knows(tmp_path: Path) -> None:
    import trimesh

    with pytest.raises(
        InputError,
        match=r"box\.docx: cannot write this format; a mesh is written as one of \.obj, \.ply, \.stl, \.off, \.glb$",
    ):
        save_mesh(trimesh.creation.box(), tmp_path / "box.docx")
    assert list(tmp_path.iterdir()) == []
