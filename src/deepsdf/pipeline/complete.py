"""A scan's file completed: meshes, figures and a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from deepsdf.errors import InputError
from deepsdf.files import write_text
from deepsdf.geometry.meshes import save_mesh
from deepsdf.geometry.scanning.files import load_scan
from deepsdf.geometry.scanning.scan import Scan
from deepsdf.inference.complete.completion import Completion
from deepsdf.inference.complete.options import CompletionOptions
from deepsdf.inference.space import ShapeSpace
from deepsdf.rendering.camera import Axis, PictureOptions
from deepsdf.rendering.render import grid_image, render_mesh, render_points, save_image
from deepsdf.workspace import Experiment, read_normalization

SEEN, SURE, UNSURE = (164, 190, 216), (246, 198, 120), (200, 74, 48)
"""Colours: what was seen, and what was guessed, from sure to unsure."""

WIDEST = 0.03
"""Spread, unit frame, from which a guess is coloured as unsure."""

FRAME = 1.0


def complete(
    experiment: Experiment,
    scans: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    checkpoint: str | int = "latest",
    normalization: str | os.PathLike[str] | None = None,
    camera: Sequence[float] | None = None,
    samples: int = 0,
    resolution: int = 128,
    picture: bool = True,
    device: str = "auto",
    seed: int = 0,
    **options: Any,
) -> Completion:
    """Complete one scan, of one or several files in one frame, and write what was found.

    Writes `out`, in the scan's frame, its vertices coloured and, in a .ply, with `seen` and `spread`; beside it
    .json, the figures, code and pose; .png; and <stem>-sample-<k> for each of `samples` draws from the posterior.

    Args:
        normalization: an .npz with offset and scale, from the scan's frame to the unit frame.
        camera: (3,), see `load_scan`.
        options: other fields of `CompletionOptions`.
    Raises:
        InputError: a scan or options that cannot be used.
        NoSurfaceError: the found code has no surface.
    """
    out = Path(out)
    if not scans:
        raise InputError("no scan was given to complete")
    space = ShapeSpace.load(experiment, checkpoint, device)
    known = None if normalization is None else read_normalization(Path(normalization))
    scan = Scan.join([load_scan(path, camera=camera, seed=seed) for path in scans])
    found = space.complete(scan, CompletionOptions(seed=seed, **options), normalization=known)
    drawn = found.draw(samples, seed=seed) if samples else []
    meshes = [painted(one.mesh(resolution), found.scale) for one in (found, *drawn)]
    for number, mesh in enumerate(meshes):
        save_mesh(mesh, out if not number else out.with_name(f"{out.stem}-sample-{number}{out.suffix}"))
    write_text(out.with_suffix(".json"), json.dumps(figures(found, meshes[0]), indent=2) + "\n")
    if picture:
        save_image(out.with_suffix(".png"), completion_picture(found, meshes[0], samples=meshes[1:]))
    return found


def figures(found: Completion, mesh: trimesh.Trimesh) -> dict[str, Any]:
    """What the .json beside a completed mesh holds."""
    return {
        "explained": found.explained,
        "residual": found.residual,
        "unlikeliness": found.unlikeliness,
        "tolerance": found.tolerance,
        "noise": found.noise,
        "seen": float(np.mean(mesh.vertex_attributes["seen"])),
        "points": len(found.scan),
        "steps": found.steps,
        "converged": found.converged,
        "objectives": found.objectives,
        "scan_to_unit": found.to_unit.tolist(),
        "scale": found.scale,
        "code": found.code.tolist(),
    }


def vertex_colours(mesh: trimesh.Trimesh, scale: float) -> np.ndarray:
    """RGBA colours (v, 4) uint8 of a completed mesh: seen vertices, and inferred ones by their spread.

    Args:
        mesh: with `vertex_attributes` seen and spread, as `Completion.mesh` returns it.
        scale: unit lengths per length of the mesh's frame.
    """
    seen = np.asarray(mesh.vertex_attributes["seen"], bool)[:, None]
    unsure = np.clip(np.asarray(mesh.vertex_attributes["spread"]) * scale / WIDEST, 0, 1)[:, None]
    colours = np.where(seen, SEEN, SURE + unsure * np.subtract(UNSURE, SURE))
    return np.hstack([colours, np.full_like(unsure, 255)]).round().astype(np.uint8)


def painted(mesh: trimesh.Trimesh, scale: float) -> trimesh.Trimesh:
    """The mesh with `vertex_colours`, which are written to its file."""
    visual: Any = mesh.visual
    visual.vertex_colors = vertex_colours(mesh, scale)
    return mesh


def completion_picture(
    found: Completion,
    mesh: trimesh.Trimesh,
    *,
    truth: trimesh.Trimesh | None = None,
    samples: Sequence[trimesh.Trimesh] = (),
    size: int = 320,
) -> np.ndarray:
    """Picture of the scan, the completion from the camera and from behind, and other meshes, in the unit frame.

    Args:
        mesh: completed surface (`Completion.mesh`); `mesh`, `truth` and `samples` are in the scan's frame.
        size: width of each view in pixels.
    """
    axes: tuple[Axis, ...] = ("x", "y", "z")
    placed = found.scan.moved(found.to_unit)
    azimuth = _azimuth(placed, found.freedom.up) + 25.0
    picture = PictureOptions(size=size, azimuth=azimuth, up=axes[found.freedom.up], bound=FRAME)

    def draw(one: trimesh.Trimesh, turn: float) -> np.ndarray:
        unit = one.copy()
        unit.apply_transform(found.to_unit)
        colours = vertex_colours(one, found.scale)[:, :3] if "seen" in one.vertex_attributes else None
        return render_mesh(unit, replace(picture, azimuth=azimuth + turn), vertex_colors=colours)

    inside = placed.points[np.linalg.norm(placed.points, axis=1) < 1.3]
    cells = [render_points(inside if len(inside) else placed.points, picture)]
    labels = ["scan"]
    for label, one, turn in (
        ("completed", mesh, 0.0),
        ("from behind", mesh, 180.0),
        ("truth", truth, 0.0),
        ("from behind", truth, 180.0),
        *((f"sample {number + 1}", sample, 180.0) for number, sample in enumerate(samples)),
    ):
        if one is not None:
            cells.append(draw(one, turn))
            labels.append(label)
    return grid_image([cells], column_labels=labels, pad=4)


def _azimuth(scan: Scan, up: int) -> float:
    """Degrees, where the first camera stands, as `render_mesh` counts them; 0 where none is known."""
    known = scan.cameras[np.isfinite(scan.cameras).all(axis=1)]
    if not len(known):
        return 0.0
    x, y, z = known[0]
    across, towards = {0: (y, z), 1: (x, z), 2: (x, -y)}[up]
    return float(np.degrees(np.arctan2(across, towards)))
