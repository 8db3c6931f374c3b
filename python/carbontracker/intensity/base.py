"""Carbon intensity: zone and time in, gCO2eq per kWh with its provenance out.

A new provider is one file with one class and one line in ``PROVIDERS``; see
``docs/adding-a-provider.md``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

SCOPES = ("lifecycle", "direct", "consumption", "unknown")
"""What a figure counts. ``lifecycle``: the generation mix with its upstream emissions; ``direct``:
combustion only; ``consumption``: direct, with imports; ``unknown``: not stated. One run uses one
scope."""

MISSING = "missing"
KINDS = ("measured", "estimated", "forecast", "extrapolated", "annual", "constant", MISSING)
"""How a figure came about, from the closest to the moment of use to the furthest from it.
``extrapolated``: the same hour of another day's forecast, beyond the horizon. ``missing``: there
is no figure, and ``gco2eq_per_kwh`` is NaN."""

SIGNALS = ("average", "marginal")
"""``average`` figures make a footprint; a ``marginal`` one answers what a change would cause."""

MAX_GCO2EQ_PER_KWH = 2000.0
"""Plausibility limit, gCO2eq/kWh: the dirtiest national grid in the table is near 1300, so more
than this is a wrong unit rather than a grid."""


YEARS = (1900, 2999)
"""Of all times, so that an hour or a week beyond them is a time as well."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """One carbon-intensity figure and where it comes from.

    Raises:
        ValueError: the figure is not within 0 to 2000 gCO2eq/kWh, a label is not one of
            ``SCOPES``, ``KINDS`` or ``SIGNALS``, or the slot is naive or runs backwards.
    """

    gco2eq_per_kwh: float
    """gCO2eq per kWh of electricity; NaN if ``kind`` is ``missing``."""
    zone: str
    """The zone the figure describes, which may be wider than the one asked for; see ``note``."""
    name: str
    """The zone's name for people."""
    year: int | None
    """The year the figure describes; None if it is not an annual one."""
    scope: str
    """One of ``SCOPES``."""
    kind: str
    """One of ``KINDS``."""
    signal: str = "average"
    """One of ``SIGNALS``."""
    source: str = ""
    """Who published the figure."""
    licence: str = ""
    """The licence of the figure."""
    start: datetime | None = None
    """First instant the figure holds for, aware, UTC; None if open."""
    end: datetime | None = None
    """First instant it no longer holds for, aware, UTC; None if open."""
    note: str = ""
    """Why this figure, when it is not simply the zone's own."""
    provider: str = ""
    """Name of the live provider that gave the figure; empty for the table and a fixed one."""
    fetched_at: datetime | None = None
    """When it was asked for, aware, UTC; None for what was not asked for."""

    def __post_init__(self) -> None:
        known = 0 <= self.gco2eq_per_kwh <= MAX_GCO2EQ_PER_KWH  # NaN is not
        if not known and not (self.kind == MISSING and math.isnan(self.gco2eq_per_kwh)):
            raise ValueError(
                f"carbon intensity must be 0 to {MAX_GCO2EQ_PER_KWH:g} gCO2eq/kWh, "
                f"got {self.gco2eq_per_kwh!r}"
            )
        for value, words in ((self.scope, SCOPES), (self.kind, KINDS), (self.signal, SIGNALS)):
            if value not in words:
                raise ValueError(f"{value!r} is not one of {', '.join(words)}")
        for moment in (self.start, self.end, self.fetched_at):
            if moment is not None and moment.utcoffset() is None:
                raise ValueError(f"a slot needs aware times, got {moment!r}")
            if moment is not None and not YEARS[0] <= moment.year <= YEARS[1]:
                raise ValueError(f"a slot lies in the years {YEARS[0]} to {YEARS[1]}, not {moment}")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"the slot ends at {self.end}, not after its start {self.start}")

    def as_dict(self) -> dict[str, str | float | int | None]:
        """Return the fields as JSON-ready values, times as ISO 8601 text."""
        times = {
            key: None if moment is None else moment.isoformat()
            for key, moment in (
                ("start", self.start),
                ("end", self.end),
                ("fetched_at", self.fetched_at),
            )
        }
        return asdict(self) | times


def unknown(zone: str, note: str) -> Intensity:
    """Return what stands for the figure of a zone where there is none; ``note`` says why."""
    return Intensity(math.nan, zone, "unknown", None, "unknown", MISSING, note=note)


class Provider(Protocol):
    """A source of carbon-intensity figures. Zones are those of the package or of the provider.

    Each method raises ``IntensityUnavailable`` where there is no figure for the zone and time, and
    where the provider cannot answer such a question at all.
    """

    @property
    def name(self) -> str:
        """Return what it is called in records and notes."""
        ...

    def now(self, zone: str) -> Intensity:
        """Return the newest figure that is not in the future."""
        ...

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the slots known for ``start`` to ``end`` (aware times), in time order.

        They may be estimated, and may leave gaps.
        """
        ...

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the slots foreseen for ``start`` to ``end`` (aware times), in time order."""
        ...


class ProviderEntry(NamedTuple):
    """A provider of the package: where it is and what asking it takes."""

    path: str
    """``module:class``, the module below ``carbontracker.intensity.providers``."""
    key: str = ""
    """What its key is, in words; empty if it takes none."""
    countries: str = ""
    """ISO codes of the countries where ``auto`` asks it, separated by spaces; if empty, everywhere
    of one that takes a key, and nowhere of one that takes none."""
    live: bool = True
    """Whether it is asked over the network."""


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
"""Every provider by name; its module is imported when it is asked for."""


def provider(name: str, **settings: Any) -> Provider:
    """Build the provider called ``name`` with its own ``settings``.

    Raises:
        ValueError: there is no such provider, or it refuses a setting's value.
        TypeError: the provider has no such setting.
    """
    from importlib import import_module

    if name not in PROVIDERS:
        raise ValueError(f"no intensity provider {name!r}; there are {', '.join(PROVIDERS)}")
    module, _, attribute = PROVIDERS[name].path.partition(":")
    found = getattr(import_module(f"carbontracker.intensity.providers.{module}"), attribute)
    return cast("Callable[..., Provider]", found)(**settings)


def providers_with_key() -> tuple[str, ...]:
    """Return the names of the providers that are asked with a key of the user's."""
    return tuple(name for name, listed in PROVIDERS.items() if listed.key)
