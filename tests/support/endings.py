"""How ranks of a real training by torchrun may end: programs for tests and for the bench."""

from __future__ import annotations

from tests.support.jobs import PRELUDE, TORCH

WITHOUT_US = PRELUDE.replace(
    "from carbontracker.tracker import CarbonTracker\n",
    """
class CarbonTracker:
    def __init__(self, *words, **more):
        self.epoch_start = self.epoch_end = self.stop = lambda: None
""",
).partition("def said_result")[0]
"""The same beginning for a program that is not measured."""
_TRAIN = """
tracker = CarbonTracker(2, epochs_before_pred=0)
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(1.0)
    dist.barrier()
    tracker.epoch_end()
say(trained=time.monotonic())
"""
ENDINGS = {
    "all stop": f"{_TRAIN}tracker.stop()\n",
    "only rank 0 tracks": f"""
if rank:
    class CarbonTracker:
        def __init__(self, *words, **more):
            self.epoch_start = self.epoch_end = self.stop = lambda: None
{_TRAIN}tracker.stop()
""",
    "rank 3 never stops": f"{_TRAIN}if rank != 3:\n    tracker.stop()\n",
    "rank 3 is gone": f"{_TRAIN}if rank == 3:\n    os._exit(0)\ntracker.stop()\n",
    "rank 2 raises": f"{_TRAIN}if rank == 2:\n    raise ValueError\ntracker.stop()\n",
    "group destroyed": f"{_TRAIN}dist.destroy_process_group()\ntracker.stop()\n",
}
"""What each rank runs after the group is initialised."""


def ending(name: str, *, measured: bool = True) -> str:
    """Return the program of a rank that ends so, with or without a tracker."""
    return (PRELUDE if measured else WITHOUT_US) + TORCH + ENDINGS[name]


LIMITED = (
    PRELUDE
    + TORCH
    + """
from carbontracker.exceptions import BudgetExceeded
tracker = CarbonTracker(60, epochs_before_pred=0, on_budget="raise", max_kwh=KWH)
done = 0
try:
    for epoch in range(60):
        tracker.epoch_start()
        time.sleep(0.4)
        dist.barrier()
        tracker.epoch_end()
        done = epoch + 1
except BudgetExceeded as error:
    say(limit=error.limit, done=done, ended=time.monotonic())
"""
)
"""A training of which a limit of the job stops all ranks."""
