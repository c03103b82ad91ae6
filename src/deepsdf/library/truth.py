"""The true shape of a data source: the one look-up of the mesh that a shape was preprocessed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import trimesh

from deepsdf.errors import InputError, MeshError
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.library.sources import find_mesh
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource

SAME_SURFACE = 1e-3
"""Largest distance (unit frame) between a mesh and 95 % of the surface samples drawn from it: samples lie on it to
rounding, while meshes that were thickened or edited differ by more than a thousandth of their radius."""

_CHECKED_SAMPLES = 2_000  # estimates the 95 % quantile to about half a percentile


@dataclass(frozen=True)
class TrueShape:
    """A shape's mesh as it was before preprocessing.

    Attributes:
        path: the mesh file.
        normalization: from the mesh frame to the unit frame.
        mesh: unit frame, faces as stored.
    """

    path: Path
    normalization: Normalization
    mesh: trimesh.Trimesh

    @cached_property
    def surface(self) -> MeshSDF:
        """The outer surface after repair, unit frame; computed on first use.

        Raises:
            MeshError: the mesh has no surface.
        """
        return MeshSDF(self.mesh, device="cpu")

    def check(self, samples: np.ndarray) -> None:
        """Check that surface samples (n, 3), unit frame, lie on the outer surface.

        Raises:
            MeshError: more than 5 % of them are farther away than `SAME_SURFACE` and the rounding of float32.
        """
        chosen = samples[:: max(1, len(samples) // _CHECKED_SAMPLES)]
        # The samples' file holds float32 in the mesh frame, where coordinates may be far from zero.
        farthest = np.abs(samples / self.normalization.scale - self.normalization.offset).max()
        rounding = float(np.spacing(np.float32(farthest))) * self.normalization.scale
        distance = float(np.quantile(self.surface.distance(chosen), 0.95))
        if distance > SAME_SURFACE + rounding:
            raise MeshError(
                f"{self.path} is not the surface that was sampled (distance {distance:.4f}, unit frame): it has "
                "changed since, or was preprocessed with --thicken or --keep-cavities"
            )


def true_shape(data: DataSource, shape: ShapeName, *, samples: np.ndarray | None = None) -> TrueShape:
    """The true mesh of a shape of a data source.

    Args:
        samples: (n, 3) surface samples, unit frame, that the mesh must agree with (see `TrueShape.check`). None: the
            mesh is not checked.
    Raises:
        InputError: the normalization or the mesh is missing or broken.
        MeshError: the mesh is not the one that the samples were drawn from.
    """
    folder = data.meshes_of(shape.dataset)
    if folder is None:
        raise InputError(f"the folder with the meshes of {shape.dataset} is unknown or no longer exists")
    path, normalization = find_mesh(folder, shape), data.load_normalization(shape)
    truth = TrueShape(path, normalization, normalization.apply_mesh(load_mesh(path)))
    if samples is not None:
        truth.check(samples)
    return truth
