"""What a run has cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from carbontracker.energy.energy import MISSING, Energy
from carbontracker.json_values import mapping, number, seconds_of
from carbontracker.model.attribution import Attribution
from carbontracker.model.job import EXTENTS, PROCESS, Ranks
from carbontracker.model.measurement import Measurement
from carbontracker.model.prediction import as_epochs
from carbontracker.model.prediction_error import PredictionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbontracker.model.epoch import Epoch
    from carbontracker.model.prediction import Forecast, Prediction


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

    extent: str = PROCESS
    """What it is of: all ranks of a job that reported (``job``), the ranks of one node (``node``),
    or what one process could see (``process``)."""
    ranks: Ranks | None = None
    """Those ranks; None of one process."""
    attributed: Attribution | None = None
    """The part of one job or process, if ``attribution`` was asked for; ``energy`` has all."""
    node_watts: Mapping[str, float] = field(default_factory=dict)
    """Mean power by meter of the whole machine, W, from the first epoch to the last. It is in no
    total."""

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

    @property
    def steps(self) -> int:
        """Return how many steps were marked in the epochs."""
        return sum(epoch.steps for epoch in self.epochs)

    @property
    def epochs_done(self) -> float:
        """Return the length of what was done, in epochs; the last, or a resumed one, may be a part.

        Without a prediction: how many epochs ran to their end.
        """
        prediction = None if self.forecast is None else self.forecast.prediction
        if prediction is None:
            return self.finished_epochs
        if prediction.steps:
            return as_epochs(prediction.epochs * self.steps / prediction.steps)
        whole = math.ceil(prediction.epochs) == self.finished_epochs
        return prediction.epochs if whole else self.finished_epochs

    @property
    def components_watts(self) -> float:
        """Return the mean power of what is counted, over the same time as ``node_watts``."""
        parts = [self.energy, self.between_epochs] if self.epochs else [self.energy]
        known = [part for part in parts if part.seconds > 0]
        seconds = math.fsum(part.seconds for part in known)
        return math.fsum(part.joules for part in known) / seconds if seconds > 0 else math.nan

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
            if self._is_all_of(one.prediction)
        ]

    def _is_all_of(self, prediction: Prediction) -> bool:
        """Return whether all that a prediction is for was done."""
        if self.finished_epochs != len(self.epochs):
            return False
        if prediction.steps:
            return self.steps == prediction.steps
        return math.ceil(prediction.epochs) == self.finished_epochs

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record; epochs and forecasts have events of their own."""
        parts = super().to_dict() | {"tracker_cpu_seconds": self.tracker_cpu_seconds}
        if self.node_watts:
            parts["node_watts"] = dict(self.node_watts)
        if self.attributed is not None:
            parts["attributed"] = self.attributed.to_dict()
        if self.exit_code is not None:
            return parts | {"exit_code": self.exit_code}
        return parts | {
            "epochs": self.finished_epochs,
            "between_epochs": self.between_epochs.to_dict(),
            "predicted_against_actual": [one.to_dict() for one in self.prediction_errors()],
            **({} if self.ranks is None else self._of_job()),
        }

    def _of_job(self) -> dict[str, Any]:
        return {"extent": self.extent, "ranks": self.ranks.to_dict() if self.ranks else None}

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        epochs: tuple[Epoch, ...] = (),
        forecasts: tuple[Forecast, ...] = (),
    ) -> Result:
        """Return the result of such an object; what is missing or damaged becomes NaN."""
        code, done, extent = (data.get(name) for name in ("exit_code", "epochs", "extent"))
        return cls(
            **cls.values_of(data),
            epochs=epochs,
            between_epochs=Energy.from_dict(data.get("between_epochs")),
            forecasts=forecasts,
            tracker_cpu_seconds=seconds_of(data.get("tracker_cpu_seconds")),
            exit_code=code if isinstance(code, int) else None,
            recorded_epochs=done if isinstance(done, int) and not epochs else None,
            extent=extent if extent in EXTENTS else PROCESS,
            ranks=Ranks.from_dict(data.get("ranks")),
            node_watts={k: number(v) for k, v in mapping(data.get("node_watts")).items()},
            attributed=Attribution.from_dict(data.get("attributed")),
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
