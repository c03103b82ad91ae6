"""The training shape nearest to a surface: whether a new shape is one that was learned by heart."""

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

ASKED, SHORTLIST, RESOLUTION = 128, 4, 64
"""Surface points that every training shape's field is asked at; training shapes that are then meshed and compared; at
which resolution."""


@dataclass(frozen=True)
class Neighbour:
    """A training shape, by its row of the codes, and its chamfer distance, squared length of the unit frame."""

    row: int
    chamfer: float


@dataclass
class TrainingSurfaces:
    """The training shapes' surfaces, as the space has them, meshed when they are first needed.

    Attributes:
        points: drawn from each.
        seed: of the draws.
    """

    space: ShapeSpace
    points: int = 2048
    seed: int = 0
    _meshes: dict[int, trimesh.Trimesh | None] = field(default_factory=dict)

    def mesh(self, row: int) -> trimesh.Trimesh | None:
        """Unit frame; None where the shape has no surface."""
        if row not in self._meshes:
            try:
                self._meshes[row] = self.space.shape(row).mesh(Meshing(resolution=RESOLUTION, vertices="linear"))
            except NoSurfaceError:
                self._meshes[row] = None
        return self._meshes[row]

    def surface(self, row: int) -> np.ndarray | None:
        """Points (points, 3) of it, unit frame."""
        mesh = self.mesh(row)
        return None if mesh is None else sample_surface(mesh, self.points, seed=self.seed)

    def nearest(self, points: np.ndarray) -> Neighbour | None:
        """The nearest training shape to surface points (n, 3), unit frame, by chamfer distance.

        It is looked for among the `SHORTLIST` whose fields are smallest at `ASKED` of the points. None where none of
        those has a surface.
        """
        rng = np.random.default_rng(self.seed)
        asked = points[rng.choice(len(points), min(ASKED, len(points)), replace=False)]
        rows = self._rows()
        likely = np.argsort(self._misses(rows, asked), kind="stable")[:SHORTLIST]
        found = []
        for row in rows[likely]:
            surface = self.surface(int(row))
            if surface is not None:
                found.append(Neighbour(int(row), chamfer(surface, points).chamfer))
        return min(found, key=lambda one: one.chamfer, default=None)

    def _rows(self) -> np.ndarray:
        return np.flatnonzero(self.space.is_trained.cpu().numpy())

    @torch.no_grad()
    def _misses(self, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Mean clamped |f| of each training shape at the points."""
        space = self.space
        at = torch.as_tensor(np.asarray(points, np.float32), device=space.device)
        codes = space.codes[torch.as_tensor(rows, device=space.device)]
        found = [space.decoder(some, at.expand(len(some), -1, -1)) for some in codes.split(32)]
        return torch.cat(found).abs().clamp(max=space.clamping_distance).mean(dim=1).cpu().numpy()
