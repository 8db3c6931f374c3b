"""What a tracker does beside marking epochs: windows, early predictions, and budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carbontracker.budget import overrun_dict
from carbontracker.conduct import harmless
from carbontracker.exceptions import BudgetExceeded
from carbontracker.guard import PREDICTION, nothing, optional
from carbontracker.records.record import forecast_dict
from carbontracker.records.windowlog import unmeasured
from carbontracker.steps import StepMarks

if TYPE_CHECKING:
    from carbontracker.measurement import Window
    from carbontracker.report.console import Console
    from carbontracker.run import Epoch, Forecast, Run
    from carbontracker.settings import Settings


class Watchful(StepMarks):
    """The watching part of the tracker, which has the rest."""

    _settings: Settings
    _console: Console

    if TYPE_CHECKING:

        def _monitored(self) -> Run: ...
        def _write(self, event: str, **data: Any) -> None: ...
        def _interrupt(self, stopped_by: BudgetExceeded | None = None) -> None: ...

    def window(self, name: str = "") -> Window:
        """Return a window to put around a part of the training, which the record keeps.

        As ``carbontracker.measure``, but on the devices of this tracker. The record has, for each
        epoch and name, the sums of all windows and a selection of at most 120 single ones.
        """
        made: Window | None = self._noted_window(name)
        return unmeasured(name, self._settings.pricing()) if made is None else made

    @harmless
    def _noted_window(self, name: str) -> Window:
        run = self._monitored()
        return run.windows.window(name, run.pricing)

    def _learn(self) -> None:
        """Take the previous run into account; without it there is a warning and no more."""
        previous = self._settings.previous_run
        if previous is None:
            return
        from carbontracker.ahead.previous import previous_run

        try:
            self._monitored().ahead.foresight.prior = previous_run(previous)
        except (LookupError, OSError, ValueError) as error:
            self._console.warn(f"previous_run tells nothing: {error}")

    @property
    def _predicting(self) -> bool:
        return self._settings.predicting and self._monitored().ahead.foresight.ready

    def _predicted(self, forecast: Forecast) -> None:
        self._console.predicted(forecast)
        self._write("prediction", **forecast_dict(forecast))

    @harmless
    def _look(self) -> None:
        """Do what the mark of a step does once a second: predict if it is time to, and watch."""
        if self._steps.early:
            run, epochs = self._monitored(), self._settings.epochs
            early = optional(PREDICTION, lambda: run.predict_early(epochs, self._steps), nothing)
            if early is not None:
                self._predicted(early)
        self._check_budget()

    def _watch(self, epoch: Epoch) -> None:
        """Look at the budget after an epoch; one that the last has passed is only said."""
        run, epochs = self._monitored(), self._settings.epochs
        budget = run.ahead.budget
        if budget.needs_outlook and run.ahead.foresight.ready:
            optional(PREDICTION, lambda: run.renew_outlook(epochs), nothing)
        # What the sensors have not told yet, they may tell yet.
        for name in budget.blind(epoch.footprint) if epoch.final else ():
            self._console.warn(f"{name} cannot be watched, because no energy is measured")
        self._check_budget(trained=epoch.index >= epochs)

    def _check_budget(self, *, trained: bool = False) -> None:
        run = self._monitored()
        try:
            run.ahead.budget.look(run, self._over_budget, only_say=trained)
        except BudgetExceeded as over:
            self._interrupt(over)
            raise

    def _over_budget(self, over: BudgetExceeded) -> None:
        self._write("budget_exceeded", **overrun_dict(over))
        self._console.warn(str(over))
