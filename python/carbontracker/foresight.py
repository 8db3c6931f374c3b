"""What is to come, from what has been: the one place that asks for predictions, and judges them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from carbontracker.predict import Prediction, predict_mean
from carbontracker.session import Mark
from carbontracker.steps import STEP, Block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.run import Epoch, Forecast, Result
    from carbontracker.session import Session

WARM_UP_SHARE = 0.1
"""Share of the blocks at the beginning of the first epoch that tell nothing of the rest."""


def predict_epochs(epochs: int, done: Sequence[Epoch]) -> Prediction:
    """Return what ``epochs`` epochs will cost, from the finished ones.

    Raises:
        ValueError: none is finished.
    """
    # Epochs that could not be measured tell of time only.
    known = [epoch for epoch in done if not math.isnan(epoch.energy.joules)] or done
    return predict_mean(
        epochs, [epoch.seconds for epoch in done], [epoch.energy.joules for epoch in known]
    )


def predict_steps(
    epochs: int, per_epoch: int, blocks: Sequence[Block], session: Session
) -> Prediction:
    """Return what ``epochs`` epochs of ``per_epoch`` steps will cost, from the first's beginning.

    Raises:
        ValueError: no block of steps.
    """
    energies = session.energies([(_at(block.start_ns), _at(block.end_ns)) for block in blocks])
    seconds_of = [(block.end_ns - block.start_ns) / 1e9 for block in blocks]
    joules_of = [energy.joules for energy in energies]
    warm_up = int(WARM_UP_SHARE * len(blocks))
    steady = [i for i in range(warm_up, len(blocks)) if blocks[i].kind == STEP]
    if not steady:
        message = "a prediction needs at least one block of steps"
        raise ValueError(message)
    steps = sum(blocks[i].steps for i in steady)
    left = max(0, per_epoch - sum(block.steps for block in blocks))
    seconds, joules = (
        math.fsum(costs) + left * math.fsum(costs[i] for i in steady) / steps
        for costs in (seconds_of, joules_of)
    )
    mean = predict_mean(epochs, [seconds], [joules])
    return replace(mean, after_epochs=0, method="mean step")


def _at(t_ns: int) -> Mark:
    return Mark(None, False, t_ns)


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
        if forecast.prediction.epochs == result.finished_epochs == len(result.epochs)
    ]
