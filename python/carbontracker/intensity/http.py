"""The one place from which a request for carbon intensity leaves: an HTTP GET, or a reason why not.

What a reply may cost is bounded in time (connect, read, total) and size; what is worth asking again
is asked again, politely; a host that keeps failing is left alone for a while.
"""

from __future__ import annotations

import random
import re
import threading
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit

from carbontracker.intensity.base import IntensityUnavailable
from carbontracker.intensity.wire import Timed, opener

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from http.client import HTTPResponse
    from urllib.request import OpenerDirector

MOST_BYTES = 5_000_000
MOST_REDIRECTS = 3
RETRIES = 2
BACKOFF_S = 1.0
LONGEST_WAIT_S = 60.0
"""Longest ``Retry-After`` that is waited out; a longer one becomes a cool-down."""
WORTH_RETRYING = (429, 500, 502, 503, 504)
FAILURES_TO_OPEN = 3
"""Failed requests in a row after which a host is left alone."""
PAUSE_S = 300.0
LONGEST_PAUSE_S = 3600.0

PUBLIC_HEADERS = ("Accept", "User-Agent")
"""All that another host may see after a redirect."""

_CHANCE = random.SystemRandom()


@dataclass(frozen=True)
class Limits:
    """How long a request may take, s."""

    connect_s: float = 3.0
    read_s: float = 10.0
    """Between two pieces of the reply."""
    total_s: float = 15.0
    """With retries and redirects, without the waits that the host asks for."""


@dataclass(frozen=True)
class Ask:
    """One question to a service."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[str] = ()
    """Texts that must not appear in any reason, wherever they are sent."""


class Client:
    """GETs with one conduct for all providers; the clocks and the sleep can be given for tests.

    Args:
        limits: how long a request may take.
        clock: seconds that only grow.
        sleep: waits some seconds.
        wall: seconds since 1970, to understand a ``Retry-After`` that is a date.
        spread: a number from 0 to 1, anew each time, so that many clients do not retry in step;
            not from the generator that a training may have seeded.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] = time.sleep,
        wall: Callable[[], float] = time.time,
        spread: Callable[[], float] = _CHANCE.random,
    ) -> None:
        self.limits = limits
        self._clock, self._sleep, self._wall, self._spread = clock, sleep, wall, spread
        self._lock = threading.Lock()
        self._openers: dict[str, OpenerDirector] = {}
        self._failures: dict[str, int] = {}
        self._closed_until: dict[str, tuple[float, str]] = {}

    def get(self, ask: Ask) -> bytes:
        """Return the body of a 200 reply.

        Raises:
            IntensityUnavailable: no connection, no answer in time, another status, a redirect that
                must not be followed, a body that is too long, or a host that is being left alone.
                The reason names the host, never a query, a header or a secret.
        """
        try:
            host = urlsplit(ask.url).netloc.rpartition("@")[2]
        except ValueError:
            raise IntensityUnavailable("the address of the service is none") from None
        self._check_open(host)
        try:
            body = self._get_with_retries(ask, host)
        except _Failed as failed:
            reason = redacted(failed.reason, ask.secrets)
            self._note_failure(host, failed, reason)
            raise IntensityUnavailable(f"{host} {reason}", failed.status) from None
        with self._lock:
            self._failures.pop(host, None)
            self._closed_until.pop(host, None)
        return body

    def _get_with_retries(self, ask: Ask, host: str) -> bytes:
        deadline = self._clock() + self.limits.total_s
        attempt = 0
        while True:
            try:
                return self._follow(ask, deadline)
            except _Failed as failed:
                asked_s = failed.retry_after_s
                backoff_s = BACKOFF_S * 2**attempt * (0.5 + self._spread())
                wait_s = backoff_s if asked_s is None else asked_s
                late = asked_s is None and self._clock() + wait_s >= deadline
                if not failed.again or attempt == RETRIES or wait_s > LONGEST_WAIT_S or late:
                    raise
                deadline += 0.0 if asked_s is None else wait_s  # its waits are not held against it
            self._sleep(wait_s)
            attempt += 1

    def _follow(self, ask: Ask, deadline: float) -> bytes:
        url, headers = ask.url, {"Accept": "application/json", "User-Agent": agent(), **ask.headers}
        for _ in range(MOST_REDIRECTS + 1):
            reply = self._once(url, headers, deadline)
            if isinstance(reply, bytes):
                return reply
            try:
                target = urljoin(url, reply)
                here, there = urlsplit(url), urlsplit(target)
            except ValueError:
                raise _Failed("sends on to what is no address") from None
            if here.scheme == "https" and there.scheme != "https":
                raise _Failed("sends on to an unprotected address")
            if there.netloc != here.netloc:
                headers = {k: v for k, v in headers.items() if k in PUBLIC_HEADERS}
            url = target
        raise _Failed(f"sends on more than {MOST_REDIRECTS} times")

    def _once(self, url: str, headers: Mapping[str, str], deadline: float) -> bytes | str:
        """Return the body, or the address that the host sends on to."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise _Failed("is no http or https address")
        left_s = deadline - self._clock()
        if left_s <= 0:
            raise _Failed("took too long")
        try:
            request = Timed(url, headers=dict(headers))
            request.connect_s = self.limits.connect_s
            with request.cut_after(left_s):
                return self._exchange(request, left_s, deadline)
        except TimeoutError:
            raise _Failed("took too long") from None
        except (RuntimeError, ValueError) as error:  # no thread to be had; no address
            raise _Failed(f"cannot be asked: {type(error).__name__}") from None

    def _exchange(self, request: Timed, left_s: float, deadline: float) -> bytes | str:
        try:
            asks = self._opener_for(request.type)
            with asks.open(request, timeout=min(left_s, self.limits.read_s)) as reply:
                return self._read(reply, deadline)
        except HTTPError as error:
            with error:
                if error.code in (301, 302, 303, 307, 308) and error.headers.get("Location"):
                    return str(error.headers["Location"])
                raise self._status(error) from None
        except URLError as error:
            again = not isinstance(error.reason, ValueError)
            raise _Failed(f"cannot be reached: {error.reason}", again=again) from None
        except OSError as error:  # a timeout while reading, a connection cut short
            raise _Failed(f"does not answer: {error}") from None
        except (HTTPException, ValueError) as error:
            # A malformed reply, address or key; the message may quote the key, so only its kind.
            raise _Failed(f"cannot be asked: {type(error).__name__}") from None

    def _opener_for(self, scheme: str) -> OpenerDirector:
        if scheme not in self._openers:
            self._openers[scheme] = opener(scheme)
        return self._openers[scheme]

    def _read(self, reply: HTTPResponse, deadline: float) -> bytes:
        pieces, size = [], 0
        while piece := reply.read1(65_536):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BYTES:
                raise _Failed(f"sent more than {MOST_BYTES} bytes")
            if self._clock() > deadline:
                raise _Failed("took too long")
        if reply.length:  # what Content-Length promised and did not come
            raise _Failed("cut its answer short")
        return b"".join(pieces)

    def _status(self, error: HTTPError) -> _Failed:
        try:
            said = _first_words(error.read(2_000))
        except (OSError, HTTPException):
            said = ""
        return _Failed(
            f"answered {error.code}" + (f": {said}" if said else ""),
            status=error.code,
            again=error.code in WORTH_RETRYING,
            retry_after_s=retry_after_s(error.headers.get("Retry-After"), self._wall()),
        )

    def _check_open(self, host: str) -> None:
        with self._lock:
            until, why = self._closed_until.get(host, (0.0, ""))
        left_s = until - self._clock()
        if left_s > 0:
            raise IntensityUnavailable(f"{host} is left alone for {left_s:.0f} s: it {why}")

    def _note_failure(self, host: str, failed: _Failed, reason: str) -> None:
        now = self._clock()
        with self._lock:
            if failed.status is not None and not failed.again:
                return  # it answers; what it says is for the caller
            count = self._failures[host] = self._failures.get(host, 0) + 1
            pause_s = 0.0
            if count >= FAILURES_TO_OPEN:
                pause_s = min(PAUSE_S * 2 ** (count - FAILURES_TO_OPEN), LONGEST_PAUSE_S)
            pause_s = max(pause_s, failed.retry_after_s or 0.0)
            if pause_s > 0:
                self._closed_until[host] = (now + pause_s, reason)


class _Failed(Exception):
    """Why one attempt failed, in words that follow the host's name."""

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        again: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.status, self.again = reason, status, again
        self.retry_after_s = retry_after_s


