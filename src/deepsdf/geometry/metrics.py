"""How close two surfaces are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.spatial import KDTree

from deepsdf.errors import InputError
from deepsdf.geometry.sampling import sample_surface

POINTS = 30_000
"""Points a surface, as in the paper."""


@dataclass(frozen=True)
class SurfaceMetrics:
    """Distances between two surfaces, in the frame they were given in.

    Attributes:
        chamfer: `to_reference + to_surface`, squared lengths. The paper prints it × 10³.
        to_reference: mean squared distance of the surface's points to the nearest reference point.
        to_surface: mean squared distance of the reference's points to the nearest surface point.
        points: how many points of (reference, surface) were compared.
    """

    chamfer: float
    to_reference: float
    to_surface: float
    points: tuple[int, int]


def chamfer(reference: np.ndarray, points: np.ndarray) -> SurfaceMetrics:
    """Chamfer distance of two point sets (n, 3), (m, 3): the sum of both mean squared nearest distances.

    DeepSDF, supplementary material, equation 1, with means for sums, as its code computes it.

    Raises:
        InputError: an empty set, or NaN in one.
    """
    for name, cloud in (("reference", reference), ("surface", points)):
        if cloud.ndim != 2 or cloud.shape[1] != 3 or not len(cloud) or not np.isfinite(cloud).all():
            raise InputError(f"the {name}'s points have shape {cloud.shape}; finite points (n, 3) were expected")
    to_reference = float(np.mean(np.square(KDTree(reference).query(points, workers=-1)[0])))
    to_surface = float(np.mean(np.square(KDTree(points).query(reference, workers=-1)[0])))
    return SurfaceMetrics(to_reference + to_surface, to_reference, to_surface, (len(reference), len(points)))


def compare(
    reference: trimesh.Trimesh | np.ndarray,
    surface: trimesh.Trimesh | np.ndarray,
    *,
    points: int = POINTS,
    seed: int = 0,
) -> SurfaceMetrics:
    """How close a surface is to a reference; both meshes, or points (n, 3) on them, in one frame.

    Meshes are sampled evenly by area. Two samplings of one surface are not 0 apart: with n points on an area A
    their chamfer is about 2 A / (pi n), the sampling floor.

    Args:
        points: how many to draw from each mesh; point sets are taken as they are.
        seed: of the draws.
    Raises:
        InputError: an empty mesh or point set, or NaN in one.
    """
    rng = np.random.default_rng(seed)
    clouds = []
    for given in (reference, surface):
        clouds.append(sample_surface(given, points, seed=rng) if isinstance(given, trimesh.Trimesh) else given)
    return chamfer(np.asarray(clouds[0], np.float64), np.asarray(clouds[1], np.float64))
