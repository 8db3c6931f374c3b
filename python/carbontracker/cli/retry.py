"""A second and a third request for commands, which ask a service once.

Whatever polls a service asks again anyway. A command would fail because of one busy moment.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from carbontracker.cli.exits import say
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.backoff import FIRST_PAUSE_S

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY = (429, 500, 502, 503, 504)
"""HTTP statuses of a service that may answer a moment later."""
PAUSES_S = (FIRST_PAUSE_S, 2 * FIRST_PAUSE_S)
"""Before the second and the third request, s: the longest pauses of ``Backoff`` after a first and
a second failure."""

_Answer = TypeVar("_Answer")


def retried(ask: Callable[[], _Answer], sleep: Callable[[float], object] = time.sleep) -> _Answer:
    """Return what ``ask`` returns; ask up to twice more while the service is busy.

    Args:
        ask: makes the request.
        sleep: waits so many seconds.

    Raises:
        IntensityUnavailable: the service stays busy, wants a longer pause, or failed otherwise.
    """
    for pause_s in PAUSES_S:
        try:
            return ask()
        except IntensityUnavailable as error:
            if error.status not in BUSY or (error.retry_after_s or 0.0) > pause_s:
                raise
            say(f"{error.reason}; next request in {pause_s:g} s")
        sleep(pause_s)
    return ask()
