"""Error of reported energy against the closed form, ours beside three peers.

All tools measure the same pretended hardware at the same time, each in a process and an
environment of its own: a machine of eight GPUs with energy counters and two processors, and one of
four old boards without counters. Windows are begun at the same moments; the truth of each is taken
between the middles of the tool's own begin and end calls, so that no tool is charged for the length
of a call. One load follows the other; the GPUs of a machine play variants of it.

    python -m bench.accuracy            at most a quarter of an hour
    python -m bench.accuracy --quick    about three minutes
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import peers
from bench.common import (
    NAN,
    Report,
    arguments_parser,
    figure,
    mean,
    percentile,
    ratio_of_means,
    table,
)
from bench.hardware import MODELS, Machine, Zone, board, left_out_words, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.fakehost import Gpu

TOOLS = ("ours", "zeus", "codecarbon", "carbontracker")
CALL_US = 20.0
LEAD_S = 1.0
"""Between the moment at which all workers are ready and the first window."""
EPOCH_PERIOD_S = 2.017
"""No multiple of any refresh period, so that the phases walk."""
EPOCH_S = 1.313

# ---- loads -----------------------------------------------------------------------------------
# A function of the board's number, so that no two boards draw the same.

LOADS: dict[str, Callable[[int], str]] = {
    # A ripple of one percent: a reading that never changes is not what hardware shows.
    "constant": lambda i: f"sine:{100 + 37 * i},{1 + 0.37 * i},0.{71 + 2 * i}",
    "square": lambda i: f"square:60,{260 + 10 * i},{0.91 + 0.23 * i},0.5",
    "bursts of 20 ms": lambda i: f"burst:60,{300 + 10 * i},{0.137 + 0.019 * i},0.020",
    "ramps": lambda i: f"sine:{200 + 5 * i},140,{2.9 + 0.7 * i}",
    "random steps": lambda i: f"random:60,{290 + 10 * i},{0.1617 + 0.0333 * i},{i}",
    "epochs with gaps": lambda i: f"burst:{70 + i},{250 + 20 * i},{EPOCH_PERIOD_S},{EPOCH_S}",
}
COUNTER_MODELS = ("V100", "A100", "H100")
RAPL_MS = (1, 8)
OLD_BOARDS = 4
MODEL_OF = {str(words["name"]): model for model, words in MODELS.items()}


def mixed(i: int) -> str:
    """Return the load of board `i` where all eight differ."""
    kinds = list(LOADS.values())
    return kinds[i % len(kinds)](i)


ALL_LOADS = {**LOADS, "eight different": mixed}


def modern_boards(load: Callable[[int], str]) -> list[Gpu]:
    """Return eight boards of the generations that have a counter."""
    models = [COUNTER_MODELS[i % len(COUNTER_MODELS)] for i in range(8)]
    return [
        board(model, load(i), latency_us=CALL_US, phase_ms=7.0 * i)
        for i, model in enumerate(models)
    ]


def old_boards(load: Callable[[int], str]) -> list[Gpu]:
    """Return boards of one old generation, because Zeus polls like boards only."""
    return [board("old", load(i), latency_us=CALL_US, phase_ms=11.0 * i) for i in range(OLD_BOARDS)]


def processors(load: Callable[[int], str]) -> list[Zone]:
    """Return two packages whose counters tick every 1 and 8 ms."""
    return [
        Zone(f"intel-rapl:{number}", load(number + 1), period_us=1000 * ms)
        for number, ms in enumerate(RAPL_MS)
    ]


# ---- windows ---------------------------------------------------------------------------------


def schedule(load: str, quick: bool, seed: int) -> list[tuple[float, float]]:
    """Return (start, length) of each window, s: random phases, or the epochs of the load."""
    if load == "epochs with gaps":
        return [
            (LEAD_S + EPOCH_PERIOD_S * number, EPOCH_S) for number in range(1, 8 if quick else 40)
        ]
    counts = (
        {0.02: 20, 0.05: 20, 0.2: 14, 1.0: 4, 5.0: 1}
        if quick
        else {0.02: 60, 0.05: 60, 0.2: 60, 1.0: 14, 5.0: 5, 20.0: 2}
    )
    draw = random.Random(seed)
    lengths = [length for length, count in counts.items() for _ in range(count)]
    draw.shuffle(lengths)
    windows, start_s = [], LEAD_S
    for length_s in lengths:
        start_s += draw.uniform(0.02, 0.18)
        windows.append((start_s, length_s))
        start_s += length_s
    return windows


@dataclass(frozen=True)
class Result:
    """One device in one window, as one tool saw it."""

    tool: str
    load: str
    sensor: str
    length_s: float
    truth_j: float
    joules: float
    error_j: float
    """Half-width of the tool's own 95 % interval; NaN where it gives none."""

    @property
    def error_percent(self) -> float:
        """Return |reported - true| in percent of the truth."""
        return 100 * abs(self.joules - self.truth_j) / self.truth_j


