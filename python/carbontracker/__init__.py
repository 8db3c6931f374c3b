"""Carbontracker: energy and carbon footprint of a training, measured, predicted and recorded.

Nothing happens at import: names are loaded when they are first used.
"""

from __future__ import annotations

import sys

from carbontracker._lazy import lazy_names
from carbontracker._moved import MovedModules

TYPE_CHECKING = False  # the name type checkers know; typing itself would cost ten milliseconds
if TYPE_CHECKING:
    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.energy import Energy
    from carbontracker.energy.sensors import sensors
    from carbontracker.exceptions import (
        BudgetExceeded,
        CarbonIntensityFetcherError,
        CarbonTrackerError,
        ComponentNameError,
        CPUError,
        FetcherNameError,
        GPUError,
        GPUPowerUsageRetrievalError,
        IntelRaplPermissionError,
        IntensityUnavailable,
        IPLocationError,
        MismatchedEpochsError,
        MismatchedLogFilesError,
        MissingExtra,
        NoComponentsAvailableError,
        NoEpochError,
        NoSuchRun,
        ServiceError,
        TableError,
        UnitError,
        UnknownAccelerator,
        UnknownLocation,
    )
    from carbontracker.intensity.base import Intensity
    from carbontracker.planning.estimate import Estimate, estimate
    from carbontracker.tracker import CarbonTracker
    from carbontracker.training.window import Window, measure, track

    __version__: str

__all__ = [
    "BudgetExceeded",
    "CPUError",
    "CarbonIntensityFetcherError",
    "CarbonTracker",
    "CarbonTrackerError",
    "ComponentNameError",
    "Energy",
    "Estimate",
    "FetcherNameError",
    "Footprint",
    "GPUError",
    "GPUPowerUsageRetrievalError",
    "IPLocationError",
    "IntelRaplPermissionError",
    "Intensity",
    "IntensityUnavailable",
    "MismatchedEpochsError",
    "MismatchedLogFilesError",
    "MissingExtra",
    "NoComponentsAvailableError",
    "NoEpochError",
    "NoSuchRun",
    "ServiceError",
    "TableError",
    "UnitError",
    "UnknownAccelerator",
    "UnknownLocation",
    "Window",
    "__version__",
    "estimate",
    "measure",
    "sensors",
    "track",
]

_load, _ = lazy_names(
    __name__,
    {
        "BudgetExceeded": "exceptions",
        "CPUError": "exceptions",
        "CarbonIntensityFetcherError": "exceptions",
        "CarbonTrackerError": "exceptions",
        "ComponentNameError": "exceptions",
        "FetcherNameError": "exceptions",
        "GPUError": "exceptions",
        "GPUPowerUsageRetrievalError": "exceptions",
        "IPLocationError": "exceptions",
        "IntelRaplPermissionError": "exceptions",
        "IntensityUnavailable": "exceptions",
        "MismatchedEpochsError": "exceptions",
        "MismatchedLogFilesError": "exceptions",
        "MissingExtra": "exceptions",
        "NoComponentsAvailableError": "exceptions",
        "NoEpochError": "exceptions",
        "NoSuchRun": "exceptions",
        "ServiceError": "exceptions",
        "TableError": "exceptions",
        "UnitError": "exceptions",
        "UnknownAccelerator": "exceptions",
        "UnknownLocation": "exceptions",
        "CarbonTracker": "tracker",
        "Energy": "energy.energy",
        "Estimate": "planning.estimate",
        "Footprint": "carbon.footprint",
        "Intensity": "intensity.base",
        "Window": "training.window",
        "estimate": "planning.estimate",
        "load_ipython_extension": "notebook",
        "measure": "training.window",
        "sensors": "energy.sensors",
        "track": "training.window",
    },
)


def __getattr__(name: str) -> object:
    return _version() if name == "__version__" else _load(name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import version

    try:
        return version("carbontracker") or "0+unknown"
    except (ImportError, AttributeError, KeyError, OSError, TypeError, ValueError):
        return "0+unknown"  # a copied source tree, or a frozen program with half of its data


if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
    sys.meta_path.append(MovedModules())
