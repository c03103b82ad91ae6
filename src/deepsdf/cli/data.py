"""Verbs that make and show data: split, preprocess, view-samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepsdf.cli.common import (
    Bar,
    ListsFormats,
    command,
    common_options,
    count,
    device_option,
    finish,
    interruptible,
    say,
    seed_option,
)

if TYPE_CHECKING:
    from deepsdf.pipeline.preprocess import Preprocessed


@click.command()
@click.option("--source", "-s", required=True, type=click.Path(path_type=Path), help="The folder of meshes.")
@click.option(
    "--out", "-o", default="splits", show_default=True, type=click.Path(path_type=Path), help="Folder to write to."
)
@click.option("--name", "-n", help="The dataset's name.  [default: the source folder's name]")
@click.option("--class", "classes", multiple=True, help="Only this class; may be given several times.")
@click.option("--test", default="0.2", show_default=True, help="Test shapes: a count (12) or a fraction (0.2, 20%).")
@click.option("--train", default=None, help="Training shapes, likewise.  [default: all others]")
@seed_option
@common_options
def split(
    source: Path, out: Path, name: str | None, classes: tuple[str, ...], test: str, train: str | None, seed: int
) -> None:
    """Divide a folder of meshes at random into training and test shapes.

    Writes NAME_train.json and NAME_test.json. The folder may be laid out as SOURCE/<class>/<instance>.<ext>,
    as SOURCE/<class>/<instance>/**/<any>.<ext>, or flat.
    """
    from deepsdf.errors import InputError
    from deepsdf.files import safe_name
    from deepsdf.library.sources import dataset_name, list_shapes
    from deepsdf.splits import make_split, write_split

    name = safe_name(name or dataset_name(source), "--name")
    shapes = list_shapes(source, name)
    known = sorted({shape.category for shape in shapes})
    if unknown := sorted(set(classes) - set(known)):
        raise InputError(f"{source} has no class {', '.join(unknown)}; it has {', '.join(known)}")
    shapes = [shape for shape in shapes if not classes or shape.category in classes]
    training, held_out = make_split(shapes, test=test, train=train, seed=seed)
    stem = "_".join([name, *classes])
    for kind, part in (("train", training), ("test", held_out)):
        path = out / f"{safe_name(stem, 'the split')}_{kind}.json"
        if part:
            write_split(path, part)
            say(f"Wrote {path}: {count(len(part), 'shape')} of {count(len({s.category for s in part}), 'class')}")
    named = ["-n", name] if name != dataset_name(source) else []
    for kind, options in (("train", []), ("test", []), ("test", ["--surface"])):
        if training if kind == "train" else held_out:
            path = out / f"{stem}_{kind}.json"
            say(
                "Next: "
                + command("deepsdf", "preprocess", "-s", source, *named, "-d", "data", "--split", path, *options)
            )


@click.command(cls=ListsFormats)
@click.option("--data-dir", "-d", required=True, type=click.Path(path_type=Path), help="The data source to write to.")
@click.option("--source", "-s", required=True, type=click.Path(path_type=Path), help="The folder of meshes.")
@click.option("--name", "-n", help="The dataset's name in the split.  [default: the source folder's name]")
@click.option("--split", "split_file", required=True, type=click.Path(path_type=Path), help="The shapes to work on.")
@click.option("--surface", is_flag=True, help="Surface samples, for `evaluate`, instead of SDF samples.")
@click.option("--test", "-t", is_flag=True, help="SDF samples for testing: fewer, spread wider.")
@click.option(
    "--samples",
    type=click.IntRange(min=100),
    help="Samples a shape.  [default: 500000, with --test 250000, with --surface 30000]",
)
@click.option("--skip", is_flag=True, help="Leave shapes alone that were done before.")
@click.option(
    "--threads", default=0, type=click.IntRange(min=0), help="Worker processes.  [default: one a core, at most 8]"
)
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds a shape may take before it is stopped and reported; 0: as long as it likes.",
)
@click.option(
    "--sign", default="auto", show_default=True, help="Inside or outside by: auto, normal, winding, original."
)
@click.option("--keep-cavities", is_flag=True, help="Leave closed shells hollow that lie inside others, wound inward.")
@click.option(
    "--thicken",
    default=0.0,
    metavar="EPS",
    help="Subtract EPS (unit frame, as 0.02) from every distance: open sheets, fins and planes become plates.",
)
@click.option(
    "--variants",
    default=0,
    show_default=True,
    type=click.IntRange(min=0, max=1000),
    help="Of each shape, so many more that are stretched and bent at random: for classes of few shapes.",
)
@click.option("--pictures/--no-pictures", default=True, show_default=True, help="Draw the contact sheet.")
@device_option
@seed_option
@common_options
def preprocess(
    data_dir: Path,
    source: Path,
    name: str | None,
    split_file: Path,
    skip: bool,
    threads: int,
    timeout: float,
    **sampling: Any,
) -> None:
    """Sample signed distances (or surfaces) of meshes into a data source.

    Meshes ({meshes}) may be open or closed, with duplicated or inconsistently wound faces. Written are
    SdfSamples/ or SurfaceSamples/, and NormalizationParameters/; with SDF samples also preprocess.csv, how sure the
    signs of each shape are, and a contact sheet in Pictures/.
    """
    from deepsdf.kernels.launch import cpu_threads
    from deepsdf.pipeline.preprocess import Sampling
    from deepsdf.pipeline.preprocess import preprocess as run

    with Bar("Preprocessing") as bar, interruptible("files that are there are whole; --skip goes on from there"):
        result = run(
            data_dir,
            source,
            split_file,
            name=name,
            sampling=Sampling(**sampling),
            skip=skip,
            workers=threads or cpu_threads(),
            timeout=timeout or None,
            on_progress=bar.update,
        )
    surface = sampling["surface"]
    what = "SurfaceSamples" if surface else "SdfSamples"
    skipped = f", {len(result.skipped)} were there already" if result.skipped else ""
    say(f"Wrote {count(len(result.done), 'shape')} to {data_dir / what}{skipped}, {len(result.failures)} failed")
    _tell_verdicts(result, data_dir)
    if result.varied:
        say(f"Wrote {result.varied}: the shapes and their variants, to learn from")
    following = (
        command("deepsdf", "evaluate", "-e", "EXP", "-d", data_dir, "-s", split_file)
        if surface
        else command(
            "deepsdf", "train", "-e", "EXP", "--preset", "fast", "-d", data_dir, "-s", result.varied or "TRAIN.json"
        )
    )
    finish(result.failures, following if result.done or result.skipped else "")


def _tell_verdicts(result: Preprocessed, data_dir: Path, shown: int = 10) -> None:
    if not result.qualities:
        return
    verdicts = Counter(quality.verdict for quality in result.qualities.values())
    told = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("ok", "doubtful", "rejected"))
    say(f"Signs: {told}; {data_dir / 'preprocess.csv'} says why")
    doubtful = [quality for quality in result.qualities.values() if quality.verdict == "doubtful"]
    for quality in sorted(doubtful, key=lambda quality: -quality.uncertain)[:shown]:
        say(f"Doubtful: {quality.shape}: {quality.reason}")
    if len(doubtful) > shown:
        say(f"... and {len(doubtful) - shown} more")
    if result.sheets:
        more = f" and {count(len(result.sheets) - 1, 'more page')}" if len(result.sheets) > 1 else ""
        say(f"Look: {result.sheets[0]}{more}, doubtful shapes first")


@click.command("view-samples")
@click.argument("samples", type=click.Path(path_type=Path))
@click.option("--out", "-o", type=click.Path(path_type=Path), help="The picture.  [default: beside the samples, .png]")
@click.option("--size", default=640, show_default=True, help="Pixels of a panel.")
@common_options
def view_samples(samples: Path, out: Path | None, size: int) -> None:
    """Draw a shape's SDF samples (.npz): those inside, and a slice of all.

    No window is opened; the picture is a PNG.
    """
    from deepsdf.figures.pictures import samples_picture

    out = out or samples.with_suffix(".png")
    told = samples_picture(samples, out, size=size)
    say(f"Wrote {out}: {told}")
