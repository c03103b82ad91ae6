"""Meshing of the latest requested shape, first coarse, then finer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import trimesh

from deepsdf.devices import fast_bfloat16
from deepsdf.errors import DeepSDFError
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.geometry.isosurface.polygonize import polygonize
from deepsdf.inference.shape import Shape
from deepsdf.jobs.worker import Cancelled, IsWanted, Worker

COARSE, MIDDLE, FINE = 48, 128, 256
"""Grid resolutions (samples per axis): while a slider is dragged, and refined afterwards. 48 was chosen for five
redraws a second on two CPU cores (docs/measurements/viewer.md)."""

CHUNK = 16_384
"""Points evaluated between two checks for cancellation."""


@dataclass(frozen=True)
class CancellableField:
    """A shape's signed distance that raises `Cancelled` once it is no longer wanted.

    Attributes:
        quick: evaluate in bfloat16 where that is faster; accurate enough for coarse meshes.
    """

    shape: Shape
    is_wanted: IsWanted
    quick: bool = False

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Signed distances (n,) float32 of points (n, 3), unit frame."""
        found = np.empty(len(points), np.float32)
        device = self.shape.code.device
        for start in range(0, len(points), CHUNK):
            if not self.is_wanted():
                raise Cancelled
            part = slice(start, start + CHUNK)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.quick and fast_bfloat16(device)):
                found[part] = self.shape.sdf(points[part])
        return found


@dataclass(frozen=True)
class ShapeMesh:
    """A mesh of a requested shape, unit frame.

    Attributes:
        mesh: None if the shape has no surface.
        last: no finer mesh follows.
        reason: why there is no mesh.
    """

    shape: Shape
    resolution: int
    mesh: trimesh.Trimesh | None
    last: bool
    reason: str = ""


class ProgressiveMesher:
    """Meshes shapes for one browser in a background thread. A new request replaces the one in progress.

    The first, coarse mesh of a request is always finished: otherwise continuous dragging would never show anything.

    Args:
        show: receives each mesh in the background thread; exceptions that it raises are logged.
    """

    def __init__(self, show: Callable[[ShapeMesh], None], name: str = "") -> None:
        self._show = show
        self.worker = Worker(f"mesher {name}")

    def request(self, shape: Shape, resolutions: Sequence[int] = (COARSE, MIDDLE, FINE)) -> None:
        """Mesh this shape next, at each resolution in turn. Returns at once."""
        self.worker.submit("mesh", lambda is_wanted: self._mesh(shape, tuple(resolutions), is_wanted))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the last request is finished. Returns False if `timeout` seconds pass before that."""
        return self.worker.wait(timeout)

    def close(self) -> None:
        """Stop after the current chunk of points; nothing is shown afterwards."""
        self.worker.close(timeout=10.0)

    def _mesh(self, shape: Shape, resolutions: Sequence[int], is_wanted: IsWanted) -> None:
        for number, resolution in enumerate(resolutions):
            first, last = number == 0, number == len(resolutions) - 1
            wanted = (lambda: not self.worker.closed) if first else is_wanted
            if not wanted():
                return
            found = mesh_shape(shape, resolution, wanted, quick=first and not last, last=last)
            if not self.worker.closed:
                self._show(found)
            if found.mesh is None:
                return


def mesh_shape(shape: Shape, resolution: int, is_wanted: IsWanted, *, quick: bool, last: bool) -> ShapeMesh:
    """Mesh a shape once. Raises Cancelled."""
    try:
        field = CancellableField(shape, is_wanted, quick)
        mesh = polygonize(field, Meshing(resolution=resolution, vertices="linear"))
    except DeepSDFError as error:
        return ShapeMesh(shape, resolution, None, True, str(error))
    return ShapeMesh(shape, resolution, mesh, last)
