"""The one place from which a request leaves: a JSON document by HTTP GET, or a reason why not."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from carbontracker.intensity import IntensityUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 10.0
MOST_BYTES = 5_000_000


class _NoRedirect(HTTPRedirectHandler):
    """Keys travel in headers: nobody may send us on with them."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def get_json(url: str, headers: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> Any:
    """Return the JSON document at ``url``.

    Raises:
        IntensityUnavailable: no connection, no answer in time, an error status, a redirect, or a
            body that is too long or not JSON. The reason names the host, never a header.
    """
    host = url.partition("://")[2].partition("/")[0]
    try:
        request = Request(url, headers={"Accept": "application/json", **headers})
        with build_opener(_NoRedirect).open(request, timeout=timeout_s) as answer:
            body = answer.read(MOST_BYTES + 1)
    except HTTPError as error:
        with error:
            raise IntensityUnavailable(f"{host} answered {error.code}") from None
    except URLError as error:
        raise IntensityUnavailable(f"{host}: {error.reason}") from None
    except OSError as error:  # a timeout while reading, a connection cut short
        raise IntensityUnavailable(f"{host}: {error}") from None
    except (HTTPException, ValueError) as error:
        # A malformed answer, address or key; the message may quote the key, so only its kind.
        raise IntensityUnavailable(f"{host}: {type(error).__name__}") from None
    if len(body) > MOST_BYTES:
        raise IntensityUnavailable(f"{host} sent more than {MOST_BYTES} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise IntensityUnavailable(f"{host} sent no JSON") from None
