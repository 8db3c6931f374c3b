"""Where the machine stands, by the network: a cloud's metadata service, or the IP address.

Nothing here is called at import or on a training's path: `aside` asks in a thread of its own.
Nothing is kept of an answer but the region, or country and subdivision.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
"""All that a metadata service gets, s. It is link-local: what is there answers in milliseconds."""
LOOKUP_S = 5.0
"""All that the look-up of an IP address gets, s."""
KEPT_S = 7 * 86_400.0
"""How long the answer of a look-up is kept, s."""

METADATA_URL = "http://169.254.169.254"
"""Of all three clouds; an address and no name, so that no name service is waited for."""
LOOKUP_URL = "https://ipinfo.io/json"


@dataclass(frozen=True)
class Services:
    """Whom to ask."""

    metadata_url: str = METADATA_URL
    lookup_url: str = LOOKUP_URL

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Services:
        """Return the usual ones, or those of ``CARBONTRACKER_METADATA_URL`` and
        ``CARBONTRACKER_LOOKUP_URL``.

        A look-up leaves the house only by HTTPS; anything else is ignored, except on loopback.
        """
        lookup = environ.get("CARBONTRACKER_LOOKUP_URL", "").strip() or LOOKUP_URL
        if not lookup.startswith(("https://", "http://127.0.0.1:")):
            logger.warning("carbontracker: CARBONTRACKER_LOOKUP_URL is not https and is not used")
            lookup = LOOKUP_URL
        metadata = environ.get("CARBONTRACKER_METADATA_URL", "").strip() or METADATA_URL
        return cls(metadata.rstrip("/"), lookup)


class NoAnswer(Exception):
    """A service was not there, was too slow, or said something else than asked."""


@dataclass(frozen=True)
class Answer:
    """What a service said."""

    text: str
    headers: Mapping[str, str]
    """By lower-case name."""


def may_look_up(location: Location, locate: str, environ: Mapping[str, str]) -> bool:
    """Return whether the network may be asked where this is: not if it is known for certain, and
    never if the user said so by ``locate="never"``, ``CARBONTRACKER_LOCATE`` or offline."""
    never = "never" in (locate, environ.get("CARBONTRACKER_LOCATE", "").strip().lower())
    return location.guess and not never and not offline(environ)


def looks_like_cloud(environ: Mapping[str, str]) -> str | None:
    """Return the cloud that firmware or environment look like, or None; asks nobody."""
    return cloud.looks_like(environ, root_of(environ))


def look_up(guess: Location, environ: Mapping[str, str]) -> Location | None:
    """Return where the machine stands, or None if nothing better than ``guess`` is known.

    A cloud's own word is better than a time zone. The IP address is asked only where the time
    zone says nothing: it is a third party's estimate of where our traffic leaves, and that may be
    a proxy, a VPN or a head node in another country. Takes at most 0.5 s and 5 s.
    """
    services = Services.from_environment(environ)
    if found := from_metadata(environ, services.metadata_url):
        return found
    if guess.known:
        return None
    return from_ip_address(services.lookup_url, cache_file(environ))


def from_metadata(environ: Mapping[str, str], base_url: str = METADATA_URL) -> Location | None:
    """Return the region that the cloud's metadata service names, within half a second.

    Nobody is asked unless firmware or environment look like that cloud, and only that cloud's
    paths are.
    """
    name = looks_like_cloud(environ)
    if name is None:
        return None
    ask = _Asker(base_url, time.monotonic() + METADATA_S)
    try:
        answered = _METADATA[name](ask).strip().lower()
    except NoAnswer as error:
        logger.info("carbontracker: %s metadata: %s", name, error)
        return None
    region = cloud.regions().get(f"{name}:{answered}")
    return None if region is None else location_of_region(region, f"{name} metadata")


def from_ip_address(url: str, cache: Path | None, now_s: float | None = None) -> Location | None:
    """Return the place of this machine's public address, from the cache or the service.

    Args:
        url: answers with JSON that has ``country`` (ISO code) and perhaps ``region`` (a name).
        cache: the file that keeps the answer for a week; None for no cache.
        now_s: seconds since the epoch; else now.
    """
    now = time.time() if now_s is None else now_s
    kept = _kept(cache, url, now)
    if kept is None:
        from carbontracker.location.fetch import fetch

        try:
            kept = _country(_json(fetch(url, {}, time.monotonic() + LOOKUP_S)))
        except NoAnswer as error:
            logger.info("carbontracker: the location was not looked up: %s", error)
            return None
        _keep(cache, {**kept, "url": url, "time": now})
    host = url.partition("://")[2].partition("/")[0]
    return location_of_country(kept["country"], kept["region"], f"IP address ({host})")


def cached_location(environ: Mapping[str, str]) -> Location | None:
    """Return the place of the last look-up if it is still good: reads a file, asks nobody."""
    url = Services.from_environment(environ).lookup_url
    cache = cache_file(environ)
    return from_ip_address(url, cache) if _kept(cache, url, time.time()) is not None else None


def cache_file(environ: Mapping[str, str]) -> Path | None:
    """Return the file that keeps a look-up, beside the carbon intensities; None without a home."""
    folder = cache_directory(environ)
    return None if folder is None else folder / "whereabouts.json"


# ---- metadata ------------------------------------------------------------------------------


class _Asker:
    """Requests to one base URL that end together at a deadline: no proxy, redirect or retry."""

    def __init__(self, base_url: str, deadline_s: float) -> None:
        self._base_url = base_url
        self._deadline_s = deadline_s

    def __call__(self, path: str, headers: Mapping[str, str], method: str = "GET") -> Answer:
        # Here, so that who is not asked costs no import of the network.
        from carbontracker.location.fetch import fetch

        return fetch(self._base_url + path, headers, self._deadline_s, method, proxies=False)


def _ask_aws(ask: _Asker) -> str:
    # Version 2: a token first. The old way answers 401 on most machines.
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = ask("/latest/api/token", lifetime, "PUT").text.strip()
    if not token.isprintable() or not token:
        raise NoAnswer("no token")
    return ask("/latest/meta-data/placement/region", {"X-aws-ec2-metadata-token": token}).text


def _ask_gcp(ask: _Asker) -> str:
    # On Cloud Run there is no zone; the region is there, as everywhere else.
    answer = ask("/computeMetadata/v1/instance/zone", {"Metadata-Flavor": "Google"})
    if answer.headers.get("metadata-flavor") != "Google":
        raise NoAnswer("not Google's")
    zone = answer.text.strip().rpartition("/")[2]
    region, _, letter = zone.rpartition("-")
    return region if len(letter) == 1 else zone


def _ask_azure(ask: _Asker) -> str:
    path = "/metadata/instance/compute/location?api-version=2021-02-01&format=text"
    return ask(path, {"Metadata": "true"}).text


_METADATA: dict[str, Callable[[_Asker], str]] = {
    "aws": _ask_aws,
    "gcp": _ask_gcp,
    "azure": _ask_azure,
}
"""Of every cloud, the function that returns the region's name from its metadata service."""


# ---- the address, and what is kept of it -----------------------------------------------------


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.text)
    except (ValueError, RecursionError):
        raise NoAnswer("no JSON") from None


def _country(found: Any) -> dict[str, str]:
    """Return country and region only: address, city, coordinates and network are dropped here."""
    fields = found if isinstance(found, dict) else {}
    country = fields.get("country_code") or fields.get("country")
    region = fields.get("region")
    if not (isinstance(country, str) and re.fullmatch("[A-Za-z]{2}", country)):
        raise NoAnswer("no country in the answer")
    return {"country": country.upper(), "region": region if isinstance(region, str) else ""}


def _kept(cache: Path | None, url: str, now_s: float) -> dict[str, str] | None:
    if cache is None:
        return None
    try:
        found = json.loads(read_own(cache))
        fresh = 0 <= now_s - found["time"] < KEPT_S and found["url"] == url
        return _country(found) if fresh else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, NoAnswer):
        return None  # absent, of an older version, or damaged: asked again


def _keep(cache: Path | None, answer: Mapping[str, object]) -> None:
    """Write the answer for this user only, whole or not at all."""
    if cache is None:
        return
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_own(cache, json.dumps(answer).encode())
