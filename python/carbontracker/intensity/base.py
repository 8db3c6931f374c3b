"""Carbon intensity: zone and time in, gCO2eq per kWh with its provenance out.

A new provider is one file with one class and one line in ``providers.PROVIDERS``; see
``docs/adding-a-provider.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from carbontracker.json_values import mapping, number, string, time_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

SCOPES = ("lifecycle", "direct", "consumption", "unknown")
"""The emissions that a figure counts. ``lifecycle``: upstream ones too; ``direct``: combustion
only; ``consumption``: direct, with imports; ``unknown``: not stated. One run uses one
scope."""

MISSING = "missing"
KINDS = ("measured", "estimated", "forecast", "extrapolated", "annual", "constant", MISSING)
"""The kind of a figure, from the closest to the time of use to the furthest from it.
``extrapolated``: the same hour of another day's forecast, beyond the horizon. ``missing``: no
figure, ``gco2eq_per_kwh`` is NaN."""

SIGNALS = ("average", "marginal")
"""``average``: for footprints; ``marginal``: the effect of a change in consumption, for advice."""

MAX_GCO2EQ_PER_KWH = 2000.0
"""Plausibility limit, gCO2eq/kWh: the highest national grid of the table is near 1300, so a larger
figure has a wrong unit."""


YEARS = (1900, 2999)
"""Limits of all times, so that adding a week cannot overflow."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """One carbon-intensity figure with its provenance.

    Raises:
        ValueError: the figure is not within 0 to 2000 gCO2eq/kWh, a label is not one of
            ``SCOPES``, ``KINDS`` or ``SIGNALS``, or the slot is naive or runs backwards.
    """

    gco2eq_per_kwh: float
    """gCO2eq per kWh of electricity; NaN if ``kind`` is ``missing``."""
    zone: str
    """The zone of the figure, which may be wider than the requested one; see ``note``."""
    name: str
    """The zone's name for people."""
    year: int | None
    """The year of an annual figure, else None."""
    scope: str
    """One of ``SCOPES``."""
    kind: str
    """One of ``KINDS``."""
    signal: str = "average"
    """One of ``SIGNALS``."""
    source: str = ""
    """The publisher of the figure."""
    licence: str = ""
    """The licence of the figure."""
    start: datetime | None = None
    """First instant the figure holds for, aware, UTC; None if open."""
    end: datetime | None = None
    """First instant it no longer holds for, aware, UTC; None if open."""
    note: str = ""
    """Why this figure was used, if it is not the zone's own."""
    provider: str = ""
    """Name of the live provider; empty for the table and a fixed figure."""
    fetched_at: datetime | None = None
    """Time of the request, aware, UTC; None without a request."""

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

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").intensity(self)
        return text

    def to_dict(self) -> dict[str, str | float | int | None]:
        """Return the fields as JSON-ready values, times as ISO 8601 text."""
        times = {
            key: None if moment is None else moment.isoformat()
            for key, moment in (
                ("start", self.start),
                ("end", self.end),
                ("fetched_at", self.fetched_at),
            )
        }
        return {name: getattr(self, name) for name in self.__slots__} | times

    def as_dict(self) -> dict[str, str | float | int | None]:
        """Return ``to_dict()`` by its name of the release before."""
        from warnings import warn

        message = "Intensity.as_dict is now Intensity.to_dict; the next release drops the old name"
        warn(message, DeprecationWarning, stacklevel=2)
        return self.to_dict()

    @classmethod
    def from_dict(cls, data: object, *, strict: bool = False) -> Intensity:
        """Return the figure that ``to_dict`` gave; missing if ``data`` has no possible figure.

        Other fields that are missing or damaged become empty or unknown.

        Raises:
            ValueError: with ``strict``, a field is damaged, or there is no figure.
        """
        given = mapping(data)
        figure = number(given.get("gco2eq_per_kwh"))
        known = 0 <= figure <= MAX_GCO2EQ_PER_KWH
        start, end = time_of(given.get("start")), time_of(given.get("end"))
        if start is not None and end is not None and end <= start:
            start = end = None
        year = given.get("year")
        found = cls(
            figure if known else math.nan,
            string(given.get("zone")),
            string(given.get("name")),
            year if isinstance(year, int) else None,
            _one_of(SCOPES, given.get("scope"), "unknown"),
            _one_of(KINDS, given.get("kind"), "estimated") if known else MISSING,
            _one_of(SIGNALS, given.get("signal"), "average"),
            string(given.get("source")),
            string(given.get("licence")),
            start,
            end,
            string(given.get("note")),
            string(given.get("provider")),
            time_of(given.get("fetched_at")),
        )
        if strict:
            found._check_against(given)
        return found

    def _check_against(self, given: Mapping[str, Any]) -> None:
        """Refuse what was read if ``given`` says something else.

        Raises:
            ValueError: it does.
        """
        if self.kind == MISSING != given.get("kind"):
            raise ValueError("a carbon intensity without a figure")
        for name in self.__slots__:
            said, value = given.get(name), getattr(self, name)
            is_time = name in ("start", "end", "fetched_at")
            if said is not None and (value is None if is_time else value != said):
                raise ValueError(f"{name} of a carbon intensity is {said!r}")


def _one_of(words: tuple[str, ...], given: object, default: str) -> str:
    return str(given) if given in words else default


def unknown(zone: str, note: str) -> Intensity:
    """Return a figure of the kind ``missing`` for a zone; ``note`` says why."""
    return Intensity(math.nan, zone, "unknown", None, "unknown", MISSING, note=note)


class Provider(Protocol):
    """A source of carbon-intensity figures. Zones are those of the package or of the provider.

    Each method raises ``IntensityUnavailable`` if the provider has no figure for the zone and time.
    """

    @property
    def name(self) -> str:
        """Return the name in records and notes."""
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
        """Return the forecast for ``start`` to ``end`` (aware times), in time order."""
        ...
