"""Verbs that prepare data: split, preprocess, view-samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepsdf.cli.console import Bar, command, common_options, count, finish, interruptible, say
from deepsdf.cli.options import ListsFormats, options, seed_option, workers_option
from deepsdf.pipeline.options import Sampling

if TYPE_CHECKING:
    from deepsdf.pipeline.preprocess import Preprocessed


@click.command()
@click.option("--source", "-s", required=True, type=click.Path(path_type=Path), help="Folder of meshes.")
@click.option(
    "--out", "-o", default="splits", show_default=True, type=click.Path(path_type=Path), help="Folder to write to."
)
@click.option("--name", "-n", help="Name of the dataset.  [default: name of the source folder]")
@click.option("--class", "classes", multiple=True, help="Use only this class; repeat for several classes.")
@click.option("--test", default="0.2", show_default=True, help="Number (12) or fraction (0.2 or 20%) of test shapes.")
@click.option("--train", default=None, help="Number or fraction of training shapes.  [default: all others]")
@seed_option("Random seed. The same seed gives the same split.")
@common_options
def split(
    source: Path, out: Path, name: str | None, classes: tuple[str, ...], test: str, train: str | None, seed: int
) -> None:
    """Divide a folder of meshes at random into training and test shapes.

    Writes NAME_train.json and NAME_test.json. Meshes are found at SOURCE/<class>/<instance>.<ext>,
    SOURCE/<class>/<instance>/**/<any>.<ext>, or SOURCE/<instance>.<ext>.
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
    for kind, extra in (("train", []), ("test", []), ("test", ["--surface"])):
        if training if kind == "train" else held_out:
            path = out / f"{stem}_{kind}.json"
            following = command("deepsdf", "preprocess", "-s", source, *named, "-d", "data", "--split", path, *extra)
            say(f"Next: {following}")


@click.command(cls=ListsFormats)
@click.option("--data-dir", "-d", required=True, type=click.Path(path_type=Path), help="Data source to write to.")
@click.option("--source", "-s", required=True, type=click.Path(path_type=Path), help="Folder of meshes.")
@click.option("--name", "-n", help="Name of the dataset in the split file.  [default: name of the source folder]")
@click.option(
    "--split", "split_file", required=True, type=click.Path(path_type=Path), help="Split file with the shapes."
)
@options(
    Sampling(), "sampling",
    "surface", "test", "samples", "sign", "keep_cavities", "thicken", "variants", "pictures", "device", "seed",
    changes={"samples": {"minimum": 100}},
)  # fmt: skip
@click.option("--skip", is_flag=True, help="Skip shapes whose samples exist.")
@workers_option()
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Time limit per shape in seconds; a shape that exceeds it fails. 0: no limit.",
)
@common_options
def preprocess(
    data_dir: Path,
    source: Path,
    name: str | None,
    split_file: Path,
    sampling: Sampling,
    skip: bool,
    threads: int,
    timeout: float,
) -> None:
    """Draw SDF samples (or surface samples) from meshes and write them to a data source.

    Meshes ({meshes}) may be open or closed, with duplicated or inconsistently wound faces. Writes SdfSamples/ or
    SurfaceSamples/, and NormalizationParameters/. With SDF samples, preprocess.csv lists how certain the signs of each
    shape are, and Pictures/ has a contact sheet.
    """
    from deepsdf.kernels.launch import cpu_threads
    from deepsdf.pipeline.preprocess import preprocess as run

    with Bar("Preprocessing") as bar, interruptible("all written files are complete; continue with --skip"):
        result = run(
            data_dir,
            source,
            split_file,
            sampling,
            name=name,
            skip=skip,
            workers=threads or cpu_threads(),
            timeout=timeout or None,
            on_progress=bar.update,
        )
    folder = data_dir / ("SurfaceSamples" if sampling.surface else "SdfSamples")
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    say(f"Wrote {count(len(result.done), 'shape')} to {folder}{skipped}, {len(result.failures)} failed")
    _print_verdicts(result, data_dir)
    if result.varied:
        say(f"Wrote {result.varied}: the shapes and their variants, for training")
    if sampling.surface:
        following = command("deepsdf", "evaluate", "-e", "EXP", "-d", data_dir, "-s", split_file)
    else:
        training = result.varied or "TRAIN.json"
        following = command("deepsdf", "train", "-e", "EXP", "--preset", "fast", "-d", data_dir, "-s", training)
    finish(result.failures, following if result.done or result.skipped else "")


def _print_verdicts(result: Preprocessed, data_dir: Path, shown: int = 10) -> None:
    if not result.qualities:
        return
    verdicts = Counter(quality.verdict for quality in result.qualities.values())
    counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("ok", "doubtful", "rejected"))
    say(f"Signs: {counts}; see {data_dir / 'preprocess.csv'} for the reasons")
    doubtful = [quality for quality in result.qualities.values() if quality.verdict == "doubtful"]
    for quality in sorted(doubtful, key=lambda quality: -quality.uncertain)[:shown]:
        say(f"Doubtful: {quality.shape}: {quality.reason}")
    if len(doubtful) > shown:
        say(f"... and {len(doubtful) - shown} more")
    if result.sheets:
        more = f" and {count(len(result.sheets) - 1, 'more page')}" if len(result.sheets) > 1 else ""
        say(f"Contact sheet, doubtful shapes first: {result.sheets[0]}{more}")


@click.command("view-samples")
@click.argument("samples", type=click.Path(path_type=Path))
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="Picture to write.  [default: SAMPLES with the suffix .png]"
)
@click.option("--size", default=640, show_default=True, help="Pixels per side of each panel.")
@common_options
def view_samples(samples: Path, out: Path | None, size: int) -> None:
    """Draw the SDF samples of a shape (.npz): the samples inside, and a slice of all samples.

    Writes a PNG file and opens no window.
    """
    from deepsdf.figures.pictures import samples_picture

    out = out or samples.with_suffix(".png")
    summary = samples_picture(samples, out, size=size)
    say(f"Wrote {out}: {summary}")
