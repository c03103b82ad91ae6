"""Files that a visitor drops in: what they are, and their code by a fit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import trimesh
from torch import Tensor

from deepsdf.errors import InputError, NoFacesError
from deepsdf.geometry.formats import MESH_FORMATS
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.scanning.files import load_scan, scan_suffixes
from deepsdf.geometry.scanning.scan import Scan
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples, sample_sdf
from deepsdf.inference.complete.options import CompletionOptions
from deepsdf.inference.fit.options import FitOptions
from deepsdf.inference.space import ShapeSpace
from deepsdf.progress import Progress as FitProgress
from deepsdf.viewer.content.catalogue import read_code
from deepsdf.viewer.pages.widgets import many
from deepsdf.viewer.scene.redraw import Cancelled

SAMPLES = 100_000
"""Of a mesh, for a fit that someone waits for."""

LARGEST = 200 * 2**20
"""Bytes of a file."""


def upload_suffixes() -> tuple[str, ...]:
    """Files that can be dropped in: those that are complete without a second file."""
    return (*scan_suffixes(complete=True), ".npz", ".pth")


Treat = Literal["auto", "whole shape", "partial scan"]
Poses = Literal["auto", "none", "yaw", "rigid", "similarity"]

Progress = Callable[[str, float], None]
"""Told what is being done, and the share that is done."""


@dataclass(frozen=True)
class Fitted:
    """A file's shape: its code, what was found out, and what it brought along, unit frame."""

    label: str
    code: Tensor
    how: str
    scanned: bool = False
    truth: trimesh.Trimesh | None = None
    samples: SDFSamples | None = None
    scan: np.ndarray | None = None


def fit_file(
    space: ShapeSpace,
    name: str,
    content: bytes,
    *,
    treat: Treat = "auto",
    pose: Poses = "auto",
    up: str = "y",
    progress: Progress = lambda text, share: None,
    wanted: Callable[[], bool] = lambda: True,
    seed: int = 0,
) -> Fitted:
    """Read a file that came from a browser, and find the code that explains it.

    A mesh with faces is a whole shape: normalised by itself, sampled and fitted. Points are a partial scan, completed.
    SDF samples (.npz) are fitted, a code (.pth) is taken as it is.

    Args:
        name: the file's name in the browser; only its suffix and, as a label, its stem are used.
        pose: of a scan, see `CompletionOptions`; "auto": "none" where the points lie in the unit sphere, else
            "similarity".
        progress: told how far it is.
        wanted: looked at now and then.
    Raises:
        InputError: a file that is too large, of another kind, or broken.
        Cancelled: it is not wanted any more.
    """
    label, suffix = Path(name.replace("\\", "/")).stem[:60] or "dropped", Path(name).suffix.lower()
    if suffix not in upload_suffixes():
        raise InputError(f"{name[:80]!r} cannot be read; drop in one of {', '.join(upload_suffixes())}")
    if not content or len(content) > LARGEST:
        raise InputError(f"{name[:80]!r} has {len(content)} bytes; 1 to {LARGEST} can be read")
    progress("reading", 0.0)
    with tempfile.TemporaryDirectory(prefix="deepsdf-view-") as folder:
        path = Path(folder) / f"dropped{suffix}"  # never the visitor's name: it could lead anywhere
        path.write_bytes(content)
        try:
            return _fit(space, path, label, treat, pose, up, progress, wanted, seed)
        except InputError as error:
            # Their file's name, not that of our copy.
            said = str(error).replace(str(path), f"{label}{suffix}").replace(folder, "it was dropped in from")
            raise type(error)(said) from None


def _fit(
    space: ShapeSpace,
    path: Path,
    label: str,
    treat: Treat,
    pose: Poses,
    up: str,
    progress: Progress,
    wanted: Callable[[], bool],
    seed: int,
) -> Fitted:
    suffix = path.suffix
    if suffix == ".pth":
        return Fitted(label, read_code(path, space), "the code of the file")
    if suffix == ".npz":
        samples = SDFSamples.load(path)
        return _whole(space, label, samples, None, progress, wanted, seed)
    if treat != "partial scan" and suffix in MESH_FORMATS:
        try:
            mesh = load_mesh(path)
        except NoFacesError:
            if treat == "whole shape":
                raise
        else:
            unit = Normalization.fit(mesh).apply_mesh(mesh)
            progress("repairing the mesh and sampling it", 0.05)
            samples = sample_sdf(MeshSDF(unit, device="cpu"), SAMPLES, seed=seed)
            return _whole(space, label, samples, unit, progress, wanted, seed)
    elif treat == "whole shape":
        raise InputError(f"{path} holds points, which have no inside; treat it as a partial scan")
    return _scanned(space, label, load_scan(path, seed=seed), pose, up, progress, wanted, seed)


def _whole(
    space: ShapeSpace,
    label: str,
    samples: SDFSamples,
    mesh: trimesh.Trimesh | None,
    progress: Progress,
    wanted: Callable[[], bool],
    seed: int,
) -> Fitted:
    if not len(samples):
        raise InputError("the file holds no samples")

    def on_progress(event: FitProgress) -> None:
        if not wanted():
            raise Cancelled
        progress("fitting a code", 0.2 + 0.8 * event.done / max(event.total, 1))

    on_progress(FitProgress(0, 1))
    fit = space.fit(samples, FitOptions(seed=seed), on_progress=on_progress)
    progress("fitted", 1.0)
    how = f"fitted to {many(len(samples))} samples; mean error {float(fit.losses[0]):.4f}"
    return Fitted(label, fit.codes[0].detach(), how, truth=mesh, samples=samples)


def _scanned(
    space: ShapeSpace,
    label: str,
    scan: Scan,
    pose: Poses,
    up: str,
    progress: Progress,
    wanted: Callable[[], bool],
    seed: int,
) -> Fitted:
    if not wanted():
        raise Cancelled
    if pose == "auto":
        farthest = float(np.quantile(np.linalg.norm(scan.points, axis=1), 0.99))
        pose = "none" if 0.3 < farthest < 1.05 else "similarity"
    progress(f"completing the scan (pose: {pose})", 0.3)
    options: dict[str, Any] = {"pose": pose, "up": up, "seed": seed}
    found = space.complete(scan, CompletionOptions(**options))
    how = f"completed; {found.explained:.0%} of the scan explained, {found.unlikeliness:.1f} std from the mean"
    return Fitted(label, found.code.detach(), how, True, scan=found.scan.moved(found.to_unit).points)
