"""Verbs that make something to look at: render."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deepsdf.cli.common import (
    Bar,
    ListsFormats,
    checkpoint_option,
    common_options,
    device_option,
    finish_empty,
    interruptible,
    say,
)


@click.command(cls=ListsFormats)
@click.argument("what", nargs=-1, required=True, metavar="WHAT...")
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="A .png, .gif or .mp4 file.")
@click.option("--experiment", "-e", type=click.Path(path_type=Path), help="The experiment whose shapes WHAT names.")
@checkpoint_option
@click.option("--size", default=512, show_default=True, type=click.IntRange(16, 4096), help="Pixels a side of a shape.")
@click.option("--azimuth", default=35.0, show_default=True, help="Of the camera, degrees; 0 sees the front.")
@click.option("--elevation", default=20.0, show_default=True, help="Of the camera, degrees above the ground.")
@click.option("--up", default="y", show_default=True, type=click.Choice(["x", "y", "z"]), help="The axis that is up.")
@click.option("--color", default="clay", show_default=True, help="R,G,B (0 to 255), #a4bed8, or a name as teal.")
@click.option("--background", default="white", show_default=True, help="A colour too, or transparent (.png).")
@click.option("--ground/--no-ground", default=True, help="A soft shadow on the ground, or none.  [default: ground]")
@click.option("--bound", type=float, help="Radius of the sphere round the origin that is framed.  [default: it fits]")
@click.option("--slice", "plane", metavar="x|y|z[=OFFSET]", help="Draw the signed distance on a plane, unit frame.")
@click.option("--error", "truth", type=click.Path(path_type=Path), help="Colour by the distance to this mesh.")
@click.option("--error-max", type=float, help="Where error colours end.  [default: the 99th percentile, rounded up]")
@click.option("--turntable", metavar="N", type=int, help="A film of N frames that turns once; .gif or .mp4.")
@click.option(
    "--interpolate", "steps", metavar="STEPS", type=int, help="Shapes from one WHAT to the next: a film, or a strip."
)
@click.option("--fps", default=20.0, show_default=True, type=click.FloatRange(1, 50), help="Frames a second.")
@click.option(
    "--resolution",
    type=click.IntRange(min=8),
    help="Grid samples an axis, of an experiment's shapes.  [default: 256; 128 to interpolate]",
)
@device_option
@common_options
def render(
    what: tuple[str, ...],
    out: Path,
    experiment: Path | None,
    checkpoint: str,
    size: int,
    azimuth: float,
    elevation: float,
    up: Any,
    color: str,
    background: str,
    ground: bool,
    bound: float | None,
    plane: str | None,
    truth: Path | None,
    error_max: float | None,
    turntable: int | None,
    steps: int | None,
    fps: float,
    resolution: int | None,
    device: str,
) -> None:
    """Draw meshes, point clouds, SDF samples or an experiment's shapes, as a picture or a film.

    WHAT is a file ({meshes}, or .npz of samples), or, with -e, the name of a shape that was
    trained on or reconstructed. Several are drawn side by side. Needs no display.

    \b
    deepsdf render chair.obj -o chair.png
    deepsdf render -e EXP chair_7 chair_9 -o two.png --slice z=0.1
    deepsdf render -e EXP chair_7 -o error.png --error meshes/chairs/chair_7.obj
    deepsdf render chair.obj -o chair.gif --turntable 36
    deepsdf render -e EXP chair_7 chair_9 -o between.mp4 --interpolate 30
    """
    from deepsdf.pipeline.render import render as run
    from deepsdf.rendering.camera import PictureOptions
    from deepsdf.rendering.colours import parse_colour
    from deepsdf.workspace import Experiment

    paper = None if background == "transparent" else parse_colour(background)
    picture = PictureOptions(size, azimuth, elevation, up, parse_colour(color), bound, ground, paper)
    with Bar("Drawing") as bar, interruptible("nothing was written"):
        empty = run(
            what,
            out,
            experiment=None if experiment is None else Experiment.open(experiment),
            checkpoint=checkpoint,
            picture=picture,
            device=device,
            plane=None if plane is None else _plane(plane),
            truth=truth,
            error_max=error_max,
            turntable=turntable,
            steps=steps,
            fps=fps,
            resolution=resolution,
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
        raise click.BadParameter(f"{text!r} is no plane; say x, y or z, or z=0.1", param_hint="--slice")
    return axis, found
