"""Where the machine stands, without the network: what the user says, else a cloud's own
environment, else what the time zone says. What the network knows is `whereabouts`."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from carbontracker.data import UNLOCATED, WORLD, rows
from carbontracker.exceptions import UnknownLocation
from carbontracker.hostfiles import host_text
from carbontracker.location import cloud

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VARIABLE = "CARBONTRACKER_LOCATION"
"""The environment variable that names the location."""

CONFIG = "carbontracker.ini"
"""The user's (``$XDG_CONFIG_HOME/carbontracker.ini``) and the site's (``/etc/carbontracker.ini``)
settings: a section ``[carbontracker]`` with ``location = DK``."""

LOCATE = ("auto", "never")
"""Whether the network may be asked where the machine stands."""

ROOT_VARIABLE = "CARBONTRACKER_ROOT"
"""The folder above ``etc`` and ``sys``: a container's mount of the host."""

UNKNOWN = "unknown"
"""``how`` of a place that nobody knows."""

_HINT = "a country, an ISO 3166 code such as DK or US-CA, a cloud region, or WORLD"


@dataclass(frozen=True, slots=True)
class Location:
    """A grid zone and how it was found."""

    zone: str
    """A zone of ``grid_intensity.csv``: ISO 3166-1, ISO 3166-2, ``US-EGRID-xxxx``, EU or WORLD;
    or ``UNLOCATED``, whose intensity is unknown."""
    name: str
    """The place's name for people."""
    how: str
    """``argument``, ``CARBONTRACKER_LOCATION``, the configuration file, ``AWS_REGION``,
    ``<cloud> metadata``, ``IP address (<service>)``, ``time zone <name>`` or ``unknown``."""
    note: str = ""
    """Why this zone, when it is not simply the place itself; worth a warning if ``how`` is
    ``unknown``."""
    grid_zone: str = ""
    """The zone to ask live services for, as fine as it was named (``DK-DK1``) while ``zone`` is
    what the table has figures for; the same as ``zone`` if nothing finer was named."""
    region: str = ""
    """The cloud region (``aws:eu-north-1``), if it is one."""
    guess: bool = field(default=False, compare=False)
    """From the time zone, or from nothing: what the cloud or the network say may replace it."""

    def __post_init__(self) -> None:
        if not self.grid_zone:
            object.__setattr__(self, "grid_zone", self.zone)

    @property
    def known(self) -> bool:
        """Return whether anybody said where this is; if not, the world's average stands in."""
        return self.how != UNKNOWN


def resolve(text: str) -> str:
    """Return the zone that ``text`` names: a code, a name, an alias or a cloud region, any case.

    A finer zone than the table knows (``DK-DK1``) gives the one that contains it.

    Raises:
        UnknownLocation: no zone, or more than one, goes by that name.
    """
    return location_named(text, "").zone


def locate(
    argument: str | None,
    environ: Mapping[str, str],
    root: str | os.PathLike[str] | None = None,
) -> Location:
    """Find the place: the argument, else the environment, else the configuration file, else what
    a cloud's service put into the environment, else the time zone, else the world.

    Args:
        argument: what the user passed, or None.
        environ: the environment; ``CARBONTRACKER_LOCATION``, ``XDG_CONFIG_HOME``, ``HOME``, ``TZ``
            and what clouds set are read.
        root: the directory that holds ``etc``; else ``CARBONTRACKER_ROOT``, else ``/``.

    A wrong value in environment or file must not stop a job, and must not become another guess
    either: it gives the world average, ``how="unknown"`` and a note for the caller to warn with.

    Raises:
        UnknownLocation: the argument names no zone.
        TableError: the package's tables are not there; see ``unlocated``.
    """
    if argument is not None:
        return location_named(argument, "argument")
    top = root_of(environ) if root is None else root
    text, how = _stated(environ, top)
    if text:
        try:
            return location_named(text, how)
        except UnknownLocation as error:
            return _world_average(f"{how}: {error}", guess=False)
    if found := cloud.from_environment(environ):
        return location_of_region(found, "AWS_REGION")
    for name in _time_zones(environ, top):
        if row := _time_zone_rows().get(name):
            return _location_of_time_zone(row)
    return _world_average(f"location unknown; name it with location= or {VARIABLE}")


def unlocated(why: str) -> Location:
    """Return what stands for a place that cannot be told at all: not even an average holds."""
    return Location(UNLOCATED, "unknown", UNKNOWN, f"the location is unknown: {why}")


