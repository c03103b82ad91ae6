"""The web server: one page for each browser that comes, closed when it goes."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

from deepsdf.errors import InputError
from deepsdf.rendering.camera import Axis
from deepsdf.viewer.scene.stage import prepare

PORT = 8080

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses of this machine that no other machine reaches."""

logger = logging.getLogger(__name__)


class Page(Protocol):
    """What one browser shows."""

    def close(self) -> None:
        """The browser is gone: stop its work."""
        ...


def import_viser() -> Any:
    """Raises InputError: it is not installed."""
    try:
        import viser
    except ImportError as error:
        raise InputError(
            f"the viewer needs viser, which cannot be imported ({error}); `pip install deepsdf[viewer]` installs it"
        ) from None
    return viser


def check_port(host: str, port: int) -> None:
    """Raises InputError: something else listens there, or there is no such address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except UnicodeError:
        raise InputError(f"{host[:80]!r} is no host; say 127.0.0.1, for this machine alone, or 0.0.0.0") from None
    except OSError as error:
        advice = "--host is an address of this machine: 127.0.0.1, for it alone, or 0.0.0.0"
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            other = PORT if port < 1024 or port == 65535 else port + 1
            advice = f"is another viewer running? Choose another port with --port, as --port {other}"
        raise InputError(f"{host}:{port} cannot be used: {error.strerror or error}; {advice}") from None


def _is_ours(origin: str, host: str | None) -> bool:
    """Whether a page is the viewer's; a name that its owner lets point to this machine is not (DNS rebinding)."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.netloc == host and parts.hostname in LOOPBACK


class Server:
    """Pages for browsers.

    Args:
        make: a page for a browser, viser's `ClientHandle`.
        host: the address to listen at; 127.0.0.1 is this machine alone.
    Raises:
        InputError: viser is not there, or the port cannot be used.
    """

    def __init__(
        self, make: Callable[[Any], Page], *, host: str = "127.0.0.1", port: int = PORT, up: Axis = "y"
    ) -> None:
        viser = import_viser()
        check_port(host, port)

        class Private(viser.ViserServer):
            """A visitor can ask viser for a public tunnel to this server; who runs it did not."""

            def request_share_url(self, verbose: bool = True) -> None:
                return None

        with contextlib.redirect_stdout(io.StringIO()):  # its own words; ours are the command line's
            self._server: Any = Private(host=host, port=port, label="deepsdf", verbose=False)
        if self._server.get_port() != port:  # taken in the meantime
            self._server.stop()
            raise InputError(f"{host}:{port} was taken by another program; choose another port with --port")
        self.host, self.port = host, port
        self.pages: dict[int, Page] = {}
        self._lock = threading.Lock()
        self._make = make
        self._server.gui.configure_theme(show_logo=False, show_share_button=False, brand_color=(64, 104, 150))
        self._server.gui.main_panel.dock_right()
        prepare(self._server, up)
        self._server.on_client_connect(self._came)
        self._server.on_client_disconnect(self._went)

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "localhost", "::": "localhost"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def _came(self, client: Any) -> None:
        if self._foreign(client):
            return
        try:
            page = self._make(client)
        except Exception as error:
            logger.warning("a page could not be made: %s", error, exc_info=logger.isEnabledFor(logging.DEBUG))
            client.add_notification("This page could not be made", str(error), color="red")
            return
        with self._lock:
            self.pages[client.client_id] = page
        if client.client_id not in self._server.get_clients():  # gone while its page was made
            self._went(client)

    def _foreign(self, client: Any) -> bool:
        """Whether a page of another site has opened this connection, in a browser that may also reach us."""
        connection = self._server._websock_server._live_connections.get(client.client_id)
        if self.host not in LOOPBACK or connection is None or connection.request is None:
            return False
        headers = connection.request.headers
        origin = headers.get("Origin")
        if origin is None or _is_ours(origin, headers.get("Host")):
            return False
        logger.warning("a page of %s asked for the viewer and was given nothing; use %s", origin[:200], self.url)
        return True

    def _went(self, client: Any) -> None:
        with self._lock:
            page = self.pages.pop(client.client_id, None)
        if page is not None:
            # Not here: this may be the thread that all browsers are served by.
            threading.Thread(target=page.close, daemon=True).start()

    def close(self) -> None:
        """Close every page, and stop listening."""
        with self._lock:
            pages, self.pages = list(self.pages.values()), {}
        for page in pages:
            page.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()
