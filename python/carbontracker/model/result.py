"""What a run has cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from carbontracker.energy.energy import MISSING, Energy
from carbontracker.json_values import seconds_of
from carbontracker.model.measurement import Measurement
from carbontracker.model.prediction_error import PredictionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbontracker.model.epoch import Epoch
    from carbontracker.model.prediction import Forecast


@dataclass(frozen=True, repr=False)
class Result(Measurement):
    """What a training has cost, with any epoch that was cut short; or what a command has cost.

    ``seconds`` is the time in epochs, or of the whole command. Of a record without an end: as far
    as it goes.
    """

    epochs: tuple[Epoch, ...] = ()
    """Empty of a command."""
    between_epochs: Energy = MISSING
    """Energy spent between epochs, from the first to the last; not in ``energy``."""
    forecasts: tuple[Forecast, ...] = ()
    """What had been predicted, in the order of the predictions."""
    tracker_cpu_seconds: float = math.nan
    """CPU time of the sampling threads, s."""
    exit_code: int | None = None
    """Of a command that has ended."""
    recorded_epochs: int | None = None
    """Finished epochs of a record that was read without its epochs."""

    @property
    def forecast(self) -> Forecast | None:
        """Return what was predicted last."""
        return self.forecasts[-1] if self.forecasts else None

    @property
    def finished_epochs(self) -> int:
        """Return how many epochs ran to their end."""
        if self.recorded_epochs is not None:
            return self.recorded_epochs
        return sum(epoch.finished for epoch in self.epochs)

    def prediction_errors(self) -> list[PredictionError]:
        """Return each prediction beside the result; none of a training that was cut short."""
        actual = self.footprint
        return [
            PredictionError(
                one.prediction.after_epochs,
                one.prediction.method,
                (one.prediction.seconds, self.seconds),
                (one.footprint.kwh, actual.kwh),
                (one.footprint.gco2eq, actual.gco2eq),
            )
            for one in self.forecasts
            if math.ceil(one.prediction.epochs) == self.finished_epochs == len(self.epochs)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record; epochs and forecasts have events of their own."""
        parts = super().to_dict() | {"tracker_cpu_seconds": self.tracker_cpu_seconds}
        if self.exit_code is not None:
            return parts | {"exit_code": self.exit_code}
        return parts | {
            "epochs": self.finished_epochs,
            "between_epochs": self.between_epochs.to_dict(),
            "predicted_against_actual": [one.to_dict() for one in self.prediction_errors()],
        }

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        epochs: tuple[Epoch, ...] = (),
        forecasts: tuple[Forecast, ...] = (),
    ) -> Result:
        """Return the result of such an object; what is missing or damaged becomes NaN."""
        code, done = data.get("exit_code"), data.get("epochs")
        return cls(
            **cls.values_of(data),
            epochs=epochs,
            between_epochs=Energy.from_dict(data.get("between_epochs")),
            forecasts=forecasts,
            tracker_cpu_seconds=seconds_of(data.get("tracker_cpu_seconds")),
            exit_code=code if isinstance(code, int) else None,
            recorded_epochs=done if isinstance(done, int) and not epochs else None,
        )

    # Views are loaded by name: they know this module, and it does not know them.

    def plot(self) -> Any:
        """Return a matplotlib figure: energy of each epoch, and emissions beside the prediction.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        return import_module("carbontracker.report.plotting").plot_result(self)

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").result(self)
        return text

    def _repr_html_(self) -> str:
        html: str = import_module("carbontracker.report.notebook").result_html(self)
        return html
