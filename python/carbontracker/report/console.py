"""The output of the drop-in for each event: on the console, and in the log files of 2.4.x."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import carbontracker
from carbontracker.data import WORLD
from carbontracker.energy.components import DEFAULT_UTILISATION, KINDS_BY_COMPONENT
from carbontracker.energy.session import INTERPRETER_ENDING, reasons
from carbontracker.jobs.launch import Launch
from carbontracker.legacy.log_writer import LogFiles
from carbontracker.operating_system import usable_cpus
from carbontracker.records.writer import unanswered_sensors
from carbontracker.report import console_text
from carbontracker.report.brief import cost_line
from carbontracker.report.formatting import encodable
from carbontracker.report.progress import is_terminal
from carbontracker.report.sentences import (
    SensorEventLines,
    advice_line,
    allocation_line,
    comparison_line,
    interval_line,
    lines_beside_total,
    live_lines,
    predicted_extent_line,
    quality_lines,
    ranks_line,
    shared_node_line,
    unanswered_lines,
    unfinished_line,
)
from carbontracker.report.work import work_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.energy import Energy
    from carbontracker.energy.sensor_events import SensorEvent
    from carbontracker.energy.session import Session
    from carbontracker.exceptions import BudgetExceeded
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.prediction import Forecast
    from carbontracker.model.result import Result
    from carbontracker.planning.background import Advice
    from carbontracker.settings import Settings


RESULT_NOTICE = "CARBONTRACKER_RESULT_NOTICE"
"""The variable with which `carbontracker run` names the file that notes a shown result."""
ALL_RANKS = 2
"""``verbose`` with which every rank of a training shows its text."""
WITHOUT_RANK_0 = (
    "rank 0 has not reported: no number of the whole job is shown; `carbontracker aggregate --job` "
    "adds up the records of its ranks"
)


class MonitoredRun(Protocol):
    """What the console reads of a run."""

    session: Session
    factors: CarbonFactors
    launch: Launch


class Console:
    """A listener that shows results on stdout and diagnostics on stderr, and logs both.

    Args:
        settings: the checked arguments.
        notify: called with the event ``warning``, a level and a text for each diagnostic of the
            console itself, so that all listeners receive it.
        shown: False for the logs alone, where the command line shows the result itself.
    """

    def __init__(
        self, settings: Settings, notify: Callable[..., None], *, shown: bool = True
    ) -> None:
        self._settings = settings
        self._shown = shown
        self._logs = LogFiles(settings.log_dir, settings.log_file_prefix)
        self._components: tuple[str, ...] = ()
        self._event_lines = SensorEventLines()
        self._notify = notify
        self._session: Session | None = None
        self._launch = Launch({})
        self._joined_result: Result | None = None

    @property
    def _muted(self) -> bool:
        """Return whether rank 0 shows what there is, so that this process only logs it."""
        return self._launch.is_rank_of_training and bool(self._launch.rank) and not self._all_ranks

    @property
    def _all_ranks(self) -> bool:
        return self._settings.verbose >= ALL_RANKS

    @property
    def _is_shown(self) -> bool:
        """Return whether this process shows results, and not only logs them."""
        return self._shown and bool(self._settings.verbose) and not self._muted

    @property
    def _silent(self) -> bool:
        """Return whether neither the console nor a log file takes results."""
        return not self._settings.verbose and self._settings.log_dir is None

    def started(self, run: MonitoredRun) -> None:
        """Show what is measured."""
        self._session = session = run.session
        self._launch = run.launch
        factors = run.factors
        self._announce_simulated()
        if self._settings.notes:
            self.warn("; ".join(self._settings.notes))
        if self._settings.devices_by_pid:
            self.warn("devices_by_pid: all GPUs visible to this process are measured")
        devices = self._devices(session)
        self._components = tuple(name for name, found in devices.items() if found)
        self._logs.info(f"carbontracker version {carbontracker.__version__}")
        self._logs.info(console_text.pue_line(factors.pue, factors.pue_source))
        if self._components:
            self._logs.info(console_text.logged_components_line(devices))
            self._show(console_text.components_line(devices), logged=False)
        self._explain_missing(session)
        self._announce_awaited(session)
        self._name_unread(session)
        self._logs.info("Monitoring thread started.")

    def intensity(self, factors: CarbonFactors, keys_given: bool) -> None:
        """Show which carbon intensity is used."""
        if factors.live:
            self._show(console_text.provider_line(*factors.live), logged=False)
            return
        if keys_given:
            self.warn("API keys are not used: the location is unknown, or the network is off")
        free = factors.zero_footprint()
        chosen = console_text.chosen_intensity_line(free)
        if factors.location.zone == WORLD and free.intensity.kind == "annual":
            self.warn(chosen)
        else:
            self._show(chosen, logged=False)

    def located(self, factors: CarbonFactors) -> None:
        """Show the location that was found, and the intensity that is used now."""
        location = factors.location
        self._show(f"Location by {location.how}: {location.name}.", logged=True)
        self.intensity(factors, keys_given=False)

    def advice(self, advice: Advice, forecast: Forecast, factors: CarbonFactors) -> None:
        """Show in one line what the greenest hour or region would save."""
        if self._silent:
            return
        self._show(advice_line(advice, forecast.footprint, factors.location), logged=True)

    def epoch(self, epoch: Epoch) -> None:
        """Log an epoch, and show one that was cut short."""
        if self._silent:
            return
        if not epoch.finished:
            line = unfinished_line(epoch.index, epoch.seconds)
            self._show(line, logged=True)
            return
        self._logs.info(*console_text.epoch_lines(epoch.index, epoch.seconds, self._watts(epoch)))

    def interrupted(self, _: BudgetExceeded | None) -> None:
        """Log that monitoring ends before all epochs were seen."""
        epochs = self._settings.epochs
        self._logs.info(f"Training was interrupted before all {epochs} epochs were monitored.")

    def prediction(self, forecast: Forecast) -> None:
        """Show a prediction."""
        if self._silent:
            return
        prediction = forecast.prediction
        heading = console_text.predicted_heading(prediction.epochs)
        self._show(self._block(heading, prediction.seconds, forecast.footprint), logged=False)
        if line := interval_line(forecast):
            self._show(line, logged=False)
        if self._launch.is_rank_of_training:
            self._show(predicted_extent_line(forecast.extent, self._launch), logged=False)

    def budget(self, over: BudgetExceeded) -> None:
        """Show that a limit is exceeded."""
        self.warn(str(over))

    def joined(self, launch: Launch) -> None:
        """Leave the console to rank 0 from now on, if this is another one."""
        self._launch = launch

    def joined_result(self, result: Result, rank_0_came: bool) -> None:
        """Take the result of the job, or of the node, in place of that of this process."""
        self._joined_result = result
        if not rank_0_came and self._shown and sys.stderr is not None:
            _print(f"{console_text.PREFIX}{WITHOUT_RANK_0}", sys.stderr)

    def finished(self, result: Result) -> None:
        """Show what the training has cost."""
        if self._silent:
            return
        result = self._joined_result or result
        footprint = result.footprint
        if not self._settings.epochs:  # a command, which was one epoch for 2.4.x
            self._logs.info(*console_text.epoch_lines(1, result.seconds, self._watts(result)))
        self._logs.info(console_text.intensities_line(footprint))
        self._show(console_text.intensity_line(footprint), logged=True)
        # Upstream leaves the count out where no prediction was wanted.
        predicting = self._settings.epochs_before_pred != 0
        heading = console_text.actual_heading(result.epochs_done if predicting else None)
        self._show(self._block(heading, result.seconds, footprint), logged=False)
        if is_terminal(sys.stdout):  # elsewhere scripts parse the block, and expect no more
            self._show(f"{cost_line(result)}.", logged=None)
        for error in result.prediction_errors():
            if error.after_epochs < result.epochs_done:
                self._show(comparison_line(error), logged=False)
        simulated = bool(self._settings.simulated)
        quality = quality_lines(result.energy, simulated=simulated)
        for line in (*live_lines(footprint), *quality, *self._work_lines(result)):
            self._show(line, logged=False)
        share = self._launch.share_of_cpus(usable_cpus(), os.cpu_count())
        if share is not None and not self._settings.simulated:
            self._show(allocation_line(share), logged=False)
        for line in lines_beside_total(result):
            self._show(line, logged=False)
        if result.ranks is not None:
            coverage = result.energy.coverage
            self._show(ranks_line(result.extent, result.ranks, coverage), logged=False)
        elif self._launch.shares_node:
            self._show(shared_node_line(self._launch), logged=False)
        unanswered = unanswered_sensors(self._session) if self._session is not None else ()
        for line in unanswered_lines(unanswered):
            self._show(line, logged=False)
        self._show("Finished monitoring.", logged=False)
        self._logs.info("Monitoring thread ended.")
        if self._is_shown:
            _note_result()

    def confirmed(self) -> bool:
        """Ask in a terminal whether to continue; without one, take the configured answer."""
        if not _can_ask():
            return self._unattended("no terminal to ask in")
        self._ask("Continue training (y/n)?")
        while True:
            try:
                answer = input().strip().lower()
            except EOFError:
                return self._unattended("no answer")
            if answer == "y":
                self._show("Continuing...", logged=False)
                return True
            if answer == "n":
                self._logs.info("Session ended by user.")
                self._show("Quitting...", logged=False)
                return False
            self._ask("Input not recognized. Try again (y/n):")

    def _unattended(self, why: str) -> bool:
        going_on = self._settings.unattended_answer == "y"
        self.warn(f"stop_and_confirm: {why}, {'going on' if going_on else 'quitting'}")
        if not going_on:
            self._logs.info("Session ended by user.")
        return going_on

    def warn(self, message: str) -> None:
        """Notify all listeners of a diagnostic, this one included."""
        if self._shown:
            self._notify("warning", "WARNING", message)
        else:  # the command line shows and records its own
            self.warning("WARNING", message)

    def warning(self, level: str, message: str) -> None:
        """Show a diagnostic on stderr, and in the error log."""
        self._logs.error(level, message)
        if self._shown and not self._muted and sys.stderr is not None:
            _print(f"{console_text.PREFIX}{level} - {message}", sys.stderr)

    def _work_lines(self, result: Result) -> list[str]:
        """Return the energy for units of work; not of one of several processes of a node, whose
        energy is that of all."""
        if result.ranks is None and (self._launch.shares_node or self._launch.is_rank_of_training):
            return []
        line = work_line(result)
        return [f"{line}."] if line else []

    def _block(self, heading: str, seconds: float, footprint: Footprint) -> str:
        return console_text.consumption_block(
            heading,
            seconds,
            footprint,
            digits=self._settings.decimal_precision,
            interpretable=self._settings.interpretable,
        )

    def _watts(self, spent: Measurement) -> dict[str, float]:
        return {name: _mean_watts(spent.energy, name, spent.seconds) for name in self._components}

    def _devices(self, session: Session) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {name: [] for name in self._settings.chosen_components}
        for entry in session.entries:
            for component, names in found.items():
                if not entry.read:
                    continue
                if entry.counted and entry.kind in KINDS_BY_COMPONENT[component]:
                    estimated = entry.quality == "modelled" and entry.source != "simulated"
                    names.append(f"{entry.name} (modelled)" if estimated else entry.name)
        return found

    def sensor(self, event: SensorEvent) -> None:
        """Show which sensor joined, was lost or is read again."""
        if self._session is not None:
            for line in self._event_lines.of(event, self._session.entries):
                self.warn(line)

    def _announce_awaited(self, session: Session) -> None:
        for m in session.missing:
            if m.awaited:
                self.warn(f"{m.what} ({m.source}): {m.reason}")

    def _explain_missing(self, session: Session) -> None:
        for component in self._settings.chosen_components:
            if component in self._components or session.failed:
                continue  # the failure of the session is already shown
            missing = [
                m for m in session.missing if component in m.what or m.device.startswith(component)
            ]
            if missing and all(m.shortage for m in missing):
                continue  # already shown
            why = (
                reasons(missing)
                if session.owned_by_this_process
                else session.reason or INTERPRETER_ENDING
            )
            asked = self._settings.components.strip().lower() != "all"
            if asked or not self._components:
                self.warn(f"{component} is not measured: {why or 'no sensor was found'}")

    def _name_unread(self, session: Session) -> None:
        if any(entry.source == "cpu_load" and entry.counted for entry in session.entries):
            for one in session.missing:
                if one.what == "utilisation":
                    self.warn(one.reason)
        replaced = {device.kind for device in self._settings.simulated}
        kinds = set(self._settings.chosen_components) - replaced
        unread = [
            f"{m.what} ({m.reason})"
            if m.what == m.device
            else m.what  # else the name explains itself
            for m in session.missing
            if m.device.partition(":")[0] in kinds
        ]
        if unread:
            self.warn(f"{'; '.join(unread)}: not read, and not in the total")

    def _announce_simulated(self) -> None:
        if not self._shown:
            return
        # Upstream prints these whatever the verbosity.
        for device in self._settings.simulated:
            given = getattr(self._settings, f"sim_{device.kind}_util")
            share = DEFAULT_UTILISATION if given is None else float(given)
            watts = float(device.waveform.removeprefix("constant:"))
            _print(console_text.simulated_line(device.kind, device.name, watts, share))

    def _show(self, message: str, *, logged: bool | None) -> None:
        """Show a message, and log it: also in the standard log, or (None) in no log at all."""
        if logged:
            self._logs.info(message)
        if logged is not None:
            self._logs.output(console_text.PREFIX + message)
        if self._is_shown:
            _print(console_text.PREFIX + message)

    def _ask(self, question: str) -> None:
        # Whatever the verbosity: a question that waits for an answer must be visible.
        self._logs.output(console_text.PREFIX + question)
        _print(console_text.PREFIX + question)


def _note_result() -> None:
    """Note for the command around this program, if there is one, that it has shown a result."""
    path = os.environ.get(RESULT_NOTICE)
    if not path:
        return
    with suppress(OSError):  # the command may have ended, and its file with it: none is created
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0))
        try:
            os.write(descriptor, b"1")
        finally:
            os.close(descriptor)


def _print(text: str, file: TextIO | None = None) -> None:
    # A closed console, a broken pipe, a narrow character set, or an object in the place of a stream
    # must not end the training or its monitoring: the logs and the record have the text.
    stream = file or sys.stdout
    if stream is None:
        return
    with suppress(Exception):
        print(encodable(text, getattr(stream, "encoding", None)), file=stream, flush=True)


def _can_ask() -> bool:
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        return False
    try:
        # A background job of a terminal is stopped if it reads from it.
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return True  # a terminal without job control does not stop a reader


def _mean_watts(energy: Energy, component: str, seconds: float) -> float:
    parts = [
        energy.by_kind[kind].joules
        for kind in KINDS_BY_COMPONENT[component]
        if kind in energy.by_kind
    ]
    known = [joules for joules in parts if not math.isnan(joules)]
    if not known or seconds <= 0:
        return math.nan
    return round(math.fsum(known) / seconds, 3)
