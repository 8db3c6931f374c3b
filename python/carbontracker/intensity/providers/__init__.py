"""Sources of carbon intensity: one file each, and a line in ``PROVIDERS``.

``docs/adding-a-provider.md`` shows how to add one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.intensity.base import Provider


class ProviderEntry(NamedTuple):
    """A provider of the package: its module, and what a request needs."""

    path: str
    """``module:class``, the module below ``carbontracker.intensity.providers``."""
    key: str = ""
    """What its key is, in words; empty if it needs no key."""
    countries: str = ""
    """ISO codes of the countries where ``auto`` uses it, separated by spaces. If empty, ``auto``
    uses it everywhere if it needs a key, and nowhere if it does not."""
    live: bool = True
    """Whether it uses the network."""


_EUROPE = "AT BE BG CH CZ DE DK EE ES FI FR GR HR HU IT LT LV NL NO PL PT RO RS SE SI SK"

PROVIDERS = {
    "carbonintensity_gb": ProviderEntry("carbonintensity_gb:CarbonIntensityGB", countries="GB"),
    "constant": ProviderEntry("constant:Constant", live=False),
    "eia930": ProviderEntry("eia930:EIA930", key="an API key", countries="US"),
    "electricitymaps": ProviderEntry("electricitymaps:ElectricityMaps", key="a token"),
    "energidataservice": ProviderEntry("energidataservice:EnergiDataService", countries="DK"),
    "energycharts": ProviderEntry("energycharts:EnergyCharts", countries=_EUROPE),
    "entsoe": ProviderEntry("entsoe:Entsoe", key="a security token", countries=_EUROPE),
    "http_json": ProviderEntry("http_json:HttpJson"),
    "odre": ProviderEntry("odre:Odre", countries="FR"),
    "table": ProviderEntry("table:Table", live=False),
    "watttime": ProviderEntry("watttime:WattTime", key="user:password"),
}
"""Every provider by name; ``provider`` imports its module."""


def provider(name: str, **settings: Any) -> Provider:
    """Build the provider called ``name`` with its own ``settings``.

    Raises:
        ValueError: unknown name, or a setting with an invalid value.
        TypeError: the provider has no such setting.
    """
    from importlib import import_module

    if name not in PROVIDERS:
        raise ValueError(f"unknown intensity provider {name!r}: choose from {', '.join(PROVIDERS)}")
    module, _, attribute = PROVIDERS[name].path.partition(":")
    found = getattr(import_module(f"carbontracker.intensity.providers.{module}"), attribute)
    return cast("Callable[..., Provider]", found)(**settings)


def providers_of_countries() -> tuple[str, ...]:
    """Return the names of the providers that serve certain countries."""
    return tuple(name for name, listed in PROVIDERS.items() if listed.countries)


def providers_with_key() -> tuple[str, ...]:
    """Return the names of the providers that need a key."""
    return tuple(name for name, listed in PROVIDERS.items() if listed.key)
