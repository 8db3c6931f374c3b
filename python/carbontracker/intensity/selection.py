"""Which provider is asked: what the user wants, where, and with which keys. Off unless wanted.

Nothing is asked of a service unless ``intensity=``, ``CARBONTRACKER_INTENSITY`` or ``api_keys``
names one: the table is the default, and ``CARBONTRACKER_OFFLINE=1`` has the last word.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

from carbontracker.arguments import as_number
from carbontracker.data import UNLOCATED, WORLD
from carbontracker.environment import enabled
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.guard import logger
from carbontracker.intensity.base import PROVIDERS, Intensity, provider
from carbontracker.intensity.cached_provider import scope_and_signal
from carbontracker.intensity.poller import LiveProvider
from carbontracker.intensity.service import provider_variable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import TypeAlias

    from carbontracker.intensity.base import Provider

    IntensitySetting: TypeAlias = "float | str | Provider | None"

INTENSITY_VARIABLE = "CARBONTRACKER_INTENSITY"
OFFLINE_VARIABLE = "CARBONTRACKER_OFFLINE"
AUTO = "auto"
UNKNOWN_ZONES = (UNLOCATED, WORLD)
"""Zones of a location that is unknown, which no live service has."""


class HasZones(Protocol):
    """A place, as far as it matters here."""

    @property
    def zone(self) -> str:
        """Return the zone of the table."""
        ...

    @property
    def grid_zone(self) -> str:
        """Return the zone to ask live services for, which may be finer."""
        ...


def offline(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether ``CARBONTRACKER_OFFLINE`` disables network access.

    Any value except 0, false, no, off or empty does.
    """
    return enabled(OFFLINE_VARIABLE, environ=environ)


