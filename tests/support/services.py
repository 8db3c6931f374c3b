"""A real HTTP server on loopback: answers as its test wants, remembers what it was asked."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True)
class Request:
    """What was asked; the names of headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """What to answer."""

    body: bytes | str = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False
    """Send nothing until the server closes."""


class Server(ThreadingHTTPServer):
    """The server; ``asked`` grows with every request."""

    daemon_threads = True
    answer: Callable[[Request], Reply]
    asked: list[Request]
    closing: threading.Event
    outwaited: bool
    """Whether a client waited for a reply longer than a reply hangs."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers)
        self.server.asked.append(request)
        reply = self.server.answer(request)
        if reply.hang:
            if not self.server.closing.wait(30):
                self.server.outwaited = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body.encode() if isinstance(reply.body, str) else reply.body)

    def do_GET(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@contextmanager
def serving(answer: Callable[[Request], Reply]) -> Iterator[tuple[Server, str]]:
    """Serve on a free port; gives the server and its base URL."""
    server = Server(("127.0.0.1", 0), _Handler)
    server.answer, server.asked, server.closing = answer, [], threading.Event()
    server.outwaited = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
