"""The 80 % and 95 % intervals of a prediction.

In simulated trainings of many kinds, the true remaining cost divided by the predicted one lay
between these quantiles (split conformal prediction; Papadopoulos et al. 2002,
doi:10.1007/3-540-36755-1_29). ``bench/prediction.py --calibrate`` prints this table, from the
trainings of seeds 1 to 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from carbontracker.model.prediction import Interval


class Ratios(NamedTuple):
    """Quantiles of true over predicted remainder."""

    low_95: float
    low_80: float
    high_80: float
    high_95: float


RATIOS = {
    "seconds": {
        0: Ratios(0.621, 0.759, 1.140, 1.233),
        1: Ratios(0.609, 0.772, 1.096, 1.180),
        2: Ratios(0.798, 0.920, 1.084, 1.164),
        5: Ratios(0.802, 0.943, 1.051, 1.116),
    },
    "joules": {
        0: Ratios(0.715, 0.791, 1.075, 1.143),
        1: Ratios(0.724, 0.801, 1.056, 1.115),
        2: Ratios(0.800, 0.911, 1.053, 1.103),
        5: Ratios(0.805, 0.943, 1.030, 1.070),
    },
}
"""By quantity, and by the number of finished epochs from which on they hold."""


def ratios(quantity: str, after_epochs: float) -> Ratios:
    """Return the row of ``RATIOS`` after so many epochs."""
    rows = RATIOS[quantity]
    return rows[max(epochs for epochs in rows if epochs <= after_epochs)]


def intervals(
    quantity: str, after_epochs: float, done: float, remaining: float
) -> tuple[Interval, Interval]:
    """Return the 80 % and the 95 % interval of ``done + remaining``.

    Args:
        quantity: ``seconds`` or ``joules``.
        after_epochs: finished epochs, a fraction within one.
        done: what is spent already, s or J.
        remaining: what is predicted to come, s or J.
    """
    low_95, low_80, high_80, high_95 = (
        done + ratio * remaining for ratio in ratios(quantity, after_epochs)
    )
    return (low_80, high_80), (low_95, high_95)
