"""Reads the surface points that `deepsdf preprocess --surface` writes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import trimesh

from deepsdf.errors import InputError


def load_points(path: str | os.PathLike[str]) -> np.ndarray:
    """Vertices (n, 3) float64 of a point cloud or mesh file. Faces are ignored.

    Raises:
        InputError: the file does not exist or cannot be parsed, or it holds no points, or points that are not finite.
    """
    path = Path(path)
    again = "make it again with `deepsdf preprocess --surface`"
    if not path.is_file():
        raise InputError(f"there are no surface points at {path}; {again}")
    try:
        # As an open file, not as a path, so that the content cannot make trimesh read other files.
        with path.open("rb") as file:
            loaded = trimesh.load(file, file_type=path.suffix.lower().lstrip("."), process=False)
        points = np.asarray(loaded.vertices, np.float64)  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:  # a parser may raise anything on a damaged file
        raise InputError(f"{path} holds no readable points ({type(error).__name__}: {error}); {again}") from None
    if points.ndim != 2 or points.shape[1:] != (3,) or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(f"{path} holds no usable points (none, or NaN among them); {again}")
    return points
