"""From a predicted remainder and its model error to 80 % and 95 % intervals.

The model's own standard deviation knows the noise it has seen, not what it has no idea of. So it is
multiplied by factors found on simulated trainings: the quantiles of (truth - prediction) / sigma
there (split conformal prediction; Papadopoulos et al. 2002, doi:10.1007/3-540-36755-1_29), below
and above apart, by how much has been seen, and at least half of those of a normal distribution.
``bench/prediction.py --tune`` prints this table.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Factors(NamedTuple):
    """Multiples of sigma: how far the truth lay below and above."""

    below_95: float
    below_80: float
    above_80: float
    above_95: float


FACTORS = {
    "seconds, steps, in epoch 1": Factors(2.51, 1.39, 0.66, 1.12),
    "seconds, steps, after 1": Factors(2.71, 1.31, 0.64, 0.98),
    "seconds, steps, in epoch 2": Factors(8.77, 3.39, 3.12, 8.42),
    "seconds, steps, after 2": Factors(11.73, 3.40, 3.33, 6.74),
    "seconds, steps, after 5": Factors(12.20, 1.50, 1.64, 4.82),
    "seconds, epochs, after 1": Factors(2.54, 1.48, 0.64, 0.98),
    "seconds, epochs, after 2": Factors(4.69, 1.84, 1.47, 2.93),
    "seconds, epochs, after 5": Factors(8.44, 1.41, 1.19, 3.71),
    "joules, steps, in epoch 1": Factors(1.79, 1.20, 0.64, 0.98),
    "joules, steps, after 1": Factors(1.64, 1.11, 0.64, 0.98),
    "joules, steps, in epoch 2": Factors(9.66, 3.74, 2.07, 4.16),
    "joules, steps, after 2": Factors(11.53, 3.99, 2.32, 4.57),
    "joules, steps, after 5": Factors(12.06, 1.49, 1.33, 2.72),
    "joules, epochs, after 1": Factors(1.67, 1.20, 0.64, 0.98),
    "joules, epochs, after 2": Factors(4.94, 1.93, 1.08, 1.99),
    "joules, epochs, after 5": Factors(8.56, 1.38, 1.03, 1.95),
}
LEAST_SIGMA = 0.01
"""Of the remainder, relative: so much may come that nothing has announced."""
MOST_LOG = math.log(1e6)
"""No end is further off than a million times the remainder: a drift that is extrapolated over 1e10
epochs knows no bound, and an infinite end is no JSON."""


def stage(quantity: str, after_epochs: float, *, with_steps: bool) -> str:
    """Return the row of ``FACTORS`` of seconds or joules after so many epochs."""
    if after_epochs < 1:
        return f"{quantity}, steps, in epoch 1"
    if with_steps and 1 < after_epochs < 2:
        return f"{quantity}, steps, in epoch 2"
    what = "steps" if with_steps else "epochs"
    return f"{quantity}, {what}, after {5 if after_epochs >= 5 else min(int(after_epochs), 2)}"


def intervals(
    done: float, rest: float, sigma: float, row: str
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the 80 % and the 95 % interval of ``done + rest``.

    Args:
        done: what is spent already.
        rest: what is predicted to come.
        sigma: standard deviation of the log of ``rest``.
        row: of ``FACTORS``.
    """
    factors = FACTORS[row]
    below_95, below_80, above_80, above_95 = (
        done + rest * math.exp(sign * min(factor * sigma, MOST_LOG))
        for sign, factor in zip((-1, -1, 1, 1), factors, strict=True)
    )
    return (below_80, above_80), (below_95, above_95)
