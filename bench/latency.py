"""How long a mark, a window and its result take, with Zeus' windows beside.

Both tools look at the same pretended hardware: eight GPUs, whose calls take no time at first and
20 us then, and four RAPL counters. Batches of windows alternate between the two processes.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench import peers
from bench.common import (
    Report,
    abba,
    arguments_parser,
    figure,
    percentile,
    ratios,
    table,
)
from bench.hardware import board, machine, rapl_zones

if TYPE_CHECKING:
    from collections.abc import Sequence

GOAL_WITH_NS = 300.0
GOAL_RESULT_NS = 2000.0
FILL_HZ = 10_000.0
HOUR_S = 3600


def line(what: str, times_ns: Sequence[float]) -> list[str]:
    """Return a row of the table: p50 and p99 in microseconds."""
    p50, p99 = (percentile(times_ns, share) / 1e3 for share in (0.5, 0.99))
    return [what, figure(p50), figure(p99), str(len(times_ns))]


def windows(report: Report, call_us: float, rounds: int, count: int) -> list[list[str]]:
    """Compare begin and end of windows."""
    boards = [board("A100", f"constant:{200 + i}", latency_us=call_us) for i in range(8)]
    tools = peers.available(["ours", "zeus"])
    pairs: dict[str, list[list[float]]] = {tool: [] for tool in tools}
    medians: dict[str, list[float]] = {tool: [] for tool in tools}
    withs: list[float] = []
    marks: list[float] = []
    with machine(boards, rapl_zones(4)) as host, ExitStack() as stack:
        running = {
            tool: stack.enter_context(peers.worker(tool, host.environment(tool))) for tool in tools
        }
        for one in running.values():
            one.ask("start")
            one.ask("pairs", count=count)
        for _, tool in abba(tools, rounds):
            one = running[tool]
            found = one.ask("pairs", count=count)
            pairs[tool] += found
            medians[tool].append(percentile([a + b for a, b in found], 0.5))
            one.ask("call", name="forget")
            if tool == "ours":
                withs += one.ask("call", name="withs", count=count)
                marks += one.ask("call", name="marks", count=count)
    label = f"NVML calls of {call_us:g} us"
    rows = [
        line(f"{peers.NAMES[tool]}, {what}, {label}", [times[place] for times in pairs[tool]])
        for tool in tools
        for place, what in enumerate(("begin", "end"))
    ]
    rows += [line(f"ours, whole `with measure()`, {label}", withs)]
    rows += [line(f"ours, one mark, {label}", marks)] * bool(marks)
    if "zeus" in tools:
        report.row(
            f"begin + end, {label}",
            ratios(medians["ours"], medians["zeus"]),
            peers.NAMES["zeus"],
            1e-3,
        )
    return rows


def results(count: int, fill_s: float) -> list[list[str]]:
    """Time the result of a window: fresh, again, and after a fill at a high rate."""
    boards = [board("V100", f"square:60,300,0.9,0.{3 + i}") for i in range(8)]
    settings = {"CARBONTRACKER_RATE_HZ": repr(FILL_HZ), "CARBONTRACKER_OVERHEAD_BUDGET": "0"}
    rows = []
    with machine(boards, rapl_zones(4)) as host:
        with peers.worker("ours", host.environment("default")) as one:
            one.ask("start")
            fresh = one.ask("call", name="resolutions", count=count // 10, length_s=0.02)
            rows.append(line("window.energy.joules, first look at a final window", fresh))
            again = one.ask("call", name="again", count=count)
            rows.append(line("window.energy.joules, further looks", again))
        with peers.worker("ours", host.environment("filled", **settings)) as one:
            one.ask("start", settle_s=fill_s)
            fresh = one.ask("call", name="resolutions", count=count // 10, length_s=0.02)
            label = f"after {fill_s:g} s at {FILL_HZ / 1e3:g} kHz"
            rows.append(line(f"window.energy.joules, first look, {label}", fresh))
    return rows


def hour(count: int) -> list[list[str]]:
    """Time a look-up in an hour of one channel's history at 1 kHz, where one can be made."""
    try:
        import numpy as np
        from carbontracker.timeline import Timeline

        line_of_hour = Timeline(counter=True, tick_ns=1_000_000)
        rows = HOUR_S * 1000
        times = np.arange(1, rows + 1, dtype=np.int64) * 1_000_000
        energy = np.arange(1, rows + 1, dtype=np.int64) * 100_000
        flags = np.zeros(rows, dtype=np.uint32)
        span = np.full(rows, 1_000_000, dtype=np.int64)
        line_of_hour.extend(times, energy, span, flags, seen_ns=int(times[-1]))
        return [line("level in 1 h of history at 1 kHz", _look_up(line_of_hour, count))]
    except (ImportError, AttributeError, TypeError) as error:
        print(f"no hour of history can be made here: {error}")
        return []


def _look_up(history: object, count: int) -> list[float]:
    import random
    import time

    draw, took = random.Random(1), []
    for _ in range(count):
        t_ns = draw.randrange(10**9, HOUR_S * 10**9)
        start = time.perf_counter_ns()
        history.at(t_ns)  # type: ignore[attr-defined]  # of the extension
        took.append(float(time.perf_counter_ns() - start))
    return took


def main() -> None:
    """Print the table."""
    parser = arguments_parser(__doc__)
    arguments = parser.parse_args()
    report = Report("latency", "Latency of marks, windows and results", arguments.quick)
    rounds, count = (8, 300) if arguments.quick else (16, 2000)
    rows: list[list[str]] = []
    for call_us in (0.0, 20.0):
        rows += windows(report, call_us, rounds, count)
    rows += results(count, 10.0 if arguments.quick else 60.0)
    rows += hour(count)
    report.say(table(["what", "p50, us", "p99, us", "calls"], rows))
    report.finish(arguments)


if __name__ == "__main__":
    main()
