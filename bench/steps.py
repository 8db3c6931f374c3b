"""What the mark of a step costs, and that ten million of them take no memory.

Beside it, in the same process and interleaved: an empty method call, which is what no mark at all
would cost if it were called.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common import Report, abba, arguments_parser, figure, percentile, ratios, table

if TYPE_CHECKING:
    from collections.abc import Callable

MILLION = 1_000_000
BATCH = 10_000


class _Nothing:
    def step(self, n: int = 1) -> None:
        """Do nothing."""


def each(call: Callable[[], object], count: int) -> list[int]:
    """Return how long each of `count` calls took, ns, the clock's own reading included."""
    clock, took = time.perf_counter_ns, []
    for _ in range(count):
        a = clock()
        call()
        took.append(clock() - a)
    return took


def batch(call: Callable[[], object]) -> float:
    """Return the mean of a batch of calls, ns, the loop included."""
    a = time.perf_counter_ns()
    for _ in range(BATCH):
        call()
    return (time.perf_counter_ns() - a) / BATCH


def resident_bytes() -> int:
    """Return the memory of this process, B."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Print the table."""
    parser = arguments_parser(__doc__)
    arguments = parser.parse_args()
    report = Report("steps", "Cost of a step mark", arguments.quick)
    from carbontracker.tracker import CarbonTracker

    tracker = CarbonTracker(
        *(3, 0), verbose=0, record=False, location="DK", sim_gpu="A", sim_gpu_watts=300.0,
        components="gpu", max_kwh=1e9,
    )  # fmt: skip
    tracker.epoch_start()
    rounds, count = (20, 20_000) if arguments.quick else (100, 200_000)
    calls = {"step()": tracker.step, "empty method": _Nothing().step}
    first = each(tracker.step, 2_000)  # while blocks are short
    batches: dict[str, list[float]] = {name: [] for name in calls}
    for _, name in abba(list(calls), rounds):
        batches[name].append(batch(calls[name]))
    single = {name: each(call, count) for name, call in calls.items()}
    rows = [_row("step(), the first 2,000 of an epoch", first)]
    rows += [_row(f"{name}, later", took) for name, took in single.items()]
    rows += [_row(f"{name}, mean of {BATCH:,} in a loop", took) for name, took in batches.items()]
    report.say(table(["what", "p50, ns", "p99, ns", "calls"], rows))
    report.row(
        "step() over an empty method",
        ratios(batches["step()"], batches["empty method"]),
        "an empty method",
    )
    report.say(_memory(tracker, 2 if arguments.quick else 10))
    tracker.stop()
    report.finish(arguments)


def _memory(tracker: object, millions: int) -> str:
    step: Callable[[], object] = tracker.step  # type: ignore[attr-defined]  # a tracker
    before = resident_bytes()
    for _ in range(millions * MILLION):
        step()
    grown = resident_bytes() - before
    tracemalloc.start()
    base, _ = tracemalloc.get_traced_memory()
    for _ in range(MILLION // 10):
        step()
    traced = tracemalloc.get_traced_memory()[0] - base
    tracemalloc.stop()
    return (
        f"{millions} million steps: resident memory {grown / 1024:+.0f} KiB; allocated by 100,000 "
        f"more: {traced} B."
    )


def _row(what: str, took: list[int] | list[float]) -> list[str]:
    return [what, *(figure(percentile(took, share)) for share in (0.5, 0.99)), str(len(took))]


if __name__ == "__main__":
    main()
