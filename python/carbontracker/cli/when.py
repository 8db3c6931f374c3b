"""``carbontracker when``: the start time with the lowest emissions, from a forecast."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.cli.exits import NOTHING_KNOWN, USAGE_ERROR, say
from carbontracker.cli.location_options import add_location_options, carbon_factors_of
from carbontracker.cli.parser import parser_of
from carbontracker.cli.retry import retried
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.base import Intensity
from carbontracker.intensity.selection import INTENSITY_VARIABLE
from carbontracker.json_values import jsonable
from carbontracker.planning.background import first_and_best_start, slot_seconds
from carbontracker.planning.start_time import IntensityCurve, saved_share
from carbontracker.report.planning import chart
from carbontracker.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.planning.start_time import Start

EXAMPLES = """\
examples:
  carbontracker when --hours 6
  carbontracker when --hours 6 --within 24h --kwh 12 --location DK-DK1
  carbontracker when --hours 6 --json > forecast.json
  carbontracker when --hours 2 --forecast forecast.json       use a saved forecast

Exit code: 0 if a start was found, 2 for wrong arguments, 3 if no forecast is available.
"""

_MAX_HOURS = 24 * 14


class Plan(NamedTuple):
    """The question: how long, until when, from now."""

    now: datetime
    hours: float
    within: timedelta
    kwh: float | None


def main(arguments: list[str]) -> int:
    """Find the best start and print it; return the exit code."""
    parser = command_parser()
    given = parser.parse_args(arguments)
    if not 0 < given.hours <= _MAX_HOURS:
        parser.error(f"--hours must be more than 0 and at most {_MAX_HOURS}")
    if given.within < timedelta(hours=given.hours):
        parser.error("--within must leave room for --hours")
    if given.kwh is not None and not 0 < given.kwh < 1e12:
        parser.error("--kwh must be more than 0")
    plan = Plan(given.now or datetime.now(timezone.utc), given.hours, given.within, given.kwh)
    try:
        slots = _recorded(given.forecast) if given.forecast else _asked(given, plan)
        both = first_and_best_start(slots, plan.now, plan.hours, plan.within)
        if both is None:
            raise IntensityUnavailable(_why_not(slots, plan))
    except IntensityUnavailable as error:
        say(f"no forecast available: {error.reason}")
        if given.json:
            print(json.dumps({"best": None, "reason": error.reason}, indent=2))
        return NOTHING_KNOWN
    except (ValueError, OSError) as error:
        say(error)
        return USAGE_ERROR
    if given.json:
        print(json.dumps(jsonable(_result(slots, plan, *both)), indent=2))
    else:
        print(_text(slots, plan, *both))
    return 0


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker when",
        "Find the start time with the lowest emissions, from a forecast of the carbon intensity.",
        EXAMPLES,
    )
    parser.add_argument("--hours", type=float, required=True, help="length of the run, hours")
    parser.add_argument(
        "--within",
        type=_duration,
        default=timedelta(hours=48),
        metavar="48h",
        help="time from now to the end of the run, at most: 48h, 90m, 2d (default 48h)",
    )
    parser.add_argument("--kwh", type=float, help="energy of the run, kWh, PUE included")
    parser.add_argument(
        "--intensity",
        default=os.environ.get(INTENSITY_VARIABLE, "").strip() or "auto",
        metavar="NAME",
        help=f"live provider of the forecast, or auto (default {INTENSITY_VARIABLE}, else auto)",
    )
    parser.add_argument(
        "--forecast", metavar="FILE", help="use a forecast saved with --json; - for standard input"
    )
    parser.add_argument(
        "--now", type=_moment, metavar="TIME", help="ISO 8601 time to use as the current time"
    )
    add_location_options(parser)
    return parser


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hmd]?)", text.strip().lower())
    if found is None:
        message = f"{text!r} is not a duration such as 48h, 90m or 2d"
        raise argparse.ArgumentTypeError(message)
    unit = {"m": 1 / 60, "d": 24.0}.get(found[2], 1.0)
    return timedelta(hours=min(float(found[1]) * unit, _MAX_HOURS))


def _moment(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _asked(given: argparse.Namespace, plan: Plan) -> list[Intensity]:
    """Return the forecast for the location.

    Raises:
        IntensityUnavailable: no provider has a forecast.
        UnknownLocation: ``--location`` is not known.
    """
    factors = carbon_factors_of(given, intensity=given.intensity)
    return retried(lambda: factors.forecast(plan.now, plan.now + plan.within))


def _recorded(path: str) -> list[Intensity]:
    """Return the slots of a saved forecast: the output of ``--json``, or only its slots.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file does not contain a forecast.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} does not contain JSON: {error}") from None
    slots = found.get("slots") if isinstance(found, dict) else found
    if not isinstance(slots, list):
        message = f"{path} does not contain a forecast: expected a list, or an object with slots"
        raise ValueError(message)
    return [_slot(slot, path) for slot in slots]


