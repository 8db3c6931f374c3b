"""The HTTP server that Prometheus scrapes. It serves one page, on threads of its own.

It listens on loopback unless the user names another address, and sleeps between scrapes.
"""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any

from carbontracker.address_space import start_thread
from carbontracker.guard import logger
from carbontracker.operating_system import after_fork_in_child
from carbontracker.telemetry.prometheus import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

_CLIENT_TIMEOUT_S = 5.0
"""A connection is closed after so long without a byte from the client."""
_MAX_CLOSE_S = 1.0
MAX_CLIENTS = 16
"""Connections at a time. Each has a thread; a Prometheus server needs one."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_TIMEOUT_S
    server: _Server
    server_version = "carbontracker"
    sys_version = ""

    def do_GET(self) -> None:  # http.server prescribes the name
        """Answer with the current metrics."""
        self.server.request_complete(self.connection)
        if self.path.partition("?")[0] != "/metrics":
            self._answer(404, "text/plain; charset=utf-8", "the metrics are at /metrics\n")
            return
        self._answer(200, CONTENT_TYPE, self.server.page())

    def _answer(self, code: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Write no log: standard error belongs to the training."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CLIENTS

    def __init__(self, address: tuple[str, int], page: Callable[[], str]) -> None:
        self.page = page
        self._complete: dict[socket.socket, bool] = {}
        """The open connections, oldest first, and whether each has sent its whole request."""
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Accept one connection; above the limit, close the oldest that is still sending.

        A client whose request is complete waits only for the answer, so slow clients cannot push
        it out. If all requests are complete, the oldest connection is closed.
        """
        with self._lock:
            self._complete[request] = False
            if len(self._complete) > MAX_CLIENTS:
                oldest = min(self._complete, key=self._complete.__getitem__)
                del self._complete[oldest]
                with suppress(OSError):  # the client may have closed it already
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def request_complete(self, request: socket.socket) -> None:
        """Note that a client has sent its whole request."""
        with self._lock:
            if request in self._complete:
                self._complete[request] = True

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._complete.pop(request, None)
        super().shutdown_request(request)

    def server_bind(self) -> None:
        """Bind without a lookup of the host's own name, which may use the network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]  # host and port

    def handle_error(self, *_: Any) -> None:
        """Write no message about a client that has disconnected."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class Endpoint:
    """Serves ``/metrics`` until it is closed.

    Args:
        page: returns the text of a scrape; called on the thread of each connection.
        host: name or address to bind to.
        port: 0 for any free port.

    Raises:
        RuntimeError: the thread cannot be started.
        OSError: the port is in use, or the address does not belong to this machine.
    """

    def __init__(self, page: Callable[[], str], host: str, port: int) -> None:
        server_class = _Server6 if ":" in host else _Server
        self._server = server_class((host, port), page)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._server.server_port}"
        self._closing = False
        self._thread = threading.Thread(
            target=self._serve, name="carbontracker-prometheus", daemon=True
        )
        with ExitStack() as undo:
            undo.callback(self._server.server_close)
            start_thread(self._thread)
            undo.pop_all()
        _open.append(self)

    def _serve(self) -> None:
        while not self._closing:
            self._server.handle_request()  # sleeps until a client connects

    def close(self) -> None:
        """Stop serving and free the port."""
        if self not in _open:
            return
        _open.remove(self)
        self._closing = True
        try:
            self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        except OSError as error:
            logger.debug("carbontracker: %s", error)  # some systems: the socket has no client
        self._thread.join(_MAX_CLOSE_S)
        self._server.server_close()

    def close_in_child(self) -> None:
        """Close the inherited socket, or a forked child would hold the port while it lives."""
        self._server.socket.close()


_open: list[Endpoint] = []


def _after_fork_in_child() -> None:
    while _open:
        _open.pop().close_in_child()


after_fork_in_child(_after_fork_in_child)
