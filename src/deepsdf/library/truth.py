"""The true mesh of a shape: the one look-up of the mesh that its samples were drawn from."""

from __future__ import annotations

import numpy as np
import trimesh

from deepsdf.errors import InputError, MeshError
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.library.sources import find_mesh
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource

SAME_SURFACE = 1e-3
"""Unit frame: so near a mesh lie the surface samples that were drawn from it, or from one like it."""

_CHECKED = 2_000  # of the surface samples


def true_mesh(data: DataSource, shape: ShapeName) -> trimesh.Trimesh:
    """A shape's own mesh, unit frame.

    Raises:
        InputError: it is not where it was preprocessed from, or broken.
    """
    folder = data.meshes_of(shape.dataset)
    if folder is None:
        raise InputError(f"the folder that the meshes of {shape.dataset} came from is not known, or gone")
    return data.load_normalization(shape).apply_mesh(load_mesh(find_mesh(folder, shape)))


def true_surface(data: DataSource, shape: ShapeName, normalization: Normalization, samples: np.ndarray) -> MeshSDF:
    """The outer surface of a shape's own mesh, unit frame.

    Args:
        samples: (n, 3) of its surface, unit frame.
    Raises:
        InputError: it is not there, or broken, or another one than the samples are of.
    """
    folder = data.meshes_of(shape.dataset)
    if folder is None:
        raise InputError(f"the folder that the meshes of {shape.dataset} came from is not known, or gone")
    path = find_mesh(folder, shape)
    surface = MeshSDF(normalization.apply_mesh(load_mesh(path)), device="cpu")
    some = samples[:: max(1, len(samples) // _CHECKED)]
    farthest = np.abs(samples / normalization.scale - normalization.offset).max()
    rounding = float(np.spacing(np.float32(farthest))) * normalization.scale  # of the samples' file
    away = float(np.quantile(surface.distance(some), 0.95))
    if away > SAME_SURFACE + rounding:
        raise MeshError(
            f"{path} is not the surface that was sampled (they lie {away:.4f} apart): it was changed since, or "
            "preprocessed with --thicken or --keep-cavities"
        )
    return surface
