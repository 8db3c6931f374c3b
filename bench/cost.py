"""CPU time of sampling beside a bare C loop and a Python thread that do the same reads.

Machine: four RAPL counters and eight GPUs whose calls take 20 us, all pretended. Every contender
is a process of its own; their slices alternate, and at a fixed rate no process runs in another's.
CPU time is that of the thread (loops) or of the whole process (ours: sampling threads and
collector), by its own clock; all are bound to one core, and what moves the counters to another.
It is compared with the loops at the same rate, and at the default setting with the loop at 1 kHz,
because that is what a flat sampler needs to see the edges.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import peers
from bench.common import (
    ROOT,
    Report,
    Spread,
    abba,
    arguments_parser,
    compile_c,
    figure,
    ratios,
    spread,
    table,
    unsteady,
)
from bench.hardware import Machine, board, machine, rapl_zones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.fakehost import Gpu

CALL_US = 20.0
FLAT_HZ = 1000.0
SETTLE_S = 3.0
WAKE_S = 0.05
"""From the end of a halt to the slice, so that missed deadlines are over."""
GOAL_DEFAULT = 0.15
GOAL_SYSFS = 1.15
GOAL_CALLS = 650.0
CORES = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Slice:
    """One slice of one contender."""

    cpu_share: float
    """CPU seconds per second."""
    ticks_per_s: float
    sampling_share: float = float("nan")
    """The part of the sampling threads, where the tool reports it."""


def boards(count: int) -> list[Gpu]:
    """Return boards that change and refresh like an A100's, each at a phase of its own."""
    return [
        board(
            "A100",
            f"square:60,{260 + 10 * i},{0.9 + 0.1 * i},0.5",
            latency_us=CALL_US,
            phase_ms=11.0 * i,
        )
        for i in range(count)
    ]


def apart(host: Machine) -> None:
    """Bind the process that moves the counters to a core on which nothing is measured."""
    if host.powercap is not None and len(CORES) > 1:
        peers.pin(host.powercap.process.pid, {CORES[0]})


