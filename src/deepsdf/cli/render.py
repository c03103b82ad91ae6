"""The verb that draws shapes: render."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from deepsdf.cli.console import Bar, common_options, finish_empty, interruptible, say
from deepsdf.cli.options import COARSEST, ListsFormats, checkpoint_option, device_option, options
from deepsdf.pipeline.options import RenderOptions
from deepsdf.rendering.camera import PictureOptions


@click.command(cls=ListsFormats)
@click.argument("what", nargs=-1, required=True, metavar="WHAT...")
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path), help="Picture (.png) or film (.gif, .mp4) to write."
)
@click.option(
    "--experiment",
    "-e",
    type=click.Path(path_type=Path),
    help="Experiment whose shapes are drawn; WHAT then gives their names.",
)
@checkpoint_option
@options(
    PictureOptions(), "picture",
    "size", "azimuth", "elevation", "up", "bound", "ground",
    changes={"size": {"minimum": 16, "maximum": 4096}, "bound": {"above": None}},
)  # fmt: skip
@click.option(
    "--color",
    default="clay",
    show_default=True,
    help="Colour of the shapes: R,G,B (0 to 255), #a4bed8, or a name such as teal.",
)
@click.option(
    "--background", default="white", show_default=True, help="Colour of the background, or transparent (.png)."
)
@click.option(
    "--slice", "plane", metavar="x|y|z[=OFFSET]", help="Also draw the signed distance on a plane (unit frame)."
)
@click.option(
    "--error", "truth", type=click.Path(path_type=Path), help="Colour the shapes by their distance to this mesh."
)
@options(
    RenderOptions(), "render_options",
    "error_max", "turntable", "steps", "fps", "resolution",
    changes={"resolution": {"minimum": COARSEST}},
)  # fmt: skip
@device_option
@common_options
def render(
    what: tuple[str, ...],
    out: Path,
    experiment: Path | None,
    checkpoint: str,
    picture: PictureOptions,
    color: str,
    background: str,
    plane: str | None,
    truth: Path | None,
    render_options: RenderOptions,
    device: str,
) -> None:
    """Draw meshes, point clouds, SDF samples or shapes of an experiment, as a picture or a film.

    WHAT is a file ({meshes}, or SDF samples in an .npz), or, with -e, the name of a training or reconstructed shape.
    Several are drawn side by side. No display is needed.

    \b
    deepsdf render chair.obj -o chair.png
    deepsdf render -e EXP chair_7 chair_9 -o two.png --slice z=0.1
    deepsdf render -e EXP chair_7 -o error.png --error meshes/chairs/chair_7.obj
    deepsdf render chair.obj -o chair.gif --turntable 36
    deepsdf render -e EXP chair_7 chair_9 -o between.mp4 --interpolate 30
    """
    from deepsdf.pipeline.render import render as run
    from deepsdf.rendering.colours import parse_colour
    from deepsdf.workspace import Experiment

    background_colour = None if background == "transparent" else parse_colour(background)
    picture = replace(picture, color=parse_colour(color), background=background_colour)
    with Bar("Drawing") as bar, interruptible("no file was written"):
        empty = run(
            what,
            out,
            render_options,
            picture,
            experiment=None if experiment is None else Experiment.open(experiment),
            checkpoint=checkpoint,
            plane=None if plane is None else _plane(plane),
            truth=truth,
            device=device,
            on_progress=bar.update,
        )
    say(f"Wrote {out}")
    finish_empty(empty)


def _plane(text: str) -> Any:
    """`z=0.1` -> ("z", 0.1)."""
    axis, _, offset = text.strip().partition("=")
    try:
        found = float(offset or 0)
    except ValueError:
        found = float("nan")
    if axis not in ("x", "y", "z") or not abs(found) < float("inf"):
        raise click.BadParameter(f"{text!r} is not a plane; expected x, y, z or z=0.1", param_hint="--slice")
    return axis, found
