"""How a field is meshed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepsdf.options import Options, option

Method = Literal["sparse", "dense"]
Vertices = Literal["exact", "linear"]


@dataclass(frozen=True)
class Meshing(Options):
    """Options of `deepsdf.polygonize`, `Shape.mesh` and of every verb that writes meshes."""

    resolution: int = option(256, "Grid resolution (samples per axis).", minimum=2)
    bound: float = option(1.0, "Half side of the meshed cube [-bound, bound]³, in the field's frame.", above=0.0)
    method: Method = option(
        "sparse",
        "'sparse' evaluates the field near the surface only; 'dense' evaluates every grid sample, like the original.",
        choices=("sparse", "dense"),
        switches={"--dense": ("dense", "Evaluate every grid sample, like the original.")},
    )
    vertices: Vertices = option(
        "exact",
        "'exact' puts vertices on the level set and keeps sharp edges (dual contouring); 'linear' is marching cubes.",
        choices=("exact", "linear"),
        switches={"--linear": ("linear", "Use plain marching cubes, like the original: faster, less accurate.")},
    )
    tolerance: float | None = option(
        None,
        "Largest distance from an edge's midpoint to the surface before the edge is split, as a fraction of a cell.",
        above=0.0,
        default_text="1/64 for a shape of a space, 1/400 for other fields",
    )
    lipschitz: float | None = option(
        None,
        "Upper bound of the field's slope. With it, the sparse search provably misses nothing.",
        above=0.0,
        default_text="estimated during the search",
    )
    closed: bool = option(
        False,
        "Close the mesh where the faces of the cube cut it.",
        switches={"--closed": (True, "Close meshes where the faces of the cube cut them.")},
    )
