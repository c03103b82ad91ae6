"""Variants of a shape for data augmentation: stretched, sheared and smoothly bent copies.

With few training shapes, variants show the network how shapes of the class may differ.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import trimesh

from deepsdf.geometry.meshes import Normalization

STRENGTH = 0.12
"""Default strength. With it, 8 variants of each of 32 shapes halve the error on unseen shapes
(docs/measurements/training.md, "Data augmentation")."""

_WAVES = 12
"""Number of sines. Their amplitudes are divided by its square root, so that it does not change the size of the
bends."""

_WAVELENGTHS = 0.8, 3.0
"""Shortest and longest wavelength, unit frame: from a part of a shape (diameter 2) to more than the whole."""

_STEEPEST = 0.9
"""Limit of the Lipschitz constant of the bends relative to the least singular value of the stretch and shear. Below 1
the map is injective: no two points meet, and nothing folds over."""


def vary(mesh: trimesh.Trimesh, *, seed: int, strength: float = STRENGTH) -> trimesh.Trimesh:
    """A copy of the mesh with its vertices moved and its faces unchanged, so that holes stay and no new ones open.

    Points p of the unit frame move to S (a ∘ p) + Σ b sin(w · p + φ): stretched along the coordinate axes by factors of
    about e^(±1.5 strength), sheared by about half the strength, and bent by sines of random directions.

    Args:
        mesh: mesh frame.
        seed: determines the map in the unit frame, independently of the mesh.
        strength: size of the deformation; 0 changes nothing.
    Returns:
        A new mesh, in the mesh frame.
    Raises:
        MeshError: the mesh cannot be normalised (see `Normalization.fit`).
    """
    rng = np.random.default_rng(seed)
    normalization = Normalization.fit(mesh)
    points = normalization.apply(np.asarray(mesh.vertices))
    stretch = np.exp(rng.normal(0, 1.5 * strength, 3))
    shear = scipy.linalg.expm(rng.normal(0, strength / 2, (3, 3)) * (1 - np.eye(3)))
    directions = rng.normal(size=(_WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # Wavelengths are drawn log-uniformly. Amplitudes are proportional to them, so that bends of all wavelengths have
    # the same slope, |b| |w|.
    shortest, longest = np.log(_WAVELENGTHS)
    lengths = np.exp(rng.uniform(shortest, longest, _WAVES))
    waves = directions * (2 * np.pi / lengths)[:, None]
    bends = rng.normal(0, 1.8 * strength / np.sqrt(_WAVES), (_WAVES, 3)) * (lengths / (2 * np.pi))[:, None]
    # The Jacobian of the bends is Σ b wᵀ cos(...), of norm at most Σ |b| |w|.
    steepness = (np.linalg.norm(bends, axis=1) * np.linalg.norm(waves, axis=1)).sum()
    bends *= min(1.0, _STEEPEST * _least_stretch(stretch, shear) / max(steepness, 1e-12))
    phases = rng.uniform(0, 2 * np.pi, _WAVES)
    moved = (points * stretch) @ shear.T + np.sin(points @ waves.T + phases) @ bends
    varied = mesh.copy()
    varied.vertices = normalization.invert(moved)
    return varied


def _least_stretch(stretch: np.ndarray, shear: np.ndarray) -> float:
    """The least factor by which the linear map changes distances: its smallest singular value."""
    return float(np.linalg.svd(shear * stretch, compute_uv=False)[-1])
