"""Finds the location over the network: a cloud's metadata service, or the public IP address.

Called by a thread of its own (`carbon.background`), never at import or on a training's path. Of an
answer only the region, or country and subdivision, is kept.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.guard import logger
from carbontracker.intensity.cache import cache_directory, read_own, write_own
from carbontracker.intensity.selection import offline
from carbontracker.location import cloud
from carbontracker.location.location import (
    Location,
    location_of_country,
    location_of_region,
    root_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

METADATA_S = 0.5
"""Limit for all requests to a metadata service, s. It is link-local and answers in milliseconds."""
LOOKUP_S = 5.0
"""Limit for the look-up of an IP address, s."""
MAX_BYTES = 65_536
"""Of an answer."""
KEPT_S = 7 * 86_400.0
"""How long the answer of a look-up is kept, s."""

METADATA_URL = "http://169.254.169.254"
"""Of all three clouds; an address, so that no name has to be resolved."""
LOOKUP_URL = "https://ipinfo.io/json"


@dataclass(frozen=True)
class Services:
    """The URLs of the services."""

    metadata_url: str = METADATA_URL
    lookup_url: str = LOOKUP_URL

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Services:
        """Return the default URLs, or those of ``CARBONTRACKER_METADATA_URL`` and
        ``CARBONTRACKER_LOOKUP_URL``.

        A look-up URL without HTTPS is ignored, except on loopback.
        """
        lookup = environ.get("CARBONTRACKER_LOOKUP_URL", "").strip() or LOOKUP_URL
        if not lookup.startswith(("https://", "http://127.0.0.1:")):
            logger.warning(
                "carbontracker: CARBONTRACKER_LOOKUP_URL is not an https URL and is not used"
            )
            lookup = LOOKUP_URL
        metadata = environ.get("CARBONTRACKER_METADATA_URL", "").strip() or METADATA_URL
        return cls(metadata.rstrip("/"), lookup)


def may_look_up(location: Location, locate: str, environ: Mapping[str, str]) -> bool:
    """Return whether the network may be asked for the location.

    Not if the location is certain, nor with ``locate="never"``, ``CARBONTRACKER_LOCATE=never`` or
    ``CARBONTRACKER_OFFLINE=1``.
    """
    never = "never" in (locate, environ.get("CARBONTRACKER_LOCATE", "").strip().lower())
    return location.guess and not never and not offline(environ)


def looks_like_cloud(environ: Mapping[str, str]) -> str | None:
    """Return the cloud that firmware or environment look like, or None; without the network."""
    return cloud.looks_like(environ, root_of(environ))


def look_up(guess: Location, environ: Mapping[str, str]) -> Location | None:
    """Return the location, or None if nothing better than ``guess`` is found.

    A cloud's metadata goes before a time zone. The IP address is looked up only where the time zone
    is unknown: a third party estimates from it where the traffic leaves, which may be a proxy, a
    VPN or a head node in another country. Takes at most 0.5 s and 5 s.
    """
    services = Services.from_environment(environ)
    if found := from_metadata(environ, services.metadata_url):
        return found
    if guess.known:
        return None
    return from_ip_address(services.lookup_url, cache_file(environ))


def from_metadata(environ: Mapping[str, str], base_url: str = METADATA_URL) -> Location | None:
    """Return the region that the cloud's metadata service names, within half a second.

    Asks only if firmware or environment look like a cloud, and only for the paths of that cloud.
    """
    name = looks_like_cloud(environ)
    if name is None:
        return None
    from carbontracker.intensity.http import RequestFailed

    ask = partial(_fetch, base_url, deadline_s=time.monotonic() + METADATA_S, proxies=False)
    try:
        answered = _METADATA[name](ask).strip().lower()
    except (RequestFailed, ValueError) as error:
        logger.info("carbontracker: %s metadata: %s", name, error)
        return None
    region = cloud.regions().get(f"{name}:{answered}")
    return None if region is None else location_of_region(region, f"{name} metadata")


def from_ip_address(url: str, cache: Path | None, now_s: float | None = None) -> Location | None:
    """Return the location of this machine's public address, from the cache or the service.

    Args:
        url: answers with JSON that has ``country`` (ISO code) and perhaps ``region`` (a name).
        cache: the file that keeps the answer for a week; None for no cache.
        now_s: seconds since 1970; by default the current time.
    """
    now = time.time() if now_s is None else now_s
    kept = _kept(cache, url, now)
    if kept is None:
        from carbontracker.intensity.http import RequestFailed

        try:
            text = _fetch(url, deadline_s=time.monotonic() + LOOKUP_S).text
            kept = _country(json.loads(text))
        except (RequestFailed, ValueError, RecursionError) as error:
            logger.info("carbontracker: the location was not looked up: %s", error)
            return None
        _keep(cache, {**kept, "url": url, "time": now})
    host = url.partition("://")[2].partition("/")[0]
    return location_of_country(kept["country"], kept["region"], f"IP address ({host})")


def cached_location(environ: Mapping[str, str]) -> Location | None:
    """Return the location of the last look-up if it is still valid; without the network."""
    url = Services.from_environment(environ).lookup_url
    cache = cache_file(environ)
    return from_ip_address(url, cache) if _kept(cache, url, time.time()) is not None else None


def cache_file(environ: Mapping[str, str]) -> Path | None:
    """Return the file of the cache that keeps a look-up; None without a home directory."""
    folder = cache_directory(environ)
    return None if folder is None else folder / "whereabouts.json"


# ---- requests --------------------------------------------------------------------------------


class _Answer(NamedTuple):
    text: str
    headers: Mapping[str, str]
    """By lower-case name."""


def _fetch(
    base_url: str,
    path: str = "",
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    *,
    deadline_s: float,
    proxies: bool = True,
) -> _Answer:
    """Return an answer that arrives before ``deadline_s`` of the monotonic clock; no redirects.

    Raises:
        RequestFailed: no answer arrives.
    """
    # Imported here: a process that does not ask does not load the network modules.
    from carbontracker.intensity.http import Client, Limits

    left_s = deadline_s - time.monotonic()
    limits = Limits(left_s, left_s, left_s, max_bytes=MAX_BYTES, max_redirects=0)
    given = {"User-Agent": "carbontracker", **(headers or {})}
    reply = Client(limits, proxies=proxies).fetch(base_url + path, given, method=method)
    return _Answer(reply.body.decode("utf-8", errors="replace"), reply.headers)


# ---- metadata ------------------------------------------------------------------------------


def _ask_aws(ask: Callable[..., _Answer]) -> str:
    # Version 2 needs a token. Version 1 answers 401 on most machines.
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = ask("/latest/api/token", lifetime, "PUT").text.strip()
    if not token.isprintable() or not token:
        raise ValueError("no token")
    return ask("/latest/meta-data/placement/region", {"X-aws-ec2-metadata-token": token}).text


def _ask_gcp(ask: Callable[..., _Answer]) -> str:
    # Cloud Run answers with the region and no zone.
    answer = ask("/computeMetadata/v1/instance/zone", {"Metadata-Flavor": "Google"})
    if answer.headers.get("metadata-flavor") != "Google":
        raise ValueError("the answer is not from Google's service")
    zone = answer.text.strip().rpartition("/")[2]
    region, _, letter = zone.rpartition("-")
    return region if len(letter) == 1 else zone


def _ask_azure(ask: Callable[..., _Answer]) -> str:
    path = "/metadata/instance/compute/location?api-version=2021-02-01&format=text"
    return ask(path, {"Metadata": "true"}).text


_METADATA: dict[str, Callable[[Callable[..., _Answer]], str]] = {
    "aws": _ask_aws,
    "gcp": _ask_gcp,
    "azure": _ask_azure,
}
"""By cloud, the function that asks its metadata service for the name of the region."""


# ---- the address, and what is kept of it -----------------------------------------------------


def _country(found: Any) -> dict[str, str]:
    """Return only country and region: address, city, coordinates and network are dropped."""
    fields = found if isinstance(found, dict) else {}
    country = fields.get("country_code") or fields.get("country")
    region = fields.get("region")
    if not (isinstance(country, str) and re.fullmatch("[A-Za-z]{2}", country)):
        raise ValueError("no country in the answer")
    return {"country": country.upper(), "region": region if isinstance(region, str) else ""}


def _kept(cache: Path | None, url: str, now_s: float) -> dict[str, str] | None:
    if cache is None:
        return None
    try:
        found = json.loads(read_own(cache))
        fresh = 0 <= now_s - found["time"] < KEPT_S and found["url"] == url
        return _country(found) if fresh else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None  # absent, of an older version, or damaged


def _keep(cache: Path | None, answer: Mapping[str, object]) -> None:
    """Write the answer atomically, readable only by this user."""
    if cache is None:
        return
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_own(cache, json.dumps(answer).encode())