def parse_setting(text: str) -> IntensitySetting:
    """Return what a text asks for: a number, ``auto``, or a provider's name with its zone.

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    try:
        return float(text)
    except ValueError:
        name = text.partition(":")[0].lower()
    if name not in (AUTO, *PROVIDERS) or name == "constant":
        raise ValueError(
            f"intensity is a number of gCO2eq/kWh, {AUTO}, or one of "
            f"{', '.join(name for name in PROVIDERS if name != 'constant')}; got {text!r}"
        )
    return name + text[len(name) :]


def resolve(
    intensity: IntensitySetting, location: HasZones, api_keys: Mapping[str, str]
) -> tuple[IntensitySetting, Provider, Provider | None]:
    """Return what is wanted, the provider for footprints, and the one for advice if there is one.

    The argument goes before ``CARBONTRACKER_INTENSITY``, which cannot stop a job: what it says
    wrongly is warned of, and the table is used.

    Raises:
        ValueError: the argument is no intensity, or its provider lacks a key.
    """
    if intensity is None and (text := os.environ.get(INTENSITY_VARIABLE, "").strip()):
        try:
            setting = parse_setting(text)
            return setting, *_selected(setting, location, api_keys)
        except ValueError as error:
            logger.warning("carbontracker: %s: %s; the table is used", INTENSITY_VARIABLE, error)
    setting = (
        parse_setting(intensity) if isinstance(intensity, str) else _number_or_provider(intensity)
    )
    return setting, *_selected(setting, location, api_keys)


def _number_or_provider(intensity: IntensitySetting) -> IntensitySetting:
    if isinstance(intensity, bool):
        raise ValueError(f"intensity must be gCO2eq/kWh, a provider or its name, not {intensity}")
    return cast("IntensitySetting", as_number(intensity))


def _selected(
    setting: IntensitySetting, location: HasZones, api_keys: Mapping[str, str]
) -> tuple[Provider, Provider | None]:
    selected = select(setting, location, api_keys)
    live = selected[1] is not None or isinstance(selected[0], LiveProvider)
    if isinstance(setting, str) and setting != "table" and not live and not offline():
        why = f"nobody knows {location.grid_zone} without a key"
        if location.grid_zone in UNKNOWN_ZONES:
            why = "the location is unknown"
        logger.warning("carbontracker: no live carbon intensity: %s; the table is used", why)
    return selected


def select(
    setting: IntensitySetting, location: HasZones, api_keys: Mapping[str, str]
) -> tuple[Provider, Provider | None]:
    """Return the provider for footprints, and the one for advice if it is a marginal one.

    Raises:
        ValueError: there is no such provider, it lacks a key, or the figure is impossible.
    """
    if setting is None or setting == "table":
        return provider("table"), None
    if isinstance(setting, (int, float)):
        return provider("constant", gco2eq_per_kwh=setting), None
    keys = _lower(api_keys)
    if isinstance(setting, str):
        name, _, zone = setting.partition(":")
        providers = (
            _auto_providers(location.grid_zone, keys)
            if name == AUTO
            else [create(name.lower(), keys)]
        )
    else:
        zone, providers = "", [_users_own(setting)]
    zone = zone or location.grid_zone
    if not providers or offline() or (zone in UNKNOWN_ZONES and isinstance(setting, str)):
        return provider("table"), None
    first = providers[0]
    if scope_and_signal(first)[1] == "marginal":
        return provider("table"), LiveProvider(first, zone, None)
    return LiveProvider(
        providers, zone, table_fallback(location.zone, scope_and_signal(first)[0])
    ), None


def auto_forecast(
    location: HasZones, api_keys: Mapping[str, str], start: datetime, end: datetime
) -> list[Intensity]:
    """Return a forecast by the first of those whom ``auto`` asks; waits for the answer.

    Raises:
        IntensityUnavailable: nobody has one; the reason has everybody's.
    """
    zone = location.grid_zone
    if offline():
        raise IntensityUnavailable(f"{OFFLINE_VARIABLE}=1 asks no network")
    if zone in UNKNOWN_ZONES:
        raise IntensityUnavailable("the location is unknown: name it with location=")
    live_providers = [
        LiveProvider(one, zone, None) for one in _auto_providers(zone, _lower(api_keys))
    ]
    reasons = []
    for live in live_providers:
        found = live.forecast_answer()
        if found.slots:
            return live.forecast(zone, start, end)
        reasons.append(found.reason)
    raise IntensityUnavailable(
        "; ".join(reasons)
        or f"nobody foresees {zone} without a key: name a provider with intensity=, or give a key"
    )


def _lower(api_keys: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): key for name, key in api_keys.items()}


def create(name: str, keys: Mapping[str, str]) -> Provider:
    """Return the provider called ``name``, with its key if there is one.

    Raises:
        ValueError: there is no such provider, or it lacks a key.
    """
    return provider(name, **({"api_key": keys[name]} if name in keys else {}))


def table_fallback(zone: str, scope: str) -> Intensity | None:
    """Return the table's figure that stands in for a provider's of this scope, if there is one.

    A provider that does not state its scope is stood in for by the lifecycle figure, which then
    goes without a scope too, and says so.
    """
    try:
        figure = provider("table", scope="lifecycle" if scope == "unknown" else scope).now(zone)
    except (IntensityUnavailable, ValueError):
        return None
    if scope != "unknown":
        return figure
    note = "a lifecycle figure beside figures whose scope is not stated"
    return replace(figure, scope=scope, note=f"{note}; {figure.note}" if figure.note else note)


def _auto_providers(zone: str, keys: Mapping[str, str]) -> list[Provider]:
    """Return who is asked of a zone, the best first.

    Who traces flows everywhere and has a key goes before the country's own service, that before
    Europe's, and all of them before those with only a mix.
    """
    country = zone.partition("-")[0]

    def rank(name: str) -> tuple[bool, int]:
        countries = PROVIDERS[name].countries
        return bool(PROVIDERS[name].key and countries), len(countries)

    there = [
        name
        for name, listed in PROVIDERS.items()
        if (
            not listed.key
            or name in keys
            or os.environ.get(provider_variable(name, "KEY"), "").strip()
        )
        and (country in listed.countries.split() or (listed.key and not listed.countries))
    ]
    found = [create(name, keys) for name in sorted(there, key=rank)]
    return [one for one in found if scope_and_signal(one)[1] == "average"]


def _users_own(given: object) -> Provider:
    """Return a provider of the user's own.

    Raises:
        ValueError: it is none.
    """
    if not callable(getattr(given, "between", None)) or not getattr(given, "name", ""):
        raise ValueError(
            "intensity is a number, a provider's name, or an object with a name and a method "
            f"between(zone, start, end), not {type(given).__name__}"
        )
    return cast("Provider", given)
