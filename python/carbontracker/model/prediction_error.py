"""Predictions beside what a training has cost in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carbontracker.training.run import Forecast, Result


@dataclass(frozen=True)
class Comparison:
    """A prediction of all epochs, beside what they have cost."""

    forecast: Forecast
    seconds: tuple[float, float]
    """Predicted and actual, s."""
    kwh: tuple[float, float]
    gco2eq: tuple[float, float]

    def errors(self) -> dict[str, float]:
        """Return predicted over actual minus one, for ``seconds``, ``kwh`` and ``gco2eq``."""
        pairs = {"seconds": self.seconds, "kwh": self.kwh, "gco2eq": self.gco2eq}
        return {
            name: predicted / actual - 1.0 if actual > 0 else math.nan
            for name, (predicted, actual) in pairs.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        errors = self.errors()
        prediction = self.forecast.prediction
        return {
            "after_epochs": prediction.after_epochs,
            "method": prediction.method,
            **{
                name: {"predicted": pair[0], "actual": pair[1], "relative_error": errors[name]}
                for name, pair in (
                    ("seconds", self.seconds),
                    ("kwh", self.kwh),
                    ("gco2eq", self.gco2eq),
                )
            },
        }


def against_actual(result: Result) -> list[Comparison]:
    """Return every prediction that was made beside the result; none where the training was cut."""
    actual = result.footprint
    return [
        Comparison(
            forecast,
            (forecast.prediction.seconds, result.seconds),
            (forecast.footprint.kwh, actual.kwh),
            (forecast.footprint.gco2eq, actual.gco2eq),
        )
        for forecast in result.forecasts
        if math.ceil(forecast.prediction.epochs) == result.finished_epochs == len(result.epochs)
    ]
