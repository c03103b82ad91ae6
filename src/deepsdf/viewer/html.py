"""HTML snippets and number formats of the pages. Text that comes from files is always escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable


def escape(text: object) -> str:
    """Any text, safe within HTML."""
    return html.escape(str(text))


def note(*lines: str) -> str:
    """Small grey lines of HTML."""
    inner = "<br>".join(lines)
    return f'<div style="font-size:0.8em;line-height:1.45;color:#5b6270;padding:0.1em 0.75em 0.35em">{inner}</div>'


def grouped(number: int) -> str:
    """An integer with spaces between groups of three digits, `12 345`."""
    return f"{number:,}".replace(",", " ")


def heading(text: str, *lines: str) -> str:
    """A heading of plain text, followed by lines of HTML."""
    inner = "<br>".join(lines)
    return (
        f'<div style="padding:0.2em 0.75em 0.3em;line-height:1.45"><b style="font-size:1.05em">{escape(text)}</b>'
        f'<div style="font-size:0.8em;color:#5b6270">{inner}</div></div>'
    )


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns of plain text, the second aligned right."""
    cells = "".join(
        f'<tr><td style="padding:0.1em 0.6em 0.1em 0">{escape(name)}</td>'
        f'<td style="text-align:right;font-variant-numeric:tabular-nums">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table style="font-size:0.8em;margin:0.1em 0.75em 0.4em;width:calc(100% - 1.5em)">{cells}</table>'


def colour_bar(colours: Iterable[str], low: str, high: str) -> str:
    """A bar with a gradient of CSS colours, labelled at both ends (HTML)."""
    bar = f"height:0.7em;border-radius:2px;background:linear-gradient(to right,{','.join(colours)})"
    ends = f'<div style="display:flex;justify-content:space-between"><span>{low}</span><span>{high}</span></div>'
    return f'<div style="{bar}"></div>{ends}'
