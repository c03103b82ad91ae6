"""Distances between two surfaces: the metrics of the DeepSDF paper and of later papers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from deepsdf.metrics.options import MetricOptions
from deepsdf.metrics.pair import ACCURACY_SHARE, SurfacePair
from deepsdf.metrics.registry import METRICS
from deepsdf.metrics.sides import Side, Surface, checked_points


@dataclass(frozen=True)
class SurfaceMetrics:
    """Every metric of two surfaces, and the conditions under which they were computed.

    Each metric of `registry.METRICS` that compares surfaces is an attribute: `metrics.chamfer`, a float, or None where
    it is undefined. docs/metrics.md defines all of them. Lengths are in the frame of the two surfaces.

    Attributes:
        values: the metrics by name, in the order of the registry.
        reference_points, surface_points: number of points of each side.
        emd_points: pairs of the earth mover's distance; 0 if it was omitted.
        emd_method: "exact", or "approximate" (an upper bound, see `transport.assign`); None if it was omitted.
        volume_points: sample points of the IoU; 0 where it is None.
        seed: random seed.
        accuracy_share: share of the points within the mesh accuracy.
        completion_delta: distance threshold of the mesh completion.
        f_score_side: length to which the percentages of the F-scores refer.
        distances_to_reference: "to the surface" (nearest point of any face, exact to float32) if the reference is a
            mesh, else "between samples" (nearest point).
        distances_to_surface: the same for the other side.
    """

    values: Mapping[str, float | None]
    reference_points: int
    surface_points: int
    emd_points: int
    emd_method: str | None
    volume_points: int
    seed: int
    accuracy_share: float
    completion_delta: float
    f_score_side: float
    distances_to_reference: str
    distances_to_surface: str

    def __getattr__(self, name: str) -> Any:
        # Called only for names that are not fields. `values` is absent while an object is being unpickled.
        values = self.__dict__.get("values", {})
        if name not in values:
            raise AttributeError(f"there is no metric {name!r}; expected one of {', '.join(values)}")
        return values[name]

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *self.values])

    @property
    def conditions(self) -> dict[str, float | int | str | None]:
        """All fields except the metrics."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "values"}

    def as_dict(self) -> dict[str, float | int | str | None]:
        """The metrics, then the conditions, by name: a row of a table."""
        return {**self.values, **self.conditions}


@dataclass(frozen=True)
class Chamfer:
    """Chamfer distance of two point sets, in squared lengths of their frame.

    Attributes:
        chamfer: `to_reference + to_surface`. The paper prints it × 10³.
        to_reference: mean squared distance from the surface's points to the nearest reference point.
        to_surface: mean squared distance from the reference's points to the nearest surface point.
        points: number of points of (reference, surface).
    """

    chamfer: float
    to_reference: float
    to_surface: float
    points: tuple[int, int]


def chamfer(reference: np.ndarray, points: np.ndarray) -> Chamfer:
    """Chamfer distance of two point sets (n, 3), (m, 3): the sum of both mean squared nearest-neighbour distances.

    DeepSDF, supplementary material, equation 1, with means in place of sums, as its code computes it.

    Raises:
        InputError: an empty set, or NaN in one.
    """
    one, other = Side(checked_points(reference, "reference")), Side(checked_points(points, "surface"))
    to_reference, to_surface = other.squared_sample_distance(one), one.squared_sample_distance(other)
    return Chamfer(to_reference + to_surface, to_reference, to_surface, (len(one.points), len(other.points)))


def compare(
    reference: Surface, surface: Surface, options: MetricOptions = MetricOptions(), *, device: str = "auto"
) -> SurfaceMetrics:
    """Every metric of a surface against a reference, both in one frame.

    All faces of a mesh count, as they are stored; only its inside (for the IoU) is that of a repaired copy. Of a
    `MeshSDF` the outer surface counts: use one for a reference with inner walls, or for a reference with which many
    surfaces are compared, since it is repaired once. Point sets have no normals and no inside.

    Args:
        options: number of points, thresholds and seed.
        device: "auto", "cpu" or a CUDA device, for the distances to meshes; a `MeshSDF` has its own.
    Raises:
        InputError: neither a mesh nor points (n, 3), no points, or NaN.
        MeshError: a mesh without a surface, or with NaN.
    """
    rng = np.random.default_rng(options.seed)
    one = Side.of(reference, "reference", options.points, rng, device)
    other = Side.of(surface, "surface", options.points, rng, device)
    pair = SurfacePair(one, other, options)
    values = {metric.name: metric.of_surfaces(pair) for metric in METRICS.values() if metric.of_surfaces}
    return SurfaceMetrics(
        values=values,
        reference_points=len(one.points),
        surface_points=len(other.points),
        emd_points=pair.earth_mover.points,
        emd_method=pair.earth_mover.method,
        volume_points=0 if pair.volumetric_iou is None else options.volume_points,
        seed=options.seed,
        accuracy_share=ACCURACY_SHARE,
        completion_delta=float(options.completion_delta),
        f_score_side=pair.f_score_side,
        distances_to_reference=one.distance_kind,
        distances_to_surface=other.distance_kind,
    )
