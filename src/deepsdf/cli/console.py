"""What all verbs share: messages, logging, progress bars, and the list of failed shapes."""

from __future__ import annotations

import functools
import logging
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
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

SOME_FAILED, INVALID_INPUT = 1, 2  # exit statuses
INTERRUPTED = 128 + signal.SIGINT  # the convention of shells

F = TypeVar("F", bound=Callable[..., Any])

# Names of shapes and files are printed verbatim: brackets in them are neither markup nor emoji.
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


class Quiet:
    """Whether messages and progress bars are suppressed; set by `common_options`."""

    on = False


def say(text: str = "") -> None:
    """Print a line, unless --quiet was given."""
    if not Quiet.on:
        console.print(text, markup=False)


def common_options(verb: F) -> F:
    """Flags of every verb: --debug, --quiet and --log. Errors of this package are shown without a traceback."""

    @click.option("--debug", is_flag=True, help="Show details and tracebacks.")
    @click.option("--quiet", "-q", is_flag=True, help="Show only warnings and errors.")
    @click.option(
        "--log", "log_file", metavar="FILE", type=click.Path(path_type=Path), help="Also append messages to FILE."
    )
    @functools.wraps(verb)
    def wrapped(*args: Any, debug: bool, quiet: bool, log_file: Path | None, **kwargs: Any) -> Any:
        with _logging(debug, quiet, log_file):
            try:
                return verb(*args, **kwargs)
            except (DeepSDFError, OSError) as error:
                logging.getLogger("deepsdf").error("%s", error, exc_info=debug)
                raise SystemExit(INVALID_INPUT) from None

    return wrapped  # pyright: ignore[reportReturnType]


@contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """End the verb at Ctrl-C with a message instead of a traceback.

    Args:
        advice: which files remain and how to continue.
    """
    try:
        yield
    except KeyboardInterrupt:
        logging.getLogger("deepsdf").error("stopped; %s", advice)
        raise SystemExit(INTERRUPTED) from None


class _ToScreen(logging.Handler):
    """Shows messages on the error stream, through the console, so that they do not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno == logging.INFO else record.levelname.lower() + ": "
        errors.print(prefix + self.format(record), markup=False)


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
    """List failed shapes with the reason."""
    if not failures:
        return
    logger = logging.getLogger("deepsdf")
    for failure in failures[:shown]:
        logger.error("%s: %s", failure.shape, failure.reason)
    if len(failures) > shown:
        logger.error("... and %d more", len(failures) - shown)


def finish_empty(names: Sequence[str]) -> None:
    """End a verb that draws shapes: list those without a surface and set the exit status."""
    if names:
        logging.getLogger("deepsdf").error("no surface, so their places in the picture are empty: %s", ", ".join(names))
        sys.exit(SOME_FAILED)


def finish(failures: Sequence[Failure], next_step: str = "") -> None:
    """End a verb: list failed shapes, show the next command, and set the exit status."""
    report_failures(failures)
    if next_step:
        say(f"Next: {next_step}")
    if failures:
        sys.exit(SOME_FAILED)


def chamfer_table(values: Any, *, title: str = "Chamfer distance × 10³, unit frame, 30 000 points each way") -> Table:
    """Statistics of chamfer distances (n,) × 10³ in one row."""
    import numpy as np

    table = Table(title=title, title_justify="left")
    figures = {"mean": np.mean(values), "median": np.median(values), "worst": np.max(values)}
    for column in ("shapes", *figures):
        table.add_column(column, justify="right")
    table.add_row(str(len(values)), *(f"{figure:.3f}" for figure in figures.values()))
    return table


def print_wide(table: Table) -> None:
    """Print a table at its full width, so that no number is truncated in a narrow terminal or a file."""
    width = console.measure(table, options=console.options.update(width=10_000)).maximum
    lines = console.render_lines(table, console.options.update(width=width))
    say("\n".join("".join(piece.text for piece in line).rstrip() for line in lines))


def command(*words: object) -> str:
    """Command line with quoted arguments, ready to paste."""
    return shlex.join(map(str, words))


def count(number: int, noun: str) -> str:
    """Number and noun: `3 shapes`, `1 shape`, `2 classes`."""
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"
