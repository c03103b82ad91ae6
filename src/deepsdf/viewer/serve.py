"""The web server: makes a page for each browser that connects, and closes it when the browser disconnects."""

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
"""Default port of the viewer."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Host names that only this machine can reach."""

logger = logging.getLogger(__name__)


class Page(Protocol):
    """The page of one browser."""

    def close(self) -> None:
        """Stop the page's work after its browser has disconnected."""
        ...


def import_viser() -> Any:
    """The viser module. Raises InputError if it is not installed."""
    try:
        import viser
    except ImportError as error:
        raise InputError(
            f"the viewer needs viser, which cannot be imported ({error}); install it with `pip install deepsdf[viewer]`"
        ) from None
    return viser


def check_port(host: str, port: int) -> None:
    """Raise InputError if the port is in use, or the host is not an address of this machine."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except UnicodeError:
        raise InputError(
            f"{host[:80]!r} is not a host; use 127.0.0.1 (this machine only) or 0.0.0.0 (all networks)"
        ) from None
    except OSError as error:
        advice = "--host must be an address of this machine: 127.0.0.1 (this machine only) or 0.0.0.0 (all networks)"
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            other = PORT if port < 1024 or port == 65535 else port + 1
            advice = f"is another viewer running? Choose another port, for example --port {other}"
        raise InputError(f"{host}:{port} cannot be used: {error.strerror or error}; {advice}") from None


def _is_own_origin(origin: str, host: str | None) -> bool:
    """Whether a page was loaded from this server under a loopback name.

    Other names are rejected even if they resolve to this machine, which their owner can arrange (DNS rebinding).
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.netloc == host and parts.hostname in LOOPBACK


class Server:
    """Serves pages to browsers.

    Args:
        make: makes the page of a browser, given viser's `ClientHandle`.
        host: address to listen on; 127.0.0.1 accepts connections from this machine only.
        port: port to listen on.
        up: up axis of the scene.
    Raises:
        InputError: viser is not installed, or the port cannot be used.
    """

    def __init__(
        self, make: Callable[[Any], Page], *, host: str = "127.0.0.1", port: int = PORT, up: Axis = "y"
    ) -> None:
        viser = import_viser()
        check_port(host, port)

        class Private(viser.ViserServer):
            """Without viser's public tunnel, which visitors could request and the owner did not enable."""

            def request_share_url(self, verbose: bool = True) -> None:
                return None

        with contextlib.redirect_stdout(io.StringIO()):  # viser prints its own messages
            self._server: Any = Private(host=host, port=port, label="deepsdf", verbose=False)
        if self._server.get_port() != port:  # viser chose another port: this one was taken in the meantime
            self._server.stop()
            raise InputError(f"{host}:{port} is in use by another program; choose another port with --port")
        self.host, self.port = host, port
        self.pages: dict[int, Page] = {}
        self._lock = threading.Lock()
        self._make = make
        self._server.gui.configure_theme(show_logo=False, show_share_button=False, brand_color=(64, 104, 150))
        self._server.gui.main_panel.dock_right()
        prepare(self._server, up)
        self._server.on_client_connect(self._connect)
        self._server.on_client_disconnect(self._disconnect)

    @property
    def url(self) -> str:
        """Address to open in a browser."""
        host = {"0.0.0.0": "localhost", "::": "localhost"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def _connect(self, client: Any) -> None:
        if self._is_foreign(client):
            return
        try:
            page = self._make(client)
        except Exception as error:
            logger.warning("the page could not be created: %s", error, exc_info=logger.isEnabledFor(logging.DEBUG))
            client.add_notification("The page could not be created", str(error), color="red")
            return
        with self._lock:
            self.pages[client.client_id] = page
        if client.client_id not in self._server.get_clients():  # disconnected while its page was created
            self._disconnect(client)

    def _is_foreign(self, client: Any) -> bool:
        """Whether the connection was opened by a page of another web site in a browser on this machine."""
        connection = self._server._websock_server._live_connections.get(client.client_id)
        if self.host not in LOOPBACK or connection is None or connection.request is None:
            return False
        headers = connection.request.headers
        origin = headers.get("Origin")
        if origin is None or _is_own_origin(origin, headers.get("Host")):
            return False
        logger.warning("refused a connection from a page of %s; open %s instead", origin[:200], self.url)
        return True

    def _disconnect(self, client: Any) -> None:
        with self._lock:
            page = self.pages.pop(client.client_id, None)
        if page is not None:
            # In another thread: this one may serve all browsers.
            threading.Thread(target=page.close, daemon=True).start()

    def close(self) -> None:
        """Close all pages and stop the server."""
        with self._lock:
            pages, self.pages = list(self.pages.values()), {}
        for page in pages:
            page.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()
