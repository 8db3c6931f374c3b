"""``carbontracker [run] [options] [--] CMD ARGS…``: run a program and say what it has cost."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import carbontracker
from carbontracker.advising.aside import Aside
from carbontracker.cli import parse
from carbontracker.cli.arguments import parser_of
from carbontracker.cli.child import executed
from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.limits import OVER_BUDGET, Watch, add_limits, limits_of
from carbontracker.components import kinds_of, parse_components, simulated_device
from carbontracker.exceptions import ComponentNameError
from carbontracker.measurement import footprint_between
from carbontracker.place.location import UnknownLocation
from carbontracker.pricing import make_pricing
from carbontracker.records.record import (
    Record,
    energy_dict,
    footprint_dict,
    jsonable,
    record_directory,
    record_wanted,
    run_started_data,
    sampling_data,
)
from carbontracker.records.series import written_now_and_then
from carbontracker.report import text
from carbontracker.session import Config, acquire, check_pace, release
from carbontracker.settings import LOCATE
from carbontracker.telemetry.address import address
from carbontracker.telemetry.publishing import published
from carbontracker.vitals import Pulse

if TYPE_CHECKING:
    import argparse
    from typing import TextIO

    from carbontracker.footprint import Footprint
    from carbontracker.pricing import Pricing
    from carbontracker.session import Mark, Session
    from carbontracker.window import Energy

EXAMPLES = """\
examples:
  carbontracker python train.py --its --own --flags
  carbontracker run --location DK --json result.json -- python train.py
  carbontracker run --max-kwh 2.5 --max-seconds 86400 --grace 60 -- python train.py
  carbontracker --sim-gpu "NVIDIA A100" --sim-gpu-watts 400 python train.py
  carbontracker sensors

The program's arguments are its own, its exit code is returned, and its standard output is left
alone: the result goes to standard error. Other commands, each with --help: sensors, top; estimate,
when and where before a training; report, runs, compare, aggregate and check for what was recorded;
trace and attribute for power beside a profile.
"""


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "carbontracker",
        "Run a program, measure its energy, and say what that means in CO2eq.",
        EXAMPLES,
        usage="carbontracker [run] [options] [--] CMD [ARGS...]",
        abbreviated=False,
    )
    parser.add_argument("--version", action="version", version=carbontracker.__version__)
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON; - for stdout")
    parser.add_argument(
        "--location", metavar="PLACE", help="country, ISO code, zone or region: DK, aws:eu-north-1"
    )
    parser.add_argument(
        "--locate", choices=LOCATE, default="auto", help="never: ask no network where this is"
    )
    parser.add_argument("--pue", type=float, help="power usage effectiveness (default 1.58)")
    parser.add_argument(
        "--intensity", metavar="G|NAME", help="your own gCO2eq/kWh, a live provider, or auto"
    )
    parser.add_argument("--components", default="all", help="all, gpu, cpu (default all)")
    parser.add_argument(
        "--rate-hz", type=float, metavar="HZ", help="read every sensor so often, whatever it costs"
    )
    parser.add_argument(
        "--overhead-budget",
        type=float,
        metavar="X",
        help="most of one core that sampling may use (default 0.005; 0: no limit)",
    )
    parser.add_argument("--parse", metavar="DIR", help="one sentence on all old log files of DIR")
    parser.add_argument("--quiet", "-q", action="store_true", help="no summary on standard error")
    parser.add_argument("--no-record", action="store_true", help="keep no record of this run")
    parser.add_argument(
        "--prometheus", metavar="[HOST:]PORT", help="serve metrics there; loopback if no host"
    )
    parser.add_argument("--otlp", metavar="URL", help="push metrics to an OpenTelemetry receiver")
    parser.add_argument("--trace", metavar="FILE", help="keep every sample in a new Arrow file")
    parser.add_argument("--log-dir", "--log_dir", metavar="DIR", help="where the record goes")
    add_limits(parser)
    for device, figure in (("cpu", "tdp"), ("gpu", "watts")):
        name = device.upper()
        parser.add_argument(f"--sim-{device}", metavar="NAME", help=f"simulate a {name}")
        parser.add_argument(f"--sim-{device}-{figure}", type=float, metavar="W")
        parser.add_argument(f"--sim-{device}-util", type=float, metavar="0..1", default=0.5)
    return parser


def main(arguments: list[str]) -> int:
    """Run ``CMD`` and report; return its exit code."""
    parser = _parser()
    options, command = _split(parser, arguments)
    given = parser.parse_args(options)
    if given.parse is not None:
        return parse.main(given.parse)
    if not command:
        parser.print_help(sys.stderr)
        return USAGE_ERROR
    try:
        config, pricing = _config(given), make_pricing(given.location, given.pue, given.intensity)
        limits_of(given)
        if given.prometheus is not None:
            address(given.prometheus)
        out = _open_output(given.json)
        _check_samples(given.trace)
    except (ComponentNameError, UnknownLocation, ValueError, OSError, ImportError) as error:
        say(error)
        return USAGE_ERROR
    return _run(command, given, config, pricing, out)


def _split(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return our options and the command: everything from the first word that is not ours."""
    takes_value = {
        flag for action in parser._actions if action.nargs != 0 for flag in action.option_strings
    }
    i = 0
    while i < len(arguments) and arguments[i].startswith("-") and arguments[i] != "--":
        i += 2 if arguments[i] in takes_value else 1
    command = arguments[i:]
    return arguments[:i], command[1:] if command[:1] == ["--"] else command


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
    settings |= check_pace(given.rate_hz, given.overhead_budget)
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


