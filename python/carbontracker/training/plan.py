"""The plan of a training: how long it is, in epochs or in steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The length of a training. Steps, where they are given, decide; else epochs."""

    epochs: float
    """The last one may be a part of one; 0 if the number is not known."""
    steps: int | None = None
    """Calls of ``step()``; None if the plan is in epochs."""

    @property
    def known(self) -> bool:
        """Return whether there is a length to predict for."""
        return self.epochs > 0 or self.steps is not None

    def reached(self, epochs: int, steps: int) -> bool:
        """Return whether so many epochs with so many steps are the whole training."""
        if self.steps is not None:
            return steps >= self.steps
        return 0 < self.epochs <= epochs
