"""How many ticks of a 1 kHz sampler come, and when, beside a training that holds the interpreter.

The main thread computes in pure Python and every core carries another busy process. Slices with
the native sampler and with a sampling thread in Python alternate; both read the same eight
pretended GPUs, whose counters move all the time. A tick is accounted for if it was taken, or
counted as missed. Lateness is against the deadline where the core reports it (`lateness_p50_ns`);
the spacing of samples, which needs no report, is compared either way.
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from bench import peers
from bench.common import (
    NAN,
    Report,
    Spread,
    abba,
    arguments_parser,
    mean,
    percentile,
    ratios,
    spread,
    table,
)
from bench.hardware import machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.fakehost import Gpu

HZ = 1000.0
PERIOD_NS = 1e9 / HZ
GPUS = 8
BURN = "while True: pass"


@contextmanager
def burners() -> Iterator[None]:
    """Keep every core busy with a process of its own."""
    running = []
    for cpu in sorted(os.sched_getaffinity(0)):
        process = subprocess.Popen([sys.executable, "-c", BURN])
        peers.pin(process.pid, {cpu})
        running.append(process)
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def irregularity_ns(times_ns: Sequence[int]) -> list[float]:
    """Return how far each spacing of samples is from the period, ns."""
    return [abs(b - a - PERIOD_NS) for a, b in itertools.pairwise(times_ns)]


def native_slice(one: peers.Worker, seconds: float) -> dict[str, float]:
    """Let the main thread compute for so long under the native sampler; return its ticks."""
    found = one.ask("call", name="spin", seconds=seconds)
    start_ns, end_ns = found["start_ns"], found["end_ns"]
    before, after = source(found["before"]), source(found["after"])
    change = {key: after[key] - before.get(key, 0) for key in after}
    taken = change["reads"] - change.get("edge_reads", 0)
    expected = (end_ns - start_ns) / PERIOD_NS
    times = one.ask("call", name="sample_times", index=0, start_ns=start_ns, end_ns=end_ns)
    spacing = irregularity_ns(times)
    return {
        "taken": taken / expected,
        "accounted": (taken + change["late"]) / expected,
        "lateness_p50": after.get("lateness_p50_ns", float("nan")),
        "lateness_p99": after.get("lateness_p99_ns", float("nan")),
        "spacing_p50": percentile(spacing, 0.5),
        "spacing_p99": percentile(spacing, 0.99),
    }


def source(stats: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the statistics of the thread that reads the GPUs."""
    return next(one for name, one in stats.items() if name.startswith("nvml"))


def python_slice(one: peers.Worker, seconds: float) -> dict[str, float]:
    """Do the same with a sampling thread in Python."""
    found = one.ask("call", name="sample_and_spin", hz=HZ, seconds=seconds)
    late = [float(b - a) for a, b in zip(found["due"], found["taken"], strict=True)]
    spacing = irregularity_ns(found["taken"])
    share = len(late) / (seconds * HZ)
    return {
        "taken": share,
        "accounted": share,
        "lateness_p50": percentile(late, 0.5),
        "lateness_p99": percentile(late, 0.99),
        "spacing_p50": percentile(spacing, 0.5),
        "spacing_p99": percentile(spacing, 0.99),
    }


def alternate(rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Run both, in turn, on a loaded machine."""
    boards: list[Gpu] = [{"power": f"constant:{100 + i}"} for i in range(GPUS)]
    settings = {"CARBONTRACKER_RATE_HZ": repr(HZ), "CARBONTRACKER_OVERHEAD_BUDGET": "0"}
    found: dict[str, list[dict[str, float]]] = {"native": [], "python": []}
    with machine(boards, []) as host, ExitStack() as stack:
        native = stack.enter_context(peers.worker("ours", host.environment("native", **settings)))
        python = stack.enter_context(
            peers.worker("ours", host.environment("python"), adapter="thread")
        )
        for one in (native, python):
            one.ask("start")
        stack.enter_context(burners())
        for _, name in abba(list(found), rounds):
            one = {"native": native, "python": python}[name]
            found[name].append({"native": native_slice, "python": python_slice}[name](one, seconds))
    return found


QUANTITIES = {
    "taken": ("ticks taken, % of those due", 100.0),
    "accounted": ("ticks taken or counted as missed, %", 100.0),
    "lateness_p50": ("lateness, median, us", 1e-3),
    "lateness_p99": ("lateness, 99th percentile, us", 1e-3),
    "spacing_p50": ("spacing off 1 ms by, median, us", 1e-3),
    "spacing_p99": ("spacing off 1 ms by, 99th percentile, us", 1e-3),
}


def main() -> None:
    """Print the table."""
    parser = arguments_parser(__doc__)
    arguments = parser.parse_args()
    report = Report("jitter", "Ticks of a 1 kHz sampler under load", arguments.quick)
    found = alternate(*((7, 1.0) if arguments.quick else (15, 2.0)))
    columns: dict[str, dict[str, list[float]]] = {
        key: {name: [one[key] for one in slices] for name, slices in found.items()}
        for key in QUANTITIES
    }
    rows = []
    for key, (label, scale) in QUANTITIES.items():
        both = columns[key]
        by_name = [str(spread(both[name]).scaled(scale)) for name in found]
        rows.append([label, *by_name, str(ratios(both["native"], both["python"]))])
    report.say(table(["", "native (quartiles)", "Python thread", "native / Python"], rows))
    against = "Python thread, same reads"
    both = columns["lateness_p50"]
    if not any(map(math.isnan, both["native"])):
        report.row(
            "lateness p50 at 1 kHz, busy main",
            ratios(both["native"], both["python"]),
            against,
            1 / 150,
        )
    both = columns["spacing_p50"]
    report.row(
        "spacing off 1 ms by, p50, busy main", ratios(both["native"], both["python"]), against
    )
    # Over all slices together: one tick more or less at the ends of a slice means nothing.
    missing = abs(1 - mean(columns["accounted"]["native"]))
    count = len(found["native"])
    all_ticks = "all ticks that were due"
    report.row("ticks not accounted for", Spread(missing, NAN, NAN, count), all_ticks, 0.001)
    report.finish(arguments)


if __name__ == "__main__":
    main()