def run_tools(
    host: Machine, name: str, tools: Sequence[str], stack: ExitStack, folder: Path
) -> dict[str, peers.Worker]:
    """Start each tool on a machine; leave out, aloud, those that fail there."""
    workers = {}
    for tool in tools:
        log = folder / f"{name}-{tool}.log"
        one = stack.enter_context(peers.worker(tool, host.environment(tool), log=log))
        one.send("start")
        workers[tool] = one
    return {tool: one for tool, one in workers.items() if _has_started(one, name)}


def _has_started(one: peers.Worker, name: str) -> bool:
    try:
        one.receive()
    except peers.UnavailableError as error:
        print(f"{name}: {error}; left out there", flush=True)
        return False
    return True


def measure(load: str, tools: Sequence[str], quick: bool, seed: int) -> list[Result]:
    """Run one load on both machines under all tools at once."""
    wave = ALL_LOADS[load]
    with ExitStack() as stack:
        hosts = {
            "new": stack.enter_context(machine(modern_boards(wave), processors(wave))),
            "old": stack.enter_context(machine(old_boards(wave), [])),
        }
        running = {
            name: run_tools(host, name, tools, stack, host.folder) for name, host in hosts.items()
        }
        windows = schedule(load, quick, seed)
        # Epochs lie on the load: the grid of its periods, from the hardware's epoch on.
        epoch_ns = hosts["new"].epoch_ns
        period_ns = round(EPOCH_PERIOD_S * 1e9)
        late = (time.monotonic_ns() - epoch_ns) // period_ns + 1
        results = []
        for name, workers in running.items():
            shift = hosts[name].epoch_ns + late * period_ns
            for one in workers.values():
                one.send("windows", epoch_ns=shift, schedule=windows)
        for name, workers in running.items():
            for tool, one in workers.items():
                moments = one.receive()
                energies = one.ask("energies")
                results += judge(tool, load, hosts[name], windows, moments, energies)
    return results


def judge(
    tool: str,
    load: str,
    host: Machine,
    windows: Sequence[tuple[float, float]],
    moments: Sequence[Sequence[int]],
    energies: Sequence[dict[str, list[float]]],
) -> list[Result]:
    """Compare what a tool says of each device of a machine with the truth."""
    results = []
    for (_, length_s), (start_ns, end_ns), parts in zip(windows, moments, energies, strict=True):
        for device, sensor, zone in devices(host):
            joules, error_j = parts.get(device, [NAN, NAN])
            truth_j = host.truth(zone, start_ns, end_ns)
            results.append(Result(tool, load, sensor, length_s, truth_j, joules, error_j))
    return results


def devices(host: Machine) -> list[tuple[str, str, str]]:
    """Return (our name, sensor, name of its truth) of each device of a machine."""
    boards = [
        (f"gpu:{i}", MODEL_OF[gpu["name"]], f"gpu:{i}") for i, gpu in enumerate(host.driver.devices)
    ]
    zones = [
        (f"cpu:{i}", f"RAPL {zone.period_us // 1000} ms", zone.zone)
        for i, zone in enumerate(host.zones)
    ]
    return boards + zones


# ---- tables ----------------------------------------------------------------------------------


