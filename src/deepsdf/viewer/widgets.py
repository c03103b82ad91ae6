"""Event handlers of the controls, and notifications."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from deepsdf.errors import DeepSDFError
from deepsdf.jobs.worker import Cancelled

logger = logging.getLogger(__name__)

MAX_MESSAGE = 600
"""Characters of a notification; longer ones would cover the page."""


def notify(client: Any, title: str, message: object, *, error: bool = True) -> None:
    """Show a notification in the page. Errors stay until they are closed."""
    text = str(message)
    text = text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + " ..."
    client.add_notification(title, text, color="red" if error else "teal", auto_close_seconds=None if error else 6.0)


def guarded(client: Any, work: Callable[[], Any], title: str = "Error") -> Any:
    """The result of `work`, or None if it fails; the error is shown in the page and the server keeps running."""
    try:
        return work()
    except Cancelled:
        raise
    except (DeepSDFError, OSError) as error:
        notify(client, title, error)
    except Exception as error:
        logger.exception("%s", title)
        notify(client, title, f"{type(error).__name__}: {error}")
    return None


def on_input(handle: Any, client: Any, work: Callable[[], Any]) -> None:
    """Call `work` when the visitor changes a control, not when the program does."""

    def changed(event: Any) -> None:
        if event.client is not None:
            guarded(client, work)

    handle.on_update(changed)


def on_click(handle: Any, client: Any, work: Callable[[], Any]) -> None:
    """Call `work` when the visitor presses a button."""
    handle.on_click(lambda event: guarded(client, work))
