"""What public scripts read in the process from the threads of 2.4.x; here are no such threads.

Each name has a use, found in public code (most of them guarded by ``except (ImportError,
AttributeError)``, so that without the name the data were lost in silence). All figures are valid
also after the end of monitoring.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.result import Result


_Made = TypeVar("_Made", bound="_Thread")


class Run(Protocol):
    """The run whose figures are read."""

    @property
    def factors(self) -> CarbonFactors:
        """Return the factors in use."""

    def result_so_far(self) -> Result | None:
        """Return what is known of the epochs that have ended."""


class _Thread:
    """A class of 2.4.x that does nothing: it takes all arguments, and reads the run it is of."""

    _run: Run | None = None

    def __init__(self, *_: object, **__: object) -> None:
        """Do nothing: scripts only patch the class."""

    @classmethod
    def of(cls: type[_Made], run: Run) -> _Made:
        """Return one that reads ``run``."""
        made = cls()
        made._run = run
        return made

    def _result(self) -> Result | None:
        return None if self._run is None else self._run.result_so_far()


class CarbonTrackerThread(_Thread):
    """``tracker.tracker``: energy and time of each finished epoch."""

    @property
    def epoch_times(self) -> list[float]:
        """Return the time of each epoch, s.

        Use: written beside the loss into a history or CSV file after each epoch.
        """
        return [epoch.seconds for epoch in self._epochs]

    def total_energy_per_epoch(self) -> NDArray[np.float64]:
        """Return the electricity of each epoch, kWh with PUE, (n,); NaN if not measured.

        Use: ``tracker.tracker.total_energy_per_epoch().sum()`` in the loop and at its end.
        """
        return np.array([epoch.footprint.kwh for epoch in self._epochs], dtype=np.float64)

    def _log_components_info(self) -> None:
        """Do nothing.

        Use: scripts replace it on the class, to silence it or to repair it for their machine.
        """

    @property
    def _epochs(self) -> list[Epoch]:
        result = self._result()
        return [] if result is None else [epoch for epoch in result.epochs if epoch.finished]


class CarbonIntensityThread(_Thread):
    """``tracker.intensity_updater``: the carbon intensity of the training."""

    def average_carbon_intensity(self) -> AverageIntensity:
        """Return the mean intensity of the epochs so far, gCO2eq/kWh; before them, the one in use.

        Use: multiplied by ``total_energy_per_epoch()`` for grams; 2.3 and 2.4 return an object
        whose ``carbon_intensity`` is read, older versions a number.
        """
        result = self._result()
        if result is not None:
            return AverageIntensity(result.footprint.intensity.gco2eq_per_kwh)
        if self._run is None:
            return AverageIntensity(math.nan)
        return AverageIntensity(self._run.factors.zero_footprint().intensity.gco2eq_per_kwh)


class AverageIntensity(float):
    """A carbon intensity, gCO2eq/kWh."""

    @property
    def carbon_intensity(self) -> float:
        """Return the number."""
        return float(self)