def _run(
    command: list[str],
    given: argparse.Namespace,
    config: Config,
    pricing: Pricing,
    out: TextIO | None,
) -> int:
    session = acquire(config)
    pricing.watch()
    record = _begin_record(command, given, session, pricing)
    aside = Aside(pricing, given.locate)
    aside.start(pricing)
    start = session.mark()
    limits = limits_of(given)
    watch = Watch(limits, given.grace, session, pricing, start)
    pulse = Pulse(session, start, lambda: pricing)
    with ExitStack() as writing:
        writing.enter_context(published(pulse, given.prometheus, given.otlp))
        if record is not None:
            record.follow(session, start, session.config.spacing_s)
        _write_meanwhile(writing, given, session, start, record)
        run_id = record.run_id if record else None
        with executed(command, run_id, watch if limits else None) as ended:
            code = OVER_BUDGET if watch.over else ended
            end = session.mark()
            writing.close()
            pricing.hurry()
            session.await_final(end)
            energy = session.energy(start, end)
            pricing = aside.repriced(pricing) or pricing
            footprint = footprint_between(session, pricing.settled(), (start, end), energy)
            pricing.close()
            release(session)
            facts = {
                "seconds": (end.t_ns - start.t_ns) / 1e9,
                "tracker_cpu_seconds": session.cpu_seconds,
                **sampling_data(session),
                "exit_code": code,
                **watch.facts(),
            }
            if record is not None:
                record.write_series(end)
                _end_record(record, facts, energy, footprint)
            _show_end(watch)
            if not given.quiet:
                simulated = bool(config.simulated)
                _show_summary(facts["seconds"], energy, footprint, simulated=simulated)
            if out is not None:
                _write_json(_result(energy, footprint) | facts | {"command": command}, out)
    return code


def _write_meanwhile(
    writing: ExitStack,
    given: argparse.Namespace,
    session: Session,
    start: Mark,
    record: Record | None,
) -> None:
    """Have what a kill must not lose written while the command runs."""
    if record is not None:
        writing.enter_context(written_now_and_then(record, session, start))
    if given.trace is not None:
        from carbontracker.traces.samples import sampled_to

        writing.enter_context(sampled_to(session, Path(given.trace), record))


def _end_record(
    record: Record, facts: dict[str, Any], energy: Energy, footprint: Footprint
) -> None:
    parts = {"energy": energy_dict(energy), "footprint": footprint_dict(footprint)}
    record.finish(**facts, **parts)


def _begin_record(
    command: list[str], given: argparse.Namespace, session: Session, pricing: Pricing
) -> Record | None:
    if given.no_record or not record_wanted(None):
        return None
    record = Record(record_directory(given.log_dir))
    record.write(
        "run_started",
        **run_started_data(session),
        command=command,
        pricing=footprint_dict(pricing.of_nothing()),
        pue_source=pricing.pue_how,
    )
    return record


def _show_end(watch: Watch) -> None:
    if watch.over:
        with suppress(OSError):
            say(f"ended the program: {watch.over}")


def _show_summary(seconds: float, energy: Energy, footprint: Footprint, *, simulated: bool) -> None:
    if sys.stderr is None:
        return  # closed; print would take standard output, which is the program's
    with suppress(OSError):  # nobody reads it, and the exit code is the program's
        summary = text.command_summary(seconds, energy, footprint, simulated=simulated)
        print(summary, file=sys.stderr, flush=True)


def _write_json(result: dict[str, Any], out: TextIO) -> None:
    try:
        json.dump(jsonable(result), out, indent=2)
        out.write("\n")
        out.flush()
        if out is not sys.stdout:
            out.close()
    except OSError as error:
        say(f"the result is not written: {error}")


def _result(energy: Energy, footprint: Footprint) -> dict[str, Any]:
    """Return the object of ``--json``; ``joules`` are the machine's, ``kwh`` include the PUE."""
    return {
        "by_device": {},  # also where nothing could be read
        "by_kind": {},
        **energy_dict(energy),
        **footprint_dict(footprint),
        "version": carbontracker.__version__,
    }
