"""Small parts that all pages are made of. Words that come from files are always escaped."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Iterable
from typing import Any

from deepsdf.errors import DeepSDFError
from deepsdf.viewer.scene.redraw import Cancelled

logger = logging.getLogger(__name__)

LONGEST = 600
"""Letters of a message in a page."""


def words(text: object) -> str:
    """Any text, safe within HTML."""
    return html.escape(str(text))


def notes(*lines: str) -> str:
    """Small grey lines of HTML."""
    inner = "<br>".join(lines)
    return f'<div style="font-size:0.8em;line-height:1.45;color:#5b6270;padding:0.1em 0.75em 0.35em">{inner}</div>'


def many(number: int) -> str:
    """`12 345`."""
    return f"{number:,}".replace(",", " ")


def title(text: str, *lines: str) -> str:
    """A heading of plain text, and lines of HTML below."""
    inner = "<br>".join(lines)
    return (
        f'<div style="padding:0.2em 0.75em 0.3em;line-height:1.45"><b style="font-size:1.05em">{words(text)}</b>'
        f'<div style="font-size:0.8em;color:#5b6270">{inner}</div></div>'
    )


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns of plain text, the second to the right."""
    cells = "".join(
        f'<tr><td style="padding:0.1em 0.6em 0.1em 0">{words(name)}</td>'
        f'<td style="text-align:right;font-variant-numeric:tabular-nums">{words(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table style="font-size:0.8em;margin:0.1em 0.75em 0.4em;width:calc(100% - 1.5em)">{cells}</table>'


def tell(client: Any, heading: str, message: object, *, wrong: bool = True) -> None:
    """A message in the page."""
    text = str(message)
    text = text if len(text) <= LONGEST else text[:LONGEST] + " ..."
    client.add_notification(heading, text, color="red" if wrong else "teal", auto_close_seconds=None if wrong else 6.0)


def guarded(client: Any, work: Callable[[], Any], heading: str = "That did not work") -> Any:
    """Do it; what goes wrong is told in the page, and the server goes on. None where it went wrong."""
    try:
        return work()
    except Cancelled:
        raise
    except (DeepSDFError, OSError) as error:
        tell(client, heading, error)
    except Exception as error:
        logger.exception("%s", heading)
        tell(client, heading, f"{type(error).__name__}: {error}")
    return None


def by_hand(handle: Any, client: Any, work: Callable[[], Any]) -> None:
    """Call `work` when the visitor changes an input, not when the program does."""

    def changed(event: Any) -> None:
        if event.client is not None:
            guarded(client, work)

    handle.on_update(changed)


def on_click(handle: Any, client: Any, work: Callable[[], Any]) -> None:
    """Call `work` when the visitor presses a button."""
    handle.on_click(lambda event: guarded(client, work))
