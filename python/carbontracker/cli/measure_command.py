"""What ``carbontracker run`` measures around a program, and what it says of it."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import carbontracker
from carbontracker.carbon.background import BackgroundLookup
from carbontracker.carbon.factors import make_carbon_factors
from carbontracker.cli.child import executed
from carbontracker.cli.exits import USAGE_ERROR, discard, say
from carbontracker.cli.limits import OVER_BUDGET, BudgetSupervisor, limits_of
from carbontracker.energy.components import kinds_of, parse_components, simulated_device
from carbontracker.energy.config import Config, sampling_fields
from carbontracker.energy.sensor_events import SensorEvent, SensorEvents
from carbontracker.energy.session import acquire, release
from carbontracker.exceptions import ComponentNameError
from carbontracker.guard import MEASURING, RESULT, SAMPLES, nothing, optional
from carbontracker.records.series import written_now_and_then
from carbontracker.records.writer import (
    begin_record,
    energy_dict,
    footprint_dict,
    jsonable,
    record_directory,
    record_wanted,
    run_started_data,
    sampling_data,
)
from carbontracker.report import text
from carbontracker.telemetry.bind_address import parse_bind_address
from carbontracker.telemetry.exporters import published
from carbontracker.training.live_status import StatusReader
from carbontracker.training.window import footprint_between

if TYPE_CHECKING:
    import argparse
    from typing import TextIO

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.energy import Energy
    from carbontracker.records.writer import Record


def run(command: list[str], given: argparse.Namespace) -> int:
    """Run ``command`` between two marks; return its exit code, or 2 for options that cannot be."""
    try:
        config, factors = (
            _config(given),
            make_carbon_factors(given.location, given.pue, given.intensity),
        )
        limits_of(given)
        if given.prometheus is not None:
            parse_bind_address(given.prometheus)
        out = _open_output(given.json)
        _check_samples(given.trace)
    except (ComponentNameError, ValueError, OSError, ImportError) as error:
        say(error)
        return USAGE_ERROR
    measured = optional(MEASURING, lambda: Measured(command, given, config, factors), nothing)
    if measured is None:
        with executed(command, None) as code:
            return code
    run_id = measured.record.run_id if measured.record else None
    with executed(command, run_id, measured.watch if measured.watch.limits else None) as ended:
        code = OVER_BUDGET if measured.watch.over else ended
        optional(RESULT, lambda: measured.finish(code, out), nothing)
    return code


class Measured:
    """What is measured while a command runs, from its construction on.

    Args:
        command: in its record.
        given: the options.
        config: what is sampled.
        pricing: what turns the energy into grams.
    """

    def __init__(
        self,
        command: list[str],
        given: argparse.Namespace,
        config: Config,
        factors: CarbonFactors,
    ) -> None:
        self._command = command
        self._given = given
        self._factors = factors.start_polling()
        self._session = session = acquire(config)
        self._meanwhile = meanwhile = ExitStack()
        self.record = self._begin_record()
        self._lookup = BackgroundLookup(factors, given.locate)
        self._lookup.start(factors)
        self._start = start = session.mark()
        self._told: list[SensorEvent] = []
        self.watch = BudgetSupervisor(limits_of(given), given.grace, session, factors, start)
        status_reader = StatusReader(session, start, lambda: factors)
        meanwhile.enter_context(published(status_reader, given.prometheus, given.otlp))
        if self.record is not None:
            self.record.follow(session, start, session.config.spacing_s)
            meanwhile.enter_context(written_now_and_then(self.record, session, start))
        self._event_lines = text.SensorEventLines()
        self._sensor_events = SensorEvents(session, start, self._tell)
        meanwhile.callback(self._sensor_events.close)
        if given.trace is not None:
            optional(SAMPLES, self._keep_samples, nothing)

    def _tell(self, event: SensorEvent) -> None:
        """Write and say what has happened to a sensor; also called on a thread of ours."""
        self._told.append(event)
        if self.record is not None:
            self.record.write(event.event, **event.data)
        for line in self._event_lines.of(event, self._session.entries):
            if not self._given.quiet:
                say(line)

    def _begin_record(self) -> Record | None:
        if self._given.no_record or not record_wanted(None):
            return None
        free = self._factors.zero_footprint
        return begin_record(
            lambda: record_directory(self._given.log_dir),
            lambda: {
                **run_started_data(self._session),
                "command": self._command,
                "pricing": footprint_dict(free()),
                "pue_source": self._factors.pue_source,
            },
        )

    def _keep_samples(self) -> None:
        from carbontracker.traces.samples import sampled_to

        path = Path(self._given.trace)
        self._meanwhile.enter_context(sampled_to(self._session, path, self.record))

    def finish(self, code: int, out: TextIO | None) -> None:
        """Say and record what the command has cost, which ended with ``code``."""
        session, factors, end = self._session, self._factors, self._session.mark()
        optional(RESULT, self._meanwhile.close, nothing)
        factors.refresh_soon()
        session.await_final(end)
        energy = session.energy(self._start, end)
        self._sensor_events.look()
        factors = self._located()
        marks = (self._start, end)
        footprint = footprint_between(session, factors.snapshot(), marks, energy)
        factors.close()
        release(session)
        facts = {
            "seconds": (end.t_ns - self._start.t_ns) / 1e9,
            "tracker_cpu_seconds": session.cpu_seconds,
            **sampling_data(session),
            "exit_code": code,
            **self.watch.facts(),
        }
        if self.record is not None:
            self.record.write_series(end)
            parts = {"energy": energy_dict(energy), "footprint": footprint_dict(footprint)}
            self.record.finish(**facts, **parts)
        if self.watch.over:
            say(f"ended the program: {self.watch.over}")
        if not self._given.quiet:
            simulated = bool(session.config.simulated)
            _show_summary(facts["seconds"], energy, footprint, simulated=simulated)
            for line in text.unanswered_lines(facts["unanswered"]):
                say(line)
        if out is not None:
            told = {"sensor_events": [{"event": one.event, **one.data} for one in self._told]}
            rest = {"command": self._command, **told}
            _write_json(_result(energy, footprint) | facts | rest, out)

    def _located(self) -> CarbonFactors:
        """Return the pricing for the place that has been found out meanwhile, if one has."""
        found = self._lookup.updated_factors(self._factors)
        if found is None:
            return self._factors
        if self.record is not None:
            free = footprint_dict(found.zero_footprint())
            self.record.write("located", pricing=free, pue_source=found.pue_source)
        return found


def _config(given: argparse.Namespace) -> Config:
    simulated = []
    for device, figure in (("gpu", "watts"), ("cpu", "tdp")):  # in the tracker's order
        name = getattr(given, f"sim_{device}")
        if name is None:
            continue
        watts = getattr(given, f"sim_{device}_{figure}")
        if watts is None:
            message = f"--sim-{device} needs --sim-{device}-{figure}, its power in watts"
            raise ValueError(message)
        simulated.append(
            simulated_device(device, name, watts, getattr(given, f"sim_{device}_util"))
        )
    settings: dict[str, Any] = {
        "kinds": kinds_of(parse_components(given.components)),
        "simulated": tuple(simulated),
    }
    settings |= sampling_fields(given.rate_hz, given.overhead_budget)
    return Config.from_environment(**settings)


def _open_output(path: str | None) -> TextIO | None:
    """Open the JSON file before anything runs, so that a wrong path costs no training."""
    if path is None:
        return None
    return sys.stdout if path == "-" else Path(path).open("w", encoding="utf-8")


def _check_samples(path: str | None) -> None:
    """Look whether samples can be kept there before anything runs."""
    if path is not None:
        from carbontracker.traces.samples import check_new

        check_new(Path(path))


def _show_summary(seconds: float, energy: Energy, footprint: Footprint, *, simulated: bool) -> None:
    if sys.stderr is None:
        return  # closed; print would take standard output, which is the program's
    summary = text.command_summary(seconds, energy, footprint, simulated=simulated)
    try:
        print(summary, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # the exit code is the program's, whoever reads this
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


def _result(energy: Energy, footprint: Footprint) -> dict[str, Any]:
    """Return the object of ``--json``; ``joules`` are the machine's, ``kwh`` include the PUE."""
    return {
        "by_device": {},  # also where nothing could be read
        "by_kind": {},
        **energy_dict(energy),
        **footprint_dict(footprint),
        "version": carbontracker.__version__,
    }
