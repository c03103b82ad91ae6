"""The verb that changes a shape by what is said about it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from deepsdf.cli.common import (
    SOME_FAILED,
    ListsFormats,
    Quiet,
    checkpoint_option,
    common_options,
    device_option,
    experiment_option,
    print_wide,
    resolution_option,
    say,
    seed_option,
)


def _numbers(text: str, count: int, option: str, form: str) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        found = ()
    if len(found) != count:
        raise click.BadParameter(f"{text!r} is not {count} numbers; say {form}", param_hint=option)
    return found


@click.command(cls=ListsFormats)
@experiment_option
@checkpoint_option
@click.argument("shape")
@click.option(
    "--through",
    multiple=True,
    metavar="X,Y,Z|FILE",
    help="The surface passes through this point, or the points of a file (.ply).",
)
@click.option("--empty", multiple=True, metavar="X,Y,Z,X,Y,Z", help="Nothing is in the box between two corners.")
@click.option("--full", multiple=True, metavar="X,Y,Z,X,Y,Z", help="The box between two corners is filled.")
@click.option("--size", multiple=True, metavar="AXIS=LENGTH|AXIS=PERCENT%", help="Extent along x, y or z.")
@click.option(
    "--out",
    "-o",
    default="edited.ply",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Mesh file to write ({written_meshes}).",
)
@click.option("--anyway", is_flag=True, help="Write the mesh and code of a doubtful result, too.")
@resolution_option(128)
@click.option("--picture/--no-picture", default=True, show_default=True, help="Draw before and after.")
@device_option
@seed_option
@common_options
def edit(
    experiment: Path,
    checkpoint: str,
    shape: str,
    through: tuple[str, ...],
    empty: tuple[str, ...],
    full: tuple[str, ...],
    size: tuple[str, ...],
    out: Path,
    **options: Any,
) -> None:
    """Change a shape by saying what it should be like; the rest follows from what the training shapes are like.

    SHAPE is a name, a code file (.pth), a mesh or a scan, as for `deepsdf interpolate`. All numbers are of the unit
    frame, in which shapes lie within the unit sphere; a run without constraints tells where the shape lies.

    Writes the mesh, its code (.pth) and a picture of before and after (.png). Where no shape of the space keeps all
    constraints that is said, with what each is missed by; mesh and code are written only with --anyway, and the exit
    status is 1.

    \b
    deepsdf edit -e EXP chair_7 --size y=120% -o taller.ply
    deepsdf edit -e EXP chair_7 --empty=-0.5,0.2,-0.6,0.5,0.9,-0.3 -o no_back.ply
    deepsdf edit -e EXP chair_7 --through 0,0.1,0.3 --size x=0.9 -o edited.ply
    """
    from deepsdf.inference.edit.constraints import Box, Through
    from deepsdf.pipeline.edit import Wish, through_file
    from deepsdf.pipeline.edit import edit as run
    from deepsdf.workspace import Experiment

    wishes: list[Wish] = []
    for text in through:
        if Path(text).is_file():
            wishes += through_file(text)
        else:
            x, y, z = _numbers(text, 3, "--through", "X,Y,Z, as 0,0.2,-0.1, or a file of points that is there")
            wishes.append(Through((x, y, z)))
    for option, kind, texts in (("--empty", "empty", empty), ("--full", "full", full)):
        for text in texts:
            a, b, c, d, e, f = _numbers(text, 6, option, f"two corners, as {option}=-0.2,0,-0.2,0.2,0.3,0.2")
            wishes.append(Box((a, b, c), (d, e, f), kind))  # pyright: ignore[reportArgumentType]
    wishes += [_size(text) for text in size]
    found = run(Experiment.open(experiment), shape, wishes, out, checkpoint=checkpoint, **options)
    if not Quiet.on:
        print_wide(_table(found))
    say(f"Moved {found.moved:.2f} standard deviations a direction; {found.unlikeliness:.1f} from the mean (1 is usual)")
    if options["picture"]:
        say(f"Wrote {out.with_suffix('.png')}")
    if found.doubt is None or options["anyway"]:
        say(f"Wrote {out} and {out.with_suffix('.pth')}")
    if found.doubt is not None:
        unwritten = "" if options["anyway"] else f"; {out} was not written (--anyway writes it)"
        logging.getLogger("deepsdf").error("%s%s", found.doubt, unwritten)
        sys.exit(SOME_FAILED)


def _size(text: str) -> Any:
    """`y=1.2` or `y=120%`."""
    from deepsdf.inference.edit.constraints import Size
    from deepsdf.pipeline.edit import relative_size

    axis, _, amount = text.strip().partition("=")
    try:
        number = float(amount.removesuffix("%"))
    except ValueError:
        number = float("nan")
    if axis not in ("x", "y", "z") or not 0 < number < float("inf"):
        raise click.BadParameter(f"{text!r} is no size; say y=1.2 or y=120%", param_hint="--size")
    return relative_size(axis, number / 100) if amount.endswith("%") else Size(axis, number)


def _table(found: Any) -> Table:
    table = Table(title="Missed by (unit frame)")
    table.title_justify = "left"
    table.add_column("constraint")
    for heading in ("before", "after", "met"):
        table.add_column(heading, justify="right")
    shown = found.kept if len(found.kept) <= 20 else sorted(found.kept, key=lambda one: -one.after)[:20]
    for one in shown:
        table.add_row(str(one.constraint), f"{one.before:.3f}", f"{one.after:.3f}", "yes" if one.met else "no")
    if len(found.kept) > len(shown):
        met = sum(one.met for one in found.kept)
        table.add_row(f"the worst 20 of {len(found.kept)}", "", "", f"{met} met")
    return table
