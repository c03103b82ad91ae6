"""From a field to a mesh: its zero level set, evaluated coarse to fine and cut by marching cubes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import trimesh

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.primitives import Field

COARSE_STEP = 8
"""Cells a coarse cell is long: 256 samples an axis begin with 33."""

SAFETY = 1.25
"""How much steeper than a distance a field may be without a cell being missed. A point of a cell is at most half
its diagonal from a corner, so a field of slope 1 with a zero inside is at most that at some corner."""


def polygonize(
    field: Field,
    *,
    resolution: int = 256,
    bound: float = 1.0,
    method: Literal["sparse", "dense"] = "sparse",
) -> trimesh.Trimesh:
    """The zero level set of a field inside the cube [-bound, bound]³, faces outward.

    Args:
        field: points (n, 3) float32 -> signed distance (n,), negative inside.
        resolution: samples an axis, at -bound + 2 · bound · i / (resolution - 1) exactly. Memory grows as its cube
            (256: 67 MB for the grid alone, several times that while it is filled), the number of field
            evaluations about as its square with "sparse".
        bound: half the cube's side, in the field's frame.
        method: "sparse" evaluates only near the surface and finds every part of it that the field's coarse values
            tell of; "dense" evaluates every sample, as the original.
    Returns:
        A mesh in the field's frame. It is watertight where the field is closed in the cube.
    Raises:
        NoSurfaceError: the field has one sign everywhere; the message gives its least and greatest value.
        InputError: a resolution below 2, a bound that is not positive and finite, an unknown method, or a field that is
            not a number somewhere.
    """
    if resolution < 2 or not 0 < bound < np.inf or method not in ("sparse", "dense"):
        raise InputError(
            f"resolution {resolution} must be at least 2, bound {bound} positive and finite, and method {method!r} "
            "'sparse' or 'dense'"
        )
    values = sample_grid(field, resolution, bound, coarse_step=1 if method == "dense" else COARSE_STEP)
    low, high = float(values.min()), float(values.max())
    if not (low < 0 < high):
        side = "outside" if high > 0 else "inside"
        raise NoSurfaceError(
            f"the field has no surface in the cube of half side {bound:g}: its values lie between {low:.4g} and "
            f"{high:.4g}, so everything is {side}"
        )
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="descent")
    vertices = vertices.astype(np.float64) * (2.0 * bound / (resolution - 1)) - bound
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.merge_vertices()
    mesh.update_faces(mesh.nondegenerate_faces(height=0.0))
    mesh.remove_unreferenced_vertices()
    return mesh


def sample_grid(field: Field, resolution: int, bound: float, *, coarse_step: int = COARSE_STEP) -> np.ndarray:
    """A field's values on the grid of `polygonize`, (resolution,) * 3 float32, axes x, y, z.

    With `coarse_step` > 1, samples far from the surface hold the value of a coarse sample of their cell: the
    right sign, not the right distance.
    """
    axis = np.linspace(-bound, bound, resolution)
    step = coarse_step
    while step > 1 and (resolution - 1) // step < 4:
        step //= 2
    # The last index of an axis belongs to every level, whether or not the step meets it.
    coarse = _level(resolution, step)
    first = _evaluate(field, axis, np.stack(np.meshgrid(coarse, coarse, coarse, indexing="ij"), -1).reshape(-1, 3))
    nearest = np.searchsorted(coarse, np.arange(resolution), side="right") - 1
    values = first.reshape((len(coarse),) * 3)[np.ix_(nearest, nearest, nearest)]
    known = np.zeros(values.shape, bool)
    known[np.ix_(coarse, coarse, coarse)] = True
    cells = np.stack(np.meshgrid(coarse[:-1], coarse[:-1], coarse[:-1], indexing="ij"), -1).reshape(-1, 3)
    while step > 1:
        cells = _near_surface(values, cells, step, axis)
        step //= 2
        cells = (cells[:, None] + _offsets(0, step)).reshape(-1, 3)
        cells = cells[(cells < resolution - 1).all(axis=1)]
        _refine(field, axis, values, known, cells, step)
    return values


def _refine(
    field: Field, axis: np.ndarray, values: np.ndarray, known: np.ndarray, cells: np.ndarray, step: int
) -> None:
    """Evaluate the corners of cells, then give the samples between them the value of their lowest corner."""
    wanted = np.zeros(values.shape, bool)
    wanted[_split(_corners(cells, step, len(axis)))] = True
    wanted &= ~known
    indices = np.argwhere(wanted)
    values[wanted] = _evaluate(field, axis, indices)
    known |= wanted
    if step > 1:
        inside = np.minimum(cells[:, None] + _offsets(*range(step + 1)), len(axis) - 1)
        places = _split(inside)
        lowest = np.broadcast_to(values[_split(cells)][:, None], inside.shape[:2])
        values[places] = np.where(known[places], values[places], lowest)


def _offsets(*steps: int) -> np.ndarray:
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)


def _split(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return indices[..., 0], indices[..., 1], indices[..., 2]


def _level(resolution: int, step: int) -> np.ndarray:
    level = np.arange(0, resolution, step)
    return level if level[-1] == resolution - 1 else np.append(level, resolution - 1)


def _corners(cells: np.ndarray, step: int, resolution: int) -> np.ndarray:
    """The corners (c, 8, 3) of cells named by their lowest corner (c, 3)."""
    return np.minimum(cells[:, None] + _offsets(0, step), resolution - 1)


def _near_surface(values: np.ndarray, cells: np.ndarray, step: int, axis: np.ndarray) -> np.ndarray:
    found = values[_split(_corners(cells, step, len(axis)))]
    half_diagonal = 0.5 * np.sqrt(3.0) * step * (axis[1] - axis[0])
    mixed = (found > 0).any(axis=1) & (found <= 0).any(axis=1)
    return cells[mixed | (np.abs(found).min(axis=1) <= SAFETY * half_diagonal)]


def _evaluate(field: Field, axis: np.ndarray, indices: np.ndarray) -> np.ndarray:
    points = axis[indices].astype(np.float32)
    found = np.asarray(field(points), np.float32).reshape(-1) if len(points) else np.zeros(0, np.float32)
    if not np.isfinite(found).all():
        raise InputError(f"the field is not a number at {points[~np.isfinite(found)][0].tolist()}")
    return found
