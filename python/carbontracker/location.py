"""Where the machine stands: what the user says, else what its time zone says. Never the network."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from carbontracker.data import WORLD, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VARIABLE = "CARBONTRACKER_LOCATION"
"""The environment variable that names the location."""

_HINT = "a country, an ISO 3166 code such as DK or US-CA, or WORLD"


class UnknownLocation(ValueError):
    """The text names no zone of the table; the message gives the nearest ones."""


@dataclass(frozen=True, slots=True)
class Place:
    """A grid zone and how it was found."""

    zone: str
    """A zone of ``grid_intensity.csv``: ISO 3166-1, ISO 3166-2, ``US-EGRID-xxxx``, EU or WORLD."""
    name: str
    """The zone's name for people."""
    how: str
    """``argument``, ``CARBONTRACKER_LOCATION``, ``time zone <name>`` or ``unknown``."""
    note: str = ""
    """Why this zone, when it is not simply the place itself; worth a warning if ``how`` is
    ``unknown``."""


def resolve(text: str) -> str:
    """Return the zone that ``text`` names: a code, a name or an alias, in any case.

    A finer zone than the table knows (``DK-DK1``) gives the one that contains it.

    Raises:
        UnknownLocation: no zone, or more than one, goes by that name.
    """
    return _match(text)[0]


def locate(
    argument: str | None, environ: Mapping[str, str], root: str | os.PathLike[str] = "/"
) -> Place:
    """Find the place: the argument, else the environment, else the time zone, else the world.

    Args:
        argument: what the user passed, or None.
        environ: the environment; ``CARBONTRACKER_LOCATION`` and ``TZ`` are read.
        root: the directory that holds ``etc/timezone`` and ``etc/localtime``.

    A wrong environment value must not stop a job, and must not become another guess either: it
    gives the world average, ``how="unknown"`` and a note for the caller to warn with.

    Raises:
        UnknownLocation: the argument names no zone.
    """
    if argument is not None:
        return _place(argument, "argument")
    if given := environ.get(VARIABLE, "").strip():
        try:
            return _place(given, VARIABLE)
        except UnknownLocation as error:
            return _nowhere(f"{VARIABLE}: {error}")
    for name in _time_zones(environ, root):
        if row := _time_zone_rows().get(name):
            return _place_of_time_zone(row)
    return _nowhere(f"location unknown; name it with location= or {VARIABLE}")


def _place(text: str, how: str) -> Place:
    zone, note = _match(text)
    return Place(zone, _names()[zone], how, note)


def _nowhere(reason: str, how: str = "unknown") -> Place:
    return Place(WORLD, _names()[WORLD], how, f"world average used: {reason}")


def _place_of_time_zone(row: dict[str, str]) -> Place:
    how, zone, country = f"time zone {row['timezone']}", row["zone"], row["country"]
    if not zone:
        return _nowhere(f"no figure for {country}", how)
    note = _stands_in(country, zone, "proxy") if row["basis"] == "proxy" else ""
    return Place(zone, _names()[zone], how, note)


def _match(text: str) -> tuple[str, str]:
    """Return the zone and, if it is not the very place named, why it stands in."""
    found = _index().get(_fold(text), {})
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        raise UnknownLocation(f"{text!r} may be {' or '.join(found)}: give the code")
    code = text.strip().upper()
    while "-" in code:
        code = code.rpartition("-")[0]
        if code in _names():
            return code, _stands_in(text.strip(), code, "subzone")
    raise UnknownLocation(_no_match(text))


def _no_match(text: str) -> str:
    from difflib import get_close_matches

    code = text.strip().upper()
    if any(row["country"] == code and not row["zone"] for row in rows("timezone_zones")):
        return f"the table has no figure for {code}; give WORLD for the world average"
    near = get_close_matches(_fold(text), _index(), n=3, cutoff=0.75)
    zones = dict.fromkeys(zone for key in near for zone in _index()[key])
    guess = " or ".join(f"{_names()[zone]} ({zone})" for zone in zones)
    return f"unknown location {text!r}; " + (f"did you mean {guess}?" if guess else f"give {_HINT}")


def _stands_in(asked: str, zone: str, kind: str) -> str:
    how = "proxy" if kind == "proxy" else "contains it"
    return f"no figure for {asked}; {zone} stands in ({how})"


def _fold(text: str) -> str:
    """Reduce a name to what people agree on: letters and digits, no accents, one case."""
    from unicodedata import normalize

    return "".join(c for c in normalize("NFKD", text).casefold() if c.isalnum())


@cache
def _names() -> dict[str, str]:
    return {row["zone"]: row["name"] for row in rows("grid_intensity")}


@cache
def _index() -> dict[str, dict[str, str]]:
    """Map every folded code, name and alias to its zones, each with its note."""
    index: dict[str, dict[str, str]] = {}
    for zone, name in _names().items():
        index.setdefault(_fold(zone), {})[zone] = ""
        index.setdefault(_fold(name), {})[zone] = ""
    for row in rows("zone_aliases"):
        alias, zone, kind = row["alias"], row["zone"], row["kind"]
        note = "" if kind == "name" else _stands_in(alias, zone, kind)
        index.setdefault(_fold(alias), {})[zone] = note
    return index


@cache
def _time_zone_rows() -> dict[str, dict[str, str]]:
    return {row["timezone"]: row for row in rows("timezone_zones")}


def _time_zones(environ: Mapping[str, str], root: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the names of the time zone in force, the user's choice before the machine's."""
    yield _time_zone_name(environ.get("TZ", ""))
    with suppress(OSError):
        path = os.path.join(root, "etc", "timezone")
        with open(path, encoding="utf-8", errors="replace") as file:
            yield _time_zone_name(file.readline())
    with suppress(OSError):
        # One step of the link only: Europe/Copenhagen may itself be a link to Europe/Berlin.
        yield _time_zone_name(os.readlink(os.path.join(root, "etc", "localtime")))


def _time_zone_name(text: str) -> str:
    name = text.strip().lstrip(":")
    name = name.rpartition("zoneinfo/")[2]
    return name.removeprefix("posix/").removeprefix("right/")
