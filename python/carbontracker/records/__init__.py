"""The record of runs: its writer, its reader, and arithmetic on many of them.

Names are loaded when they are first used.
"""

from __future__ import annotations

from carbontracker._lazy import lazy_names
from carbontracker.exceptions import NoSuchRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbontracker.records.aggregate import add_runs
    from carbontracker.records.reader import read_run, read_runs
    from carbontracker.records.recalculation import recalculate

__all__ = ["NoSuchRun", "add_runs", "read_run", "read_runs", "recalculate"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "add_runs": "aggregate",
        "read_run": "reader",
        "read_runs": "reader",
        "recalculate": "recalculation",
    },
)
