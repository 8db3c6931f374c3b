"""Power over time, with its resolution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    Int64s = NDArray[np.int64]
    Floats = NDArray[np.float64]
    _Pair = tuple[Int64s, Floats]
else:
    _Pair = tuple


class PowerSeries(_Pair):
    """Times (n,), ns of CLOCK_MONOTONIC, and the mean power (n,), W, up to each: a pair of arrays.

    Its attributes state the resolution: samples that are older than ``keep_full_s`` are thinned.
    """

    thinned_to_ns: int
    """Up to here the samples were thinned; 0 if the whole series has every sample."""

    def __new__(cls, t_ns: Int64s, watts: Floats, thinned_to_ns: int = 0) -> Self:
        """Return the pair."""
        series = super().__new__(cls, (t_ns, watts))
        series.thinned_to_ns = thinned_to_ns
        return series

    def __reduce__(self) -> tuple[type[Self], tuple[Int64s, Floats, int]]:
        """Return how a copy is made."""
        return type(self), (self[0], self[1], self.thinned_to_ns)

    @property
    def t_ns(self) -> Int64s:
        """Return the times, the first of the pair."""
        return self[0]

    @property
    def watts(self) -> Floats:
        """Return the power, the second of the pair."""
        return self[1]

    @property
    def spacing_s(self) -> float:
        """Return the median time between points where every sample was kept, s; NaN without any."""
        return _median_s(self.t_ns[self.t_ns > self.thinned_to_ns])

    @property
    def thinned_spacing_s(self) -> float:
        """Return the median time between points where samples were thinned, s; NaN without any."""
        return _median_s(self.t_ns[self.t_ns <= self.thinned_to_ns])


def _median_s(t_ns: Int64s) -> float:
    import numpy as np

    return float(np.median(np.diff(t_ns))) / 1e9 if len(t_ns) > 1 else math.nan
