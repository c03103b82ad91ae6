"""How a report names each metric, and prints it."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """Of a metric.

    Attributes:
        label: its name, and the power of ten that printed figures leave out.
        factor: of printed figures.
        decimals: of printed figures.
        meaning: in a sentence; `SurfaceMetrics` and `SDFError` define it.
    """

    label: str
    factor: float
    decimals: int
    meaning: str


WORDS = {
    "chamfer": Words("Chamfer × 10³", 1e3, 3, "Mean squared distance to the nearest sample, the sum of both ways."),
    "chamfer_to_reference": Words(
        "Chamfer to the truth × 10³", 1e3, 3, "Its first half: from the reconstruction to the truth. Extra surface."
    ),
    "chamfer_to_surface": Words(
        "Chamfer from the truth × 10³",
        1e3,
        3,
        "Its second half: from the truth to the reconstruction. Lost surface.",
    ),
    "chamfer_l1": Words("Chamfer-L1", 1, 4, "Mean distance to the surface, the mean of both ways."),
    "earth_mover_distance": Words(
        "Earth mover's distance", 1, 4, "Mean distance of the best pairing of samples of both; it has a large floor."
    ),
    "mesh_accuracy": Words("Mesh accuracy", 1, 4, "90 % of the reconstruction lie as close to the truth as this."),
    "mesh_completion": Words("Mesh completion", 1, 4, "Share of the truth within 0.01 of the reconstruction."),
    "cosine_to_reference": Words(
        "Normals to the truth", 1, 4, "Mean |cosine| between normals of the reconstruction and of the nearest truth."
    ),
    "cosine_to_surface": Words(
        "Normals from the truth", 1, 4, "Mean |cosine| between normals of the truth and of the nearest reconstruction."
    ),
    "f_score_half_percent": Words(
        "F-score 0.5 %", 1, 4, "Of precision and recall within 0.5 % of the truth's longest side."
    ),
    "f_score_one_percent": Words("F-score 1 %", 1, 4, "The same within 1 %."),
    "f_score_two_percent": Words("F-score 2 %", 1, 4, "The same within 2 %."),
    "hausdorff": Words("Hausdorff", 1, 4, "The largest distance of any point of either to the other."),
    "hausdorff_95": Words("Hausdorff 95 %", 1, 4, "95 % of the points of either lie as close to the other as this."),
    "volumetric_iou": Words("Volumetric IoU", 1, 4, "Volume that both enclose, as a share of what either encloses."),
    "sdf_clamped_l1": Words("SDF error", 1, 5, "Mean error of the clamped signed distance on the shape's SDF samples."),
    "sdf_wrong_signs": Words("Wrong signs", 1, 5, "Share of the shape's SDF samples on the wrong side."),
}
"""By the names of `summary.METRICS`."""

HEADLINES = ("chamfer", "mesh_accuracy", "f_score_one_percent", "volumetric_iou")
"""Of the page's head and of every card."""
