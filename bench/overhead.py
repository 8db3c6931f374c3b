"""By how much a tracker slows down what it measures: loops of numpy, Python and PyTorch.

Each tool runs in a process of its environment, on the same pretended hardware (eight GPUs, four
RAPL counters). Slices of the same work follow each other in one process, so that they lie in the
same memory: with the tool stopped, measuring as it does during a training, and stopped again, each
after the same rest. The two without are the null test: where they differ by more than the goal,
nothing is judged. The process is bound, with all its threads and helpers, to one core, so all that
a tool does is seen: preemption, caches and interpreter lock. In full mode slices last long enough
for a sampler of one reading a second.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from bench import peers
from bench.common import Report, Spread, arguments_parser, confidence, table
from bench.hardware import Machine, board, machine, rapl_zones

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("python", "numpy", "torch")
CONTROL = "no tool (control)"
"""Goes through the same motions as the tools: whatever it shows is the bench's own error."""
ARMS: dict[str, tuple[str, dict[str, str]]] = {
    CONTROL: ("none", {}),
    "ours, default": ("ours", {}),
    "ours, 1 kHz": ("ours", {"CARBONTRACKER_PERIOD": "0.001", "CARBONTRACKER_BUDGET": "0"}),
    "carbontracker 2.4.7": ("carbontracker", {}),
    "CodeCarbon 3.3.2": ("codecarbon", {}),
    "Zeus 0.16.0": ("zeus", {}),
}
CORES = sorted(os.sched_getaffinity(0))
TUNE_ITERATIONS = 20
GOAL = 1.01
SETTLE_S = 0.3
"""From the start of a tool to the work: it has found its devices by then."""


def calibrate(one: peers.Worker, kind: str, slice_s: float) -> int:
    """Return how many pieces of work of a kind fill a slice."""
    one.ask("work", kind=kind, iterations=TUNE_ITERATIONS)  # imports, caches
    iterations = TUNE_ITERATIONS
    while True:
        took_s = float(one.ask("work", kind=kind, iterations=iterations))
        if took_s > slice_s / 4:
            return max(1, round(iterations * slice_s / took_s))
        iterations *= 4


def slow_downs(
    host: Machine, arm: str, kinds: Sequence[str], pairs: int, slice_s: float
) -> dict[str, list[tuple[float, float]]]:
    """Return, by kind of work, time with over without the tool, and the null test, each time."""
    tool, settings = ARMS[arm]
    name = arm.replace(" ", "-")
    environment = host.environment(name, OMP_NUM_THREADS="1", **settings)
    log = host.folder / f"{name}.log"
    found: dict[str, list[tuple[float, float]]] = {}
    if host.powercap is not None:
        peers.pin(host.powercap.process.pid, CORES[0])
    with peers.worker(tool, environment, torch="torch" in kinds, log=log) as one:
        if tool not in ("ours", "none"):  # whose windows would keep the sampling going
            one.ask("start")
        for command in ("resume", "pause"):  # what is done once only is done then
            one.ask("call", name=command)
        peers.pin(one.pid, CORES[-1])
        for kind in kinds:
            iterations = calibrate(one, kind, slice_s)
            found[kind] = [triple(one, kind, iterations) for _ in range(pairs)]
    return found


def triple(one: peers.Worker, kind: str, iterations: int) -> tuple[float, float]:
    """Work without the tool, with it, and without; return with / without, and last / first."""
    first_s = untracked(one, kind, iterations)
    one.ask("call", name="resume")
    peers.pin(one.pid, CORES[-1])
    time.sleep(SETTLE_S)
    with_s = float(one.ask("work", kind=kind, iterations=iterations))
    one.ask("call", name="pause")
    last_s = untracked(one, kind, iterations)
    return 2 * with_s / (first_s + last_s), last_s / first_s


def untracked(one: peers.Worker, kind: str, iterations: int) -> float:
    """Work without the tool, after the same rest as with it."""
    time.sleep(SETTLE_S)
    return float(one.ask("work", kind=kind, iterations=iterations))


def is_quiet(null: Spread) -> bool:
    """Return whether the same work without a tool took the same time, as far as the goal asks."""
    return abs(null.low - 1) <= GOAL - 1 and abs(null.high - 1) <= GOAL - 1


def main() -> None:
    """Print the table."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args()
    report = Report("overhead", "Slow-down of what is measured", arguments.quick)
    pairs, slice_s = (15, 0.25) if arguments.quick else (15, 1.1)
    kinds = list(arguments.kinds)
    if "torch" in kinds:
        try:
            peers.torch_folder()
        except peers.UnavailableError as error:
            report.say(f"Without PyTorch: {error}.")
            kinds.remove("torch")
    tools = peers.available(sorted({ARMS[arm][0] for arm in arguments.arms}))
    boards = [board("A100", f"square:60,300,{0.9 + 0.1 * i},0.5", latency_us=20) for i in range(8)]
    rows = []
    for arm in arguments.arms:
        if ARMS[arm][0] not in tools:
            continue
        print(f"{arm} ...", flush=True)
        with machine(boards, rapl_zones(4)) as host:
            found = slow_downs(host, arm, kinds, pairs, slice_s)
        for kind, values in found.items():
            interval, null = (confidence(list(column)) for column in zip(*values, strict=True))
            verdict = "" if is_quiet(null) else "too noisy to judge"
            rows.append([arm, kind, str(interval), str(null), verdict])
            doubt = "" if is_quiet(null) else f"null test {null}"
            goal = GOAL if arm.startswith("ours") else None
            report.row(f"{kind} loop under {arm}", interval, "the same without a tool", goal, doubt)
    head = ["tool", "work", "time with / without", "null: without / without", ""]
    report.say(f"Slices of {slice_s} s, {pairs} times; bootstrap 95 % confidence intervals.")
    report.say(table(head, rows))
    report.finish(arguments)


if __name__ == "__main__":
    main()
