"""The verb that edits a shape by constraints."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from deepsdf.cli.console import SOME_FAILED, Quiet, common_options, print_wide, say
from deepsdf.cli.options import (
    ListsFormats,
    checkpoint_option,
    device_option,
    experiment_option,
    meshing_options,
    options,
)
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.pipeline.options import EditOptions

if TYPE_CHECKING:
    from deepsdf.inference.edit.constraints import Constraint
    from deepsdf.pipeline.edit import ConstraintRule


def _numbers(text: str, count: int, option: str, form: str) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        found = ()
    if len(found) != count:
        raise click.BadParameter(f"{text!r} is not {count} numbers; expected {form}", param_hint=option)
    return found


@click.command(cls=ListsFormats)
@experiment_option
@checkpoint_option
@click.argument("shape")
@click.option(
    "--through",
    multiple=True,
    metavar="X,Y,Z|FILE",
    help="Point on the surface, or a point cloud (.ply) of such points; may be repeated.",
)
@click.option(
    "--empty",
    multiple=True,
    metavar="X,Y,Z,X,Y,Z",
    help="Box to keep empty, given by two opposite corners; may be repeated.",
)
@click.option(
    "--full",
    multiple=True,
    metavar="X,Y,Z,X,Y,Z",
    help="Box to fill, given by two opposite corners; may be repeated.",
)
@click.option(
    "--size",
    multiple=True,
    metavar="AXIS=LENGTH|AXIS=PERCENT%",
    help="Size along x, y or z, absolute or relative to the current size; may be repeated.",
)
@click.option(
    "--out",
    "-o",
    default="edited.ply",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Mesh file to write ({written_meshes}).",
)
@options(EditOptions(), "edit_options", "anyway", "picture", "seed")
@meshing_options(PREVIEW)
@device_option
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
    edit_options: EditOptions,
    meshing: Meshing,
    device: str,
) -> None:
    """Edit a shape by constraints. The rest adapts so that the shape stays plausible.

    SHAPE is a name, a code file (.pth), a mesh or a scan; see `deepsdf interpolate`. All lengths are in the unit frame,
    in which shapes lie within the unit sphere. Run it without constraints to print the extent of the shape.

    Writes the mesh, its code (.pth) and a picture of before and after (.png). If no shape of the space meets all
    constraints, the violations are listed, mesh and code are written only with --anyway, and the exit status is 1.

    \b
    deepsdf edit -e EXP chair_7 --size y=120% -o taller.ply
    deepsdf edit -e EXP chair_7 --empty=-0.5,0.2,-0.6,0.5,0.9,-0.3 -o no_back.ply
    deepsdf edit -e EXP chair_7 --through 0,0.1,0.3 --size x=0.9 -o edited.ply
    """
    from deepsdf.inference.edit.constraints import Region, Through
    from deepsdf.pipeline.edit import edit as run
    from deepsdf.pipeline.edit import through_file
    from deepsdf.workspace import Experiment

    constraints: list[Constraint | ConstraintRule] = []
    for text in through:
        if Path(text).is_file():
            constraints += through_file(text)
        else:
            x, y, z = _numbers(text, 3, "--through", "X,Y,Z, for example 0,0.2,-0.1, or an existing file of points")
            constraints.append(Through((x, y, z)))
    for option, kind, texts in (("--empty", "empty", empty), ("--full", "full", full)):
        for text in texts:
            a, b, c, d, e, f = _numbers(text, 6, option, f"two corners, for example {option}=-0.2,0,-0.2,0.2,0.3,0.2")
            constraints.append(Region((a, b, c), (d, e, f), kind))  # pyright: ignore[reportArgumentType]
    constraints += [_size(text) for text in size]
    found = run(
        Experiment.open(experiment),
        shape,
        constraints,
        out,
        edit_options,
        meshing,
        checkpoint=checkpoint,
        device=device,
    )
    if not Quiet.on:
        print_wide(_table(found))
    say(
        f"Moved by {found.moved:.2f} standard deviations per dimension; "
        f"now {found.unlikeliness:.1f} from the mean (1 is typical)"
    )
    if edit_options.picture:
        say(f"Wrote {out.with_suffix('.png')}")
    if found.doubt is None or edit_options.anyway:
        say(f"Wrote {out} and {out.with_suffix('.pth')}")
    if found.doubt is not None:
        unwritten = "" if edit_options.anyway else f"; {out} was not written (pass --anyway to write it)"
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
        raise click.BadParameter(f"{text!r} is not a size; expected y=1.2 or y=120%", param_hint="--size")
    return relative_size(axis, number / 100) if amount.endswith("%") else Size(axis, number)


def _table(found: Any) -> Table:
    table = Table(title="Violation (unit frame)")
    table.title_justify = "left"
    table.add_column("constraint")
    for heading in ("before", "after", "met"):
        table.add_column(heading, justify="right")
    shown = found.results if len(found.results) <= 20 else sorted(found.results, key=lambda one: -one.after)[:20]
    for one in shown:
        table.add_row(str(one.constraint), f"{one.before:.3f}", f"{one.after:.3f}", "yes" if one.met else "no")
    if len(found.results) > len(shown):
        met = sum(one.met for one in found.results)
        table.add_row(f"20 largest of {len(found.results)}", "", "", f"{met} met")
    return table
