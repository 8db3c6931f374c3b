"""Carbontracker: energy and carbon footprint of a training, measured, predicted and recorded.

Nothing happens at import: names are loaded when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the name type checkers know; typing itself would cost ten milliseconds
if TYPE_CHECKING:
    from carbontracker.ahead.costing import Estimate, estimate
    from carbontracker.exceptions import BudgetExceeded
    from carbontracker.footprint import Footprint
    from carbontracker.intensity import Intensity
    from carbontracker.inventory import sensors
    from carbontracker.measurement import Window, measure, track
    from carbontracker.tracker import CarbonTracker
    from carbontracker.window import Energy

    __version__: str

__all__ = [
    "BudgetExceeded",
    "CarbonTracker",
    "Energy",
    "Estimate",
    "Footprint",
    "Intensity",
    "Window",
    "__version__",
    "estimate",
    "measure",
    "sensors",
    "track",
]

_HOME = {
    "BudgetExceeded": "carbontracker.exceptions",
    "CarbonTracker": "carbontracker.tracker",
    "Energy": "carbontracker.window",
    "Estimate": "carbontracker.ahead.costing",
    "Footprint": "carbontracker.footprint",
    "Intensity": "carbontracker.intensity",
    "Window": "carbontracker.measurement",
    "estimate": "carbontracker.ahead.costing",
    "measure": "carbontracker.measurement",
    "sensors": "carbontracker.inventory",
    "track": "carbontracker.measurement",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        try:
            return version("carbontracker") or "0+unknown"
        except (ImportError, AttributeError, KeyError, OSError, TypeError, ValueError):
            return "0+unknown"  # a copied source tree, or a frozen program with half of its data
    if name not in _HOME:
        message = f"module 'carbontracker' has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    # No module may have a public name: importing it would put itself in the name's place.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