def best_peer(groups: dict[str, list[Result]]) -> tuple[str, float]:
    """Return the peer with the least mean error, and that error."""
    means = {
        tool: mean([one.error_percent for one in results])
        for tool, results in groups.items()
        if tool != "ours"
    }
    known = {tool: value for tool, value in means.items() if not math.isnan(value)}
    tool = min(known, key=known.__getitem__, default="")
    return tool, known.get(tool, NAN)


def error_table(
    results: Sequence[Result], key: Callable[[Result], tuple[str, float]], head: str
) -> str:
    """Return mean and 95th percentile of |error| by group and tool, and ours over the best."""
    groups: dict[tuple[str, float], dict[str, list[Result]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for one in results:
        groups[key(one)][one.tool].append(one)
    rows = []
    for (name, length_s), by_tool in sorted(groups.items()):
        cells = [name, f"{length_s:g}"]
        for tool in TOOLS:
            errors = [one.error_percent for one in by_tool.get(tool, [])]
            missing = sum(map(math.isnan, errors))
            text = f"{figure(mean(errors))} ({figure(percentile(errors, 0.95))})"
            cells.append(text + f", {missing} missing" * bool(missing) if errors else "-")
        _, best = best_peer(by_tool)
        ours = mean([one.error_percent for one in by_tool.get("ours", [])])
        rows.append([*cells, figure(ours / best)])
    tools = [f"{peers.NAMES[tool]}" for tool in TOOLS]
    return table([head, "window, s", *tools, "ours / best peer"], rows)


def coverage_table(results: Sequence[Result]) -> str:
    """Return how often our interval holds the truth, and how wide it is, by length."""
    groups: dict[tuple[str, float], list[Result]] = defaultdict(list)
    for one in results:
        if one.tool == "ours" and not math.isnan(one.joules):
            groups[one.sensor, one.length_s].append(one)
    rows = []
    for (sensor, length_s), group in sorted(groups.items()):
        held = mean([float(abs(one.joules - one.truth_j) <= one.error_j) for one in group])
        width = percentile([100 * one.error_j / one.truth_j for one in group], 0.5)
        rows.append([sensor, f"{length_s:g}", str(len(group)), figure(100 * held), figure(width)])
    head = ["sensor", "window, s", "windows", "truth within error_joules, %", "median width, ± %"]
    return table(head, rows)


def report_on(results: Sequence[Result], report: Report) -> None:
    """Add all tables, and the ratios that matter most."""
    report.say("Mean |error| in percent (95th percentile in brackets), by sensor and window:")
    report.say(error_table(results, lambda one: (one.sensor, one.length_s), "sensor"))
    report.say("The same by load and window, over all sensors:")
    report.say(error_table(results, lambda one: (one.load, one.length_s), "load"))
    report.say("Our error bars:")
    report.say(coverage_table(results))
    for length_s in sorted({one.length_s for one in results}):
        by_tool: dict[str, list[Result]] = defaultdict(list)
        for one in results:
            if one.length_s == length_s:
                by_tool[one.tool].append(one)
        peer, _ = best_peer(by_tool)
        errors = {tool: [one.error_percent for one in group] for tool, group in by_tool.items()}
        ratio = ratio_of_means(errors.get("ours", []), errors.get(peer, []))
        against = f"best peer ({peers.NAMES.get(peer, 'none')})"
        report.row(f"mean abs. error, {length_s:g} s windows, all sensors", ratio, against)


def main() -> None:
    """Run all loads."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--loads", nargs="*", choices=list(ALL_LOADS), default=list(ALL_LOADS))
    parser.add_argument("--tools", nargs="*", choices=TOOLS, default=list(TOOLS))
    arguments = parser.parse_args()
    report = Report("accuracy", "Energy against the closed form", arguments.quick)
    left_out = left_out_words()
    if left_out:
        report.say(f"Words that the double does not know, so not modelled: {', '.join(left_out)}.")
    tools = peers.available(arguments.tools)
    results = []
    for number, load in enumerate(arguments.loads):
        print(f"{load} ...", flush=True)
        results += measure(load, tools, arguments.quick, seed=number)
    report_on(results, report)
    report.finish(arguments)


if __name__ == "__main__":
    main()