def agent() -> str:
    """Return who asks; some services refuse those who do not say."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("carbontracker")
    except PackageNotFoundError:  # used from a checkout
        number = "0"
    return f"carbontracker/{number} (+https://pypi.org/project/carbontracker/)"


def redacted(text: str, secrets: Sequence[str]) -> str:
    """Return ``text`` on one line, without the secrets as they are and as they look in a URL."""
    for secret in secrets:
        for form in {secret, quote(secret), quote(secret, safe="")}:
            if form:
                text = text.replace(form, "***")
    # Nothing that steers a terminal, and no half characters, which no file takes.
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """Return the seconds that a ``Retry-After`` of seconds or a date asks for; None for nonsense.

    Source: RFC 9110 section 10.2.3.
    """
    if text is None:
        return None
    if re.fullmatch(r"[0-9]+", text.strip()):  # isdigit() takes the superscripts of Latin-1, too
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (TypeError, ValueError):
        return None


def _first_words(body: bytes) -> str:
    """Return what an error's JSON body says, in a few words; nothing of any other body."""
    import json

    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return words_of_error(answer)


def words_of_error(answer: Any) -> str:
    """Return what a JSON document says went wrong, in at most 160 characters."""
    if not isinstance(answer, dict):
        return ""
    said = next((answer[key] for key in ("error", "message", "detail") if answer.get(key)), "")
    if isinstance(said, dict):
        said = said.get("message", "")
    return said[:160] if isinstance(said, str) else ""
