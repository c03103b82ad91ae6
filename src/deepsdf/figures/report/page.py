"""The HTML page: template, styles, scripts and data in one file that makes no network requests."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

SCRIPTS = ("base.js", "charts.js", "gallery.js", "mesh.js", "viewer.js")
"""Files of assets that are concatenated, in this order, to the page's script."""

_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render_page(content: Mapping[str, Any]) -> str:
    """The HTML of a report. Every text of `content` is escaped.

    The Content-Security-Policy of the page blocks all requests and all scripts except the two of the page.
    """
    three, script, style = asset("three.min.js"), _script(), asset("style.css")
    policy = (
        f"default-src 'none'; script-src {_hash(three)} {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return _template().render(
        content, policy=policy, three=Markup(three), script=Markup(script), style=Markup(style)
    )  # files of this package, without markup; a test checks that


def asset(name: str) -> str:
    """Text of a file of the folder assets."""
    return (resources.files("deepsdf.figures.report") / "assets" / name).read_text(encoding="utf-8")


def json_block(value: object) -> Markup:
    """JSON for a script element: escaped so that no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup("".join(_ESCAPED.get(sign, sign) for sign in text))


def as_base64(content: bytes) -> str:
    """Bytes as base64 text, for data in the page."""
    return base64.b64encode(content).decode("ascii")


def _script() -> str:
    parts = "\n".join(asset(name) for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


def _hash(text: str) -> str:
    return f"'sha256-{as_base64(hashlib.sha256(text.encode()).digest())}'"


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"json": json_block, "base64": as_base64, "figure": figure, "duration": duration}
    return environment.from_string(asset("page.html"))


def figure(value: float | None, factor: float = 1.0, decimals: int = 4) -> str:
    """A number for a table; a dash for None."""
    return "–" if value is None else f"{value * factor:.{decimals}f}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
