"""CPU time and driver calls of sampling, second by second, from the first second on.

Each scenario is a process of its own with a pretended driver: one or eight GPUs, with or without a
ring of power samples, whose calls take nothing, 20 us or 300 us, under four loads; and three
sessions of one second in a row. Shown is the CPU time of all threads of the session by their own
clocks, and how often the driver was called. Scenarios run several at a time: a busy machine makes
a wake-up more expensive, so a goal that is met here is also met on a quiet one.

    python -m bench.per_second            a quarter of an hour
    python -m bench.per_second --quick    about three minutes
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import peers
from bench.common import Report, Spread, arguments_parser, mean, table
from bench.hardware import board, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.fakehost import Gpu

SECONDS = 60
FIRST = 10
MAX_OF_ANY = 0.02
MAX_OF_FIRST = 0.01
MAX_OF_REST = 0.005
AT_ONCE = 4
AT_ONCE_QUICK = 16
SESSIONS = 3
AGE_S = 100.0
"""So long ago the boards began: a ring is full."""

LOADS: dict[str, Callable[[int], str]] = {
    "constant": lambda i: f"constant:{200 + 20 * i}",
    "square": lambda i: f"square:60,{260 + 10 * i},{0.9 + 0.1 * i},0.5",
    "square of 24 s": lambda i: f"square:60,{260 + 10 * i},24,0.5",
    "random": lambda i: f"random:60,{290 + 10 * i},{0.1617 + 0.0333 * i},{i}",
}
MODELS = {False: "A100", True: "H100"}
"""By whether the driver keeps a ring of power samples."""


@dataclass(frozen=True)
class Scenario:
    """One machine under one load."""

    gpus: int
    ring: bool
    load: str
    call_us: float
    sessions: int = 1

    def __str__(self) -> str:
        """Return it in words."""
        ring = "ring" if self.ring else "no ring"
        text = f"{self.gpus} GPU{'s' * (self.gpus > 1)}, {ring}, {self.load}, {self.call_us:g} us"
        return text + f", {self.sessions} sessions" * (self.sessions > 1)

    @property
    def seconds(self) -> int:
        """Return how long each session is."""
        return SECONDS if self.sessions == 1 else 1

    def boards(self) -> list[Gpu]:
        """Return its boards, each at a phase of its own."""
        return [
            board(
                MODELS[self.ring],
                LOADS[self.load](i),
                latency_us=self.call_us,
                phase_ms=11.0 * i,
            )
            for i in range(self.gpus)
        ]


@dataclass(frozen=True)
class Cost:
    """What a scenario has cost in each second."""

    scenario: Scenario
    shares: list[float]
    """CPU seconds per second."""
    calls: list[int]

    @property
    def worst(self) -> float:
        """Return the most expensive second."""
        return max(self.shares)

    @property
    def first(self) -> float:
        """Return the mean of the first ten."""
        return mean(self.shares[:FIRST])

    @property
    def rest(self) -> float:
        """Return the mean of those after; NaN without such seconds."""
        return mean(self.shares[FIRST:])


def scenarios() -> list[Scenario]:
    """Return all of them; neighbours are unlike, so that those at once are."""
    found = [
        Scenario(gpus, ring, load, call_us)
        for load, call_us, gpus, ring in itertools.product(
            LOADS, (0.0, 20.0, 300.0), (1, 8), (False, True)
        )
    ]
    found += [
        Scenario(gpus, ring, "square", 20.0, SESSIONS)
        for gpus, ring in itertools.product((1, 8), (False, True))
    ]
    return found


def measure(group: Sequence[Scenario]) -> list[Cost]:
    """Run scenarios at the same time."""
    with ExitStack() as stack:
        running = []
        for scenario in group:
            host = stack.enter_context(machine(scenario.boards(), [], start_in_s=-AGE_S))
            environment = host.environment("ours")
            one = stack.enter_context(
                peers.worker("ours", environment, log=host.folder / "ours.log")
            )
            running.append((scenario, one))
        for scenario, one in running:
            options = {"count": scenario.seconds, "sessions": scenario.sessions}
            one.send("call", name="seconds", **options)
        return [cost(scenario, one.receive()) for scenario, one in running]


def cost(scenario: Scenario, sessions: Sequence[Sequence[Sequence[float]]]) -> Cost:
    """Return what a worker has answered, its sessions one after the other."""
    rows = [row for session in sessions for row in session]
    return Cost(scenario, [row[0] for row in rows], [int(row[1]) for row in rows])


def percent(share: float) -> str:
    """Return a share of a core in percent, two digits after the point."""
    return f"{100 * share:.2f}"


def report_on(costs: Sequence[Cost], report: Report) -> None:
    """Add the tables and the goals."""
    report.say("CPU time of sampling, % of a core:")
    head = ["scenario", "first second", "worst", f"mean of 1-{FIRST}", "mean after", "calls/s"]
    rows = [
        [
            str(one.scenario),
            percent(one.shares[0]),
            percent(one.worst),
            percent(one.first),
            percent(one.rest),
            f"{mean([float(count) for count in one.calls[FIRST:]]):.1f}",
        ]
        for one in costs
    ]
    report.say(table(head, rows))
    report.say("Second by second, CPU % of a core and below it driver calls:")
    lines = []
    for one in costs:
        lines.append(f"{one.scenario}")
        lines.append("    " + " ".join(percent(share) for share in one.shares))
        lines.append("    " + " ".join(str(count) for count in one.calls))
    report.say("```\n" + "\n".join(lines) + "\n```")
    goals = [
        ("any second", max(one.worst for one in costs), MAX_OF_ANY),
        (f"seconds 1-{FIRST}", max(one.first for one in costs), MAX_OF_FIRST),
        ("seconds after", max(one.rest for one in costs if len(one.shares) > FIRST), MAX_OF_REST),
    ]
    for what, worst, most in goals:
        ratio = worst / most
        report.row(
            f"CPU of {what}, worst scenario",
            Spread(ratio, ratio, ratio, len(costs)),
            f"{100 * most:g} % of a core",
            goal=1.0,
        )


def main() -> None:
    """Run all scenarios."""
    parser = arguments_parser(__doc__)
    arguments = parser.parse_args()
    report = Report("per_second", "Cost of sampling, second by second", arguments.quick)
    at_once = AT_ONCE_QUICK if arguments.quick else AT_ONCE
    todo = scenarios()
    costs: list[Cost] = []
    for first in range(0, len(todo), at_once):
        print(f"{first} of {len(todo)} ...", flush=True)
        costs += measure(todo[first : first + at_once])
    report_on(costs, report)
    report.finish(arguments)


if __name__ == "__main__":
    main()
