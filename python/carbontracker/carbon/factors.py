"""The factors from energy to footprint: location, carbon intensity and PUE."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from carbontracker.carbon.footprint import Footprint, Slot, footprint_of_slots
from carbontracker.constants import PUE_2023
from carbontracker.conversion import as_number, as_text, shown
from carbontracker.exceptions import IntensityUnavailable, TableError
from carbontracker.guard import INTENSITY, LOCATION, logger, optional
from carbontracker.intensity.base import unknown
from carbontracker.intensity.live_provider import LiveProvider
from carbontracker.intensity.providers import provider
from carbontracker.intensity.providers.constant import Constant
from carbontracker.intensity.selection import (
    AUTO,
    OFFLINE_VARIABLE,
    auto_forecast,
    offline,
    resolve,
    select,
)
from carbontracker.intensity.series import STAND_IN
from carbontracker.location import cloud
from carbontracker.location.location import Location, locate, unlocated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carbontracker.intensity.base import Intensity, Provider
    from carbontracker.intensity.selection import IntensitySetting

    EnergyBetween = Callable[[datetime, datetime], float]

PUE_SOURCE = "Daniel Bizo, 2023, Uptime Institute Global Data Center Survey"
"""Of the world average, in the words of version 2.4."""


@dataclass(frozen=True)
class CarbonFactors:
    """The factors from joules to grams; fixed before a run starts."""

    location: Location
    provider: Provider
    pue: float
    pue_source: str
    """Source of the PUE, in words."""
    intensity_setting: IntensitySetting = None
    """The argument ``intensity``, or its variable."""
    api_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of providers, by name."""
    advice_provider: Provider | None = None
    """A marginal provider: for advice on when to train, never for a footprint."""

    def intensities(self, start: datetime, end: datetime) -> list[Intensity]:
        """Return the carbon intensities that cover ``start`` to ``end``, aware times.

        Figures of the future come from the forecast, and beyond its horizon from the same hours of
        its last day. If the provider has no figure, that of the table is used, and its note says
        why. Without a table the figure is missing.
        """
        zone = self.location.zone
        try:
            return self.provider.between(zone, start, end)
        except IntensityUnavailable as error:
            why = error.reason
        try:
            (figure,) = provider("table").between(zone, start, end)
        except IntensityUnavailable as error:
            return [unknown(zone, error.reason)]
        return [replace(figure, note=f"{why}: {STAND_IN}")]

    def forecast(self, start: datetime, end: datetime) -> list[Intensity]:
        """Return the provider's forecast for ``start`` to ``end``, for advice; asks and waits.

        If the user chose no provider, those of ``auto`` are asked.

        Raises:
            IntensityUnavailable: there is no forecast; the reason says why.
        """
        asked = self.advice_provider or self.provider
        if isinstance(asked, LiveProvider) and self.intensity_setting != AUTO:
            return asked.forecast(self.location.zone, start, end)
        if self.intensity_setting in (None, AUTO):
            return auto_forecast(self.location, self.api_keys, start, end)
        if isinstance(asked, Constant):
            raise IntensityUnavailable("a fixed figure has no forecast")
        if offline():
            raise IntensityUnavailable(f"{OFFLINE_VARIABLE}=1 disables network access")
        raise IntensityUnavailable("the table has annual figures only, and no forecast")

    def zero_footprint(self) -> Footprint:
        """Return the footprint of no energy, for the start of a run."""
        now = datetime.now(timezone.utc)
        return self.footprint(lambda _a, _b: 0.0, now, now, 0.0)

    def footprint(
        self,
        joules_between: EnergyBetween,
        start: datetime,
        end: datetime,
        error_joules: float = math.nan,
    ) -> Footprint:
        """Return the footprint of the energy used from ``start`` to ``end``, aware times.

        Args:
            joules_between: the machine's energy between two times, J; called for each slot.
            start: beginning of the window.
            end: its end.
            error_joules: 95 % half-width of the energy, J.
        """
        slots = []
        for figure in self.intensities(start, end):
            begin, finish = max(start, figure.start or start), min(end, figure.end or end)
            slots.append(Slot(begin, finish, joules_between(begin, finish), figure))
        return footprint_of_slots(
            slots, self.pue, location=self.location, error_joules=error_joules
        )

    @property
    def live(self) -> tuple[str, str] | None:
        """Return title and name of the live provider, or None."""
        asked = self.provider
        return (asked.title, asked.name) if isinstance(asked, LiveProvider) else None

    def with_keys(self, api_keys: Mapping[str, str]) -> CarbonFactors:
        """Return these factors with live figures by these keys; ``start_polling`` begins to ask.

        The factors do not change if the user gave a figure, an own provider, or ``table``. With an
        unknown location or ``CARBONTRACKER_OFFLINE=1`` the table is used.
        """
        setting = self.intensity_setting
        if not (setting is None or isinstance(setting, str)) or setting == "table":
            return self
        self.close()
        return self._selected(self.location, api_keys)

    def at(self, location: Location, api_keys: Mapping[str, str]) -> CarbonFactors:
        """Return the factors of the same settings for another location; nothing is asked yet.

        The PUE is that of the location, unless one was given.

        Raises:
            ValueError: the provider that the setting names lacks a key.
        """
        factors = self
        if self.pue_source == PUE_SOURCE and (regional := cloud.pue(location.region)):
            factors = replace(self, pue=regional[0], pue_source=regional[1])
        return factors._selected(location, api_keys)

    def _selected(self, location: Location, api_keys: Mapping[str, str]) -> CarbonFactors:
        """Return these factors with the providers for a location, by all keys."""
        keys = {**self.api_keys, **api_keys}
        setting = self.intensity_setting
        if setting is None and api_keys:
            setting = next(iter(api_keys))
        chosen, advice_provider = select(setting, location, keys)
        return replace(
            self,
            location=location,
            provider=chosen,
            intensity_setting=setting,
            api_keys=keys,
            advice_provider=advice_provider,
        )

    def start_polling(self) -> CarbonFactors:
        """Begin to ask the live provider, if there is one; return these factors."""
        if isinstance(self.provider, LiveProvider):
            self.provider.start()
        return self

    def refresh_soon(self) -> None:
        """Have the live provider asked for revised figures; does not wait."""
        if isinstance(self.provider, LiveProvider):
            self.provider.refresh_soon()

    def snapshot(self) -> CarbonFactors:
        """Return these factors with the intensities known now, so that all footprints agree."""
        if not isinstance(self.provider, LiveProvider):
            return self
        return replace(self, provider=self.provider.snapshot())

    def close(self) -> None:
        """Stop asking the live provider."""
        if isinstance(self.provider, LiveProvider):
            self.provider.close()


