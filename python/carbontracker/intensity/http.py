"""The one HTTP client of the package: a single bounded exchange, or the reason why it failed.

Each request has a thread of its own, for which the caller waits until the deadline: a look-up of a
name cannot be interrupted, and a host may have many addresses and send its reply byte by byte. As
the program ends, no thread may be within OpenSSL, which is taken apart then: the process would end
with SIGSEGV. Nothing is repeated here: ``backoff`` decides when to ask again. No reason, log or
exception holds a secret, a query or a header.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import (
    AbstractHTTPHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from carbontracker.address_space import TLS_BYTES, check_room, start_thread
from carbontracker.exceptions import ServiceError
from carbontracker.foreign_calls import foreign_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REDIRECTS = (301, 302, 303, 307, 308)
PUBLIC_HEADERS = ("Accept", "User-Agent")
"""The only headers that another host receives after a redirect."""
MAX_ABANDONED = 8
"""Threads of requests that were given up and have not ended: a name look-up may hang for ever."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Limits:
    """What one exchange may take."""

    connect_s: float = 3.0
    """For each address of the host, s."""
    read_s: float = 10.0
    """Between two pieces of the reply, s."""
    total_s: float = 15.0
    """For everything, look-up of the name and redirects included, s."""
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
    """

    def __init__(self, limits: Limits = Limits(), *, proxies: bool = True) -> None:
        self.limits = limits
        self._proxies = proxies

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
        exchange = _Exchange(self.limits, proxies=self._proxies)
        sent = {"Accept": "application/json", "User-Agent": user_agent(), **(headers or {})}
        try:
            return within(
                self.limits.total_s, lambda: exchange.follow(url, sent, method), exchange.abandon
            )
        except RequestFailed as failed:
            reason = redacted(failed.reason, secrets)
            raise RequestFailed(reason, failed.status, failed.retry_after_s) from None


_abandoned: list[threading.Thread] = []


def within(seconds: float, ask: Callable[[], _Value], abandon: Callable[[], None]) -> _Value:
    """Return what ``ask`` returns on a thread of its own; after ``seconds``, give it up.

    Args:
        seconds: to wait at most, s.
        ask: what may take longer.
        abandon: called if it does, to make ``ask`` end.

    Raises:
        RequestFailed: it takes longer, there is no thread for it, or too many earlier ones hang.
    """
    _abandoned[:] = [thread for thread in _abandoned if thread.is_alive()]
    if len(_abandoned) >= MAX_ABANDONED:
        raise RequestFailed(f"is not asked: {MAX_ABANDONED} earlier requests have not ended")
    results: list[_Value] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(ask())
        except Exception as error:  # noqa: BLE001  # raised again by the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="carbontracker-request", daemon=True)
    try:
        start_thread(thread)
    except (OSError, RuntimeError):
        raise RequestFailed("cannot be asked: no thread can be started") from None
    try:
        thread.join(max(0.0, seconds))
    finally:  # also if a signal handler raises
        if thread.is_alive():
            _abandoned.append(thread)
            abandon()
    for error in errors:
        raise error
    for value in results:
        return value
    raise RequestFailed("took too long")


class _Exchange:
    """One request with its redirects."""

    def __init__(self, limits: Limits, *, proxies: bool) -> None:
        self._limits = limits
        self._opener = OpenerDirector()  # without a handler of redirects: they are errors here
        for handler in (
            ProxyHandler(None if proxies else {}),
            UnknownHandler(),  # of the scheme of a proxy
            HTTPDefaultErrorHandler(),
            HTTPErrorProcessor(),
            _Handler(self),
        ):
            self._opener.add_handler(handler)
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        """Duplicates: they can be shut down while the originals are being closed."""
        self._abandoned = False

    def abandon(self) -> None:
        """Shut all connections down, from another thread: what waits for them ends."""
        with self._lock:
            self._abandoned = True
            for one in self._sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    @property
    def read_s(self) -> float:
        """Time between two pieces of the reply, s."""
        return self._limits.read_s

    def connected(self, sock: socket.socket) -> None:
        """Take note of a connection."""
        with self._lock:
            if self._abandoned:
                raise TimeoutError("abandoned")
            self._sockets.append(socket.fromfd(sock.fileno(), sock.family, sock.type))

    def follow(self, url: str, headers: Mapping[str, str], method: str) -> Reply:
        """Return the reply, where redirects lead."""
        try:
            for _ in range(self._limits.max_redirects + 1):
                reply = self._ask(url, headers, method)
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
            raise RequestFailed(f"redirects more than {self._limits.max_redirects} times")
        finally:
            foreign_calls.leave(self)
            with self._lock:
                for one in self._sockets:
                    one.close()
                self._sockets.clear()

    def _ask(self, url: str, headers: Mapping[str, str], method: str) -> Reply | str:
        """Return the reply, or the target of a redirect."""
        try:
            if urlsplit(url).scheme not in ("http", "https"):
                raise RequestFailed("is not an http or https URL")
            request = Request(url, headers=dict(headers), method=method)
            with self._opener.open(request, timeout=self._limits.connect_s) as reply:
                body = reply.read(self._limits.max_bytes + 1)
                if len(body) > self._limits.max_bytes:
                    raise RequestFailed(f"sent more than {self._limits.max_bytes} bytes")
                if reply.length:  # bytes that Content-Length promised and that did not come
                    raise RequestFailed("cut its answer short")
                return Reply(body, {name.lower(): value for name, value in reply.headers.items()})
        except HTTPError as error:
            with error:
                if error.code in REDIRECTS and error.headers.get("Location"):
                    return str(error.headers["Location"])
                raise _failed_status(error) from None
        except URLError as error:
            raise RequestFailed(f"cannot be reached: {error.reason}") from None
        except OSError as error:
            raise RequestFailed(f"does not answer: {error}") from None
        except (http.client.HTTPException, ValueError) as error:
            # A malformed reply, URL or key. The message may quote the key: only its type is shown.
            raise RequestFailed(f"cannot be asked: {type(error).__name__}") from None


class _Handler(AbstractHTTPHandler):
    """Opens connections that their exchange knows."""

    http_request = https_request = AbstractHTTPHandler.do_request_

    def __init__(self, exchange: _Exchange) -> None:
        super().__init__()
        self._exchange = exchange

    def http_open(self, req: Request) -> Any:
        return self.do_open(partial(_Connection, self._exchange), req)

    def https_open(self, req: Request) -> Any:
        try:
            check_room(TLS_BYTES)
        except OSError as error:
            raise RequestFailed(f"cannot be asked: {error.strerror}") from None
        return self.do_open(partial(_SecureConnection, self._exchange), req)


class _Connection(http.client.HTTPConnection):
    def __init__(self, exchange: _Exchange, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._exchange = exchange
        self._create_connection = self._open

    def _open(self, *args: Any, **named: Any) -> socket.socket:
        sock = socket.create_connection(*args, **named)
        try:
            self._exchange.connected(sock)
        except TimeoutError:
            sock.close()
            raise
        return sock

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self._exchange.read_s)


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """A connection whose exchange is noted wherever it calls OpenSSL."""

    def __init__(self, exchange: _Exchange, *args: Any, **named: Any) -> None:
        foreign_calls.leave(exchange)  # of the connection before, which was redirected to this one
        foreign_calls.enter(exchange)
        super().__init__(exchange, *args, **named)

    def _open(self, *args: Any, **named: Any) -> socket.socket:
        foreign_calls.leave(self._exchange)  # a look-up of a name may hang
        sock = super()._open(*args, **named)
        try:
            foreign_calls.enter(self._exchange)
        except TimeoutError:
            sock.close()
            raise
        return sock


def _failed_status(error: HTTPError) -> RequestFailed:
    try:
        said = error_message(error.read(2_000))
    except (OSError, http.client.HTTPException):
        said = ""
    reason = f"answered {error.code}" + (f": {said}" if said else "")
    wait_s = retry_after_s(error.headers.get("Retry-After"), time.time())
    return RequestFailed(reason, error.code, wait_s)


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