def location_named(text: str, how: str) -> Location:
    """Return the place that ``text`` names; ``how`` says who named it.

    Raises:
        UnknownLocation: no place, or more than one, goes by that name.
    """
    found = _index().get(_fold(text), {})
    if len(found) > 1:
        raise UnknownLocation(f"{text!r} may be {' or '.join(found)}: give the code")
    code = text.strip().upper()
    if found:
        zone, note = next(iter(found.items()))
        # An alias with a note is a grid of its own, for which the table has only a stand-in.
        return Location(zone, _names()[zone], how, note, grid_zone=code if note else zone)
    if inside := cloud.find(text):
        return location_of_region(inside[0], how, inside[1:])
    wider = "" if cloud.near(text) else code  # a mistyped eu-west-9 is not a part of the EU
    while "-" in wider:
        wider = wider.rpartition("-")[0]
        if wider in _names():
            note = _stands_in(text.strip(), wider, "subzone")
            return Location(wider, _names()[wider], how, note, grid_zone=code)
    raise UnknownLocation(_no_match(text))


def location_of_region(
    region: cloud.Region, how: str, others: Sequence[cloud.Region] = ()
) -> Location:
    """Return the place of a cloud region; ``others`` have the same name and were not meant."""
    name = f"{region.name} ({region.provider} {region.region})"
    note = f"{region.region} is taken as {region.key}" if others else ""
    note += "".join(f", not {other.key} ({other.name})" for other in others)
    return Location(region.zone, name, how, note, region.grid_zone, region.key)


def location_of_country(country: str, subdivision: str, how: str) -> Location:
    """Return the place of an ISO country code and the name of a part of it, from a look-up.

    A country without a figure is the world, said so.
    """
    code = country.strip().upper()
    parts = _index().get(_fold(subdivision), {}) if subdivision else {}
    for zone in parts:
        if zone.startswith(f"{code}-"):
            return Location(zone, _names()[zone], how)
    try:
        return location_named(code, how)
    except UnknownLocation:
        return _world_average(f"no figure for {code}", how, guess=False)


def root_of(environ: Mapping[str, str]) -> str:
    """Return the folder above ``etc`` and ``sys`` of the machine that is measured."""
    return environ.get(ROOT_VARIABLE) or "/"


def _stated(environ: Mapping[str, str], root: str | os.PathLike[str]) -> tuple[str, str]:
    """Return what the user stated, and where: the environment's value, else the file's."""
    if given := environ.get(VARIABLE, "").strip():
        return given, VARIABLE
    for path in _config_files(environ, root):
        if value := _read_config(path).get("location", "").strip():
            return value, path
    return "", ""


def _config_files(environ: Mapping[str, str], root: str | os.PathLike[str]) -> Iterator[str]:
    home = environ.get("HOME", "")
    folder = environ.get("XDG_CONFIG_HOME") or (os.path.join(home, ".config") if home else "")
    if folder:
        yield os.path.join(folder, CONFIG)
    yield os.path.join(root, "etc", CONFIG)


def _read_config(path: str) -> Mapping[str, str]:
    # An unreadable file is like none: it must not stop a job.
    try:
        text = host_text(path)
    except OSError:
        return {}  # the usual case: without configparser, which takes milliseconds to load
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    with suppress(configparser.Error):
        parser.read_string(text)
    return parser["carbontracker"] if parser.has_section("carbontracker") else {}


def _world_average(reason: str, how: str = UNKNOWN, *, guess: bool = True) -> Location:
    return Location(WORLD, _names()[WORLD], how, f"world average used: {reason}", guess=guess)


def _location_of_time_zone(row: dict[str, str]) -> Location:
    how, zone, country = f"time zone {row['timezone']}", row["zone"], row["country"]
    if not zone:
        return _world_average(f"no figure for {country}", how)
    note = _stands_in(country, zone, "proxy") if row["basis"] == "proxy" else ""
    asked = country if note else zone
    return Location(zone, _names()[zone], how, note, grid_zone=asked, guess=True)


def _no_match(text: str) -> str:
    from difflib import get_close_matches

    code = text.strip().upper()
    if any(row["country"] == code and not row["zone"] for row in rows("timezone_zones")):
        return f"the table has no figure for {code}; give WORLD for the world average"
    near = get_close_matches(_fold(text), _index(), n=3, cutoff=0.75)
    zones = dict.fromkeys(zone for key in near for zone in _index()[key])
    known = [f"{_names()[zone]} ({zone})" for zone in zones] or cloud.near(text)
    guess = " or ".join(known)
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
        first, *_ = host_text(os.path.join(root, "etc", "timezone")).split("\n")
        yield _time_zone_name(first)
    with suppress(OSError):
        # One step of the link only: Europe/Copenhagen may itself be a link to Europe/Berlin.
        yield _time_zone_name(os.readlink(os.path.join(root, "etc", "localtime")))


def _time_zone_name(text: str) -> str:
    name = text.strip().lstrip(":")
    name = name.rpartition("zoneinfo/")[2]
    return name.removeprefix("posix/").removeprefix("right/")
