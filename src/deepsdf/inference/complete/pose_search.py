"""Initial states of a completion: poses on a coarse grid combined with training codes; the best few are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from deepsdf.geometry.scanning.scan import Scan
from deepsdf.inference.complete.alignment import Alignment, Freedom, rotations
from deepsdf.inference.complete.posed_field import State
from deepsdf.inference.complete.residuals import ScanProblem

YAWS = 12
"""Number of rotations about the up axis at which the search starts. Every yaw is within 15 degrees of one, less than a
single step may turn (`alignment.MAX_TURN`)."""

MAX_CODES = 32
"""Largest number of training codes tried at each of the best poses."""

POSES = 5
"""Number of poses at which codes are tried."""

PART_RADII = 0.7, 0.95
"""Radii, in the unit frame, at which a scan of unknown scale starts: a view shows a part of a shape of radius 1."""

RADIUS_RANGE = 0.4, 1.1
"""Radii of a scan in the unit frame that the fit may reach: from a small part of a shape to slightly more than all."""

DEPTH_BEHIND = 0.1
"""Distance from the middle of the visible surface to the middle of the shape, away from the camera, unit frame."""

COARSE_POINTS, COARSE_STEPS = 64, 8
"""Surface points and steps of the fits that compare poses of the mean shape."""

COARSE_WIDTH = 0.1
"""Width of the robust loss of these fits: nearly all of a wrong shape's points count."""

SAME_ROTATION, SAME_SCALE = 0.2, 0.1
"""Radians and logarithm of the scale: two poses closer than both are one hypothesis."""


def start_states(
    problem: ScanProblem, scan: Scan, base: np.ndarray, codes: Tensor, *, any_way_up: bool, count: int
) -> State:
    """Up to `count` initial states, in order of their objective.

    Args:
        base: (4, 4), from the scan's frame to the unit frame, if it is known.
        codes: (c, L), whitened training codes.
    """
    freedom = problem.freedom
    device = problem.observed.points.device
    stride = -(-len(codes) // MAX_CODES)
    tried = torch.cat([torch.zeros_like(codes[:1]), codes[::stride]])  # the mean shape first
    few = replace(problem, observed=problem.observed.first(COARSE_POINTS, 2 * COARSE_POINTS))
    starts = Alignment.of(start_matrices(scan, base, freedom, any_way_up=any_way_up), device)
    if freedom.pose != "none":
        pose_only = replace(few, fit_code=False)
        state = State(torch.zeros(len(starts), codes.shape[1], device=device), starts)
        end = pose_only.minimise(state, [COARSE_WIDTH], COARSE_STEPS)
        starts = end.state.alignment[_distinct(end.state.alignment, end.model.value, POSES)]
    poses, number = len(starts), len(tried)
    both = State(tried.repeat(poses, 1), starts[torch.arange(poses, device=device).repeat_interleave(number)])
    objectives = few.objective(both, COARSE_WIDTH).reshape(poses, number)
    if freedom.pose == "none":
        return both[objectives[0].argsort()[:count]]
    best, code = objectives.min(dim=1)
    order = best.argsort()[:count]
    return State(tried[code[order]], starts[order])


def start_matrices(scan: Scan, base: np.ndarray, freedom: Freedom, *, any_way_up: bool) -> np.ndarray:
    """Similarities (k, 4, 4) with different rotations and, if the scale is free, scales. They move the middle of the
    scan to the middle of the shape; if the scale is known, there are also pure rotations about the origin."""
    if freedom.pose == "none":
        return base[None]
    turns = rotations(freedom.pose, freedom.up, YAWS, any_way_up=any_way_up)
    middle, radius = middle_and_radius(scan, base)
    away = (scan.points - scan.cameras)[np.isfinite(scan.cameras).all(axis=1)] @ base[:3, :3].T
    away = away / np.linalg.norm(away, axis=1, keepdims=True)
    behind = DEPTH_BEHIND * away.mean(axis=0) if len(away) else np.zeros(3)
    scales = [share / radius for share in PART_RADII] if freedom.pose == "similarity" else [1.0]
    matrices = [_rotation_about(turn, scale, middle) @ base for turn in turns for scale in scales]
    for matrix, turn in zip(matrices, np.repeat(turns, len(scales), axis=0), strict=True):
        matrix[:3, 3] += turn @ behind
    if freedom.pose != "similarity" or not np.array_equal(base, np.eye(4)):
        matrices += [_rotation_about(turn, 1.0, np.zeros(3)) @ base for turn in turns]
    return np.array(matrices)


def scale_range(scan: Scan) -> tuple[float, float]:
    """Smallest and largest scale from a scan's frame to the unit frame."""
    radius = middle_and_radius(scan, np.eye(4))[1]
    return RADIUS_RANGE[0] / radius, RADIUS_RANGE[1] / radius


def middle_and_radius(scan: Scan, transform: np.ndarray) -> tuple[np.ndarray, float]:
    """Middle (3,) of the bounding box of a transformed scan, and the radius about it; both without the outermost one or
    two percent of the points, which may be outliers."""
    points = scan.points @ transform[:3, :3].T + transform[:3, 3]
    low, high = np.quantile(points, [0.01, 0.99], axis=0)
    middle = (low + high) / 2
    return middle, float(np.quantile(np.linalg.norm(points - middle, axis=1), 0.98))


def _rotation_about(turn: np.ndarray, scale: float, middle: np.ndarray) -> np.ndarray:
    """The similarity (4, 4) that moves `middle` to the origin, rotates and scales."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * turn
    matrix[:3, 3] = -scale * turn @ middle
    return matrix


def _distinct(alignment: Alignment, objectives: Tensor, most: int) -> Tensor:
    """Rows of the best alignments; of those that are nearly equal only the best."""
    order = objectives.argsort()
    turns, scales = alignment.rotation[order], alignment.scale[order].log()
    # The trace of Aᵀ B is 1 + 2 cos of the angle between two rotations.
    cosine = (torch.einsum("aij,bij->ab", turns, turns) - 1) / 2
    near = (cosine > np.cos(SAME_ROTATION)) & ((scales[:, None] - scales).abs() < SAME_SCALE)
    repeated = near.tril(-1).any(dim=1)  # near one that comes before it, which is a better one
    return order[~repeated][:most]
