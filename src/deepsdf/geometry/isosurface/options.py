"""Options of meshing a field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepsdf.options import Options, option

Method = Literal["sparse", "dense"]
Vertices = Literal["exact", "linear"]

TOLERANCE = 1 / 400
"""Default tolerance of exact vertices, as a fraction of a cell. Measured: docs/measurements/meshing.md, "Tolerance"."""

SHAPE_TOLERANCE = 1 / 64
"""The same for a shape of a space: half the triangles and half the time of 1/400, and still closer to the level set
than linear vertices at twice the resolution (same table). The decoder's own error is larger."""


@dataclass(frozen=True)
class Meshing(Options):
    """Options of `deepsdf.polygonize`, `Shape.mesh` and of every verb that writes meshes.

    Where a parameter is declared `Meshing | int`, an integer n stands for `Meshing(resolution=n)`.
    """

    resolution: int = option(256, "Grid resolution (samples per axis).", minimum=2)
    bound: float = option(1.0, "Half the side of the meshed cube [-bound, bound]³, in the field's frame.", above=0.0)
    method: Method = option(
        "sparse",
        "'sparse' evaluates the field near the surface only; 'dense' evaluates every grid sample, like the original.",
        choices=("sparse", "dense"),
        switches={"--dense": ("dense", "Evaluate every grid sample, like the original.")},
    )
    vertices: Vertices = option(
        "exact",
        "'exact' places vertices on the level set and keeps sharp edges (dual contouring, with vertex normals); "
        "'linear' is marching cubes, like the original.",
        choices=("exact", "linear"),
        switches={"--linear": ("linear", "Use plain marching cubes, like the original: faster, less accurate.")},
    )
    tolerance: float | None = option(
        None,
        "Largest distance of an edge's midpoint from the surface, as a fraction of a cell; edges beyond it are split. "
        "Exact vertices only.",
        above=0.0,
        default_text="1/64 for a shape of a space, 1/400 for other fields",
    )
    lipschitz: float | None = option(
        None,
        "Upper bound of the field's slope, |f(p) - f(q)| / |p - q|. With a true bound the sparse search provably "
        "misses nothing; 1 for exact distances.",
        above=0.0,
        default_text="estimated during the search",
    )
    closed: bool = option(
        False,
        "Close the mesh where the faces of the cube cut it.",
        switches={"--closed": (True, "Close meshes where the faces of the cube cut them.")},
    )

    @classmethod
    def of(cls, meshing: Meshing | int) -> Meshing:
        """The options themselves, or default options with this resolution."""
        return meshing if isinstance(meshing, Meshing) else cls(resolution=meshing)


PREVIEW = Meshing(resolution=128)
"""Default of methods and verbs that mesh several shapes or show them: a quarter of the evaluations of `Meshing()`."""
