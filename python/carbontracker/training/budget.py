"""What a training may cost: limits, when they are exceeded, and what happens then."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from numbers import Real
from typing import TYPE_CHECKING

from carbontracker.exceptions import BudgetExceeded
from carbontracker.guard import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.prediction import Forecast

    OnBudget = str | Callable[[BudgetExceeded], object]

BASES = ("measured", "predicted")
ACTIONS = ("warn", "raise")
UNITS = {"max_kwh": "kWh", "max_gco2eq": "gCO2eq", "max_seconds": "s"}


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that may be spent; None for no limit."""

    max_kwh: float | None = None
    """Electricity with PUE, kWh."""
    max_gco2eq: float | None = None
    """Emissions, gCO2eq."""
    max_seconds: float | None = None
    """Time since the first epoch began, s."""

    def check(self) -> None:
        """Refuse limits that cannot be.

        Raises:
            ValueError: one that is no number, not finite, or not above zero.
        """
        for name, most in asdict(self).items():
            given: object = most
            if given is None:
                continue
            flag = isinstance(given, bool)
            if flag or not isinstance(given, Real) or not 0.0 < float(given) < math.inf:
                message = f"{name} must be a finite number of {UNITS[name]} above 0, not {given!r}"
                raise ValueError(message)

    def __bool__(self) -> bool:
        """Return whether there is a limit."""
        return (self.max_kwh, self.max_gco2eq, self.max_seconds) != (None, None, None)

    def unwatched(self, footprint: Footprint) -> list[str]:
        """Return the limits that cannot be checked, because nothing is measured."""
        unknown = {"max_kwh": footprint.kwh, "max_gco2eq": footprint.gco2eq}
        return [
            name
            for name, value in unknown.items()
            if getattr(self, name) is not None and math.isnan(value)
        ]

    def exceeded(
        self, seconds: float, footprint: Footprint, basis: str
    ) -> Iterator[BudgetExceeded]:
        """Yield the limits that are exceeded. A value that is not known exceeds no limit.

        Args:
            seconds: time it takes, s.
            footprint: electricity and emissions.
            basis: how they are known, ``measured`` or ``predicted``.
        """
        values = {
            "max_kwh": footprint.kwh,
            "max_gco2eq": footprint.gco2eq,
            "max_seconds": seconds,
        }
        for name, value in values.items():
            most = getattr(self, name)
            if most is not None and value > most:
                yield BudgetExceeded(name, float(most), value, basis)


class Budget:
    """Limits, each of which is reported once."""

    def __init__(
        self,
        limits: Limits,
        basis: str = BASES[0],
        action: OnBudget = ACTIONS[0],
    ) -> None:
        self._limits = limits
        self._basis = basis
        self._action = action
        self._reported: set[str] = set()
        self._blind: set[str] = set()

    @property
    def needs_prediction(self) -> bool:
        """Return whether predictions are compared with the limits, so that a new one is needed."""
        return self._basis == "predicted"

    @property
    def may_stop(self) -> bool:
        """Return whether a limit may end the training: one function of the user may, too."""
        return callable(self._action) or self._action == "raise"

    def check(
        self, spent: Measurement, predicted: Forecast | None = None
    ) -> Iterator[BudgetExceeded]:
        """Yield the limits that are exceeded now and were not before.

        What was measured counts whatever the basis is.

        Args:
            spent: the cost so far.
            predicted: the newest prediction of the whole training, if there is one.
        """
        found = list(self._limits.exceeded(spent.seconds, spent.footprint, "measured"))
        if predicted is not None and self._basis == "predicted":
            found += self._limits.exceeded(
                predicted.prediction.seconds, predicted.footprint, "predicted"
            )
        for over in found:
            if over.limit not in self._reported:
                self._reported.add(over.limit)
                yield over

    def act(self, over: BudgetExceeded, *, training_over: bool = False) -> None:
        """Do what the user asked for where a limit is exceeded.

        Args:
            over: the limit.
            training_over: nothing is left that could be stopped.

        Raises:
            BudgetExceeded: the action is ``raise``, or a function that raises it.
        """
        if callable(self._action):
            _call(self._action, over)
        elif self._action == "raise" and not training_over:
            raise over

    def blind(self, footprint: Footprint) -> list[str]:
        """Return the limits that cannot be checked for lack of a measurement, each once."""
        names = [name for name in self._limits.unwatched(footprint) if name not in self._blind]
        self._blind |= set(names)
        return names


def _call(action: Callable[[BudgetExceeded], object], over: BudgetExceeded) -> None:
    """Call the user's function: a mail server that is down costs no measurement."""
    try:
        action(over)
    except BudgetExceeded:
        raise
    except Exception as error:  # noqa: BLE001  # the edge to the user's program
        logger.warning(
            "carbontracker: on_budget failed, monitoring goes on: %s: %s",
            type(error).__name__,
            error,
        )


def check_action(basis: object, action: object) -> None:
    """Refuse an unknown basis or action.

    Raises:
        ValueError: ``budget_on`` or ``on_budget`` is not one of its words.
    """
    if basis not in BASES:
        message = f"budget_on must be {' or '.join(BASES)}, not {basis!r}"
        raise ValueError(message)
    if action not in ACTIONS and not callable(action):
        message = f"on_budget must be {', '.join(ACTIONS)} or a function, not {action!r}"
        raise ValueError(message)
