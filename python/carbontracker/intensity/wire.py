"""Connections for requests of carbon intensity: bounded in time, redirects left alone."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Timed(Request):
    """A request whose connection is cut when its time is up.

    The time-out of a socket is that of one piece, and a host may send its reply byte by byte.
    """

    connection: _Connection | None = None
    connect_s = 3.0
    """How long connecting may take, s."""

    @contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        """Cut the connection after some seconds, s, unless the block has ended by then.

        Raises:
            TimeoutError: it was cut, whatever seems to have come until then.
            RuntimeError: there is no thread that could watch it.
        """
        late = threading.Event()

        def cut() -> None:
            late.set()
            sock = self.connection and (self.connection.open_sock or self.connection.sock)
            if sock:
                with suppress(OSError):
                    # Not SSLSocket's own, which takes the protection away under the reader.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if late.is_set():
                raise TimeoutError("took too long") from None


class _NoRedirect(HTTPRedirectHandler):
    """Redirects are followed by ``Client._follow``, which knows what must not be sent along."""

    def http_error_302(self, *_: Any, **__: Any) -> None:
        """Leave it to the error that follows."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Connection(http.client.HTTPConnection):
    """A connection with a time-out of its own for connecting, which tells of its socket."""

    connect_s = 3.0
    open_sock: socket.socket | None = None
    """The socket; ``sock`` forgets it while the reply is still being read."""

    def connect(self) -> None:
        read_s, self.timeout = self.timeout, self.connect_s
        super().connect()
        self.open_sock = self.sock
        self.sock.settimeout(read_s)


class _Secure(_Connection, http.client.HTTPSConnection):
    """The same, protected."""


class _PlainHandler(HTTPHandler):
    def http_open(self, req: Request) -> Any:
        return self.do_open(_noted(_Connection, req), req)


class _SecureHandler(HTTPSHandler):
    def https_open(self, req: Request) -> Any:
        return self.do_open(_noted(_Secure, req), req)


def _noted(kind: type[_Connection], request: Request) -> Callable[..., _Connection]:
    """Return what makes a connection and leaves it with its request, to be cut."""

    def made(*args: Any, **named: Any) -> _Connection:
        connection = kind(*args, **named)
        if isinstance(request, Timed):
            connection.connect_s = request.connect_s
            request.connection = connection
        return connection

    return made


def opener(scheme: str) -> OpenerDirector:
    """Return what opens a ``Timed`` request of this scheme.

    Certificates take a while to load, so only where they are wanted.

    Proxies are urllib's: ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``.
    """
    found = OpenerDirector()
    for handler in (ProxyHandler, UnknownHandler, HTTPDefaultErrorHandler, _NoRedirect):
        found.add_handler(handler())
    found.add_handler(HTTPErrorProcessor())
    found.add_handler(_SecureHandler() if scheme == "https" else _PlainHandler())
    return found
