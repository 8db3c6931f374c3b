"""What the whole training will cost, from the epochs so far."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.footprint import Footprint
from carbontracker.json_values import count, interval, number, seconds_of, string, whole
from carbontracker.model.job import JOB, PROCESS

if TYPE_CHECKING:
    from collections.abc import Mapping

Interval = tuple[float, float]
"""Lowest and highest value."""
UNKNOWN: Interval = (math.nan, math.nan)


def as_epochs(number: float) -> float:
    """Return a number of epochs to show: a whole one as int, another to a thousandth."""
    rounded = round(number, 3)
    return int(rounded) if rounded.is_integer() else rounded


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
    steps: int = 0
    """Steps that are planned, if the plan is in steps."""

    def __repr__(self) -> str:
        """Return the main values in one line."""
        # By name: views know this module, and it does not know them.
        text: str = import_module("carbontracker.report.brief").prediction(self)
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        data = asdict(self)
        if not self.steps:
            del data["steps"]
        return data

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
            steps=whole(data.get("steps")),
        )


@dataclass(frozen=True, repr=False)
class Forecast:
    """A prediction with its footprint."""

    prediction: Prediction
    footprint: Footprint
    gco2eq_80: Interval = UNKNOWN
    """The grams lie within with a probability of 80 %: errors of energy and of intensity."""
    gco2eq_95: Interval = UNKNOWN

    extent: str = PROCESS
    """What it is of: of what this process sees, or of the whole job."""

    def of_job(self, joules_ratio: float, seconds_ratio: float) -> Forecast:
        """Return the same of a job that uses so many times the energy and the time.

        Its epochs begin with the first rank and end with the last: they are longer.
        """
        one = self.prediction

        def scaled(interval: Interval, ratio: float = joules_ratio) -> Interval:
            return interval[0] * ratio, interval[1] * ratio

        return Forecast(
            replace(
                one,
                seconds=one.seconds * seconds_ratio,
                seconds_80=scaled(one.seconds_80, seconds_ratio),
                seconds_95=scaled(one.seconds_95, seconds_ratio),
                done_seconds=one.done_seconds * seconds_ratio,
                joules=one.joules * joules_ratio,
                joules_80=scaled(one.joules_80),
                joules_95=scaled(one.joules_95),
                done_joules=one.done_joules * joules_ratio,
            ),
            self.footprint.of_joules(one.joules * joules_ratio),
            scaled(self.gco2eq_80),
            scaled(self.gco2eq_95),
            extent=JOB,
        )

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
            **({} if self.extent == PROCESS else {"extent": self.extent}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Forecast:
        """Return the forecast of such an object; what is missing or damaged becomes NaN."""
        return cls(
            Prediction.from_dict(data),
            Footprint.from_dict(data.get("footprint")),
            interval(data.get("gco2eq_80")),
            interval(data.get("gco2eq_95")),
            JOB if data.get("extent") == JOB else PROCESS,
        )
