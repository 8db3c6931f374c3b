"""``carbontracker top [RUN]``: what is drawn right now, by device, refreshed."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.recorded import RunRecord
    from carbontracker.report.watching import View
    from carbontracker.session import Session

USAGE_ERROR = 2
LEAST_INTERVAL_S = 0.1

EXAMPLES = """\
examples:
  carbontracker top
  carbontracker top --seconds 60 --json | jq .total.watts
  carbontracker top 0b21          # a run that goes on: the beginning of its id, or its file
  carbontracker top logs --once

Without RUN this machine is sampled from now on. With RUN, joules, grams and prediction are those of
its record, which grows with every epoch, and the power is measured beside it if it runs here.
"""


def main(arguments: list[str]) -> int:
    """Show the table until it is interrupted, or for so long as was asked for."""
    parser = argparse.ArgumentParser(
        prog="carbontracker top",
        description="Show power, energy and emissions while they happen.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="file, directory or id of a record")
    parser.add_argument("--once", action="store_true", help="one table, then leave")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--seconds", type=float, metavar="S", help="leave after so long")
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="default 1")
    parser.add_argument("--location", metavar="PLACE", help="without RUN: where this machine is")
    given = parser.parse_args(arguments)

    from carbontracker.location import UnknownLocation
    from carbontracker.reading import NoSuchRun

    try:
        with _views(given) as view:
            _show(view, given)
    except (NoSuchRun, UnknownLocation, ValueError) as error:
        print(f"carbontracker: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        pass  # how one leaves
    except BrokenPipeError:
        # Nobody reads on; what is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _show(view: Callable[[], View], given: argparse.Namespace) -> None:
    from carbontracker.report import watching

    interval_s = max(LEAST_INTERVAL_S, given.interval)
    end_s = time.monotonic() + (given.seconds if given.seconds is not None else float("inf"))
    in_place = not given.json and not given.once and sys.stdout.isatty()
    shown = 0
    while True:
        time.sleep(min(interval_s, max(0.0, end_s - time.monotonic())))
        now = view()
        text = json.dumps(watching.as_json(now)) if given.json else watching.table(now)
        if in_place:
            text = _fitting(text)
            text = f"\x1b[{shown}F\x1b[J{text}" if shown else text
        elif shown and not given.json:
            text = f"\n{text}"
        print(text, flush=True)
        shown = len(text.splitlines())
        if given.once or time.monotonic() >= end_s:
            return


def _fitting(text: str) -> str:
    """Cut lines to the width of the terminal: one that wraps would be two to go back over."""
    columns = shutil.get_terminal_size().columns
    return "\n".join(line[:columns] for line in text.splitlines())


@contextmanager
def _views(given: argparse.Namespace) -> Iterator[Callable[[], View]]:
    """Yield what makes the view of each moment."""
    from carbontracker.session import Config, acquire, release

    run = _found(given.run)
    if run is not None and not run.running:
        yield lambda: _of_run(given.run, None)
        return
    session = acquire(Config.from_environment())
    try:
        if run is None:
            yield _of_machine(session, given.location)
        else:
            yield lambda: _of_run(given.run, session)
    finally:
        release(session)


def _found(path: str | None) -> RunRecord | None:
    from carbontracker.reading import read_run

    return None if path is None else read_run(path)


def _of_machine(session: Session, location: str | None) -> Callable[[], View]:
    from carbontracker.pricing import make_pricing
    from carbontracker.report.watching import view_of_machine
    from carbontracker.vitals import Pulse

    pricing = make_pricing(location)
    pulse = Pulse(session, session.mark(), lambda: pricing)
    return lambda: view_of_machine(pulse.take())


def _of_run(path: str, session: Session | None) -> View:
    from carbontracker.reading import read_run
    from carbontracker.report.watching import view_of_run
    from carbontracker.vitals import watts_of

    run = read_run(path)
    now_s = (datetime.now(timezone.utc) - run.started).total_seconds()
    return view_of_run(run, now_s, watts_of(session) if session and run.running else None)
