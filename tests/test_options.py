"""Option dataclasses: validation, generated documentation, and messages."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from deepsdf.errors import InputError
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.inference.complete.options import CompletionOptions
from deepsdf.inference.fit.options import FitOptions
from deepsdf.options import Options, declared_options, option


@dataclass(frozen=True)
class Example(Options):
    """An example."""

    count: int = option(3, "Number of things.", minimum=1, maximum=9)
    width: float = option(0.5, "Width.", above=0.0)
    kind: str = option("a", "Kind of thing.", choices=("a", "b"))
    limit: float | None = option(None, "Upper limit.", minimum=0.0, default_text="none")


def test_defaults_are_valid_and_documented() -> None:
    assert Example() == Example(count=3, width=0.5, kind="a", limit=None)
    assert list(declared_options(Example)) == ["count", "width", "kind", "limit"]
    assert (Example.__doc__ or "").splitlines()[-4:] == [
        "    count: Number of things.",
        "    width: Width.",
        "    kind: Kind of thing.",
        "    limit: Upper limit.",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count is 0; it must be at least 1"),
        ({"count": 10}, "count is 10; it must be at most 9"),
        ({"width": 0.0}, "width is 0.0; it must be greater than 0"),
        ({"width": float("nan")}, "width is nan; expected a finite number"),
        ({"limit": float("inf")}, "limit is inf; expected a finite number"),
        ({"kind": "c"}, "kind is 'c'; expected 'a' or 'b'"),
    ],
)
def test_invalid_values_are_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        Example(**values)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", [Meshing, FitOptions, CompletionOptions])
def test_every_field_of_the_public_options_is_declared(kind: type[Options]) -> None:
    declared = declared_options(kind)
    assert set(declared) == set(vars(kind())), "each field needs a help text"
    for name, one in declared.items():
        assert one.help.endswith("."), name
        assert one.default_text or getattr(kind(), name) is not None, name


def test_a_registry_is_consulted_for_other_values_than_the_default() -> None:
    calls: list[str] = []

    def names() -> list[str]:
        calls.append("names")
        return ["a", "b"]

    @dataclass(frozen=True)
    class Registered(Options):
        kind: str = option("a", "Kind of thing.", registry=names)

    Registered()
    assert not calls
    Registered(kind="b")
    with pytest.raises(InputError, match=r"^kind is 'c'; expected 'a' or 'b'$"):
        Registered(kind="c")
