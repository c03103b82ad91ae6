"""Pictures of completions: vertex colours by certainty, and the scan beside the completed mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import trimesh

from deepsdf.figures.pictures import FRAME
from deepsdf.geometry.scanning.scan import Scan
from deepsdf.inference.complete.completion import Completion
from deepsdf.rendering.camera import Axis, PictureOptions
from deepsdf.rendering.render import grid_image, render_mesh, render_points

SEEN, SURE, UNSURE = (164, 190, 216), (246, 198, 120), (200, 74, 48)
"""Colours of observed vertices, and of inferred ones from certain to uncertain."""

MAX_SPREAD = 0.03
"""Standard deviation (unit frame) at which the colour of uncertain vertices is reached: 3 % of the shape's radius."""

SCENE_RADIUS = 1.3
"""Points of the scan farther from the origin (unit frame) are background and not drawn; shapes end at 1."""


def vertex_colours(mesh: trimesh.Trimesh, scale: float) -> np.ndarray:
    """RGBA colours (v, 4) uint8 of a completed mesh: seen vertices, and inferred ones by their spread.

    Args:
        mesh: with `vertex_attributes` seen and spread, as `Completion.mesh` returns it.
        scale: unit lengths per length of the mesh's frame.
    """
    seen = np.asarray(mesh.vertex_attributes["seen"], bool)[:, None]
    unsure = np.clip(np.asarray(mesh.vertex_attributes["spread"]) * scale / MAX_SPREAD, 0, 1)[:, None]
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

    inside = placed.points[np.linalg.norm(placed.points, axis=1) < SCENE_RADIUS]
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
    """Azimuth of the first camera in degrees, as in `render_mesh`; 0 if no camera is known."""
    known = scan.cameras[np.isfinite(scan.cameras).all(axis=1)]
    if not len(known):
        return 0.0
    x, y, z = known[0]
    across, towards = {0: (y, z), 1: (x, z), 2: (x, -y)}[up]
    return float(np.degrees(np.arctan2(across, towards)))
