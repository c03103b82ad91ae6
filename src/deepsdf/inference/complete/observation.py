"""What a fit uses of a scan: a random subset of its points, and points of observed free space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepsdf.geometry.scanning.scan import Scan

OUTLIER_THICKNESS = 5.0
"""Thickness of a point's neighbourhood, relative to the scan's noise, at which the point is drawn half as often."""

SILHOUETTE_SPREAD = 0.05
"""Standard deviation of points on empty rays about the rays' closest approach to the surface, by the scan's extent."""


@dataclass(frozen=True)
class Observed:
    """Points that a fit uses, in random order; the scan's frame.

    Attributes:
        points: (n, 3), of the surface.
        normals: (n, 3), outward where `oriented`.
        oriented: (n,) bool.
        free: (m, 3), points outside the shape.
    """

    points: Tensor
    normals: Tensor
    oriented: Tensor
    free: Tensor

    def first(self, points: int, free: int) -> Observed:
        """A random subset: the first surface points and the first free points."""
        return Observed(self.points[:points], self.normals[:points], self.oriented[:points], self.free[:free])


def observe(scan: Scan, points: int, near: float, seed: int, device: torch.device) -> Observed:
    """Draw points of a scan and of the free space along its rays.

    Args:
        points: number of surface points. For each of them two free points are drawn on the rays of points with a
            camera, and two on rays that hit nothing (`Scan.empty`), if there are any.
        near: least distance of free points from the surface, the scan's frame.
    """
    rng = np.random.default_rng(seed)
    probability = _draw_probability(scan)
    rows = rng.choice(len(scan), min(points, len(scan)), replace=False, p=probability)
    size = float(np.linalg.norm(np.ptp(scan.points, axis=0)))
    free = []
    with_camera = np.flatnonzero(np.isfinite(scan.cameras).all(axis=1))
    if len(with_camera):
        hits = rng.choice(with_camera, 2 * points, p=probability[with_camera] / probability[with_camera].sum())
        rays = scan.cameras[hits] - scan.points[hits]
        length = np.linalg.norm(rays, axis=1, keepdims=True).clip(1e-12)
        # Squared, so that most points are near the surface, where shapes of the space can reach.
        along = near + rng.random((len(hits), 1)) ** 2 * (np.minimum(length, size) - near).clip(0)
        free.append(scan.points[hits] + rays / length * along)
    if len(scan.empty):
        rays = scan.empty[rng.choice(len(scan.empty), 2 * points)]
        # Near the silhouette, where a shape that is too thick meets the ray first.
        along = (rays[:, 6] + SILHOUETTE_SPREAD * size * rng.standard_normal(len(rays))).clip(0)
        free.append(rays[:, :3] + along[:, None] * rays[:, 3:6])
    mixed = rng.permutation(np.concatenate([*free, np.zeros((0, 3))]))

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)

    oriented = torch.as_tensor(scan.oriented[rows], device=device)
    return Observed(tensor(scan.points[rows]), tensor(scan.normals[rows]), oriented, tensor(mixed))


def _draw_probability(scan: Scan) -> np.ndarray:
    """(n,), probability of drawing each point: low for outliers, whose neighbours lie in no plane."""
    usual = scan.noise + 1e-9 * float(np.ptp(scan.points, axis=0).max())
    trust = 1.0 / (1.0 + (scan.thickness / (OUTLIER_THICKNESS * usual)) ** 4)
    return trust / trust.sum()
