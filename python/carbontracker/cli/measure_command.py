"""``carbontracker run``: measures a program, shows its result, and records it."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import carbontracker
from carbontracker.cli.budget_supervisor import OVER_BUDGET, BudgetSupervisor, check_grace
from carbontracker.cli.child import executed
from carbontracker.cli.exits import USAGE_ERROR, discard, say
from carbontracker.exceptions import ComponentNameError
from carbontracker.guard import MEASURING, RESULT, nothing, optional
from carbontracker.json_values import jsonable
from carbontracker.model.run_ending import BUDGET, FAILED
from carbontracker.records.series import PeriodicWriter
from carbontracker.records.writer import record_wanted, unanswered_sensors
from carbontracker.report import console_text, sentences
from carbontracker.report.console import RESULT_NOTICE, Console
from carbontracker.report.formatting import encodable
from carbontracker.report.progress import is_terminal
from carbontracker.settings import Settings
from carbontracker.telemetry.exporters import Publisher
from carbontracker.training.listeners import Listeners
from carbontracker.training.recorder import Recorder, SampleKeeper
from carbontracker.training.training_run import TrainingRun

if TYPE_CHECKING:
    import argparse
    from typing import TextIO

    from carbontracker.energy.sensor_events import SensorEvent
    from carbontracker.model.result import Result
    from carbontracker.model.run_metadata import RunMetadata
    from carbontracker.records.writer import Record
    from carbontracker.training.run import Run


def run(command: list[str], given: argparse.Namespace) -> int:
    """Run ``command`` between two marks; return its exit code, or 2 for options that cannot be."""
    try:
        settings = _settings(given)
        settings.check()
        settings.check_names()
        factors = settings.factors()
        check_grace(given.grace)
        out = _open_output(given.json)
        _check_samples(given.trace)
    except (ComponentNameError, ValueError, OSError, ImportError) as error:
        say(error)
        return USAGE_ERROR
    # A tracker in the program contributes to the same.
    names = (("CARBONTRACKER_PROJECT", settings.project), ("CARBONTRACKER_STAGE", settings.stage))
    os.environ |= {variable: name for variable, name in names if name}
    listeners = Listeners()
    training = TrainingRun(settings, factors, listeners)
    supervisor = BudgetSupervisor(training, settings.limits, given.grace)
    recorder = CommandRecorder(settings, command)
    listeners.add(recorder)
    if settings.trace:
        listeners.add(SampleKeeper(settings, recorder))
    if settings.log_dir is not None and record_wanted(settings.record):
        listeners.add(Console(settings, listeners.notify, shown=False))
    notice = ResultNotice()
    listeners.add(CommandConsole(command, recorder, supervisor, notice, out, quiet=given.quiet))
    listeners.add(Publisher(settings.prometheus, settings.otlp))
    if not optional(MEASURING, lambda: _begun(training), lambda _: False):
        with executed(command, None) as code:
            return code
    run_id = recorder.record.run_id if recorder.record else None
    try:
        if not given.quiet:
            optional(RESULT, notice.open, nothing)
        with executed(command, run_id, supervisor if settings.limits else None) as ended:
            code = recorder.exit_code = OVER_BUDGET if supervisor.over else ended
            optional(RESULT, lambda: training.end_whole(supervisor.over), nothing)
    finally:
        notice.close()
    return code


class ResultNotice:
    """A file that a tracker in the program writes to when it has shown its result.

    So it is known wherever the tracker keeps its record, and if it keeps none.
    """

    def __init__(self) -> None:
        self._path = ""

    def open(self) -> None:
        """Make the file, and name it to the program."""
        import tempfile

        os.environ.pop(RESULT_NOTICE, None)  # that of a command around this one
        with suppress(OSError):
            descriptor, self._path = tempfile.mkstemp(prefix="carbontracker-")
            os.close(descriptor)
            os.environ[RESULT_NOTICE] = self._path

    def received(self) -> bool:
        """Return whether a tracker has shown its result."""
        try:
            return bool(self._path) and Path(self._path).stat().st_size > 0
        except OSError:
            return False

    def close(self) -> None:
        """Remove the file."""
        if self._path:
            with suppress(OSError):
                Path(self._path).unlink()


def _begun(training: TrainingRun) -> bool:
    training.begin_whole()
    return True


class CommandRecorder(Recorder):
    """Writes what a command has cost into its record."""

    def __init__(self, settings: Settings, command: list[str]) -> None:
        super().__init__(settings)
        self._command = command
        self.exit_code: int | None = None
        self._writer: PeriodicWriter | None = None

    def close(self) -> None:
        """End the record."""
        if self._writer is not None:
            self._writer.stop()
        super().close()

    def metadata(self, run: Run) -> RunMetadata:
        """Return which command it is, and the choices that were made."""
        return replace(super().metadata(run), command=tuple(self._command))

    def write_while_open(self, record: Record, run: Run) -> None:
        """Have a thread write the energy over time."""
        session, began_ns = run.session, run.began_mark.t_ns
        self._writer = PeriodicWriter(lambda: record.write_series(session.mark()), lambda: began_ns)

    def finished_data(self, run: Run, result: Result) -> dict[str, Any]:
        """Return what the command has cost."""
        if self.exit_code and run.outcome != BUDGET:
            run.outcome = FAILED
        return replace(result, exit_code=self.exit_code).to_dict()


class CommandConsole:
    """A listener that shows what a command has cost, and writes it as JSON.

    Args:
        command: in the JSON.
        recorder: has the data of the record's end, which the JSON has, too.
        supervisor: knows which limit ended the command, if one did.
        notice: knows whether a tracker in the program has shown its result.
        out: where the JSON goes, if it is wanted.
        quiet: shows nothing but a limit that ended the command.
    """

    def __init__(
        self,
        command: list[str],
        recorder: CommandRecorder,
        supervisor: BudgetSupervisor,
        notice: ResultNotice,
        out: TextIO | None,
        *,
        quiet: bool,
    ) -> None:
        self._command = command
        self._recorder = recorder
        self._supervisor = supervisor
        self._notice = notice
        self._out = out
        self._quiet = quiet
        self._run: Run | None = None
        self._sensor_events: list[SensorEvent] = []
        self._event_lines = sentences.SensorEventLines()

    def started(self, run: Run) -> None:
        """Keep the run, whose sensors are named at the end."""
        self._run = run

    def sensor(self, event: SensorEvent) -> None:
        """Show what happened to a sensor."""
        self._sensor_events.append(event)
        if self._run is not None and not self._quiet:
            for line in self._event_lines.of(event, self._run.session.entries):
                say(line)

    def finished(self, result: Result) -> None:
        """Show the result."""
        run = self._run
        if run is None:
            return
        if self._supervisor.over:
            say(f"ended the program: {self._supervisor.over}")
        if not self._quiet:
            _show(self._summary(run, result))
            for line in sentences.unanswered_lines(unanswered_sensors(run.session)):
                say(line)
        if self._out is not None:
            events = [{"event": one.event, **one.data} for one in self._sensor_events]
            rest = {"command": self._command, "sensor_events": events}
            ending = self._recorder.ending(run, result)
            for part in ("energy", "footprint"):
                del ending[part]
            _write_json(_figures(result) | ending | rest, self._out)

    def _summary(self, run: Run, result: Result) -> str:
        from carbontracker.records.reader import ended_within  # after the program: it takes time

        record = self._recorder.record
        if self._notice.received() or (
            record is not None and ended_within(record.run_id, run.began, record.path)
        ):
            return sentences.whole_program_line(result)
        simulated = bool(run.session.config.simulated)
        human = is_terminal(sys.stderr)
        text = sentences.command_summary(result, simulated=simulated, human=human)
        beside = sentences.lines_beside_total(result)
        return "\n".join([text, *(console_text.PREFIX + line for line in beside)])


def _settings(given: argparse.Namespace) -> Settings:
    """Return the settings of a run without epochs."""
    for device, figure in (("gpu", "watts"), ("cpu", "tdp")):
        if getattr(given, f"sim_{device}") and getattr(given, f"sim_{device}_{figure}") is None:
            message = f"--sim-{device} needs --sim-{device}-{figure}, its power in watts"
            raise ValueError(message)
    names = (
        *(
            "components",
            "log_dir",
            "api_keys",
            "location",
            "pue",
            "intensity",
            "rate_hz",
            "overhead_budget",
        ),
        *("sim_cpu", "sim_cpu_tdp", "sim_cpu_util", "sim_gpu", "sim_gpu_watts", "sim_gpu_util"),
        *("locate", "max_kwh", "max_gco2eq", "max_seconds", "prometheus", "otlp", "trace"),
        *("project", "stage"),
        "attribution",
    )
    record = False if given.no_record else None
    return Settings(epochs=0, record=record, **{name: getattr(given, name) for name in names})


def _open_output(path: str | None) -> TextIO | None:
    """Open the JSON file before the program runs, so that a wrong path costs no training."""
    if path is None:
        return None
    if path == "-":
        return sys.stdout
    from carbontracker.records.output import check_output

    check_output(Path(path))
    return Path(path).open("w", encoding="utf-8")


def _check_samples(path: str | None) -> None:
    """Check before the program runs that samples can be kept there."""
    if path is not None:
        from carbontracker.traces.samples import check_new

        check_new(Path(path))


def _show(summary: str) -> None:
    if sys.stderr is None:
        return  # closed; print would take standard output, which is the program's
    try:
        print(encodable(summary, sys.stderr.encoding), file=sys.stderr, flush=True)
    except (OSError, ValueError):  # the exit code stays the program's
        discard(sys.stderr)


def _write_json(result: dict[str, Any], out: TextIO) -> None:
    try:
        json.dump(jsonable(result), out, indent=2)
        out.write("\n")
        out.flush()
        if out is not sys.stdout:
            out.close()
    except OSError as error:
        say(f"the result is not written: {error}")
        discard(out)


def _figures(result: Result) -> dict[str, Any]:
    """Return the object of ``--json``; ``joules`` are the machine's, ``kwh`` include the PUE."""
    return {
        "by_device": {},  # also where nothing could be read
        "by_kind": {},
        **result.energy.to_dict(),
        **result.footprint.to_dict(),
        "version": carbontracker.__version__,
    }
