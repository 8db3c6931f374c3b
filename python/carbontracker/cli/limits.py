"""The budget of a wrapped program: watched while it runs, and ended when it is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carbontracker.cli.exits import say
from carbontracker.guard import LIMITS, optional
from carbontracker.training.budget import Limits, overrun_dict

if TYPE_CHECKING:
    import argparse

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.session import Mark, Session
    from carbontracker.exceptions import BudgetExceeded

OVER_BUDGET = 124
"""Exit code where a budget was spent and the program was ended, as ``timeout`` has it."""

GRACE_S = 10.0

_BLIND_LOOKS = 3


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options of a budget."""
    group = parser.add_argument_group(
        "budget", f"spent, the program is ended and the exit code is {OVER_BUDGET}"
    )
    group.add_argument("--max-kwh", type=float, metavar="X", help="electricity with PUE, kWh")
    group.add_argument("--max-gco2eq", type=float, metavar="X", help="emissions, gCO2eq")
    group.add_argument("--max-seconds", type=float, metavar="X", help="time, s")
    group.add_argument(
        "--grace",
        type=float,
        metavar="S",
        default=GRACE_S,
        help=f"seconds from SIGTERM to SIGKILL (default {GRACE_S:g})",
    )


def limits_of(given: argparse.Namespace) -> Limits:
    """Return the limits that were given.

    Raises:
        ValueError: one that cannot be, or an impossible grace.
    """
    limits = Limits(given.max_kwh, given.max_gco2eq, given.max_seconds)
    limits.check()
    if not 0.0 <= given.grace <= 86_400.0:
        message = f"--grace must be from 0 to 86400 s, not {given.grace!r}"
        raise ValueError(message)
    return limits


class BudgetSupervisor:
    """Limits, watched over what a session measures from a mark on."""

    def __init__(
        self, limits: Limits, grace_s: float, session: Session, factors: CarbonFactors, start: Mark
    ) -> None:
        self.grace_s = grace_s
        self.over: BudgetExceeded | None = None
        """The limit that was passed."""
        self.limits = limits
        self._sees = True
        self._blind_looks = 0
        self._session = session
        self._factors = factors
        self._start = start

    def exceeded(self) -> bool:
        """Return whether a limit is exceeded; if that cannot be looked at, one line says so."""
        return self._sees and optional(LIMITS, self._look, self._go_blind)

    def _go_blind(self, _why: str) -> bool:
        self._sees = False
        return False

    def _look(self) -> bool:
        # Here, so that the options of a budget are known without the native core.
        from carbontracker.energy.session import Mark
        from carbontracker.training.window import footprint_between

        marks = self._start, Mark(None, False)
        energy = self._session.energy(*marks)
        footprint = footprint_between(self._session, self._factors, marks, energy)
        self._tell_blind(footprint)
        seconds = (marks[1].t_ns - marks[0].t_ns) / 1e9
        self.over = next(self.limits.exceeded(seconds, footprint, "measured"), None)
        return self.over is not None

    def _tell_blind(self, footprint: Footprint) -> None:
        """Say once that a limit is not watched: when a sensor would have been heard of by now."""
        unwatched = self.limits.unwatched(footprint)
        self._blind_looks += bool(unwatched)
        if unwatched and self._blind_looks == _BLIND_LOOKS:
            say(
                f"{' and '.join(unwatched)} cannot be watched, because no energy is measured: "
                "`carbontracker sensors` says why"
            )

    def facts(self) -> dict[str, Any]:
        """Return the record's ``stopped_by``: the limit that was passed, None if none was."""
        return {"stopped_by": overrun_dict(self.over) if self.over else None}
