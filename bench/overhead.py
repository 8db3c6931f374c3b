"""By how much a tracker slows down what it measures: loops of numpy, Python and PyTorch.

Each tool runs in a process of its environment, on the same pretended hardware (eight GPUs, four
RAPL counters). Slices of the same work follow each other in one process, so that they lie in the
same memory: with the tool stopped, measuring as it does during a training, and stopped again, each
after the same rest. The two without are the null test: where they differ by more than the goal or
a percent, nothing is judged. The work is bound to one core, and the threads and helpers of the tool
may use all, as beside a training; with `--cores one` all is bound to that core, so that preemption
is seen, too. In full mode slices last long enough for a sampler of one reading a second.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
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
    "ours, 1 kHz": (
        "ours",
        {"CARBONTRACKER_RATE_HZ": "1000", "CARBONTRACKER_OVERHEAD_BUDGET": "0"},
    ),
    "carbontracker 2.4.7": ("carbontracker", {}),
    "CodeCarbon 3.3.2": ("codecarbon", {}),
    "Zeus 0.16.0": ("zeus", {}),
}
CORES = sorted(os.sched_getaffinity(0))
TUNE_ITERATIONS = 20
GOALS = {"ours, default": 1.002, "ours, 1 kHz": 1.02}
QUIET = 0.01
"""How far the null test may be from one where nothing stricter is asked."""
SETTLE_S = 0.3
"""From the start of a tool to the work: it has found its devices by then."""


@dataclass(frozen=True)
class Plan:
    """How often, how long, and on which cores."""

    pairs: int
    slice_s: float
    one_core: bool

    def bind(self, pid: int) -> None:
        """Bind the work to the last core, and all else of its process where one core is wanted."""
        peers.pin(pid, {CORES[-1]} if self.one_core else set(CORES))
        os.sched_setaffinity(pid, {CORES[-1]})


def calibrate(one: peers.Worker, kind: str, slice_s: float) -> int:
    """Return how many pieces of work of a kind fill a slice."""
    one.ask("work", kind=kind, iterations=TUNE_ITERATIONS)  # imports, caches
    iterations = TUNE_ITERATIONS
    while True:
        took_s = float(one.ask("work", kind=kind, iterations=iterations))
        if took_s > slice_s / 4:
            return max(1, round(iterations * slice_s / took_s))
        iterations *= 4


@dataclass(frozen=True)
class Slice:
    """A piece of work: how long it took, and for how long of that it had no processor, s."""

    took_s: float
    waited_s: float


@dataclass(frozen=True)
class Triple:
    """The same work without the tool, with it, and without."""

    first: Slice
    tracked: Slice
    last: Slice

    @property
    def ratio(self) -> float:
        """Return the time with the tool over that without."""
        return 2 * self.tracked.took_s / (self.first.took_s + self.last.took_s)

    @property
    def null(self) -> float:
        """Return the time without the tool over the same once more."""
        return self.last.took_s / self.first.took_s

    @property
    def waited_more(self) -> float:
        """Return the share of the work that it waited longer for a processor with the tool."""
        without_s = (self.first.waited_s + self.last.waited_s) / 2
        return (self.tracked.waited_s - without_s) / self.tracked.took_s


def slow_downs(
    host: Machine, arm: str, kinds: Sequence[str], plan: Plan
) -> dict[str, list[Triple]]:
    """Return, by kind of work, the slices with and without the tool."""
    tool, settings = ARMS[arm]
    name = arm.replace(" ", "-")
    environment = host.environment(name, OMP_NUM_THREADS="1", **settings)
    log = host.folder / f"{name}.log"
    found: dict[str, list[Triple]] = {}
    if host.powercap is not None:
        peers.pin(host.powercap.process.pid, {CORES[0]})
    with peers.worker(tool, environment, torch="torch" in kinds, log=log) as one:
        if tool not in ("ours", "none"):  # whose windows would keep the sampling going
            one.ask("start")
        for command in ("resume", "pause"):  # what is done once only is done then
            one.ask("call", name=command)
        plan.bind(one.pid)
        for kind in kinds:
            iterations = calibrate(one, kind, plan.slice_s)
            found[kind] = [triple(one, kind, iterations, plan) for _ in range(plan.pairs)]
    return found


def triple(one: peers.Worker, kind: str, iterations: int, plan: Plan) -> Triple:
    """Work without the tool, with it, and without."""
    first = untracked(one, kind, iterations)
    one.ask("call", name="resume")
    plan.bind(one.pid)
    time.sleep(SETTLE_S)
    tracked = work(one, kind, iterations)
    one.ask("call", name="pause")
    return Triple(first, tracked, untracked(one, kind, iterations))


def untracked(one: peers.Worker, kind: str, iterations: int) -> Slice:
    """Work without the tool, after the same rest as with it."""
    time.sleep(SETTLE_S)
    return work(one, kind, iterations)


def work(one: peers.Worker, kind: str, iterations: int) -> Slice:
    """Do a piece of work."""
    waited_s = float(one.ask("waited"))
    took_s = float(one.ask("work", kind=kind, iterations=iterations))
    return Slice(took_s, float(one.ask("waited")) - waited_s)


def is_quiet(null: Spread, goal: float) -> bool:
    """Return whether the same work without a tool took the same time, as far as the goal asks."""
    return max(abs(null.low - 1), abs(null.high - 1)) <= min(QUIET, goal - 1)


def main() -> None:
    """Print the table."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--cores", choices=("one", "all"), default="all")
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    report = Report("overhead", "Slow-down of what is measured", arguments.quick)
    plan = Plan(arguments.pairs, 0.25 if arguments.quick else 1.1, arguments.cores == "one")
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
            found = slow_downs(host, arm, kinds, plan)
        for kind, triples in found.items():
            interval = confidence([one.ratio for one in triples])
            null = confidence([one.null for one in triples])
            waited = confidence([100 * one.waited_more for one in triples])
            goal = GOALS.get(arm, 1 + QUIET)
            verdict = "" if is_quiet(null, goal) else "too noisy to judge"
            rows.append([arm, kind, str(interval), str(null), str(waited), verdict])
            doubt = "" if is_quiet(null, goal) else f"null test {null}"
            what = f"{kind} loop under {arm}"
            report.row(what, interval, "the same without a tool", GOALS.get(arm), doubt)
    times = ["time with / without", "null: without / without", "waited longer, % of the work"]
    head = ["tool", "work", *times, ""]
    where = "All on one core" if plan.one_core else "The work on one core, the rest free"
    report.say(
        f"{where}. Slices of {plan.slice_s} s, {plan.pairs} times; bootstrap 95 % confidence "
        "intervals."
    )
    report.say(table(head, rows))
    report.finish(arguments)


if __name__ == "__main__":
    main()
