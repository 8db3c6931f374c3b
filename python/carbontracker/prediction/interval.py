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
    "seconds, steps, in epoch 1": Factors(2.66, 1.51, 0.64, 0.98),
    "seconds, steps, after 1": Factors(6.36, 1.93, 1.08, 4.94),
    "seconds, steps, after 2": Factors(12.10, 3.24, 4.11, 7.90),
    "seconds, steps, after 5": Factors(12.65, 1.61, 1.77, 5.54),
    "seconds, epochs, after 1": Factors(2.13, 1.28, 0.64, 0.98),
    "seconds, epochs, after 2": Factors(6.35, 2.04, 1.64, 2.79),
    "seconds, epochs, after 5": Factors(9.83, 1.85, 1.31, 4.93),
    "joules, steps, in epoch 1": Factors(1.82, 1.30, 0.64, 0.98),
    "joules, steps, after 1": Factors(6.42, 1.49, 0.73, 2.76),
    "joules, steps, after 2": Factors(12.83, 4.05, 2.62, 4.82),
    "joules, steps, after 5": Factors(12.78, 1.89, 1.43, 2.82),
    "joules, epochs, after 1": Factors(1.39, 1.04, 0.64, 0.98),
    "joules, epochs, after 2": Factors(4.84, 2.01, 1.03, 1.77),
    "joules, epochs, after 5": Factors(8.65, 1.65, 1.03, 2.07),
}
LEAST_SIGMA = 0.01
"""Of the remainder, relative: so much may come that nothing has announced."""


def stage(quantity: str, finished: int, *, with_steps: bool) -> str:
    """Return the row of ``FACTORS`` of seconds or joules after so many finished epochs."""
    if not finished:
        return f"{quantity}, steps, in epoch 1"
    what = "steps" if with_steps else "epochs"
    return f"{quantity}, {what}, after {5 if finished >= 5 else min(finished, 2)}"


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
        done + rest * math.exp(sign * factor * sigma)
        for sign, factor in zip((-1, -1, 1, 1), factors, strict=True)
    )
    return (below_80, above_80), (below_95, above_95)
