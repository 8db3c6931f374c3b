"""When a provider may be asked again after a failure: the pauses between requests."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from carbontracker.intensity.cache import Answer

FIRST_PAUSE_S = 5.0
"""Pause after a first failure, s. It doubles with each further one, up to the interval."""
MAX_RETRY_AFTER_S = 86_400.0
"""Limit of a pause that a service asks for, s."""
REFUSED_FOR_GOOD = (401, 403, 410)
"""Statuses after which this process does not ask again."""

_ALL = "all"
"""Every question, where the service itself asked for a pause."""
_jitter = random.SystemRandom()
"""Not the generator that a training may have seeded."""


class _Pause(NamedTuple):
    """Why and how long a provider is not asked."""

    answer: Answer
    failures: int
    """Failures in a row."""
    since_s: float
    """Seconds since 1970."""
    lasts_s: float

    def left_s(self, now_s: float) -> float:
        """Return the rest of the pause, s; 0 if it is over, or if the clock was set back."""
        elapsed_s = now_s - self.since_s
        return max(0.0, self.lasts_s - elapsed_s) if elapsed_s >= 0 else 0.0


class Backoff:
    """The pauses of one provider, by question (``past``, ``forecast``).

    Args:
        max_pause_s: limit of a pause that grows from failure to failure, s.
    """

    def __init__(self, max_pause_s: float) -> None:
        self._max_pause_s = max_pause_s
        self._pauses: dict[str, _Pause] = {}

    def failure(self, question: str, now_s: float) -> Answer | None:
        """Return the failed answer that holds during a pause; None if the provider may be asked."""
        for name in (question, _ALL):
            if name in self._pauses and self._pauses[name].left_s(now_s) > 0:
                return self._pauses[name].answer
        return None

    def left_s(self, question: str, now_s: float) -> float | None:
        """Return the seconds until the question may be asked again; None without a failure."""
        pauses = [self._pauses[name] for name in (question, _ALL) if name in self._pauses]
        return max((pause.left_s(now_s) for pause in pauses), default=None)

    def succeeded(self, question: str) -> None:
        """End the pauses of a question: the next failure is a first one."""
        self._pauses.pop(question, None)

    def failed(self, question: str, answer: Answer, now_s: float) -> None:
        """Begin a pause, longer than the one before."""
        failures = self._pauses[question].failures if question in self._pauses else 0
        lasts_s = math.inf
        if answer.status not in REFUSED_FOR_GOOD:
            lasts_s = min(FIRST_PAUSE_S * 2.0 ** min(failures, 20), self._max_pause_s)
            lasts_s *= _jitter.uniform(0.5, 1.0)
        self._pauses[question] = _Pause(answer, failures + 1, now_s, lasts_s)
        if answer.retry_after_s:
            wait_s = min(answer.retry_after_s, MAX_RETRY_AFTER_S)
            self._pauses[_ALL] = _Pause(answer, 1, now_s, wait_s)
