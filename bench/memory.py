"""Memory: after import over bare Python, and its growth while everything is sampled at 1 kHz.

Resident memory is counted with all helper processes, shared pages once. The growth is that of a
process under our tracker (eight GPUs, eight RAPL counters) beside one that keeps the same readings
as tuples in a Python list, in the same minutes.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import peers
from bench.common import Report, Spread, abba, arguments_parser, figure, ratios, spread, table
from bench.hardware import board, machine, rapl_zones

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
IMPORTS = {
    "numpy": ("ours", "import numpy"),
    "ours: import carbontracker": ("ours", "import carbontracker"),
    "ours: measure() imported": ("ours", "from carbontracker import measure"),
    "carbontracker 2.4.7": ("carbontracker", "import carbontracker.tracker"),
    "CodeCarbon 3.3.2": ("codecarbon", "import codecarbon"),
    "Zeus 0.16.0": ("zeus", "from zeus.monitor import ZeusMonitor"),
}
LIST_PROGRAM = """
import sys, time
channels, hz = int(sys.argv[1]), float(sys.argv[2])
kept = [[] for _ in range(channels)]
print('ready', flush=True)
due = time.monotonic()
while True:
    due += 1 / hz
    time.sleep(max(0.0, due - time.monotonic()))
    now = time.monotonic()
    for i, channel in enumerate(kept):
        channel.append((now, 1e-6 * time.monotonic_ns() * (i + 1)))
"""
HZ = 1000.0
GOAL_GROWTH = 7.0 / 447.0
"""Megabytes an hour a source at 1 kHz: ours over a list of tuples."""


@contextmanager
def idle(python: Path, code: str) -> Iterator[int]:
    """Run code in an interpreter that then waits; give its process id."""
    program = f"{code}\nprint('ready', flush=True)\ninput()"
    with subprocess.Popen(
        [python, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def private_bytes(pid: int) -> int:
    """Return the resident memory of one process, B: what `top` shows."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(row.split()[1]) * 1024 for row in text.splitlines() if row.startswith("VmRSS:"))


def imports(report: Report, rounds: int) -> None:
    """Compare resident memory after imports with that of the bare interpreter."""
    tools = peers.available(sorted({tool for tool, _ in IMPORTS.values()}))
    wanted = {name: entry for name, entry in IMPORTS.items() if entry[0] in tools}
    extra: dict[str, list[float]] = {name: [] for name in wanted}
    for _, name in abba(list(wanted), rounds):
        tool, code = wanted[name]
        python = peers.python_of(tool)
        with idle(python, "pass") as bare, idle(python, code) as full:
            extra[name].append((private_bytes(full) - private_bytes(bare)) / MIB)
    rows = [[name, str(spread(values))] for name, values in extra.items()]
    report.say("Resident memory over that of bare Python:")
    report.say(table(["import", "MiB (quartiles)"], rows))
    for name in wanted:
        if wanted[name][0] != "ours":
            ours = extra["ours: measure() imported"]
            report.row("resident memory of the imported API", ratios(ours, extra[name]), name)


def slope_per_hour(points: list[tuple[float, float]]) -> float:
    """Return the growth of a line through (seconds, bytes), MiB per hour."""
    slope, _ = statistics.linear_regression(*zip(*points, strict=True))
    return slope * 3600 / MIB


def growth(report: Report, seconds: float) -> None:
    """Compare how fast memory grows at 1 kHz."""
    boards = [board("V100", f"square:60,300,0.9,0.{2 + i}") for i in range(8)]
    settings = {"CARBONTRACKER_RATE_HZ": repr(HZ), "CARBONTRACKER_OVERHEAD_BUDGET": "0"}
    zones = rapl_zones(8)
    channels = len(boards) + len(zones)
    program = [sys.executable, "-c", LIST_PROGRAM, str(channels), str(HZ)]
    with (
        machine(boards, zones) as host,
        peers.worker("ours", host.environment("ours", **settings)) as one,
        subprocess.Popen(program, stdout=subprocess.PIPE) as kept,
    ):
        one.ask("start", settle_s=5.0)
        one.send("cpu", seconds=seconds)  # sleeps: only the samplers and the collector run
        points: dict[str, list[tuple[float, float]]] = {"ours": [], "list": []}
        start = time.monotonic()
        while (now := time.monotonic() - start) < seconds:
            points["ours"].append((now, private_bytes(one.pid)))
            points["list"].append((now, private_bytes(kept.pid)))
            time.sleep(0.5)
        one.receive()
        kept.kill()
    # The last half: before, buffers find their size.
    late = {name: [p for p in line if p[0] > seconds / 2] for name, line in points.items()}
    slopes = {name: slope_per_hour(line) / channels for name, line in late.items()}
    rows = [
        [name, figure(slope), figure(points[name][-1][1] / MIB)] for name, slope in slopes.items()
    ]
    report.say(
        f"Growth at {HZ:g} Hz, {channels} channels, the last half of {seconds:g} s. "
        "Samples keep their full resolution for two minutes, so a shorter run shows the "
        "growth until then and not the one of a long training:"
    )
    head = ["", "MiB per hour and channel", "resident at the end, MiB"]
    report.say(table(head, rows))
    ratio = slopes["ours"] / slopes["list"]
    report.row(
        "growth per hour and channel at 1 kHz",
        Spread(ratio, ratio, ratio, 1),
        "list of tuples",
        GOAL_GROWTH,
    )


def main() -> None:
    """Print the tables."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--seconds", type=float, help="length of the run at 1 kHz")
    arguments = parser.parse_args()
    report = Report("memory", "Memory", arguments.quick)
    imports(report, 3 if arguments.quick else 9)
    growth(report, arguments.seconds or (20.0 if arguments.quick else 420.0))
    report.finish(arguments)


if __name__ == "__main__":
    main()
