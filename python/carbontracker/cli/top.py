"""``carbontracker top [RUN]``: a live table of the power of each device."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.energy.session import Session
    from carbontracker.report.live import View

MIN_INTERVAL_S = 0.1

EXAMPLES = """\
examples:
  carbontracker top
  carbontracker top --seconds 60 --json | jq .total.watts
  carbontracker top 0b21          # a run in progress: the start of its id, or its file
  carbontracker top logs --once

In a terminal it fills the screen; q ends it, ? lists the keys. Elsewhere it prints one table after
the other. Without RUN, the command measures this machine. With RUN, energy, emissions and
prediction come from its record, which grows with every epoch; the power is measured, if the run is
on this machine.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker top",
        "Show the power, energy and emissions of this machine or of a run, live.",
        EXAMPLES,
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="file, directory or id of a record")
    parser.add_argument("--once", action="store_true", help="print one table and exit")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--seconds", type=_seconds, metavar="S", help="exit after S seconds")
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="seconds between tables (default 1)",
    )
    parser.add_argument(
        "--location", metavar="PLACE", help="without RUN: the location of this machine"
    )
    return parser


def main(arguments: list[str]) -> int:
    """Show the table until Ctrl-C, or for the given time."""
    given = command_parser().parse_args(arguments)

    from carbontracker.exceptions import NoSuchRun, UnknownLocation

    try:
        with _views(given) as view:
            _show(view, given)
    except (NoSuchRun, UnknownLocation, ValueError) as error:
        say(error)
        return USAGE_ERROR
    except KeyboardInterrupt:
        pass  # the usual way to end it
    return 0


def _seconds(text: str) -> float:
    """Return a time, s.

    Raises:
        argparse.ArgumentTypeError: the text is not a time; argparse prints the message.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds < math.inf:
        message = f"{text!r} is not a number of seconds, 0 or more"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _show(view: Callable[[], View], given: argparse.Namespace) -> None:
    from carbontracker.cli.full_screen import usable

    end_s = time.monotonic() + (given.seconds if given.seconds is not None else math.inf)
    interval_s = max(MIN_INTERVAL_S, given.interval)
    if given.json or given.once or not usable(sys.stdout):
        _print_views(view, given, interval_s, end_s)
    else:
        _fill_screen(view, interval_s, end_s)


def _print_views(
    view: Callable[[], View], given: argparse.Namespace, interval_s: float, end_s: float
) -> None:
    """Print one table, or one line of JSON, after the other."""
    from carbontracker.report import live

    first = True
    while True:
        time.sleep(min(interval_s, max(0.0, end_s - time.monotonic())))
        now = view()
        text = json.dumps(live.as_json(now)) if given.json else live.table(now)
        print(text if first or given.json else f"\n{text}", flush=True)
        first = False
        if given.once or not now.goes_on or time.monotonic() >= end_s:
            return


def _fill_screen(view: Callable[[], View], interval_s: float, end_s: float) -> None:
    """Draw the view in place and obey keys; the last table stays in the terminal."""
    from carbontracker.cli.full_screen import FullScreen
    from carbontracker.report.live import table
    from carbontracker.report.top_screen import TopScreen

    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    top = TopScreen(colour=not os.environ.get("NO_COLOR"), ascii_only=plain)
    now: View | None = None
    try:
        with FullScreen(sys.stdout) as screen:
            due_s = time.monotonic() + interval_s
            while now is None or (now.goes_on and time.monotonic() < end_s):
                screen.show(top.lines(now, *screen.size()))
                key = screen.key(min(due_s, end_s))
                if key is not None and not top.press(key):
                    break
                if time.monotonic() >= min(due_s, end_s):
                    now = view()
                    top.add(now)
                    due_s = time.monotonic() + interval_s
    finally:
        if now is not None:
            print(table(now), flush=True)


@contextmanager
def _views(given: argparse.Namespace) -> Iterator[Callable[[], View]]:
    """Yield a function that returns the current view."""
    from carbontracker.energy.config import Config
    from carbontracker.energy.session import acquire, release

    attached = _Attached(given.run) if given.run is not None else None
    if attached is not None and not attached.run.running:
        yield lambda: attached.view(None)
        return
    session = acquire(Config.from_environment())
    try:
        if attached is None:
            yield _of_machine(session, given.location)
        else:
            yield lambda: attached.view(session)
    finally:
        release(session)


def _of_machine(session: Session, location: str | None) -> Callable[[], View]:
    from carbontracker.carbon.factors import make_carbon_factors
    from carbontracker.records.environment import processor_name
    from carbontracker.report.live import view_of_machine
    from carbontracker.training.live_status import StatusReader

    factors, processor = make_carbon_factors(location), processor_name() or ""
    status_reader = StatusReader(session, session.mark(), lambda: factors)
    return lambda: view_of_machine(status_reader.take(), processor)


class _Attached:
    """A recorded run. Its record is read again whenever the file has grown."""

    def __init__(self, path: str) -> None:
        from carbontracker.records.reader import read_run

        self.run = read_run(path)
        self._ran_here = self.run.running
        self._size = self.run.path.stat().st_size

    def view(self, session: Session | None) -> View:
        """Return the current view; the session measures the power while the run is in progress."""
        from carbontracker.report.live import view_of_run
        from carbontracker.training.live_status import watts_of

        self._refresh()
        now_s = (datetime.now(timezone.utc) - self.run.started).total_seconds()
        runs = self.run.running
        beside = watts_of(session) if session is not None and runs else None
        view = view_of_run(self.run, now_s, beside)
        killed = self._ran_here and not runs  # a run on another machine may still be in progress
        return replace(view, goes_on=view.goes_on and not killed)

    def _refresh(self) -> None:
        from carbontracker.records.reader import read_runs

        size = self.run.path.stat().st_size
        if size == self._size:
            return
        self._size = size
        for run in read_runs(self.run.path):
            if run.id == self.run.id:
                self.run = run
