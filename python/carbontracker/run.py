"""One training being monitored: its epochs, its prediction, its result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from carbontracker.followers import Followers
from carbontracker.footprint import footprint
from carbontracker.measurement import footprint_between, wall_time
from carbontracker.predict import Prediction, predict_mean
from carbontracker.window import add_windows
from carbontracker.windowlog import WindowLog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from carbontracker.footprint import Footprint
    from carbontracker.pricing import Pricing
    from carbontracker.session import Mark, Session
    from carbontracker.window import Energy


@dataclass(frozen=True)
class Epoch:
    """One epoch, finished or cut short."""

    index: int
    """From 1."""
    seconds: float
    energy: Energy
    footprint: Footprint
    finished: bool
    final: bool
    """The energy will not change any more; False while a sensor has not moved past the end."""


@dataclass(frozen=True)
class Forecast:
    """A prediction with its footprint."""

    prediction: Prediction
    footprint: Footprint


@dataclass(frozen=True)
class Result:
    """What a training has cost: its epochs, with any that was cut short."""

    epochs: tuple[Epoch, ...]
    seconds: float
    """Time in epochs, s."""
    energy: Energy
    """Energy in epochs, without PUE."""
    footprint: Footprint
    """The same with PUE, and its emissions."""
    between_epochs: Energy
    """Energy spent between epochs, from the first to the last; not in ``energy``."""
    forecast: Forecast | None
    """What had been predicted."""
    tracker_cpu_seconds: float
    """CPU time of the sampling threads, s."""

    @property
    def finished_epochs(self) -> int:
        """Return how many epochs ran to their end."""
        return sum(epoch.finished for epoch in self.epochs)

    def plot(self) -> Any:
        """Return a matplotlib figure: energy of each epoch, and emissions beside the prediction.

        Raises:
            ImportError: matplotlib is missing: ``pip install 'carbontracker[plot]'``.
        """
        from carbontracker.report.plotting import plot_result

        return plot_result(self)

    def _repr_html_(self) -> str:
        from carbontracker.report.notebook import result_html

        return result_html(self)


class Run:
    """Marks at the ends of epochs, and arithmetic on the energy between them."""

    def __init__(self, session: Session, pricing: Pricing) -> None:
        self.session = session
        self.pricing = pricing
        self.forecast: Forecast | None = None
        self._bounds: list[tuple[Mark, Mark, bool]] = []
        self._open: Mark | None = None
        self._began = session.mark()
        self.windows = WindowLog(session, self._began)
        self.followers = Followers()

    @property
    def in_epoch(self) -> bool:
        """Return whether an epoch is open."""
        return self._open is not None

    @property
    def epochs_done(self) -> int:
        """Return how many epochs have run to their end so far."""
        return sum(finished for _, _, finished in self._bounds)

    @property
    def began(self) -> datetime:
        """Return when monitoring began, UTC."""
        return wall_time(self._began.t_ns)

    @property
    def began_mark(self) -> Mark:
        """Return the mark at which monitoring began."""
        return self._began

    def ends_of(self, epoch: Epoch) -> tuple[Mark, Mark]:
        """Return the marks at the beginning and end of an epoch."""
        start, end, _ = self._bounds[epoch.index - 1]
        return start, end

    def start_epoch(self) -> None:
        """Mark the beginning of an epoch."""
        self._open = self.session.mark()

    def end_epoch(self, *, finished: bool = True) -> Epoch:
        """Mark its end and return it, as far as its energy is known now.

        Raises:
            RuntimeError: no epoch is open.
        """
        if self._open is None:
            message = "epoch_end() without epoch_start()"
            raise RuntimeError(message)
        self._bounds.append((self._open, self.session.mark(), finished))
        self._open = None
        return self._epochs(len(self._bounds) - 1)[0]

    def predict(self, epochs: int) -> Forecast:
        """Return what ``epochs`` epochs will cost, from the finished ones.

        Raises:
            ValueError: no epoch is finished.
        """
        done = [epoch for epoch in self._epochs() if epoch.finished]
        # Epochs that could not be measured tell of time only.
        known = [epoch for epoch in done if not math.isnan(epoch.energy.joules)] or done
        prediction = predict_mean(
            epochs, [epoch.seconds for epoch in done], [epoch.energy.joules for epoch in known]
        )
        start = self.began
        end = start + timedelta(seconds=prediction.seconds)

        def joules_between(a: datetime, b: datetime) -> float:
            return prediction.joules * ((b - a) / (end - start) if end > start else 1.0)

        self.forecast = Forecast(prediction, self.pricing.footprint(joules_between, start, end))
        return self.forecast

    def result(self) -> Result:
        """Return the result so far; waits a moment for the sensors' last tick."""
        if self._bounds:
            self.session.await_final(self._bounds[-1][1])
        epochs = self._epochs()
        between = self.session.energies(
            [(end, start) for (_, end, _), (start, _, _) in pairwise(self._bounds)]
        )
        energy = add_windows([epoch.energy for epoch in epochs])
        return Result(
            epochs=epochs,
            seconds=math.fsum(epoch.seconds for epoch in epochs),
            energy=energy,
            footprint=self._footprint(epochs, energy.error_joules),
            between_epochs=add_windows(between),
            forecast=self.forecast,
            tracker_cpu_seconds=self.session.cpu_seconds,
        )

    def _epochs(self, first: int = 0) -> tuple[Epoch, ...]:
        """Return epochs as far as their energy is known now, all from the same readings."""
        bounds = self._bounds[first:]  # a copy: a signal handler may end one more meanwhile
        energies = self.session.energies([(start, end) for start, end, _ in bounds])
        return tuple(
            Epoch(
                index=index,
                seconds=(end.t_ns - start.t_ns) / 1e9,
                energy=energy,
                footprint=footprint_between(self.session, self.pricing, (start, end), energy),
                finished=finished,
                final=self.session.is_final(start, end),
            )
            for index, ((start, end, finished), energy) in enumerate(
                zip(bounds, energies, strict=True), first + 1
            )
        )

    def _footprint(self, epochs: Sequence[Epoch], error_joules: float) -> Footprint:
        """Return the footprint of all epochs, each with the intensity of its own time."""
        if not epochs:
            return self.pricing.of_nothing()
        # As with devices, what is missing widens the error and does not undo the rest.
        known = [epoch for epoch in epochs if not math.isnan(epoch.energy.joules)] or epochs
        parts = [(epoch.energy.joules, epoch.footprint.intensity) for epoch in known]
        return footprint(
            parts, self.pricing.pue, place=self.pricing.place, error_joules=error_joules
        )
