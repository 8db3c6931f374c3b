"""Carbon intensity of electricity: zone and time in, gCO2eq per kWh with its provenance out.

Names are loaded when they are first used.
"""

from __future__ import annotations

from carbontracker._lazy import lazy_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbontracker.intensity.base import (
        PROVIDERS,
        Intensity,
        IntensityUnavailable,
        Provider,
        provider,
    )
    from carbontracker.intensity.service import HOUR, Service, overlapping

__all__ = [
    "HOUR",
    "PROVIDERS",
    "Intensity",
    "IntensityUnavailable",
    "Provider",
    "Service",
    "overlapping",
    "provider",
]

_OF_SERVICES = ("HOUR", "Service", "overlapping")

__getattr__, __dir__ = lazy_names(
    __name__, dict.fromkeys(__all__, "base") | dict.fromkeys(_OF_SERVICES, "service")
)
