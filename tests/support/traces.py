"""Profiles as torch.profiler writes them, and power, made of nothing but numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from carbontracker.traces.attribution import Power

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECOND = 1_000_000_000
ZERO_NS = 0
BASE_NS = -5 * SECOND
"""A base that is not the moment from which these tests count, so that it matters."""


def power(edges_s: Sequence[float], watts: Sequence[float], zero_ns: int = ZERO_NS) -> Power:
    """Return power that is constant between edges."""
    edges = np.round(np.array(edges_s) * SECOND).astype(np.int64) + zero_ns
    return Power(edges, np.array(watts, dtype=float))


class Profiled:
    """A profile in the making; times in seconds after a moment."""

    def __init__(self, zero_ns: int = ZERO_NS, base_ns: int = BASE_NS) -> None:
        self.zero_ns = zero_ns
        self.data: dict[str, Any] = {
            "schemaVersion": 1,
            "displayTimeUnit": "ms",
            "baseTimeNanoseconds": base_ns,
            "traceEvents": [
                {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "ts": 0,
                 "args": {"name": "python"}},
                {"ph": "i", "s": "g", "name": "Record Window End", "pid": "", "tid": "", "ts": 0},
            ],
        }  # fmt: skip

    def add(
        self, name: str, start_s: float, end_s: float, *, cat: str = "cpu_op", **more: Any
    ) -> None:
        """Add a slice.

        What else is given goes to its arguments, but for ``tid``; ``external`` is the External id.
        """
        if "external" in more:
            more["External id"] = more.pop("external")
        start_ns = round(start_s * SECOND) + self.zero_ns - self.data["baseTimeNanoseconds"]
        event = {
            "ph": "X",
            "cat": cat,
            "name": name,
            "pid": 1,
            "tid": more.pop("tid", 1),
            "ts": start_ns / 1e3,
            "dur": (end_s - start_s) * 1e6,
            "args": more,
        }
        self.data["traceEvents"].append(event)

    def write(self, path: Path) -> Path:
        """Write it."""
        path.write_text(json.dumps(self.data))
        return path
