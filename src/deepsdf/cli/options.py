"""Command-line flags: those derived from option dataclasses, and those that several verbs share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from deepsdf.errors import InputError
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.options import Option, Options, declared_options

F = TypeVar("F", bound=Callable[..., Any])

COARSEST = 8
"""Smallest grid resolution of the command line. The library accepts 2, but nothing can be recognised on such grids."""

_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool}


def options(
    defaults: Options, argument: str, *names: str, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[F], F]:
    """Flags for fields of an option dataclass. The verb receives one value of that dataclass.

    Names, types, bounds, choices and help texts come from the declarations of the fields. A bool becomes a flag without
    a value, and a field with `switches` becomes those switches.

    Args:
        defaults: value whose fields are the defaults; fields without a flag keep them.
        argument: name of the verb's parameter that receives the value.
        names: fields that get a flag, in the order of `--help`.
        changes: parts of the declarations to replace, by field, where a verb differs from the library.
    """
    kind = type(defaults)
    annotations = {field.name: str(field.type) for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    declared = {name: declared_options(kind)[name] for name in names}
    for name, change in (changes or {}).items():
        declared[name] = dataclasses.replace(declared[name], **change)
    switches = {f"{name}_{value}": (name, value) for name in names for value, _ in declared[name].switches.values()}

    def decorate(verb: F) -> F:
        @functools.wraps(verb)
        def wrapped(*args: Any, **given: Any) -> Any:
            values = {name: given.pop(name) for name in names if name in given}
            values |= {name: value for parameter, (name, value) in switches.items() if given.pop(parameter)}
            try:
                value = dataclasses.replace(defaults, **values)  # pyright: ignore[reportArgumentType]
            except InputError as error:
                raise click.UsageError(str(error)) from None
            return verb(*args, **given, **{argument: value})

        flags: Any = wrapped
        for name in reversed(names):
            for flag, (value, text) in declared[name].switches.items():
                flags = click.option(flag, f"{name}_{value}", is_flag=True, help=text)(flags)
            if not declared[name].switches:
                flags = _flag(name, annotations[name], getattr(defaults, name), declared[name])(flags)
        return flags

    return decorate


def _flag(name: str, annotation: str, default: Any, declared: Option) -> Callable[[F], F]:
    """The flag of one field; `annotation` is the text of its type, such as "float | None"."""
    long = name.replace("_", "-")
    kind = _TYPES.get(annotation.partition("|")[0].strip(), str)
    settings: dict[str, Any] = {"default": default, "help": declared.help, "metavar": declared.metavar or None}
    if kind is bool:
        flags = declared.flag.split() or [f"--{long}/--no-{long}" if default else f"--{long}"]
        return click.option(*flags, name, is_flag=True, show_default=bool(default), **settings)
    low = declared.minimum if declared.above is None else declared.above
    if declared.registry is not None:
        settings["type"] = RegistryChoice(declared.registry)
    elif declared.choices:
        settings["type"] = click.Choice(list(declared.choices))
    elif low is None and declared.maximum is None:
        settings["type"] = kind
    elif kind is int:
        low, high = (None if bound is None else int(bound) for bound in (low, declared.maximum))
        settings["type"] = click.IntRange(low, high)
    else:
        settings["type"] = click.FloatRange(low, declared.maximum, min_open=declared.above is not None)
    if default is not None:
        settings["show_default"] = True
    elif declared.default_text:
        settings["help"] += f"  [default: {declared.default_text}]"
    return click.option(*(declared.flag.split() or [f"--{long}"]), name, **settings)


def meshing_options(defaults: Meshing, *names: str) -> Callable[[F], F]:
    """`--resolution`, and flags for other fields of `Meshing`; the verb's parameter is `meshing`."""
    return options(defaults, "meshing", "resolution", *names, changes={"resolution": {"minimum": COARSEST}})


class RegistryChoice(click.Choice):
    """Choice of the names in a registry, which is imported on first use: it may need torch."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
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
        super().__init__(*arguments, type=RegistryChoice(lambda: list(self._described())), **settings)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        general = self.help
        described = "; ".join(f"{name}: {text}" for name, text in self._described().items())
        self.help = f"{general or ''} {described}."
        try:
            return super().get_help_record(ctx)
        finally:
            self.help = general


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


def device_option(verb: F) -> F:
    return click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:1.")(verb)


def experiment_option(verb: F) -> F:
    return click.option(
        "--experiment", "-e", required=True, type=click.Path(path_type=Path), help="Folder of the experiment."
    )(verb)


def checkpoint_option(verb: F) -> F:
    return click.option(
        "--checkpoint",
        "-c",
        default="latest",
        show_default=True,
        help="Checkpoint: latest, or the epoch of a snapshot.",
    )(verb)


def data_option(verb: F) -> F:
    return click.option(
        "--data", "-d", required=True, type=click.Path(path_type=Path), help="Data source: the folder of samples."
    )(verb)


def split_option(verb: F) -> F:
    return click.option(
        "--split", "-s", required=True, type=click.Path(path_type=Path), help="Split file with the names of the shapes."
    )(verb)


def workers_option(default_text: str = "one per core, at most 8") -> Callable[[F], F]:
    """`--threads`, the name that the original gives to worker processes; the verb's parameter is `threads`."""
    return click.option(
        "--threads",
        default=0,
        type=click.IntRange(min=0),
        help=f"Number of worker processes.  [default: {default_text}]",
    )


def seed_option(help: str) -> Callable[[F], F]:
    """`--seed` of verbs that take no options value."""
    return click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help=help)
