"""Runs one tool in a process of its own and does what the bench asks, a line of JSON at a time.

    python worker.py TOOL      TOOL: ours, carbontracker, codecarbon, zeus, none

It runs with the interpreter of the tool's own environment, so it and its neighbours use nothing
but the standard library and the tool. Answers go to what standard output was at the beginning;
whatever the tool prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


class Server:
    """The commands; each returns what goes back."""

    def __init__(self, tool: Any) -> None:
        self.tool = tool

    def start(self, **options: Any) -> list[str]:
        """Start the tool: from here on it does what it does in the background."""
        self.tool.start(**options)
        return list(self.tool.devices())

    def windows(self, epoch_ns: int, schedule: list[list[float]]) -> list[list[int]]:
        """Measure windows (start s from the epoch, length s); return the middles of both calls."""
        moments = []
        for number, (start_s, length_s) in enumerate(schedule):
            _sleep_until(epoch_ns + round(start_s * 1e9))
            before = time.monotonic_ns()
            self.tool.begin(f"w{number}")
            begun = time.monotonic_ns()
            middle = before + (begun - before) // 2
            _sleep_until(middle + round(length_s * 1e9))
            before = time.monotonic_ns()
            self.tool.end(f"w{number}")
            moments.append([middle, before + (time.monotonic_ns() - before) // 2])
        return moments

    def energies(self) -> list[dict[str, list[float]]]:
        """Return joules and their error (NaN: not reported) by device, for each window so far."""
        return list(self.tool.energies())

    def pairs(self, count: int) -> list[list[int]]:
        """Return how long each of `count` begins and ends took, ns."""
        clock = time.perf_counter_ns
        begin, end = self.tool.begin, self.tool.end
        took = []
        for number in range(count):
            name = f"p{time.monotonic_ns()}-{number}"
            a = clock()
            begin(name)
            b = clock()
            end(name)
            took.append([b - a, clock() - b])
        return took

    def call(self, name: str, **options: Any) -> Any:
        """Do something that only this tool offers."""
        return getattr(self.tool, name)(**options)

    def work(self, kind: str, iterations: int) -> float:
        """Do a piece of work; return the seconds that it took."""
        return float(importlib.import_module("work").run(kind, iterations))

    def waited(self) -> float:
        """Return how long this thread, which works, was ready and had no processor so far, s."""
        try:
            return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
        except FileNotFoundError:  # a kernel without the figures
            return float("nan")

    def cpu(self, seconds: float) -> dict[str, float]:
        """Sleep so long; return the CPU time of the process and its children meanwhile, s."""
        # The own clock is read last and first, so that asking is not charged.
        sampling, children = self.tool.cpu_seconds(), _children_seconds()
        start, cpu = time.monotonic(), time.process_time()
        time.sleep(seconds)
        cpu, length_s = time.process_time() - cpu, time.monotonic() - start
        children, sampling = _children_seconds() - children, self.tool.cpu_seconds() - sampling
        return {"seconds": length_s, "cpu": cpu + children, "sampling": sampling}


def _sleep_until(moment_ns: int) -> None:
    while (rest_ns := moment_ns - time.monotonic_ns()) > 0:
        time.sleep(rest_ns / 1e9)


def _children_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total, tick = 0, os.sysconf("SC_CLK_TCK")
    for path in Path("/proc/self/task").glob("*/children"):
        for child in path.read_text().split():
            with contextlib.suppress(OSError):  # it has just ended
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
    return total / tick + ended.ru_utime + ended.ru_stime


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tool = importlib.import_module(f"with_{sys.argv[1]}").Tool()
    server = Server(tool)
    for line in sys.stdin:
        arguments = json.loads(line)
        result = getattr(server, arguments.pop("command"))(**arguments)
        answers.write(json.dumps(result) + "\n")
        answers.flush()
    tool.close()


if __name__ == "__main__":  # Zeus' helper processes import this module again
    main()
