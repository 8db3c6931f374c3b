"""Prediction of the whole training from a part: steps and epochs in, numbers out.

``predictor``, ``intervals``, ``prior`` and ``timeline`` are arithmetic: they know no clock, no
sensor and no file. ``docs/prediction.md`` has the method and its errors.
"""

from __future__ import annotations

from carbontracker.prediction.predictor import Predictor
from carbontracker.prediction.prior import Prior
from carbontracker.prediction.timeline import joules_between

__all__ = ["Predictor", "Prior", "joules_between"]


def __getattr__(name: str) -> object:
    if name != "Estimator":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from warnings import warn

    message = f"{__name__}.Estimator is now Predictor; the next release drops the old name"
    warn(message, DeprecationWarning, stacklevel=2)
    return Predictor
