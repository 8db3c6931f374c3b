"""From joules to kWh and grams of CO2eq: intensity, PUE, footprint, and comparisons.

Beside it, and never added to it: the production of accelerators, and water. Names are loaded when
they are first used.
"""

from __future__ import annotations

from carbontracker._lazy import lazy_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbontracker.carbon.embodied import Embodied, embodied_share
    from carbontracker.carbon.water import Water, water_use

__all__ = ["Embodied", "Water", "embodied_share", "water_use"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"Embodied": "embodied", "Water": "water", "embodied_share": "embodied", "water_use": "water"},
)
