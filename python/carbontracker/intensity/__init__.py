"""Carbon intensity of electricity: zone and time in, gCO2eq per kWh with its provenance out.

Names are loaded when they are first used.
"""

from __future__ import annotations

from carbontracker._lazy import lazy_names
from carbontracker.exceptions import IntensityUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbontracker.intensity.base import Intensity, Provider
    from carbontracker.intensity.providers import PROVIDERS, provider
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

_LAZY = {
    **dict.fromkeys(("Intensity", "Provider"), "base"),
    **dict.fromkeys(("PROVIDERS", "provider"), "providers"),
    **dict.fromkeys(("HOUR", "Service", "overlapping"), "service"),
}

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