def make_carbon_factors(
    location: str | None = None,
    pue: float | None = None,
    intensity: IntensitySetting = None,
    api_keys: Mapping[str, str] | None = None,
) -> CarbonFactors:
    """Return the factors for a run. Nothing is asked before ``start_polling``.

    Args:
        location: country, ISO code, zone or cloud region; else as
            `carbontracker.location.location.locate` finds it.
        pue: power usage effectiveness, ratio >= 1; else ``CARBONTRACKER_PUE``, else that of the
            cloud region, else the world average of data centres, 1.58 (Uptime Institute 2023),
            as in version 2.4.
        intensity: your own carbon intensity, gCO2eq/kWh; the name of a provider, with ``:zone`` if
            its zone differs from the location; ``auto``; or your own provider. Else
            ``CARBONTRACKER_INTENSITY``, else the table.
        api_keys: keys of providers, by name.

    Raises:
        UnknownLocation: unknown location; the message has the nearest names.
        ValueError: an invalid PUE or intensity.
    """
    found = optional(LOCATION, lambda: _locate(location), unlocated, errors_of_the_user=ValueError)
    value, source = _pue(pue, found)
    setting, chosen, advice_provider = optional(
        INTENSITY,
        lambda: resolve(intensity, found, api_keys or {}),
        lambda _: (intensity, provider("table"), None),
        errors_of_the_user=ValueError,
    )
    keys = dict(api_keys or {})
    return CarbonFactors(found, chosen, value, source, setting, keys, advice_provider)


def _locate(argument: str | None) -> Location:
    try:
        found = locate(as_text("location", argument), os.environ)
    except TableError as error:
        return unlocated(str(error))
    if not found.known and not found.guess:
        # The location that was stated is not one of the table.
        logger.warning("carbontracker: %s", found.note)
    return found


def _pue(argument: float | None, location: Location) -> tuple[float, str]:
    if argument is not None:
        given = as_number(argument)
        if not isinstance(given, (int, float)) or not 1.0 <= given < math.inf:
            message = f"pue must be a finite ratio of at least 1, got {shown(argument)}"
            raise ValueError(message)
        return float(given), "given"
    text = os.environ.get("CARBONTRACKER_PUE", "").strip()
    if text:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and value >= 1.0:
            return value, "CARBONTRACKER_PUE"
        # A wrong variable must not stop a training: a warning, and the default.
        logger.warning(
            "carbontracker: CARBONTRACKER_PUE=%r is not a ratio of at least 1; using %s",
            text,
            PUE_2023,
        )
    return cloud.pue(location.region) or (PUE_2023, PUE_SOURCE)
