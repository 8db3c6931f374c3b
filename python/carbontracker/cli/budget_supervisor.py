"""The budget of a wrapped program: checked while it runs; exceeded, the program is ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.cli.exits import say
from carbontracker.guard import LIMITS, optional

if TYPE_CHECKING:
    import argparse

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.exceptions import BudgetExceeded
    from carbontracker.training.budget import Limits
    from carbontracker.training.training_run import TrainingRun

OVER_BUDGET = 124
"""Exit code if a budget was spent and the program was ended, as that of ``timeout``."""

GRACE_S = 10.0

_BLIND_CHECKS = 3


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


def check_grace(grace_s: float) -> None:
    """Refuse an impossible time between SIGTERM and SIGKILL.

    Raises:
        ValueError: it is not from 0 s to a day.
    """
    if not 0.0 <= grace_s <= 86_400.0:
        message = f"--grace must be from 0 to 86400 s, not {grace_s!r}"
        raise ValueError(message)


class BudgetSupervisor:
    """Checks the limits of a command while it runs."""

    def __init__(self, training: TrainingRun, limits: Limits, grace_s: float) -> None:
        self.grace_s = grace_s
        self.over: BudgetExceeded | None = None
        """The limit that was exceeded."""
        self._training = training
        self._limits = limits
        self._failed = False
        self._blind_checks = 0

    def exceeded(self) -> bool:
        """Return whether a limit is exceeded; if that cannot be checked, one line says so."""
        return not self._failed and optional(LIMITS, self._check, self._fail)

    def _fail(self, _why: str) -> bool:
        self._failed = True
        return False

    def _check(self) -> bool:
        spent = self._training.spent()
        self._report_blind(spent.footprint)
        self.over = next(self._training.overruns(spent), None)
        return self.over is not None

    def _report_blind(self, footprint: Footprint) -> None:
        """Report once that a limit cannot be checked: when a sensor would have answered by now."""
        unwatched = self._limits.unwatched(footprint)
        self._blind_checks += bool(unwatched)
        if unwatched and self._blind_checks == _BLIND_CHECKS:
            say(
                f"{' and '.join(unwatched)} cannot be watched, because no energy is measured: "
                "`carbontracker sensors` says why"
            )
