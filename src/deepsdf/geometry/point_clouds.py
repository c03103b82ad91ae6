"""Point clouds in files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import trimesh

from deepsdf.errors import InputError


def load_points(path: str | os.PathLike[str]) -> np.ndarray:
    """Points (n, 3) float64 of a point cloud's or mesh's file: its vertices. Faces beside them are ignored.

    Raises:
        InputError: no such file, not readable, no points, or NaN among them.
    """
    path = Path(path)
    again = "make it again with `deepsdf preprocess --surface`"
    if not path.is_file():
        raise InputError(f"there are no surface points at {path}; {again}")
    try:
        # By its content, not its path: a file must not name others to be read.
        with path.open("rb") as file:
            loaded = trimesh.load(file, file_type=path.suffix.lower().lstrip("."), process=False)
        points = np.asarray(loaded.vertices, np.float64)  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:  # a parser meets anything in a broken file
        raise InputError(f"{path} holds no readable points ({type(error).__name__}: {error}); {again}") from None
    if points.ndim != 2 or points.shape[1:] != (3,) or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(f"{path} holds no usable points (none, or NaN among them); {again}")
    return points
