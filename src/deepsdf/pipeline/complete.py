"""Complete a scan: meshes, figures of merit and a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from deepsdf.errors import InputError
from deepsdf.figures.completion import completion_picture, painted
from deepsdf.files import write_text
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.geometry.meshes import Normalization, save_mesh
from deepsdf.geometry.scanning.files import load_scan
from deepsdf.geometry.scanning.scan import Scan
from deepsdf.inference.complete.completion import Completion
from deepsdf.inference.complete.options import CompletionOptions
from deepsdf.inference.space import ShapeSpace
from deepsdf.rendering.render import save_image
from deepsdf.workspace import Experiment


def load_scans(
    paths: Sequence[str | os.PathLike[str]], *, camera: Sequence[float] | None = None, seed: int = 0
) -> Scan:
    """One scan from one or several files in the same frame.

    Args:
        camera: position (3,) of the camera for files that do not contain it, see `load_scan`.
        seed: seed for the choice of points from large files.
    """
    if not paths:
        raise InputError("there is no scan to complete")
    return Scan.join([load_scan(path, camera=camera, seed=seed) for path in paths])


def complete(
    experiment: Experiment,
    scan: Scan,
    out: str | os.PathLike[str],
    options: CompletionOptions = CompletionOptions(),
    meshing: Meshing = PREVIEW,
    *,
    checkpoint: str | int = "latest",
    normalization: Normalization | None = None,
    samples: int = 0,
    picture: bool = True,
    device: str = "auto",
) -> Completion:
    """Complete a scan and write the result.

    Writes the mesh `out` in the scan's frame, with vertex colours and, in a .ply, with the vertex attributes `seen` and
    `spread`; beside it a .json with figures of merit, code and pose, and a picture (.png). Draws from the posterior are
    written to <stem>-sample-<k>.

    Args:
        normalization: transformation from the scan's frame to the unit frame, if it is known.
        samples: number of draws from the posterior.
    Raises:
        InputError: a scan or options that cannot be used.
        NoSurfaceError: the estimated code has no surface.
    """
    out = Path(out)
    space = ShapeSpace.load(experiment, checkpoint, device)
    found = space.complete(scan, options, normalization=normalization)
    drawn = found.draw(samples, seed=options.seed) if samples else []
    meshes = [painted(one.mesh(meshing), found.scale) for one in (found, *drawn)]
    for number, mesh in enumerate(meshes):
        save_mesh(mesh, out if not number else out.with_name(f"{out.stem}-sample-{number}{out.suffix}"))
    write_text(out.with_suffix(".json"), json.dumps(completion_record(found, meshes[0]), indent=2) + "\n")
    if picture:
        save_image(out.with_suffix(".png"), completion_picture(found, meshes[0], samples=meshes[1:]))
    return found


def completion_record(found: Completion, mesh: trimesh.Trimesh) -> dict[str, Any]:
    """Content of the .json beside a completed mesh."""
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
