"""A fixed carbon intensity that the user gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.intensity.base import Intensity

if TYPE_CHECKING:
    from datetime import datetime


class Constant:
    """The same figure for every location and time.

    Args:
        gco2eq_per_kwh: carbon intensity, gCO2eq/kWh.
        scope: one of ``SCOPES``.
        source: the source of the figure.

    Raises:
        ValueError: the figure is not within 0 to 2000 gCO2eq/kWh, or the scope is unknown.
    """

    name = "constant"

    def __init__(
        self, gco2eq_per_kwh: float, scope: str = "unknown", source: str = "given by the user"
    ) -> None:
        self._figure = Intensity(
            gco2eq_per_kwh=float(gco2eq_per_kwh),
            zone="",
            name="fixed figure",
            year=None,
            scope=scope,
            kind="constant",
            source=source,
            note="fixed figure: used whatever the place and time",
        )

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the figure as one open slot."""
        return [self._figure]

    def now(self, zone: str) -> Intensity:
        """Return the figure."""
        return self._figure

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the figure as one open slot."""
        return [self._figure]
