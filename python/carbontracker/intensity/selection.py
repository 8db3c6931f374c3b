"""Selects the providers: by the user's setting, the location and the keys.

The table is the default. A service is asked only if ``intensity=``, ``CARBONTRACKER_INTENSITY`` or
``api_keys`` names one, and never with ``CARBONTRACKER_OFFLINE=1``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

from carbontracker.conversion import as_number
from carbontracker.data import UNLOCATED, WORLD
from carbontracker.environment import enabled
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.guard import logger
from carbontracker.intensity.cached_provider import scope_and_signal
from carbontracker.intensity.live_provider import LiveProvider
from carbontracker.intensity.providers import PROVIDERS, provider
from carbontracker.intensity.service import provider_variable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import TypeAlias

    from carbontracker.intensity.base import Intensity, Provider

    IntensitySetting: TypeAlias = "float | str | Provider | None"

INTENSITY_VARIABLE = "CARBONTRACKER_INTENSITY"
OFFLINE_VARIABLE = "CARBONTRACKER_OFFLINE"
AUTO = "auto"
UNKNOWN_ZONES = (UNLOCATED, WORLD)
"""Zones of an unknown location, which live services do not cover."""


class HasZones(Protocol):
    """The zones of a location."""

    @property
    def zone(self) -> str:
        """Return the zone of the table."""
        ...

    @property
    def grid_zone(self) -> str:
        """Return the zone for live services, which may be finer."""
        ...


def offline(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether ``CARBONTRACKER_OFFLINE`` disables network access.

    Any value except 0, false, no, off or empty does.
    """
    return enabled(OFFLINE_VARIABLE, environ=environ)


def parse_setting(text: str) -> IntensitySetting:
    """Return the setting of a text: a number, ``auto``, or a provider's name with its zone.

    Raises:
        ValueError: the text is something else.
    """
    text = text.strip()
    try:
        return float(text)
    except ValueError:
        name = text.partition(":")[0].lower()
    if name not in (AUTO, *PROVIDERS) or name == "constant":
        raise ValueError(
            f"intensity must be a number of gCO2eq/kWh, {AUTO}, or one of "
            f"{', '.join(name for name in PROVIDERS if name != 'constant')}; got {text!r}"
        )
    return name + text[len(name) :]


def resolve(
    intensity: IntensitySetting, location: HasZones, api_keys: Mapping[str, str]
) -> tuple[IntensitySetting, Provider, Provider | None]:
    """Return the setting, the provider for footprints, and the one for advice or None.

    The argument goes before ``CARBONTRACKER_INTENSITY``. A wrong value of the variable must not
    stop a job: it gives a warning, and the table is used.

    Raises:
        ValueError: the argument is not a valid setting, or its provider lacks a key.
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
        why = f"every provider for {location.grid_zone} needs an API key"
        if location.grid_zone in UNKNOWN_ZONES:
            why = "the location is unknown"
        logger.warning("carbontracker: no live carbon intensity: %s; the table is used", why)
    return selected


def select(
    setting: IntensitySetting, location: HasZones, api_keys: Mapping[str, str]
) -> tuple[Provider, Provider | None]:
    """Return the provider for footprints, and a marginal provider for advice or None.

    Raises:
        ValueError: unknown provider, missing key, or impossible figure.
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
    """Return the forecast of the first provider of ``auto`` that has one; waits for the answer.

    Raises:
        IntensityUnavailable: there is no forecast. The reason has those of all providers; the
            status is the highest of theirs, which is that of a busy service if there is one.
    """
    zone = location.grid_zone
    if offline():
        raise IntensityUnavailable(f"{OFFLINE_VARIABLE}=1 disables network access")
    if zone in UNKNOWN_ZONES:
        raise IntensityUnavailable("the location is unknown: set it with location=")
    live_providers = [
        LiveProvider(one, zone, None) for one in _auto_providers(zone, _lower(api_keys))
    ]
    failed = []
    for live in live_providers:
        found = live.forecast_answer()
        if found.slots:
            return live.forecast(zone, start, end)
        failed.append(found)
    raise IntensityUnavailable(
        "; ".join(answer.reason for answer in failed)
        or f"no forecast for {zone}: every provider for this zone needs an API key; choose a "
        "provider with intensity=, or set a key",
        max((answer.status or 0 for answer in failed), default=0) or None,
        min((answer.retry_after_s for answer in failed if answer.retry_after_s), default=None),
    )


def _lower(api_keys: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): key for name, key in api_keys.items()}


def create(name: str, keys: Mapping[str, str]) -> Provider:
    """Return the provider called ``name``, with its key of ``keys``.

    Raises:
        ValueError: unknown provider, or missing key.
    """
    needs_key = name in keys and (name not in PROVIDERS or PROVIDERS[name].key)
    return provider(name, **({"api_key": keys[name]} if needs_key else {}))


def table_fallback(zone: str, scope: str) -> Intensity | None:
    """Return the table's figure that replaces those of a provider of this scope, or None.

    For a provider of unknown scope it is the lifecycle figure, labelled with an unknown scope.
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
    """Return the providers of ``auto`` for a zone, the best first.

    Worldwide services with flow tracing and a key come first, then the country's own service, then
    the European one, then those that publish only the generation mix.
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
    """Return the user's own provider.

    Raises:
        ValueError: the object is not a provider.
    """
    if not callable(getattr(given, "between", None)) or not getattr(given, "name", ""):
        raise ValueError(
            "intensity must be a number, a provider's name, or an object with a name and a method "
            f"between(zone, start, end), not {type(given).__name__}"
        )
    return cast("Provider", given)
