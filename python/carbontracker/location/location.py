"""Finds the location without the network: as the user states it, else from a cloud's environment
variables, else from the time zone. `lookup` asks the network."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from carbontracker.data import UNLOCATED, WORLD, rows
from carbontracker.exceptions import UnknownLocation
from carbontracker.hostfiles import host_text
from carbontracker.json_values import mapping, string
from carbontracker.location import cloud

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VARIABLE = "CARBONTRACKER_LOCATION"
"""The environment variable that names the location."""

CONFIG = "carbontracker.ini"
"""The user's (``$XDG_CONFIG_HOME/carbontracker.ini``) and the site's (``/etc/carbontracker.ini``)
settings: a section ``[carbontracker]`` with ``location = DK``."""

LOCATE = ("auto", "never")
"""Whether the network may be asked for the location."""

ROOT_VARIABLE = "CARBONTRACKER_ROOT"
"""The folder above ``etc`` and ``sys``, such as a container's mount of the host."""

UNKNOWN = "unknown"
"""``how`` of an unknown location."""

_HINT = "a country, an ISO 3166 code such as DK or US-CA, a cloud region, or WORLD"


@dataclass(frozen=True, slots=True)
class Location:
    """A grid zone and how it was found."""

    zone: str
    """A zone of ``grid_intensity.csv``: ISO 3166-1, ISO 3166-2, ``US-EGRID-xxxx``, EU or WORLD;
    or ``UNLOCATED``, whose intensity is unknown."""
    name: str
    """The location in words."""
    how: str
    """``argument``, ``CARBONTRACKER_LOCATION``, the configuration file, ``AWS_REGION``,
    ``<cloud> metadata``, ``IP address (<service>)``, ``time zone <name>`` or ``unknown``."""
    note: str = ""
    """Why this zone, if it is not that of the location itself; a reason for a warning if ``how`` is
    ``unknown``."""
    grid_zone: str = ""
    """The zone for live services, as fine as it was stated (``DK-DK1``); ``zone`` is one of the
    table. By default the same as ``zone``."""
    region: str = ""
    """The cloud region (``aws:eu-north-1``), or empty."""
    guess: bool = field(default=False, compare=False)
    """From the time zone, or unknown: an answer of the network may replace it."""

    def __post_init__(self) -> None:
        if not self.grid_zone:
            object.__setattr__(self, "grid_zone", self.zone)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: object) -> Location | None:
        """Return the location that ``to_dict`` gave; None if ``data`` names no zone."""
        given = mapping(data)
        zone, name = string(given.get("zone")), string(given.get("name"))
        if not zone and not name:
            return None
        return cls(
            zone,
            name,
            string(given.get("how")),
            string(given.get("note")),
            string(given.get("grid_zone")),
            string(given.get("region")),
            guess=given.get("guess") is True,
        )

    @property
    def known(self) -> bool:
        """Return whether the location is known; if not, the world average is used."""
        return self.how != UNKNOWN


def resolve(text: str) -> str:
    """Return the zone that ``text`` names: a code, a name, an alias or a cloud region, any case.

    A finer zone than those of the table (``DK-DK1``) gives the one that contains it.

    Raises:
        UnknownLocation: no zone, or more than one, has that name.
    """
    return location_named(text, "").zone


def locate(
    argument: str | None,
    environ: Mapping[str, str],
    root: str | os.PathLike[str] | None = None,
) -> Location:
    """Return the location: by the argument, else the environment, else the configuration file, else
    the environment variables of a cloud service, else the time zone, else the world.

    Args:
        argument: what the user passed, or None.
        environ: the environment; ``CARBONTRACKER_LOCATION``, ``XDG_CONFIG_HOME``, ``HOME``, ``TZ``
            and what clouds set are read.
        root: the directory that holds ``etc``; else ``CARBONTRACKER_ROOT``, else ``/``.

    A wrong value in environment or file must not stop a job, and must not be replaced by a guess:
    it gives the world average, ``how="unknown"``, and a note for a warning.

    Raises:
        UnknownLocation: the argument names no zone.
        TableError: the package's tables are missing; see ``unlocated``.
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
    return _world_average(f"location unknown; set it with location= or {VARIABLE}")


def unlocated(why: str) -> Location:
    """Return a location without a zone, for which there is not even an average figure."""
    return Location(UNLOCATED, "unknown", UNKNOWN, f"the location is unknown: {why}")


def location_named(text: str, how: str) -> Location:
    """Return the location that ``text`` names.

    Raises:
        UnknownLocation: no location, or more than one, has that name.
    """
    found = _index().get(_fold(text), {})
    if len(found) > 1:
        raise UnknownLocation(f"{text!r} may be {' or '.join(found)}: give the code")
    code = text.strip().upper()
    if found:
        zone, note = next(iter(found.items()))
        # An alias with a note is a separate grid, for which the table has only a proxy.
        return Location(zone, _names()[zone], how, note, grid_zone=code if note else zone)
    if inside := cloud.find(text):
        return location_of_region(inside[0], how, inside[1:])
    wider = "" if cloud.similar(text) else code  # a misspelled eu-west-9 is not a part of the EU
    while "-" in wider:
        wider = wider.rpartition("-")[0]
        if wider in _names():
            note = _stands_in(text.strip(), wider, "subzone")
            return Location(wider, _names()[wider], how, note, grid_zone=code)
    raise UnknownLocation(_no_match(text))


def location_of_region(
    region: cloud.Region, how: str, others: Sequence[cloud.Region] = ()
) -> Location:
    """Return the location of a cloud region; ``others`` are further regions of the same name."""
    name = f"{region.name} ({region.provider} {region.region})"
    note = f"{region.region} is taken as {region.key}" if others else ""
    note += "".join(f", not {other.key} ({other.name})" for other in others)
    return Location(region.zone, name, how, note, region.grid_zone, region.key)


def location_of_country(country: str, subdivision: str, how: str) -> Location:
    """Return the location of an ISO country code and the name of a part of it, from a look-up.

    A country without a figure gives the world average, with a note.
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
    """Return the stated location and its source: the environment, else a configuration file."""
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
    # An unreadable file counts as missing: it must not stop a job.
    try:
        text = host_text(path)
    except OSError:
        return {}  # the usual case, without loading configparser, which takes milliseconds
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
    known = [f"{_names()[zone]} ({zone})" for zone in zones] or cloud.similar(text)
    guess = " or ".join(known)
    return f"unknown location {text!r}; " + (f"did you mean {guess}?" if guess else f"give {_HINT}")


def _stands_in(asked: str, zone: str, kind: str) -> str:
    how = "proxy" if kind == "proxy" else "contains it"
    return f"no figure for {asked}; {zone} stands in ({how})"


def _fold(text: str) -> str:
    """Return a name in lower case, its letters and digits only, without accents."""
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
    """Yield the names of the time zone, the user's before the machine's."""
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