@contextmanager
def loop(
    command: Sequence[str], environment: Mapping[str, str], hz: float
) -> Iterator[Callable[[float], Slice]]:
    """Run a program that answers `HZ SECONDS` by `CPU_NS WALL_NS TICKS`."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**environment}
    )

    def run(seconds: float) -> Slice:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{hz} {seconds}\n")
        process.stdin.flush()
        cpu_ns, wall_ns, ticks = map(int, process.stdout.readline().split())
        return Slice(cpu_ns / wall_ns, ticks / wall_ns * 1e9)

    peers.pin(process.pid, {CORES[-1]})
    with process:
        try:
            yield run
        finally:
            assert process.stdin is not None
            process.stdin.close()


@contextmanager
def c_loop(
    host: Machine, name: str, hz: float, *, empty: bool = False
) -> Iterator[Callable[[float], Slice]]:
    """Run the bare loop on a machine, or one that only wakes up."""
    files = [] if empty else host.energy_files()
    gpus = 0 if empty else len(host.driver.devices)
    command = [str(compile_c("bare_loop")), str(host.driver.library), str(gpus), *files]
    with loop(command, host.environment(name), hz) as run:
        yield run


@contextmanager
def python_loop(host: Machine, name: str, hz: float) -> Iterator[Callable[[float], Slice]]:
    """Run the Python thread on a machine."""
    gpus = len(host.driver.devices)
    script = str(ROOT / "bench" / "poll_python.py")
    command = [sys.executable, script, str(gpus), *host.energy_files()]
    with loop(command, host.environment(name), hz) as run:
        yield run


@contextmanager
def ours(host: Machine, name: str, hz: float | None) -> Iterator[Callable[[float], Slice]]:
    """Run our sampler on a machine at a rate without a budget, or at the default setting.

    At a fixed rate it is halted outside of its slices: on a core that it keeps awake the loops
    would wake up at its expense. At the default it goes on, because it has a rhythm to learn; what
    that saves the loop beside it counts against us.
    """
    settings = (
        {}
        if hz is None
        else {"CARBONTRACKER_RATE_HZ": repr(hz), "CARBONTRACKER_OVERHEAD_BUDGET": "0"}
    )
    with peers.worker("ours", host.environment(name, **settings)) as one:
        peers.pin(one.pid, {CORES[-1]})
        one.ask("start", settle_s=SETTLE_S)

        halts = hz is not None

        def run(seconds: float) -> Slice:
            if halts:
                os.kill(one.pid, signal.SIGCONT)
                time.sleep(WAKE_S)
            reads = _reads(one)
            found = one.ask("cpu", seconds=seconds)
            length_s = found["seconds"]
            ticks = _reads(one) - reads
            if halts:
                os.kill(one.pid, signal.SIGSTOP)
            return Slice(found["cpu"] / length_s, ticks / length_s, found["sampling"] / length_s)

        if halts:
            os.kill(one.pid, signal.SIGSTOP)
        try:
            yield run
        finally:
            os.kill(one.pid, signal.SIGCONT)


def _reads(one: peers.Worker) -> float:
    stats = one.ask("call", name="stats")
    return float(max((source.get("reads", 0.0) for source in stats.values()), default=0.0))


def alternate(
    contenders: Mapping[str, Callable[[float], Slice]], rounds: int, seconds: float
) -> dict[str, list[Slice]]:
    """Give each contender a slice a round, every other round backwards."""
    found: dict[str, list[Slice]] = {name: [] for name in contenders}
    for _, name in abba(list(contenders), rounds):
        found[name].append(contenders[name](seconds))
    return found


def shares(slices: Sequence[Slice]) -> list[float]:
    """Return CPU seconds per second of each slice."""
    return [one.cpu_share for one in slices]


@dataclass
class Bench:
    """One run: how long, and where it is reported."""

    report: Report
    rounds: int
    slice_s: float
    rows: list[list[str]] = field(default_factory=list)

    def add(self, setting: str, found: Mapping[str, list[Slice]], base: str) -> None:
        """Add a line a contender to the table, each beside the contender `base`."""
        for name, slices in found.items():
            share = spread(shares(slices)).scaled(100)
            rate = spread([one.ticks_per_s for one in slices]).median
            ratio = ratios(shares(slices), shares(found[base]))
            text = "1" if name == base else str(ratio)
            self.rows.append([setting, name, str(share), figure(rate), text])

    def flat_rates(self, host: Machine) -> None:
        """Compare all three at fixed rates."""
        for hz in (10.0, 100.0, 1000.0):
            with ExitStack() as stack:
                enter = stack.enter_context
                label = f"{hz:g} Hz"
                found = alternate(
                    {
                        "C loop": enter(c_loop(host, f"c-{hz}", hz)),
                        "ours": enter(ours(host, f"ours-{hz}", hz)),
                        "Python thread": enter(python_loop(host, f"python-{hz}", hz)),
                    },
                    self.rounds,
                    self.slice_s,
                )
            self.add(label, found, "C loop")
            for base in ("C loop", "Python thread"):
                ratio = ratios(shares(found["ours"]), shares(found[base]))
                what = f"CPU at {label}, 4 files + 8 GPUs"
                doubt = unsteady(shares(found[base]))
                self.report.row(what, ratio, f"{base}, same rate", doubt=doubt)

    def default_setting(self, host: Machine) -> None:
        """Compare the default setting with a flat loop at 1 kHz; count its NVML calls."""
        name = "ours-default"
        with c_loop(host, "c-flat", FLAT_HZ) as flat, ours(host, name, None) as default:
            before, start = host.calls(name), time.monotonic()
            found = alternate({"C loop at 1 kHz": flat, "ours": default}, self.rounds, self.slice_s)
            # Ours goes on during the slices of the loop.
            after, seconds = host.calls(name), time.monotonic() - start
        self.add("default", found, "C loop at 1 kHz")
        self.report.row(
            "CPU at the default setting, 4 files + 8 GPUs",
            ratios(shares(found["ours"]), shares(found["C loop at 1 kHz"])),
            "C loop at 1 kHz",
            GOAL_DEFAULT,
            unsteady(shares(found["C loop at 1 kHz"])),
        )
        calls = {kind: (after[kind] - before[kind]) / seconds for kind in after}
        report = self.report
        report.say(
            f"NVML calls per second at the default setting, 8 GPUs: {figure(calls['all'])} "
            f"(energy {figure(calls['energy'])}, power {figure(calls['power'])}, fields "
            f"{figure(calls['fields'])}); a flat loop at 1 kHz makes 8000."
        )
        share = calls["all"] / 8000
        report.row(
            "NVML calls at the default setting, 8 GPUs",
            Spread(share, share, share, 1),
            "flat 1 kHz (8000/s)",
            GOAL_CALLS / 8000,
        )

    def sysfs_only(self) -> None:
        """Compare a pinned 1 kHz on eight files with the loop that reads them, and an empty one."""
        with machine([], rapl_zones(8)) as host, ExitStack() as stack:
            apart(host)
            enter = stack.enter_context
            found = alternate(
                {
                    "C loop": enter(c_loop(host, "c", FLAT_HZ)),
                    "ours": enter(ours(host, "ours", FLAT_HZ)),
                    "empty C loop": enter(c_loop(host, "empty", FLAT_HZ, empty=True)),
                },
                self.rounds + 2,
                self.slice_s,
            )
        self.add("1 kHz, 8 files only", found, "C loop")
        loop_shares = shares(found["C loop"])
        doubt = unsteady(loop_shares)
        self.report.row(
            "CPU at 1 kHz, 8 sysfs files",
            ratios(shares(found["ours"]), loop_shares),
            "C loop: empty loop + same preads",
            GOAL_SYSFS,
            doubt,
        )
        sampling = [one.sampling_share for one in found["ours"]]
        self.report.row(
            "the same, sampling threads alone",
            ratios(sampling, loop_shares),
            "C loop: empty loop + same preads",
            GOAL_SYSFS,
            doubt,
        )

    def growth(self) -> None:
        """Show how the cost at 1 kHz grows with the number of channels."""
        rows = []
        for gpus, files in [(1, 0), (2, 0), (4, 0), (8, 0), (0, 1), (0, 4), (0, 16)]:
            with (
                machine(boards(gpus), rapl_zones(files) if files else []) as host,
                c_loop(host, "c", FLAT_HZ) as flat,
                ours(host, "ours", FLAT_HZ) as mine,
            ):
                apart(host)
                contenders = {"C loop": flat, "ours": mine}
                found = alternate(contenders, max(3, self.rounds // 2), self.slice_s)
            rows.append(
                [
                    f"{gpus} GPUs" if gpus else f"{files} files",
                    str(spread(shares(found["ours"])).scaled(100)),
                    str(spread(shares(found["C loop"])).scaled(100)),
                    str(ratios(shares(found["ours"]), shares(found["C loop"]))),
                ]
            )
        self.report.say("Growth with the number of channels, all at 1 kHz:")
        self.report.say(table(["channels", "ours, % of a core", "C loop, %", "ratio"], rows))


def main() -> None:
    """Print the tables."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--only", choices=["rates", "default", "sysfs", "growth"])
    arguments = parser.parse_args()
    report = Report("cost", "CPU time of sampling", arguments.quick)
    rounds, slice_s = (7, 0.5) if arguments.quick else (11, 2.0)
    bench = Bench(report, rounds, slice_s)
    compile_c("bare_loop")
    wanted = {arguments.only} if arguments.only else {"rates", "default", "sysfs", "growth"}
    if wanted & {"rates", "default"}:
        with machine(boards(8), rapl_zones(4)) as host:
            apart(host)
            if "rates" in wanted:
                bench.flat_rates(host)
            if "default" in wanted:
                bench.default_setting(host)
    if "sysfs" in wanted:
        bench.sysfs_only()
    if bench.rows:
        head = ["setting", "who", "CPU, % of a core (quartiles)", "ticks/s", "ratio (quartiles)"]
        report.say(table(head, bench.rows))
    if "growth" in wanted:
        bench.growth()
    report.finish(arguments)


if __name__ == "__main__":
    main()
