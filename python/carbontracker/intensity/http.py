"""The one HTTP client of the package: a single bounded exchange, or the reason why it failed.

Nothing is repeated here: ``cached_provider`` decides when to ask again.
No reason, log or exception holds a
secret, a query or a header.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from carbontracker.exceptions import ServiceError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from _typeshed import WriteableBuffer

REDIRECTS = (301, 302, 303, 307, 308)
PUBLIC_HEADERS = ("Accept", "User-Agent")
"""The only headers that another host receives after a redirect."""


@dataclass(frozen=True)
class Limits:
    """What one exchange may take."""

    connect_s: float = 3.0
    read_s: float = 10.0
    """Between two pieces of the reply, s."""
    total_s: float = 15.0
    """For everything, redirects included, s."""
    max_bytes: int = 5_000_000
    max_redirects: int = 3


class Reply(NamedTuple):
    """The reply of a service."""

    body: bytes
    headers: Mapping[str, str]
    """By lower-case name."""


class RequestFailed(ServiceError):
    """An exchange failed; ``reason`` follows the name of the host in a message."""


class Client:
    """Makes requests within limits.

    Args:
        limits: of every request.
        proxies: whether ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` apply.
        clock: seconds, monotonic.
        wall: seconds since 1970, for a ``Retry-After`` that is a date.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        *,
        proxies: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        self._proxies = proxies
        self._clock, self._wall = clock, wall

    def fetch(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        secrets: Sequence[str] = (),
    ) -> Reply:
        """Return the reply to one request, after at most ``limits.max_redirects`` redirects.

        Raises:
            RequestFailed: no connection, no reply in time, a status other than 2xx, a redirect
                that must not be followed, or a body that is too long. The reason holds none of
                ``secrets``.
        """
        try:
            return self._follow(url, headers or {}, method)
        except RequestFailed as failed:
            reason = redacted(failed.reason, secrets)
            raise RequestFailed(reason, failed.status, failed.retry_after_s) from None

    def _follow(self, url: str, given: Mapping[str, str], method: str) -> Reply:
        deadline = self._clock() + self.limits.total_s
        headers = {"Accept": "application/json", **given}
        if "User-Agent" not in headers:
            headers["User-Agent"] = user_agent()
        for _ in range(self.limits.max_redirects + 1):
            reply = self._exchange(url, headers, method, deadline)
            if isinstance(reply, Reply):
                return reply
            try:
                target = urljoin(url, reply)
                here, there = urlsplit(url), urlsplit(target)
            except ValueError:
                raise RequestFailed("redirects to an invalid URL") from None
            if here.scheme == "https" and there.scheme != "https":
                raise RequestFailed("redirects to a URL without HTTPS")
            if there.netloc != here.netloc:
                headers = {k: v for k, v in headers.items() if k in PUBLIC_HEADERS}
            url = target
        raise RequestFailed(f"redirects more than {self.limits.max_redirects} times")

    def _exchange(
        self, url: str, headers: Mapping[str, str], method: str, deadline: float
    ) -> Reply | str:
        """Return the reply, or the target of a redirect."""
        try:
            if urlsplit(url).scheme not in ("http", "https"):
                raise RequestFailed("is not an http or https URL")
            request = _Request(url, headers=dict(headers), method=method)
            request.timeouts = _Timeouts(self._clock, deadline, self.limits)
            with self._opener(request.type).open(request) as reply:
                body = self._read(reply)
                return Reply(body, {name.lower(): value for name, value in reply.headers.items()})
        except HTTPError as error:
            with error:
                if error.code in REDIRECTS and error.headers.get("Location"):
                    return str(error.headers["Location"])
                raise self._status(error) from None
        except (TimeoutError, URLError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, TimeoutError) and self._clock() >= deadline:
                raise RequestFailed("took too long") from None
            failed = "cannot be reached" if isinstance(error, URLError) else "does not answer"
            raise RequestFailed(f"{failed}: {reason}") from None
        except OSError as error:
            raise RequestFailed(f"does not answer: {error}") from None
        except (http.client.HTTPException, ValueError) as error:
            # A malformed reply, URL or key. The message may quote the key: only its type is shown.
            raise RequestFailed(f"cannot be asked: {type(error).__name__}") from None

    def _opener(self, scheme: str) -> OpenerDirector:
        opener = OpenerDirector()  # without a handler of redirects: they are errors here
        opener.add_handler(ProxyHandler(None if self._proxies else {}))
        opener.add_handler(UnknownHandler())  # of the scheme of a proxy
        opener.add_handler(HTTPDefaultErrorHandler())
        opener.add_handler(HTTPErrorProcessor())
        # HTTPSHandler loads the certificates, which takes a while.
        opener.add_handler(_HTTPSHandler() if scheme == "https" else _HTTPHandler())
        return opener

    def _read(self, reply: http.client.HTTPResponse) -> bytes:
        pieces, size = [], 0
        while piece := reply.read1(65_536):
            pieces.append(piece)
            size += len(piece)
            if size > self.limits.max_bytes:
                raise RequestFailed(f"sent more than {self.limits.max_bytes} bytes")
        if reply.length:  # bytes that Content-Length promised and that did not come
            raise RequestFailed("cut its answer short")
        return b"".join(pieces)

    def _status(self, error: HTTPError) -> RequestFailed:
        try:
            said = error_message(error.read(2_000))
        except (OSError, http.client.HTTPException):
            said = ""
        return RequestFailed(
            f"answered {error.code}" + (f": {said}" if said else ""),
            error.code,
            retry_after_s(error.headers.get("Retry-After"), self._wall()),
        )


class _Timeouts(NamedTuple):
    """The time limits of one request."""

    clock: Callable[[], float]
    deadline: float
    limits: Limits

    def within(self, seconds: float) -> float:
        """Return ``seconds``, or what is left until the deadline if that is less.

        Raises:
            TimeoutError: nothing is left.
        """
        left_s = self.deadline - self.clock()
        if left_s <= 0:
            raise TimeoutError("the deadline has passed")
        return min(seconds, left_s)


class _DeadlineReader(io.RawIOBase):
    """Reads a socket piece by piece and checks the deadline before each: headers and body.

    The timeout of a socket is that of one piece, and a host may send its reply byte by byte.
    """

    def __init__(self, sock: socket.socket, timeouts: _Timeouts) -> None:
        self._sock, self._timeouts = sock, timeouts
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open until it is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._sock.settimeout(self._timeouts.within(self._timeouts.limits.read_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, timeouts: _Timeouts, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_DeadlineReader(sock, timeouts))


class _Connection(http.client.HTTPConnection):
    timeouts: _Timeouts

    def connect(self) -> None:
        limits = self.timeouts.limits
        self.timeout = self.timeouts.within(limits.connect_s)
        super().connect()
        self.sock.settimeout(self.timeouts.within(limits.read_s))


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    pass


class _Request(Request):
    timeouts: _Timeouts


class _HTTPHandler(HTTPHandler):
    def http_open(self, req: Request) -> Any:
        return self.do_open(partial(_connection, _Connection, req), req)


class _HTTPSHandler(HTTPSHandler):
    def https_open(self, req: Request) -> Any:
        return self.do_open(partial(_connection, _SecureConnection, req), req)


def _connection(kind: type[_Connection], request: Any, *args: Any, **named: Any) -> Any:
    connection: Any = kind(*args, **named)
    connection.timeouts = request.timeouts
    connection.response_class = partial(_Response, request.timeouts)
    return connection


def user_agent() -> str:
    """Return the name and version of this package; some services refuse requests without one."""
    from carbontracker import __version__

    return f"carbontracker/{__version__} (+https://pypi.org/project/carbontracker/)"


def redacted(text: str, secrets: Sequence[str]) -> str:
    """Return ``text`` on one line, without the secrets, also as they are quoted in a URL."""
    for secret in secrets:
        for form in {secret, quote(secret), quote(secret, safe="")}:
            if form:
                text = text.replace(form, "***")
    # No terminal control characters, and no lone surrogates, which cannot be written to a file.
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """Return the seconds of a ``Retry-After`` header; None if it is absent or malformed.

    Source: RFC 9110 section 10.2.3.
    """
    if text is None:
        return None
    if re.fullmatch(r"[0-9]+", text.strip()):  # isdigit() also accepts the superscripts of Latin-1
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (TypeError, ValueError):
        return None


def error_message(body: bytes) -> str:
    """Return what a JSON body says went wrong, at most 160 characters; nothing of other bodies."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(answer, dict):
        return ""
    said = next((answer[key] for key in ("error", "message", "detail") if answer.get(key)), "")
    if isinstance(said, dict):
        said = said.get("message", "")
    return said[:160] if isinstance(said, str) else ""
