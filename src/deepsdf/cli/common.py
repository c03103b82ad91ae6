"""What the verbs share: options, logging, progress, and how a batch is told to the user."""

from __future__ import annotations

import functools
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from deepsdf.errors import DeepSDFError
from deepsdf.progress import Progress
from deepsdf.splits import Failure

SOME_FAILED = 1
UNUSABLE = 2
INTERRUPTED = 130  # as shells count: 128 and the signal's number

F = TypeVar("F", bound=Callable[..., Any])

# Names of shapes and files are printed as they are: no markup, no emoji in them.
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


class Quiet:
    """Whether words and bars are wanted; set once by `common_options`."""

    on = False


def say(text: str = "") -> None:
    """A line for the user, unless they asked for quiet."""
    if not Quiet.on:
        console.print(text, markup=False)


def common_options(verb: F) -> F:
    """--debug, --quiet, --log; and errors of ours as messages, not tracebacks."""

    @click.option("--debug", is_flag=True, help="Say more, and show tracebacks.")
    @click.option("--quiet", "-q", is_flag=True, help="Say only what went wrong.")
    @click.option(
        "--log", "log_file", metavar="FILE", type=click.Path(path_type=Path), help="Also write messages to FILE."
    )
    @functools.wraps(verb)
    def wrapped(*args: Any, debug: bool, quiet: bool, log_file: Path | None, **kwargs: Any) -> Any:
        with _logging(debug, quiet, log_file):
            try:
                return verb(*args, **kwargs)
            except (DeepSDFError, OSError) as error:
                logging.getLogger("deepsdf").error("%s", error, exc_info=debug)
                raise SystemExit(UNUSABLE) from None

    return wrapped  # pyright: ignore[reportReturnType]


class ListsFormats(click.Command):
    """A verb whose help lists file formats: {meshes}, {written_meshes} and {scans} are replaced by their suffixes.

    They are looked up only when help is shown, because `--help` of the other verbs should not import geometry.
    """

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        texts = [self, *(parameter for parameter in self.params if isinstance(parameter, click.Option))]
        before = [text.help for text in texts]
        try:
            for text in texts:
                text.help = _with_suffixes(text.help or "")
            super().format_help(ctx, formatter)
        finally:
            for text, original in zip(texts, before, strict=True):
                text.help = original


def _with_suffixes(text: str) -> str:
    from deepsdf.geometry.formats import MESH_FORMATS, written_suffixes

    text = text.replace("{meshes}", " ".join(MESH_FORMATS)).replace("{written_meshes}", " ".join(written_suffixes()))
    if "{scans}" in text:
        from deepsdf.geometry.scanning.files import SCAN_FORMATS

        text = text.replace("{scans}", " ".join(SCAN_FORMATS))
    return text


@contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """Ctrl-C ends the verb with a word on what is left, not with a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        logging.getLogger("deepsdf").error("stopped; %s", advice)
        raise SystemExit(INTERRUPTED) from None


class _ToScreen(logging.Handler):
    """Messages on the error stream, through the console so that they do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        word = "" if record.levelno == logging.INFO else record.levelname.lower() + ": "
        errors.print(word + self.format(record), markup=False)


@contextmanager
def _logging(debug: bool, quiet: bool, log_file: Path | None) -> Iterator[None]:
    handlers: list[logging.Handler] = [_ToScreen()]
    if log_file:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            to_file = logging.FileHandler(log_file, encoding="utf-8")
        except OSError as error:
            raise click.BadParameter(f"{log_file} cannot be written: {error.strerror}", param_hint="--log") from None
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(to_file)
    logger = logging.getLogger("deepsdf")
    before = (logger.level, Quiet.on)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)
    Quiet.on = quiet
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before[0])
        Quiet.on = before[1]


def device_option(verb: F) -> F:
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")(verb)


class _RegistryChoice(click.Choice):
    """Choice of the names in a registry, which is imported on first use: it may need torch."""

    def __init__(self, names: Callable[[], Sequence[str]]) -> None:
        self.case_sensitive = True
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name != "choices":
            raise AttributeError(name)
        self.choices = tuple(self._names())
        return self.choices


