"""A prediction beside what the training has cost in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carbontracker.json_values import mapping, number, string

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIGURES = ("seconds", "kwh", "gco2eq")


@dataclass(frozen=True)
class PredictionError:
    """A prediction of all epochs, beside what they have cost."""

    after_epochs: float
    """Epochs that the prediction was made from; a fraction within one."""
    method: str
    """How it was made, in words."""
    seconds: tuple[float, float]
    """Predicted and actual, s."""
    kwh: tuple[float, float]
    gco2eq: tuple[float, float]

    def errors(self) -> dict[str, float]:
        """Return predicted over actual minus one, for ``seconds``, ``kwh`` and ``gco2eq``."""
        pairs: dict[str, tuple[float, float]] = {name: getattr(self, name) for name in _FIGURES}
        return {
            name: predicted / actual - 1.0 if actual > 0 else math.nan
            for name, (predicted, actual) in pairs.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record."""
        result: dict[str, Any] = {"after_epochs": self.after_epochs, "method": self.method}
        for name, error in self.errors().items():
            predicted, actual = getattr(self, name)
            result[name] = {"predicted": predicted, "actual": actual, "relative_error": error}
        return result

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PredictionError:
        """Return the value of such an object; what is missing or damaged becomes NaN."""
        pairs = (mapping(data.get(name)) for name in _FIGURES)
        seconds, kwh, gco2eq = (
            (number(pair.get("predicted")), number(pair.get("actual"))) for pair in pairs
        )
        after_epochs = number(data.get("after_epochs"))
        return cls(after_epochs, string(data.get("method")), seconds, kwh, gco2eq)
