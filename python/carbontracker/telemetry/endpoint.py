"""A place that Prometheus scrapes: a small HTTP server with threads of its own.

It stands on loopback unless another address is named, sleeps until it is asked, and knows one page.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any

from carbontracker.guard import logger
from carbontracker.telemetry.prometheus import CONTENT_TYPE, exposition

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.telemetry.metrics import Gauge

_SILENT_CLIENT_S = 5.0
"""A client that says nothing for so long is left."""
MOST_CLIENTS = 16
"""At a time, each with a thread; Prometheus is one."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _SILENT_CLIENT_S
    page: Callable[[], str]
    server_version = "carbontracker"
    sys_version = ""

    def do_GET(self) -> None:  # the name is the library's
        """Answer with the metrics of this moment."""
        if self.path.partition("?")[0] != "/metrics":
            self._answer(404, "text/plain; charset=utf-8", "the metrics are at /metrics\n")
            return
        self._answer(200, CONTENT_TYPE, type(self).page())

    def _answer(self, code: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: standard error is the training's."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_CLIENTS

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        self._clients: deque[socket.socket] = deque()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take one client more; who asks so slowly that all places are taken has to leave."""
        self._clients.append(request)
        if len(self._clients) > MOST_CLIENTS:
            with suppress(OSError, IndexError):  # it may be leaving by itself
                self._clients.popleft().shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Let a client go."""
        with suppress(ValueError):
            self._clients.remove(request)
        super().shutdown_request(request)

    def server_bind(self) -> None:
        """Bind without looking its own name up, which may ask the network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]  # host and port

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that went away."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class Endpoint:
    """Serves ``/metrics`` until it is closed.

    Raises:
        RuntimeError: no thread can be made.
        OSError: the port is in use, or the address is not this machine's.
    """

    def __init__(self, gauge: Gauge, host: str, port: int) -> None:
        handler = type(
            "Handler", (_Handler,), {"page": staticmethod(lambda: exposition(gauge.read()))}
        )
        kind = _Server6 if ":" in host else _Server
        self._server = kind((host, port), handler)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._server.server_port}"
        self._closing = False
        self._thread = threading.Thread(
            target=self._serve, name="carbontracker-prometheus", daemon=True
        )
        with ExitStack() as undo:
            undo.callback(self._server.server_close)
            self._thread.start()
            undo.pop_all()
        _open.append(self)

    def _serve(self) -> None:
        while not self._closing:
            self._server.handle_request()  # sleeps until somebody asks

    def close(self) -> None:
        """Serve no more and free the port."""
        if self not in _open:
            return
        _open.remove(self)
        self._closing = True
        try:
            self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        except OSError as error:
            logger.debug("carbontracker: %s", error)  # nobody was connected, on some systems
        self._thread.join(timeout=1.0)
        self._server.server_close()

    def leave(self) -> None:
        """Let go of the port in a forked child, or it would be taken as long as that lives."""
        self._server.socket.close()


_open: list[Endpoint] = []


def _after_fork_in_child() -> None:
    while _open:
        _open.pop().leave()


os.register_at_fork(after_in_child=_after_fork_in_child)
