"""Carbon intensity: zone and time in, gCO2eq per kWh with its provenance out.

A new provider is one file with one class and one line in ``PROVIDERS``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

SCOPES = ("lifecycle", "direct", "consumption", "unknown")
"""What a figure counts. ``lifecycle``: the generation mix with its upstream emissions; ``direct``:
combustion only; ``consumption``: direct, with imports; ``unknown``: not stated. One run uses one
scope."""

KINDS = ("measured", "estimated", "forecast", "annual", "constant")
"""How a figure came about, from the closest to the moment of use to the furthest from it."""

SIGNALS = ("average", "marginal")
"""``average`` figures make a footprint; a ``marginal`` one answers what a change would cause."""

MAX_GCO2EQ_PER_KWH = 2000.0
"""Plausibility limit, gCO2eq/kWh: the dirtiest national grid in the table is near 1300, so more
than this is a wrong unit rather than a grid."""


class IntensityUnavailable(RuntimeError):
    """A provider has no figure to give; ``reason`` says why, for the person running the job."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Intensity:
    """One carbon-intensity figure and where it comes from.

    Raises:
        ValueError: the figure is not within 0 to 2000 gCO2eq/kWh, a label is not one of
            ``SCOPES``, ``KINDS`` or ``SIGNALS``, or the slot is naive or runs backwards.
    """

    gco2eq_per_kwh: float
    """gCO2eq per kWh of electricity."""
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

    def __post_init__(self) -> None:
        if not 0 <= self.gco2eq_per_kwh <= MAX_GCO2EQ_PER_KWH:  # NaN fails this as well
            raise ValueError(
                f"carbon intensity must be 0 to {MAX_GCO2EQ_PER_KWH:g} gCO2eq/kWh, "
                f"got {self.gco2eq_per_kwh!r}"
            )
        for value, known in ((self.scope, SCOPES), (self.kind, KINDS), (self.signal, SIGNALS)):
            if value not in known:
                raise ValueError(f"{value!r} is not one of {', '.join(known)}")
        for moment in (self.start, self.end):
            if moment is not None and moment.utcoffset() is None:
                raise ValueError(f"a slot needs aware times, got {moment!r}")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"the slot ends at {self.end}, not after its start {self.start}")

    def as_dict(self) -> dict[str, str | float | int | None]:
        """Return the fields as JSON-ready values, times as ISO 8601 text."""
        times = {
            key: None if moment is None else moment.isoformat()
            for key, moment in (("start", self.start), ("end", self.end))
        }
        return asdict(self) | times


class Provider(Protocol):
    """A source of carbon-intensity figures."""

    name: str

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the slots that cover ``start`` to ``end`` (aware times), in time order.

        Raises:
            IntensityUnavailable: there is no figure for this zone and time.
        """
        ...


PROVIDERS = {
    "constant": "carbontracker.intensity.constant:Constant",
    "electricitymaps": "carbontracker.intensity.electricitymaps:ElectricityMaps",
    "table": "carbontracker.intensity.table:Table",
}
"""Every provider by name, as ``module:class``; a module is imported when it is asked for."""

WITH_KEY = ("electricitymaps",)
"""The live providers among them, which are asked with a key of the user's."""


def provider(name: str, **settings: Any) -> Provider:
    """Build the provider called ``name`` with its own ``settings``.

    Raises:
        ValueError: there is no such provider, or it refuses a setting's value.
        TypeError: the provider has no such setting.
    """
    from importlib import import_module

    if name not in PROVIDERS:
        raise ValueError(f"no intensity provider {name!r}; there are {', '.join(PROVIDERS)}")
    module, _, attribute = PROVIDERS[name].partition(":")
    build = cast("Callable[..., Provider]", getattr(import_module(module), attribute))
    return build(**settings)
