"""Flags of the command line: their names, defaults and accepted values are part of the public interface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from deepsdf.cli import VERBS, main

RECORDED = Path(__file__).parent / "data" / "cli_flags.json"
"""Every parameter of every verb. Add an entry with a new flag; a changed one breaks scripts of users."""


def parameters(verb: str) -> dict[str, dict[str, Any]]:
    """What may be typed: by the parameter's names on the command line."""
    command = main.get_command(None, verb)  # pyright: ignore[reportArgumentType]
    assert command is not None
    found = {}
    for one in command.params:
        shape = one.type
        entry: dict[str, Any] = {
            "default": one.default if isinstance(one.default, str | int | float | list) else None,
            "type": shape.name.removesuffix(" range"),
            "choices": list(getattr(shape, "choices", [])),
            "minimum": getattr(shape, "min", None),
            "maximum": getattr(shape, "max", None),
            "above": bool(getattr(shape, "min_open", False)),
            "required": one.required,
            "multiple": bool(getattr(one, "multiple", False)) or one.nargs == -1,
            "switch": bool(getattr(one, "is_flag", False)),
        }
        names = [one.human_readable_name] if isinstance(one, click.Argument) else [*one.opts, *one.secondary_opts]
        found[" ".join(names)] = {
            key: value for key, value in entry.items() if value is not None and value is not False and value != []
        }
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_flags_are_the_recorded_ones(verb: str) -> None:
    assert parameters(verb) == json.loads(RECORDED.read_text(encoding="utf-8"))[verb]


def test_every_verb_is_recorded() -> None:
    assert list(json.loads(RECORDED.read_text(encoding="utf-8"))) == list(VERBS)