class RegistryOption(click.Option):
    """Option whose choices and their descriptions come from a registry.

    Args:
        registry: returns a description for each name; called when the option is parsed or its help is shown.
        more: further choices with their descriptions.
    """

    def __init__(
        self,
        *arguments: Any,
        registry: Callable[[], Mapping[str, str]],
        more: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self._described = lambda: {**registry(), **(more or {})}
        super().__init__(*arguments, type=_RegistryChoice(lambda: list(self._described())), **settings)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        general = self.help
        described = "; ".join(f"{name}: {text}" for name, text in self._described().items())
        self.help = f"{general or ''} {described}."
        try:
            return super().get_help_record(ctx)
        finally:
            self.help = general


def seed_option(verb: F) -> F:
    return click.option(
        "--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Same seed, same result."
    )(verb)


def experiment_option(verb: F) -> F:
    return click.option(
        "--experiment", "-e", required=True, type=click.Path(path_type=Path), help="The experiment's folder."
    )(verb)


def checkpoint_option(verb: F) -> F:
    return click.option(
        "--checkpoint", "-c", default="latest", show_default=True, help="An epoch with a snapshot, or latest."
    )(verb)


def resolution_option(default: int) -> Callable[[F], F]:
    return click.option(
        "--resolution", default=default, show_default=True, type=click.IntRange(min=8), help="Grid samples an axis."
    )


def data_option(verb: F) -> F:
    return click.option(
        "--data", "-d", required=True, type=click.Path(path_type=Path), help="The data source: the folder of samples."
    )(verb)


def split_option(verb: F) -> F:
    return click.option(
        "--split", "-s", required=True, type=click.Path(path_type=Path), help="The split file that names the shapes."
    )(verb)


class Bar:
    """Progress bar: finished and failed steps or shapes, and the remaining time. `update` is its `on_progress`."""

    def __init__(self, title: str) -> None:
        self._failed = 0
        self._bar = rich.progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TextColumn("{task.fields[note]}", markup=False),
            console=errors,
            disable=Quiet.on,
        )
        self._task = self._bar.add_task(title, total=None, note="", rate="")

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def update(self, event: Progress) -> None:
        """Show an event: of the work itself in the bar, of a task inside it beside the bar."""
        if event.task:
            self.note(f"{event.task}, step {event.done}/{event.total}")
            return
        self._failed += event.error is not None
        self.show(event.done, event.total, f"{self._failed} failed" if self._failed else "")
        task = self._bar.tasks[0]
        if event.shape and task.elapsed:
            self._bar.update(self._task, rate=f"{task.completed / task.elapsed:.2f}/s")

    def show(self, done: int, total: int, note: str = "") -> None:
        self._bar.start()  # not earlier: invalid input is reported without a bar
        self._bar.update(self._task, completed=done, total=total, note=note)

    def note(self, text: str) -> None:
        self._bar.update(self._task, note=text)


def report_failures(failures: Sequence[Failure], shown: int = 20) -> None:
    """List shapes that could not be worked on."""
    if not failures:
        return
    logger = logging.getLogger("deepsdf")
    for failure in failures[:shown]:
        logger.error("%s: %s", failure.shape, failure.reason)
    if len(failures) > shown:
        logger.error("... and %d more", len(failures) - shown)


def finish_empty(names: Sequence[str]) -> None:
    """End a verb that draws: say which shapes have no surface, and set the exit status."""
    if names:
        logging.getLogger("deepsdf").error("without a surface, so their places are empty: %s", ", ".join(names))
        sys.exit(SOME_FAILED)


def finish(failures: Sequence[Failure], next_step: str = "") -> None:
    """End a verb: list what failed, say the likely next command, and set the exit status."""
    report_failures(failures)
    if next_step:
        say(f"Next: {next_step}")
    if failures:
        sys.exit(SOME_FAILED)


def chamfer_table(values: Any, *, title: str = "Chamfer distance × 10³, unit frame, 30 000 points each way") -> Table:
    """A split's chamfer distances (n,), already × 10³, in one row."""
    import numpy as np

    table = Table(title=title, title_justify="left")
    figures = {"mean": np.mean(values), "median": np.median(values), "worst": np.max(values)}
    for column in ("shapes", *figures):
        table.add_column(column, justify="right")
    table.add_row(str(len(values)), *(f"{figure:.3f}" for figure in figures.values()))
    return table


def print_wide(table: Table) -> None:
    """A table as wide as it is, whatever the terminal: no figure is cut short."""
    width = console.measure(table, options=console.options.update(width=10_000)).maximum
    lines = console.render_lines(table, console.options.update(width=width))
    say("\n".join("".join(piece.text for piece in line).rstrip() for line in lines))


def command(*words: object) -> str:
    """A command line that can be pasted, whatever the names in it."""
    return shlex.join(map(str, words))


def count(number: int, noun: str) -> str:
    """`3 shapes`, `1 shape`, `2 classes`."""
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"
