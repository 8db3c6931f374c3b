"""What the whole training will cost, from the epochs so far."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.footprint import Footprint
from carbontracker.json_values import count, interval, number, seconds_of, string

if TYPE_CHECKING:
    from collections.abc import Mapping

Interval = tuple[float, float]
"""Lowest and highest value."""
UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True, repr=False)
class Prediction:
    """The cost of all epochs, before PUE and intensity."""

    epochs: float
    """Epochs the prediction is for; the last may be a part of one."""
    after_epochs: float
    """Epochs it was made from; a fraction within one."""
    seconds: float
    joules: float
    """The machine's energy, J, without PUE; NaN if nothing was measured."""
    method: str
    """How it was made, in words."""
    seconds_80: Interval = UNKNOWN
    """The seconds lie within with a probability of 80 %; NaN if that is not known."""
    seconds_95: Interval = UNKNOWN
    joules_80: Interval = UNKNOWN
    joules_95: Interval = UNKNOWN
    done_seconds: float = 0.0
    """Part of ``seconds`` that is spent already."""
    done_joules: float = 0.0
    """Part of ``joules`` that is spent already."""

    def __repr__(self) -> str:
        """Return the main values in one line."""
        # By name: views know this module, and it does not know them.
        text: str = import_module("carbontracker.report.brief").prediction(self)
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Prediction:
        """Return the prediction of such an object; what is missing or damaged becomes NaN."""
        return cls(
            epochs=count(data.get("epochs")) or 0,
            after_epochs=number(data.get("after_epochs"), 0.0),
            seconds=seconds_of(data.get("seconds")),
            joules=number(data.get("joules")),
            method=string(data.get("method")),
            seconds_80=interval(data.get("seconds_80")),
            seconds_95=interval(data.get("seconds_95")),
            joules_80=interval(data.get("joules_80")),
            joules_95=interval(data.get("joules_95")),
            done_seconds=seconds_of(data.get("done_seconds"), 0.0),
            done_joules=number(data.get("done_joules"), 0.0),
        )


@dataclass(frozen=True, repr=False)
class Forecast:
    """A prediction with its footprint."""

    prediction: Prediction
    footprint: Footprint
    gco2eq_80: Interval = UNKNOWN
    """The grams lie within with a probability of 80 %: errors of energy and of intensity."""
    gco2eq_95: Interval = UNKNOWN

    @property
    def kwh_80(self) -> Interval:
        """The electricity with PUE lies within with a probability of 80 %, kWh."""
        return self._kwh(self.prediction.joules_80)

    @property
    def kwh_95(self) -> Interval:
        """The electricity with PUE lies within with a probability of 95 %, kWh."""
        return self._kwh(self.prediction.joules_95)

    def _kwh(self, joules: Interval) -> Interval:
        predicted = self.prediction.joules
        kwh_per_joule = self.footprint.kwh / predicted if predicted > 0 else math.nan
        low, high = joules
        return low * kwh_per_joule, high * kwh_per_joule

    def __repr__(self) -> str:
        """Return the main values in one line."""
        # By name: views know this module, and it does not know them.
        text: str = import_module("carbontracker.report.brief").forecast(self)
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record; the slots to come are too many to keep."""
        return self.prediction.to_dict() | {
            "footprint": self.footprint.to_dict() | {"slots": []},
            "gco2eq_80": self.gco2eq_80,
            "gco2eq_95": self.gco2eq_95,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Forecast:
        """Return the forecast of such an object; what is missing or damaged becomes NaN."""
        return cls(
            Prediction.from_dict(data),
            Footprint.from_dict(data.get("footprint")),
            interval(data.get("gco2eq_80")),
            interval(data.get("gco2eq_95")),
        )
