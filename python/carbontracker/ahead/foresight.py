"""What is to come, from what has been: the one place that asks for predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from carbontracker.ahead.predict import Prediction, predict_mean
from carbontracker.session import Mark
from carbontracker.steps import STEP, Block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.budget import Budget
    from carbontracker.run import Epoch, Forecast
    from carbontracker.session import Session


@dataclass
class Outlook:
    """What was predicted of a training, and how much it may cost."""

    budget: Budget
    newest: Forecast | None = None
    """Shown or not."""
    shown: list[Forecast] = field(default_factory=list)
    renewed_ns: int = 0
    """When the newest was made, on CLOCK_MONOTONIC."""


WARM_UP_SHARE = 0.1
"""Share of the blocks at the beginning of the first epoch that tell nothing of the rest."""


def predict_epochs(epochs: int, done: Sequence[Epoch]) -> Prediction:
    """Return what ``epochs`` epochs will cost, from the finished ones.

    Raises:
        ValueError: none is finished.
    """
    # Epochs that could not be measured tell of time only.
    known = [epoch for epoch in done if not math.isnan(epoch.energy.joules)] or done
    return predict_mean(
        epochs, [epoch.seconds for epoch in done], [epoch.energy.joules for epoch in known]
    )


def predict_steps(
    epochs: int, per_epoch: int, blocks: Sequence[Block], session: Session
) -> Prediction:
    """Return what ``epochs`` epochs of ``per_epoch`` steps will cost, from the first's beginning.

    Raises:
        ValueError: no block of steps.
    """
    energies = session.energies([(_at(block.start_ns), _at(block.end_ns)) for block in blocks])
    seconds_of = [(block.end_ns - block.start_ns) / 1e9 for block in blocks]
    joules_of = [energy.joules for energy in energies]
    warm_up = int(WARM_UP_SHARE * len(blocks))
    steady = [i for i in range(warm_up, len(blocks)) if blocks[i].kind == STEP]
    if not steady:
        message = "a prediction needs at least one block of steps"
        raise ValueError(message)
    steps = sum(blocks[i].steps for i in steady)
    left = max(0, per_epoch - sum(block.steps for block in blocks))
    seconds, joules = (
        math.fsum(costs) + left * math.fsum(costs[i] for i in steady) / steps
        for costs in (seconds_of, joules_of)
    )
    mean = predict_mean(epochs, [seconds], [joules])
    return replace(mean, after_epochs=0, method="mean step")


def _at(t_ns: int) -> Mark:
    return Mark(None, False, t_ns)
