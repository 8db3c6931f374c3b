"""What the programs of the recipes take from their reader: a training whose ranks go in step.

The ranks of a launch, which ``RANKS`` tells, meet in a directory once all of them measure.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

from carbontracker.tracker import CarbonTracker

EPOCH_S = 1.5
_meetings = itertools.count()
_begin = CarbonTracker.__init__


def meet() -> None:
    """Wait for the other ranks."""
    number = next(_meetings)
    here = Path(os.environ["SAID"])
    (here / f"met-{number}-{os.getpid()}").touch()
    while len(list(here.glob(f"met-{number}-*"))) < int(os.environ["RANKS"]):
        time.sleep(0.01)


def _begin_together(self: CarbonTracker, *arguments: Any, **named: Any) -> None:
    _begin(self, *arguments, **named)
    meet()


def train(epoch: int) -> None:
    """Train an epoch."""
    time.sleep(EPOCH_S)
    meet()


CarbonTracker.__init__ = _begin_together  # type: ignore[method-assign]
