"""The training shape nearest to a surface, to detect new shapes that are copies of training shapes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import trimesh

from deepsdf.errors import NoSurfaceError
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.geometry.sdf.sampling import sample_surface
from deepsdf.inference.space import ShapeSpace
from deepsdf.metrics.surfaces import chamfer

SHORTLIST = 4
"""Training shapes that are meshed and compared. Several, because learned fields only approximate distances."""


@dataclass(frozen=True)
class Neighbour:
    """A training shape: row of the training codes, and chamfer distance (squared, unit frame)."""

    row: int
    chamfer: float


@dataclass
class TrainingSurfaces:
    """Surfaces of the training shapes as decoded by the space, meshed on first use.

    Attributes:
        points: number of points drawn on each surface.
        seed: random seed.
    """

    space: ShapeSpace
    points: int = 2048
    seed: int = 0
    _meshes: dict[int, trimesh.Trimesh | None] = field(default_factory=dict)

    def mesh(self, row: int) -> trimesh.Trimesh | None:
        """Mesh of a training shape, unit frame; None if it has no surface."""
        if row not in self._meshes:
            try:
                self._meshes[row] = self.space.shape(row).mesh(Meshing(resolution=64, vertices="linear"))
            except NoSurfaceError:
                self._meshes[row] = None
        return self._meshes[row]

    def surface(self, row: int) -> np.ndarray | None:
        """Points (n, 3) on a training shape, unit frame; None if it has no surface."""
        mesh = self.mesh(row)
        return None if mesh is None else sample_surface(mesh, self.points, seed=self.seed)

    def nearest(self, points: np.ndarray) -> Neighbour | None:
        """The nearest training shape to surface points (n, 3), unit frame, by chamfer distance.

        Only the `SHORTLIST` training shapes whose |SDF| is smallest at 128 of the points are compared. None if none of
        them has a surface.
        """
        rng = np.random.default_rng(self.seed)
        chosen = points[rng.choice(len(points), min(128, len(points)), replace=False)]
        rows = self._rows()
        likely = np.argsort(self._mean_distances(rows, chosen), kind="stable")[:SHORTLIST]
        found = []
        for row in rows[likely]:
            surface = self.surface(int(row))
            if surface is not None:
                found.append(Neighbour(int(row), chamfer(surface, points).chamfer))
        return min(found, key=lambda one: one.chamfer, default=None)

    def _rows(self) -> np.ndarray:
        return np.flatnonzero(self.space.is_trained.cpu().numpy())

    @torch.no_grad()
    def _mean_distances(self, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Mean |SDF| (k,), clamped, of training shapes at points (n, 3)."""
        space = self.space
        where = torch.as_tensor(np.asarray(points, np.float32), device=space.device)
        codes = space.codes[torch.as_tensor(rows, device=space.device)]
        distances = [space.decoder(part, where.expand(len(part), -1, -1)) for part in codes.split(32)]
        return torch.cat(distances).abs().clamp(max=space.clamping_distance).mean(dim=1).cpu().numpy()
