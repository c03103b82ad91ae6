"""Options as frozen dataclasses: one source for defaults, bounds, help texts and command-line flags.

A subclass of `Options` declares each field with `option(...)`. Construction validates every value, the class docstring
gains an "Attributes" section, and the command line derives its flags from the same declaration (`cli.options`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deepsdf.errors import InputError


@dataclass(frozen=True)
class Option:
    """Declaration of one option.

    Attributes:
        help: what the option is, as a noun phrase or an imperative, with its unit and frame.
        choices: allowed values; empty if any value of the type is allowed.
        registry: returns the allowed values of an option whose values are registered elsewhere; called on first use,
            because a registry may be slow to import.
        minimum, maximum: inclusive bounds of a number.
        above: exclusive lower bound of a number.
        default_text: description of the default where the value None stands for one that depends on the input.
        flag: command-line flags, separated by spaces, if they are not `--<field-name>`.
        metavar: placeholder for the value in `--help`, if it is not the name of the type.
        switches: command-line switches without a value, `{flag: (value, help)}`, which replace the flag.
    """

    help: str
    choices: tuple[str, ...] = ()
    registry: Callable[[], Iterable[str]] | None = None
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    default_text: str = ""
    flag: str = ""
    metavar: str = ""
    switches: Mapping[str, tuple[Any, str]] = field(default_factory=dict)

    def check(self, name: str, value: Any) -> None:
        """Raises InputError: the value is not one of the choices, not finite, or out of bounds."""
        if value is None and self.default_text:
            return
        allowed = tuple(self.registry()) if self.registry else self.choices
        if allowed and value not in allowed:
            raise InputError(f"{name} is {value!r}; expected {_any_of(allowed)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        if not math.isfinite(value):
            raise InputError(f"{name} is {value}; expected a finite number")
        if self.minimum is not None and value < self.minimum:
            raise InputError(f"{name} is {value}; it must be at least {self.minimum:g}")
        if self.above is not None and value <= self.above:
            raise InputError(f"{name} is {value}; it must be greater than {self.above:g}")
        if self.maximum is not None and value > self.maximum:
            raise InputError(f"{name} is {value}; it must be at most {self.maximum:g}")


def option(default: Any, help: str, **declaration: Any) -> Any:
    """A dataclass field with a default and an `Option` declaration (see there for keywords)."""
    return field(default=default, metadata={"option": Option(help, **declaration)})


def seed_option() -> Any:
    """The declaration of a random seed: any number that torch and NumPy accept."""
    return option(0, "Random seed. The same seed gives the same result on the CPU.", minimum=0, maximum=2**63 - 1)


class Options:
    """Base class of option dataclasses. Subclasses are declared with `@dataclass(frozen=True)`."""

    def __init_subclass__(cls) -> None:
        lines = [f"    {name}: {declared.help}" for name, declared in _declared(cls).items()]
        if lines:
            cls.__doc__ = f"{(cls.__doc__ or '').rstrip()}\n\nAttributes:\n" + "\n".join(lines)

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            declared, value = one.metadata.get("option"), getattr(self, one.name)
            # A registry is not imported to confirm a default: modules of the command line build defaults at start-up.
            if declared is not None and not (declared.registry and value == one.default):
                declared.check(one.name, value)


def declared_options(cls: type[Options]) -> dict[str, Option]:
    """Declarations of an option dataclass, by field name, in order."""
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    return {one.name: one.metadata["option"] for one in fields if "option" in one.metadata}


def _declared(cls: type) -> dict[str, Option]:
    """The same before the dataclass decorator has run."""
    fields = {name: value for name, value in vars(cls).items() if isinstance(value, dataclasses.Field)}
    return {name: value.metadata["option"] for name, value in fields.items() if "option" in value.metadata}


def _any_of(choices: tuple[str, ...]) -> str:
    return " or ".join(map(repr, choices)) if len(choices) <= 2 else "one of " + ", ".join(map(repr, choices))
