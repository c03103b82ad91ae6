"""Variants of a shape: stretched, sheared and smoothly bent. Where there are few shapes to learn from, they tell a
network how shapes of the class might differ."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import trimesh

from deepsdf.geometry.meshes import Normalization

STRENGTH = 0.12

WAVES = 12
WAVELENGTHS = 0.8, 3.0
"""Unit frame: from a part of a shape to all of it."""

STEEPEST = 0.9
"""The most that the bends may change from point to point: below 1 no two points meet, and nothing folds over."""


def vary(mesh: trimesh.Trimesh, *, seed: int, strength: float = STRENGTH) -> trimesh.Trimesh:
    """The mesh with its vertices moved; faces, and so holes and closedness, are as they were.

    Points p of the unit frame go to S (a ∘ p) + Σ b sin(w · p + φ): stretched along the axes by factors of about
    e^(±1.5 strength), sheared by about half of `strength`, and bent by sines of random directions.

    Args:
        mesh: mesh frame.
        seed: the same seed gives the same variant, whatever the mesh.
        strength: 0 leaves it as it is.
    Returns:
        A new mesh, in the mesh frame.
    Raises:
        MeshError: as `Normalization.fit`.
    """
    rng = np.random.default_rng(seed)
    normalization = Normalization.fit(mesh)
    points = normalization.apply(np.asarray(mesh.vertices))
    stretch = np.exp(rng.normal(0, 1.5 * strength, 3))
    shear = scipy.linalg.expm(rng.normal(0, strength / 2, (3, 3)) * (1 - np.eye(3)))
    directions = rng.normal(size=(WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shortest, longest = np.log(WAVELENGTHS)
    lengths = np.exp(rng.uniform(shortest, longest, WAVES))
    waves = directions * (2 * np.pi / lengths)[:, None]
    bends = rng.normal(0, 1.8 * strength / np.sqrt(WAVES), (WAVES, 3)) * (lengths / (2 * np.pi))[:, None]
    steepness = (np.linalg.norm(bends, axis=1) * np.linalg.norm(waves, axis=1)).sum()
    bends *= min(1.0, STEEPEST * _least(stretch, shear) / max(steepness, 1e-12))
    phases = rng.uniform(0, 2 * np.pi, WAVES)
    moved = (points * stretch) @ shear.T + np.sin(points @ waves.T + phases) @ bends
    varied = mesh.copy()
    varied.vertices = normalization.invert(moved)
    return varied


def _least(stretch: np.ndarray, shear: np.ndarray) -> float:
    """How much the nearest two points come together in any direction."""
    return float(np.linalg.svd(shear * stretch, compute_uv=False)[-1])
