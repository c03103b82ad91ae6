"""Where a fit to a scan starts: poses over a coarse net, codes among the training codes, the best few of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from deepsdf.geometry.scanning.scan import Scan
from deepsdf.inference.complete.alignment import Alignment, Freedom, rotations
from deepsdf.inference.complete.residuals import ScanProblem, State

YAWS = 12
"""Directions round the axis that is up, to start from."""

CODES = 32
"""Training codes that are tried at each of the best poses, at most."""

_SCALES = (0.7, 0.95)  # the scan's radius by the shape's: a scan shows a part of the shape
_EXTREMES = (0.4, 1.1)  # and the least and the greatest that can be
_BEHIND = 0.1  # unit lengths from the middle of what was seen to the middle of the shape, away from the camera
_COARSE_POINTS, _COARSE_STEPS, _COARSE_WIDTH = 64, 8, 0.1
_POSES = 5
_SAME_TURN, _SAME_SCALE = 0.2, 0.1  # radians, share: such hypotheses are one


def start_states(
    problem: ScanProblem, scan: Scan, base: np.ndarray, codes: torch.Tensor, *, any_way_up: bool, count: int
) -> State:
    """Up to `count` hypotheses, the best first.

    Args:
        base: (4, 4), the scan's frame to the unit frame, as far as it is known.
        codes: (c, L) training codes, whitened.
    """
    freedom = problem.freedom
    device = problem.observed.points.device
    every = -(-len(codes) // CODES)
    tried = torch.cat([torch.zeros_like(codes[:1]), codes[::every]])  # the mean first
    few = replace(problem, observed=problem.observed.some(_COARSE_POINTS, 2 * _COARSE_POINTS))
    starts = Alignment.of(start_matrices(scan, base, freedom, any_way_up=any_way_up), device)
    if freedom.pose != "none":
        coarse = replace(few, fit_code=False)
        state = State(torch.zeros(len(starts), codes.shape[1], device=device), starts)
        state, found, _, _ = coarse.minimise(state, [_COARSE_WIDTH], _COARSE_STEPS)
        starts = state.alignment[_distinct(state.alignment, found.objective, _POSES)]
    poses, number = len(starts), len(tried)
    both = State(tried.repeat(poses, 1), starts[torch.arange(poses, device=device).repeat_interleave(number)])
    losses = few.objective(both, _COARSE_WIDTH).reshape(poses, number)
    if freedom.pose == "none":
        return both[losses[0].argsort()[:count]]
    best, code = losses.min(dim=1)
    order = best.argsort()[:count]
    return State(tried[code[order]], starts[order])


def start_matrices(scan: Scan, base: np.ndarray, freedom: Freedom, *, any_way_up: bool) -> np.ndarray:
    """Similarities (k, 4, 4) over turns and, where it is free, scales: about the unit frame's origin, and about the
    middle of the scan."""
    if freedom.pose == "none":
        return base[None]
    turns = rotations(freedom.pose, freedom.up, YAWS, any_way_up=any_way_up)
    middle, radius = extent(scan, base)
    away = (scan.points - scan.cameras)[np.isfinite(scan.cameras).all(axis=1)] @ base[:3, :3].T
    away = away / np.linalg.norm(away, axis=1, keepdims=True)
    behind = _BEHIND * away.mean(axis=0) if len(away) else np.zeros(3)
    scales = [share / radius for share in _SCALES] if freedom.pose == "similarity" else [1.0]
    found = [_about(turn, scale, middle) @ base for turn in turns for scale in scales]
    for matrix, turn in zip(found, np.repeat(turns, len(scales), axis=0), strict=True):
        matrix[:3, 3] += turn @ behind
    if freedom.pose != "similarity" or not np.array_equal(base, np.eye(4)):
        found += [_about(turn, 1.0, np.zeros(3)) @ base for turn in turns]
    return np.array(found)


def free_scales(scan: Scan) -> tuple[float, float]:
    """The least and the greatest scale from a scan's frame to the unit frame."""
    radius = extent(scan, np.eye(4))[1]
    return _EXTREMES[0] / radius, _EXTREMES[1] / radius


def extent(scan: Scan, base: np.ndarray) -> tuple[np.ndarray, float]:
    """Middle (3,) and radius of a scan after a similarity, a few outliers left out."""
    points = scan.points @ base[:3, :3].T + base[:3, 3]
    low, high = np.quantile(points, [0.01, 0.99], axis=0)
    middle = (low + high) / 2
    return middle, float(np.quantile(np.linalg.norm(points - middle, axis=1), 0.98))


def _about(turn: np.ndarray, scale: float, middle: np.ndarray) -> np.ndarray:
    """The similarity that takes `middle` to the origin, turns and scales: (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * turn
    matrix[:3, 3] = -scale * turn @ middle
    return matrix


def _distinct(alignment: Alignment, losses: torch.Tensor, most: int) -> torch.Tensor:
    """Rows of the best hypotheses, of those that are nearly the same one alone."""
    order = losses.argsort()
    turns, scales = alignment.rotation[order], alignment.scale[order].log()
    cosine = (torch.einsum("aij,bij->ab", turns, turns) - 1) / 2
    near = (cosine > np.cos(_SAME_TURN)) & ((scales[:, None] - scales).abs() < _SAME_SCALE)
    # A better one of the same kind stands before it: only then it is left out.
    repeated = near.tril(-1).any(dim=1)
    return order[~repeated][:most]
