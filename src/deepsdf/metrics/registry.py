"""The metrics: each is registered here once, and nowhere else.

An entry of `METRICS` is all that a new metric needs. From it follow its column of metrics.csv, its statistics in
summary.json, its row and texts in the report, its columns in the tables that `deepsdf evaluate` prints, and its
attribute of `SurfaceMetrics`. A test compares docs/metrics.md with the entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from deepsdf.metrics.fields import FieldPair
from deepsdf.metrics.pair import ACCURACY_SHARE, F_SCORE_SHARES, SurfacePair

Direction = Literal["lower", "higher"]
Unit = Literal["length", "squared length", "ratio"]
Statistic = Literal["mean", "median", "max"]


@dataclass(frozen=True)
class Column:
    """A column of the tables that `deepsdf evaluate` prints: one statistic of a metric.

    Attributes:
        heading: with line breaks.
        decimals: printed digits after the decimal point.
        statistic: over the shapes.
    """

    heading: str
    decimals: int = 3
    statistic: Statistic = "mean"


@dataclass(frozen=True)
class Metric:
    """One metric of a reconstructed shape. Exactly one of `of_surfaces` and `of_field` is given.

    Attributes:
        name: column of metrics.csv and key of summary.json.
        label: name in the report.
        unit: in the frame of the surfaces; the unit frame in `deepsdf evaluate`.
        direction: which values are better.
        definition: equation and source, for docs/metrics.md. x are points of the reference R, y points of the surface
            S, d(y, R) the distance of y to R.
        description: one sentence, for the report.
        of_surfaces: computes it from two surfaces; None where it is undefined, such as a volume without an inside.
        of_field: computes it from a field and samples of the true signed distance.
        factor: printed figures are multiplied by this power of ten.
        decimals: digits after the decimal point in the report.
        columns: in the table that `deepsdf evaluate` prints.
        headline: shown at the head of the report and on every card.
        in_completion: summarised in completion.json and shown in the table of `deepsdf evaluate --completion`, as in
            Table 4 of the paper.
    """

    name: str
    label: str
    unit: Unit
    direction: Direction
    definition: str
    description: str
    of_surfaces: Callable[[SurfacePair], float | None] | None = None
    of_field: Callable[[FieldPair], float] | None = None
    factor: float = 1.0
    decimals: int = 4
    columns: tuple[Column, ...] = ()
    headline: bool = False
    in_completion: bool = False

    def __post_init__(self) -> None:
        if (self.of_surfaces is None) == (self.of_field is None):
            raise ValueError(f"metric {self.name!r}: give exactly one of of_surfaces and of_field")
        if self.factor not in _FACTORS:
            raise ValueError(f"metric {self.name!r}: factor is {self.factor}; expected one of {[*_FACTORS]}")

    @property
    def heading(self) -> str:
        """The label with the power of ten of printed figures."""
        return self.label + _FACTORS[self.factor]

    def best(self, figures: list[float]) -> float | None:
        """The best of some figures; None if there are none."""
        return (min if self.direction == "lower" else max)(figures, default=None)


_FACTORS = {1.0: "", 1e3: " × 10³"}

_ALL = (
    Metric(
        name="chamfer",
        label="Chamfer",
        unit="squared length",
        direction="lower",
        definition="`chamfer_to_reference + chamfer_to_surface`; between samples; the paper prints it × 10³ "
        "(DeepSDF, supplementary material, equation 1, with means in place of sums)",
        description="Mean squared distance to the nearest sample, summed over both directions.",
        of_surfaces=lambda pair: pair.squared_to_reference + pair.squared_to_surface,
        factor=1e3,
        decimals=3,
        columns=(Column("chamfer\nmean"), Column("chamfer\nmedian", statistic="median")),
        headline=True,
        in_completion=True,
    ),
    Metric(
        name="chamfer_to_reference",
        label="Chamfer to the truth",
        unit="squared length",
        direction="lower",
        definition="mean over y of min over x of |x - y|²; between samples",
        description="The part from the reconstruction to the truth: large where there is extra surface.",
        of_surfaces=lambda pair: pair.squared_to_reference,
        factor=1e3,
        decimals=3,
    ),
    Metric(
        name="chamfer_to_surface",
        label="Chamfer from the truth",
        unit="squared length",
        direction="lower",
        definition="mean over x of min over y of |x - y|²; between samples",
        description="The part from the truth to the reconstruction: large where surface is missing.",
        of_surfaces=lambda pair: pair.squared_to_surface,
        factor=1e3,
        decimals=3,
    ),
    Metric(
        name="chamfer_l1",
        label="Chamfer-L1",
        unit="length",
        direction="lower",
        definition="half the sum of mean d(y, R) and mean d(x, S) (Mescheder et al., Occupancy Networks, CVPR 2019, "
        "who measure between samples and print tenths of the bounding box's longest side)",
        description="Mean distance to the surface, averaged over both directions.",
        of_surfaces=lambda pair: float(pair.to_reference.each.mean() + pair.to_surface.each.mean()) / 2,
    ),
    Metric(
        name="earth_mover_distance",
        label="Earth mover's distance",
        unit="length",
        direction="lower",
        definition="mean length of the pairs of the best bijection of 500 x and 500 y; between samples; exact up to "
        "2 000 points, an upper bound above; it depends on the number of points, so compare equal numbers (DeepSDF)",
        description="Mean distance of the best one-to-one matching of samples; large even if both surfaces agree.",
        of_surfaces=lambda pair: pair.earth_mover.distance,
        columns=(Column("EMD", 4),),
        in_completion=True,
    ),
    Metric(
        name="mesh_accuracy",
        label="Mesh accuracy",
        unit="length",
        direction="lower",
        definition="smallest d with d(y, R) ≤ d for 90 % of the y (DeepSDF, after Seitz et al., CVPR 2006)",
        description="90 % of the reconstruction is within this distance of the truth.",
        of_surfaces=lambda pair: pair.to_reference.quantile(ACCURACY_SHARE),
        columns=(Column("mesh\naccuracy", 4),),
        headline=True,
        in_completion=True,
    ),
    Metric(
        name="mesh_completion",
        label="Mesh completion",
        unit="ratio",
        direction="higher",
        definition="share of the x with d(x, S) ≤ 0.01 (DeepSDF, after Seitz et al., CVPR 2006)",
        description="Share of the truth within 0.01 of the reconstruction.",
        of_surfaces=lambda pair: pair.to_surface.within(pair.options.completion_delta),
        columns=(Column("mesh\ncompletion"),),
        in_completion=True,
    ),
    Metric(
        name="cosine_to_reference",
        label="Normals to the truth",
        unit="ratio",
        direction="higher",
        definition="mean absolute cosine between the normals of each y and of the nearest face of R",
        description="Mean |cosine| between normals of the reconstruction and of the nearest point of the truth.",
        of_surfaces=lambda pair: pair.to_reference.cosine,
    ),
    Metric(
        name="cosine_to_surface",
        label="Normals from the truth",
        unit="ratio",
        direction="higher",
        definition="mean absolute cosine between the normals of each x and of the nearest face of S: 1 is best, ½ is "
        "the value of random directions (DeepSDF, mesh cosine similarity; absolute, since the truth may be wound "
        "either way)",
        description="Mean |cosine| between normals of the truth and of the nearest point of the reconstruction.",
        of_surfaces=lambda pair: pair.to_surface.cosine,
        columns=(Column("cosine\nsimilarity"),),
        in_completion=True,
    ),
    Metric(
        name="f_score_half_percent",
        label="F-score 0.5 %",
        unit="ratio",
        direction="higher",
        definition="harmonic mean of the share of the y with d(y, R) ≤ τ and the share of the x with d(x, S) ≤ τ, "
        "τ = 0.5 % of the longest side of the reference's bounding box (Knapitsch et al., Tanks and Temples, SIGGRAPH "
        "2017; τ relative to the shape: Tatarchenko et al., CVPR 2019)",
        description="Harmonic mean of precision and recall within 0.5 % of the truth's longest side.",
        of_surfaces=lambda pair: pair.f_score(F_SCORE_SHARES[0]),
    ),
    Metric(
        name="f_score_one_percent",
        label="F-score 1 %",
        unit="ratio",
        direction="higher",
        definition="the same with τ = 1 %",
        description="Harmonic mean of precision and recall within 1 % of the truth's longest side.",
        of_surfaces=lambda pair: pair.f_score(F_SCORE_SHARES[1]),
        columns=(Column("F-score\n1 %"),),
        headline=True,
    ),
    Metric(
        name="f_score_two_percent",
        label="F-score 2 %",
        unit="ratio",
        direction="higher",
        definition="the same with τ = 2 %",
        description="Harmonic mean of precision and recall within 2 % of the truth's longest side.",
        of_surfaces=lambda pair: pair.f_score(F_SCORE_SHARES[2]),
    ),
    Metric(
        name="hausdorff",
        label="Hausdorff",
        unit="length",
        direction="lower",
        definition="largest d(y, R) or d(x, S), the vertices of meshes included; a lower bound of the true distance "
        "(Cignoni et al., Metro, 1998)",
        description="Largest distance from a point of either surface to the other.",
        of_surfaces=lambda pair: max(pair.to_reference.farthest, pair.to_surface.farthest),
    ),
    Metric(
        name="hausdorff_95",
        label="Hausdorff 95 %",
        unit="length",
        direction="lower",
        definition="larger of the 95 % quantiles of d(y, R) and of d(x, S), vertices excluded (Taha and Hanbury, 2015)",
        description="95 % of the points of either surface are within this distance of the other.",
        of_surfaces=lambda pair: max(pair.to_reference.quantile(0.95), pair.to_surface.quantile(0.95)),
    ),
    Metric(
        name="volumetric_iou",
        label="Volumetric IoU",
        unit="ratio",
        direction="higher",
        definition="volume of the intersection of both solids divided by that of their union; overlapping parts count "
        "once, small holes are closed; undefined for points, open sheets, holes too large to close and signs by the "
        "original's vote",
        description="Volume inside both surfaces, as a share of the volume inside at least one of them.",
        of_surfaces=lambda pair: pair.volumetric_iou,
        columns=(Column("IoU"),),
        headline=True,
    ),
    Metric(
        name="sdf_clamped_l1",
        label="SDF error",
        unit="length",
        direction="lower",
        definition="mean absolute difference of the learned and the true signed distance, both clamped to ±δ, on the "
        "SDF samples to which the code was fitted (DeepSDF, equation 4 without the prior)",
        description="Mean absolute error of the clamped signed distance on the shape's SDF samples.",
        of_field=lambda pair: pair.clamped_l1(),
        decimals=5,
    ),
    Metric(
        name="sdf_wrong_signs",
        label="Wrong signs",
        unit="ratio",
        direction="lower",
        definition="share of these samples, those on the surface excluded, where the learned field has the wrong sign",
        description="Share of the shape's SDF samples on the wrong side of the surface.",
        of_field=lambda pair: pair.wrong_signs(),
        decimals=5,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric by name, in the order of the columns of metrics.csv."""
