"""The one place from which a question about the machine's whereabouts leaves.

Not `intensity.http`, whose manners are others': here a token is PUT, headers of the answer matter,
a proxy would be wrong, and nobody is asked twice.
"""

from __future__ import annotations

import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from carbontracker.location.lookup import Answer, NoAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BYTES = 65_536


class _NoRedirect(HTTPRedirectHandler):
    """Whom we ask is decided here, and not by whom we asked."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def fetch(
    url: str,
    headers: Mapping[str, str],
    deadline_s: float,
    method: str = "GET",
    *,
    proxies: bool = True,
) -> Answer:
    """Return the answer, of at most 64 kB and before ``deadline_s`` of the monotonic clock.

    No retry and no redirect; without ``proxies`` none is used, whatever the environment says.

    Raises:
        NoAnswer: for whatever reason.
    """
    left = deadline_s - time.monotonic()
    if left <= 0:
        raise NoAnswer("no time left")
    handlers = [_NoRedirect()] if proxies else [_NoRedirect(), ProxyHandler({})]
    try:
        request = Request(url, headers={"User-Agent": "carbontracker", **headers}, method=method)
        with build_opener(*handlers).open(request, timeout=left) as answer:
            body = b""
            while chunk := answer.read1(4096):
                body += chunk
                if len(body) > MOST_BYTES or time.monotonic() > deadline_s:
                    raise NoAnswer("too long, or too slow")
            found = {name.lower(): value for name, value in answer.headers.items()}
    except (OSError, HTTPException, ValueError) as error:  # OSError: also URLError and timeouts
        raise NoAnswer(str(error)) from None
    return Answer(body.decode("utf-8", errors="replace"), found)
