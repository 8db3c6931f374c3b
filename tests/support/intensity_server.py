"""One HTTP server on loopback that answers by a script and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class Reply:
    """What to answer; anything but bytes is sent as JSON."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    until: threading.Event | None = None
    """Nothing is sent before this is set."""
    body_until: threading.Event | None = None
    """The head is sent, the body only once this is set."""
    cut: bool = False
    """The connection ends before the length that was promised."""

    @property
    def encoded(self) -> bytes:
        """Return the body as bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Server(ThreadingHTTPServer):
    """Answers with ``script``, once for each request."""

    daemon_threads = True
    block_on_close = False
    script: Callable[[Asked], Reply]
    asked: list[Asked]
    secure = False

    @property
    def url(self) -> str:
        """Return the base address."""
        host, port = self.server_address[:2]
        name = f"[{host!s}]" if self.address_family == socket.AF_INET6 else str(host)
        return f"{'https' if self.secure else 'http'}://{name}:{port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a client that gives up is a test's business."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        asked = Asked(parts.path, query, {k.lower(): v for k, v in self.headers.items()})
        self.server.asked.append(asked)
        reply = self.server.script(asked)
        if reply.until is not None:
            reply.until.wait(60)
        body = reply.encoded
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + 100 * reply.cut))
        self.end_headers()
        self.wfile.flush()
        if reply.body_until is not None:
            reply.body_until.wait(60)
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


class _Six(Server):
    address_family = socket.AF_INET6


@contextmanager
def serving(
    script: Callable[[Asked], Reply] | Reply | list[Reply],
    *,
    host: str = "127.0.0.1",
    certificate: Path | None = None,
) -> Iterator[Server]:
    """Yield a server that runs a script, gives one reply always, or several and the last for good.

    With a certificate (and its key in the same file) it speaks TLS.

    Raises:
        OSError: the host's address family is not there.
    """
    server = (_Six if ":" in host else Server)((host, 0), _Handler)
    server.asked = []
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.secure = True
    if callable(script):
        server.script = script
    else:
        replies = [script] if isinstance(script, Reply) else list(script)
        server.script = lambda _: replies.pop(0) if len(replies) > 1 else replies[0]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refused() -> str:
    """Return an address without a server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