def _slot(slot: Any, path: str) -> Intensity:
    try:
        times = {name: parse_time(slot[name]) for name in ("start", "end")}
        return Intensity(**(slot | times))
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path} does not contain a forecast: {error}"
        raise ValueError(message) from None


def _why_not(slots: Sequence[Intensity], plan: Plan) -> str:
    ends = [slot.end for slot in slots if slot.end is not None and slot.end > plan.now]
    if not ends:
        return "it ends in the past"
    ahead = (max(ends) - plan.now).total_seconds() / 3600
    return f"it covers the next {ahead:.1f} h, but not {plan.hours:g} h without a gap"


def _text(slots: Sequence[Intensity], plan: Plan, first: Start, best: Start) -> str:
    local = plan.now.astimezone(plan.now.tzinfo if plan.now.tzinfo != timezone.utc else None)
    start = local + timedelta(seconds=best.t_s)
    end = start + timedelta(hours=plan.hours)
    one, name = slots[0], "Now" if first.t_s == 0 else "At first"
    lines = [
        f"{one.name or one.zone}: gCO2eq/kWh by the hour, {one.scope}, {one.signal}",
        f"from {one.source or 'a forecast'}",
        "",
        chart(
            _by_the_hour(slots, plan),
            (best.t_s / 3600, best.t_s / 3600 + plan.hours),
            local,
            plain=not _terminal_has_blocks(),
        ),
        "",
        f"Best start   {start:%a %d %b %H:%M}, {_ahead(best.t_s)}, until {end:%a %H:%M}",
        f"Then         {best.gco2eq_per_kwh:6.1f} gCO2eq/kWh{_cost(best, plan)}",
        f"{name:<12} {first.gco2eq_per_kwh:6.1f} gCO2eq/kWh{_cost(first, plan)}",
        _saves(first, best, plan),
    ]
    return "\n".join(lines)


def _by_the_hour(slots: Sequence[Intensity], plan: Plan) -> list[float]:
    """Return the mean of each hour until the end of the forecast."""
    known = slot_seconds(slots, plan.now)
    last_s = min(max(end for _, end, _ in known), plan.within.total_seconds())
    forecast = IntensityCurve(known)
    return [forecast.mean(3600.0 * hour, 3600.0) for hour in range(math.floor(last_s / 3600))]


def _terminal_has_blocks() -> bool:
    try:
        "┤▁█▲".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _ahead(seconds: float) -> str:
    return "now" if seconds == 0 else f"in {seconds / 3600:.1f} h"


def _cost(start: Start, plan: Plan) -> str:
    if plan.kwh is None:
        return ""
    return f"   {plan.kwh * start.gco2eq_per_kwh / 1000:.3f} kg for {plan.kwh:g} kWh"


def _saves(first: Start, best: Start, plan: Plan) -> str:
    share = saved_share(first.gco2eq_per_kwh, best.gco2eq_per_kwh)
    if not share > 0:
        return "Saves        nothing: no later start is better"
    amount = ""
    if plan.kwh is not None:
        grams = plan.kwh * (first.gco2eq_per_kwh - best.gco2eq_per_kwh)
        amount = f", {grams / 1000:.3f} kg"
    return f"Saves        {100 * share:.0f} %{amount}"


def _result(slots: Sequence[Intensity], plan: Plan, first: Start, best: Start) -> dict[str, Any]:
    return {
        "now": plan.now.isoformat(),
        "hours": plan.hours,
        "within_hours": plan.within.total_seconds() / 3600,
        "kwh": plan.kwh,
        "best": _start(best, plan),
        "first": _start(first, plan),
        "saved_share": saved_share(first.gco2eq_per_kwh, best.gco2eq_per_kwh),
        "slots": [slot.to_dict() for slot in slots],
    }


def _start(start: Start, plan: Plan) -> dict[str, Any]:
    begins = plan.now + timedelta(seconds=start.t_s)
    grams = None if plan.kwh is None else plan.kwh * start.gco2eq_per_kwh
    return asdict(start) | {"start": begins.isoformat(), "gco2eq": grams}
