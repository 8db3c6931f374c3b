"""Prediction of the whole training from a part: steps and epochs in, numbers out.

Pure arithmetic: no clock, no sensor, no file. ``docs/prediction.md`` has the method and its errors.
"""

from __future__ import annotations

from carbontracker.prediction.estimator import Estimator
from carbontracker.prediction.prior import Prior
from carbontracker.prediction.timeline import joules_between

__all__ = ["Estimator", "Prior", "joules_between"]
