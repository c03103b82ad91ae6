"""Options of the verbs: defaults, bounds and help texts, in a module that imports quickly for `deepsdf --help`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepsdf.errors import InputError
from deepsdf.options import Options, option, seed_option


def _sign_methods() -> list[str]:
    from deepsdf.geometry.sdf.signs import SIGNS

    return list(SIGNS)


@dataclass(frozen=True)
class Sampling(Options):
    """Options of `deepsdf preprocess`. The defaults are the original's training samples."""

    surface: bool = option(False, "Write surface samples, which `evaluate` needs, instead of SDF samples.")
    test: bool = option(False, "Write SDF samples for testing: fewer, and farther from the surface.", flag="--test -t")
    samples: int | None = option(
        None, "Number of samples per shape.", minimum=1, default_text="500000, with --test 250000, with --surface 30000"
    )
    sign: str = option(
        "auto",
        "Method to sign distances. auto: chosen for the mesh; normal: face normals; winding: winding number; original: "
        "the original's vote of virtual cameras.",
        registry=_sign_methods,
    )
    keep_cavities: bool = option(False, "Keep cavities: closed inward-facing shells inside other shells.")
    thicken: float = option(
        0.0,
        "Subtract EPS (unit frame, for example 0.02) from every distance: open sheets, fins and planes become plates.",
        metavar="EPS",
    )
    variants: int = option(
        0,
        "Number of randomly stretched and bent copies of each shape, to augment classes of few shapes. Each gets a "
        "quarter of the samples.",
        minimum=0,
        maximum=1000,
    )
    pictures: bool = option(True, "Draw the contact sheet: each shape and its signed distances.")
    device: str = option("auto", "Device: auto, cpu, cuda or cuda:1.")
    seed: int = seed_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.thicken < 0.5:
            raise InputError(
                f"thicken is {self.thicken}; expected a length in the unit frame from 0 to less than 0.5, such as 0.02"
            )
        if self.variants and (self.surface or self.test):
            raise InputError("variants are training samples; omit --surface and --test, or --variants")


@dataclass(frozen=True)
class CompletionEvaluationOptions(Options):
    """Options of `deepsdf evaluate --completion`."""

    noise: float = option(0.0, "Standard deviation of each depth (unit frame).", minimum=0.0)
    background: bool = option(
        True,
        "Use rays that hit nothing as observations of free space. Without them, as in the paper, free space is only in "
        "front of the surface.",
    )
    picture: bool = option(True, "Draw scans, completions and true shapes.")


@dataclass(frozen=True)
class EditOptions(Options):
    """Options of `deepsdf edit`."""

    anyway: bool = option(False, "Write mesh and code even if constraints are not met or the shape is implausible.")
    picture: bool = option(True, "Draw the shape before and after.")
    seed: int = seed_option()


@dataclass(frozen=True)
class InterpolationOptions(Options):
    """Options of `deepsdf interpolate`."""

    path: Literal["linear", "prior"] = option(
        "linear",
        "'linear' is the straight line between two codes; 'prior' passes near training codes, so that every shape on "
        "the way is plausible.",
        choices=("linear", "prior"),
    )
    steps: int = option(7, "Number of shapes from each SHAPE to the next, both included.", minimum=2)
    film: Literal["gif", "mp4", "none"] = option(
        "gif",
        'Film that goes from the first SHAPE to the last and back; mp4 needs pip install "deepsdf[video]".',
        choices=("gif", "mp4", "none"),
    )
    frames: int = option(16, "Number of film frames from each SHAPE to the next.", minimum=2)
    seed: int = seed_option()


@dataclass(frozen=True)
class SampleOptions(Options):
    """Options of `deepsdf sample`."""

    count: int = option(8, "Number of shapes.", minimum=1, flag="--number -n")
    distance: Literal["chamfer", "emd"] = option(
        "chamfer",
        "Distance between shapes in the metrics; emd (earth mover's distance) takes minutes.",
        choices=("chamfer", "emd"),
    )
    points: int = option(2048, "Number of points per surface in the metrics.", minimum=8)
    seed: int = seed_option()


@dataclass(frozen=True)
class MapOptions(Options):
    """Options of `deepsdf map`."""

    method: Literal["pca", "umap"] = option(
        "pca",
        "'pca' projects onto the two directions of largest variance; 'umap' keeps neighbours together and needs "
        "umap-learn.",
        choices=("pca", "umap"),
    )
    colour_by: str = option(
        "class",
        "What the colours show. 'error' is the chamfer distance that `deepsdf evaluate` measured; a CSV file names "
        "shapes in its first column.",
        flag="--colour-by --color-by",
        metavar="class|set|error|FILE.csv:COLUMN",
    )
    thumbnails: int = option(60, "Maximum number of pictures of shapes.", minimum=0, maximum=400)
    seed: int = seed_option()


@dataclass(frozen=True)
class RenderOptions(Options):
    """Options of `deepsdf render` besides the view."""

    error_max: float | None = option(
        None, "Upper end of the error colours.", default_text="99th percentile of the errors, rounded up"
    )
    turntable: int | None = option(
        None, "Draw a film of N frames in which the camera moves once around the shapes (.gif or .mp4).", metavar="N"
    )
    steps: int | None = option(
        None,
        "Interpolate with STEPS shapes from each WHAT to the next: a film, or a strip in a .png.",
        flag="--interpolate",
        metavar="STEPS",
    )
    fps: float = option(20.0, "Frames per second.", minimum=1, maximum=50)
    resolution: int | None = option(
        None,
        "Grid resolution (samples per axis) for shapes of the experiment.",
        minimum=2,
        default_text="256, with --interpolate 128",
    )
