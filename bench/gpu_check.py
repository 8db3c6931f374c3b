"""Checks this tool on a real NVIDIA GPU; `bench/gpu_check.sh` builds it and calls this.

Prints, and writes to bench/results: what an NVML call costs; how often power and counter refresh;
the energy counter beside integrated power over idle, a square load and bursts; the error of windows
of 20 ms to 20 s against the counter; and the slow-down of a training loop on the GPU.

    python -m bench.gpu_check              needs a GPU, and PyTorch for all that needs a load
    python -m bench.gpu_check --pretend    the same on a pretended GPU, PyTorch on the CPU
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common import (
    NAN,
    ROOT,
    Report,
    arguments_parser,
    confidence,
    figure,
    mean,
    percentile,
    spread,
    table,
)
from bench.gpu_load import Load
from bench.nvml import ENERGY, POWER_AVERAGE, POWER_INSTANT, Gpu, NvmlError, open_gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Changes = dict[str, list[tuple[int, int]]]

LENGTHS_S = {0.02: 40, 0.05: 30, 0.2: 20, 1.0: 10, 5.0: 4, 20.0: 2}
QUICK_LENGTHS_S = {0.02: 15, 0.05: 15, 0.2: 10, 1.0: 3}
WAIT_S = 3.0
REST_S = 0.3
GOAL = 1.01

# ---- NVML calls ------------------------------------------------------------------------------


def call_costs(gpu: Gpu, count: int) -> str:
    """Return a table of what each kind of call costs."""
    doors: dict[str, Callable[[], object]] = {
        "power": gpu.power_mw,
        "energy": gpu.energy_mj,
        "field: instant power": lambda: gpu.field(POWER_INSTANT),
        "field: average power": lambda: gpu.field(POWER_AVERAGE),
        "field: energy": lambda: gpu.field(ENERGY),
        "kept samples": gpu.samples,
    }
    rows = []
    for name, read in doors.items():
        if read() is None:
            rows.append([name, "not offered", "", ""])
            continue
        took_us = []
        for _ in range(count):
            start = time.perf_counter_ns()
            read()
            took_us.append((time.perf_counter_ns() - start) / 1e3)
        p50, p99 = percentile(took_us, 0.5), percentile(took_us, 0.99)
        rows.append([name, figure(p50), figure(p99), str(count)])
    return table(["NVML call, by ctypes", "p50, us", "p99, us", "calls"], rows)


def kept_samples(gpu: Gpu) -> str:
    """Return what the driver's own buffer of power samples looks like."""
    found = gpu.samples()
    if not found or len(found) < 3:
        return "The driver keeps no power samples for this GPU (nvmlDeviceGetSamples)."
    gaps_ms = [(b[0] - a[0]) / 1e3 for a, b in itertools.pairwise(found)]
    span_s = (found[-1][0] - found[0][0]) / 1e6
    return f"Kept power samples: {len(found)} over {span_s:.2f} s, spaced {spread(gaps_ms)} ms."


# ---- the reference: a process that polls without a pause ---------------------------------------


@contextmanager
def polling(gpu: Gpu, seconds: float) -> Iterator[Callable[[], Changes]]:
    """Poll the GPU for so long in a process of its own; give a function that fetches the result."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changes.json"
        command = [sys.executable, "-m", "bench.gpu_poll", str(gpu.index), str(seconds), str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()

            def fetch() -> Changes:
                process.wait()
                return {
                    name: [(t, v) for t, v in changes]
                    for name, changes in json.loads(path.read_text()).items()
                }

            yield fetch
            process.wait()


def refresh_table(changes: Changes) -> str:
    """Return how far apart the changes of each reading were."""
    rows = []
    for name, found in changes.items():
        gaps_ms = [(b[0] - a[0]) / 1e6 for a, b in itertools.pairwise(found)]
        ends = [figure(percentile(gaps_ms, share)) for share in (0.1, 0.9)]
        row = [name, figure(percentile(gaps_ms, 0.5)), " to ".join(ends), str(len(gaps_ms))]
        rows.append(row)
    return table(["reading", "refresh, ms: median", "10 % to 90 %", "changes"], rows)


class Counter:
    """The energy counter as a line through the moments at which it was seen to change."""

    def __init__(self, changes: Sequence[tuple[int, int]]) -> None:
        self.times = [t for t, _ in changes]
        self.values = [value / 1e3 for _, value in changes]

    def joules(self, start_ns: int, end_ns: int) -> float:
        """Return the energy between two moments; NaN outside of what was polled."""
        return self._at(end_ns) - self._at(start_ns)

    def _at(self, t_ns: int) -> float:
        place = bisect.bisect_right(self.times, t_ns)
        if place in (0, len(self.times)):
            return NAN
        (t0, t1), (e0, e1) = (line[place - 1 : place + 1] for line in (self.times, self.values))
        return e0 + (e1 - e0) * (t_ns - t0) / (t1 - t0)


def held(changes: Sequence[tuple[int, int]], start_ns: int, end_ns: int) -> float:
    """Return the joules of a power reading, each value held until the next."""
    total = 0.0
    ends = [t for t, _ in changes[1:]] + [end_ns]
    for (t_ns, milliwatts), next_ns in zip(changes, ends, strict=True):
        inside_ns = min(next_ns, end_ns) - max(t_ns, start_ns)
        total += milliwatts / 1e3 * max(0, inside_ns) / 1e9
    return total


def counter_against_power(gpu: Gpu, load: Load, seconds: float) -> str:
    """Return the counter's energy over that of each power reading, by load."""
    loads: dict[str, Callable[[], None]] = {"idle": lambda: time.sleep(seconds)}
    if load.torch is not None:
        loads["square, 0.5 of 1 s"] = lambda: load.pulse(seconds, 1.0, 0.5)
        loads["bursts, 20 of 137 ms"] = lambda: load.pulse(seconds, 0.137, 0.020)
    rows = []
    for name, run in loads.items():
        with polling(gpu, seconds + 0.6) as fetch:
            time.sleep(0.3)
            start_ns = time.monotonic_ns()
            run()
            changes = fetch()
        counter = Counter(changes.get("energy", []))
        # Whole ticks of the counter only, so that its grain does not show.
        inside = [t for t in counter.times if t >= start_ns]
        if len(inside) < 3:
            rows.append([name, "no counter", "", "", ""])
            continue
        first, last = inside[0], inside[-1]
        joules = counter.joules(first, last - 1)
        others = [held(changes.get(k, []), first, last) for k in ("power", "instant", "average")]
        rows.append([name, figure(joules), *(figure(joules / e) if e else "-" for e in others)])
    doors = [f"counter / {door}" for door in ("power", "instant", "average")]
    return table(["load", "counter, J", *doors], rows)


# ---- windows ---------------------------------------------------------------------------------


def window_errors(gpu: Gpu, load: Load, lengths: dict[float, int], report: Report) -> None:
    """Measure windows of many lengths under a square load, and judge them by the counter."""
    import carbontracker

    total_s = sum(length_s * count for length_s, count in lengths.items())
    total_s += 0.1 * sum(lengths.values()) + 3.0
    draw = random.Random(1)
    order = [length_s for length_s, count in lengths.items() for _ in range(count)]
    draw.shuffle(order)
    windows: list[tuple[float, int, int, Any]] = []
    with polling(gpu, total_s + 1.0) as fetch, background(load, total_s):
        with carbontracker.measure("warm-up"):
            time.sleep(2.0)
        for length_s in order:
            time.sleep(draw.uniform(0.02, 0.12))
            start_ns = time.monotonic_ns()
            with carbontracker.measure("check") as window:
                time.sleep(length_s)
            windows.append((length_s, start_ns, time.monotonic_ns(), window))
        changes = fetch()
    counter = Counter(changes.get("energy", []))
    rows = []
    for wanted in sorted(lengths):
        errors, inside, widths = [], [], []
        for length_s, start_ns, end_ns, window in windows:
            if length_s != wanted:
                continue
            window.wait(WAIT_S)
            mine = window.energy.by_device.get(f"gpu:{gpu.index}")
            truth = counter.joules(start_ns, end_ns)
            if mine is None or not truth > 0:
                continue
            errors.append(100 * abs(mine.joules - truth) / truth)
            inside.append(float(abs(mine.joules - truth) <= mine.error_joules))
            widths.append(100 * mine.error_joules / truth)
        cells = [mean(errors), percentile(errors, 0.95), 100 * mean(inside)]
        widths_text = figure(percentile(widths, 0.5))
        rows.append([f"{wanted:g}", *map(figure, cells), widths_text, str(len(errors))])
    report.say(
        "Windows under a square load, against the counter (straight between its ticks, so for "
        "windows shorter than a tick this is agreement, not error):"
    )
    head = ["window, s", "mean error, %", "p95, %", "within error_joules, %", "± %, median", "n"]
    report.say(table(head, rows))


@contextmanager
def background(load: Load, seconds: float) -> Iterator[None]:
    """Run a square load in another thread, where one is possible."""
    if load.torch is None:
        yield
        return
    thread = threading.Thread(target=load.pulse, args=(seconds, 0.9, 0.45))
    thread.start()
    try:
        yield
    finally:
        thread.join()


# ---- slow-down -------------------------------------------------------------------------------

RATES: dict[str, dict[str, str]] = {
    "default": {},
    "1 kHz, no budget": {"CARBONTRACKER_RATE_HZ": "1000", "CARBONTRACKER_OVERHEAD_BUDGET": "0"},
}


def slow_down(load: Load, repeats: int, slice_s: float, report: Report) -> None:
    """Compare training steps with and without the tracker, with a null test beside."""
    steps = max(1, round(20 * slice_s / (load.train(20) and load.train(20))))
    rows = []
    for name, settings in RATES.items():
        values = [_triple(load, settings, steps) for _ in range(repeats)]
        interval, null = (confidence(list(column)) for column in zip(*values, strict=True))
        rows.append([name, str(interval), str(null), str(repeats)])
        quiet = max(abs(null.low - 1), abs(null.high - 1)) <= GOAL - 1
        doubt = "" if quiet else f"null test {null}"
        report.row(f"training step under {name}", interval, "the same untracked", GOAL, doubt)
    report.say(f"Training loop, {steps} steps a slice, wall time, bootstrap 95 % intervals:")
    head = ["tracker", "time with / without", "null: without / without", "repetitions"]
    report.say(table(head, rows))


def _triple(load: Load, settings: dict[str, str], steps: int) -> tuple[float, float]:
    """Train without, with and without the tracker; return with / without, and last / first."""
    first_s = _untracked(load, steps)
    with tracking(settings):
        with_s = load.train(steps)
    last_s = _untracked(load, steps)
    return 2 * with_s / (first_s + last_s), last_s / first_s


def _untracked(load: Load, steps: int) -> float:
    time.sleep(REST_S)  # as long as the tracker is given to start
    return load.train(steps)


@contextmanager
def tracking(settings: dict[str, str]) -> Iterator[None]:
    """Track as the drop-in does, with settings in the environment."""
    from carbontracker import CarbonTracker

    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    tracker = CarbonTracker(epochs=1_000_000, epochs_before_pred=0, verbose=0)
    tracker.epoch_start()
    time.sleep(REST_S)
    try:
        yield
    finally:
        tracker.epoch_end()
        tracker.stop()
        for name, text in before.items():
            os.environ.pop(name)
            if text is not None:
                os.environ[name] = text


# ---- all of it -------------------------------------------------------------------------------


def check(gpu: Gpu, load: Load, quick: bool, report: Report) -> None:
    """Run all checks on one GPU."""
    report.say(call_costs(gpu, 300 if quick else 3000))
    report.say(kept_samples(gpu))
    seconds = 3.0 if quick else 10.0
    with polling(gpu, seconds) as fetch, background(load, seconds):
        report.say("Refresh of the readings, by polling without a pause under a square load:")
        report.say(refresh_table(fetch()))
    report.say(counter_against_power(gpu, load, seconds))
    # The slow-down first: the session of windows would go on until the end.
    if load.torch is None:
        report.say(f"No slow-down and no loads: {load.reason}.")
    else:
        slow_down(load, 7 if quick else 21, 0.3 if quick else 1.0, report)
    try:
        window_errors(gpu, load, QUICK_LENGTHS_S if quick else LENGTHS_S, report)
    except ImportError as error:
        report.say(f"No windows: {error}.")


def find_gpu(wanted: int | None, load: Load) -> tuple[Gpu, str]:
    """Return the board to look at: the one asked for, else PyTorch's, else the first."""
    gpus, driver = open_gpus()
    if wanted is not None:
        return gpus[wanted], driver
    uuid = load.uuid()
    return next((gpu for gpu in gpus if uuid and uuid in gpu.uuid), gpus[0]), driver


@contextmanager
def pretended() -> Iterator[None]:
    """Show this process and those that it starts one pretended GPU."""
    from bench.hardware import board, machine

    with machine([board("A100", "square:60,300,0.9,0.5", latency_us=20)], []) as host:
        os.environ.update(host.environment("check"))
        yield


def main() -> None:
    """Check, print, write."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--pretend", action="store_true", help="on a pretended GPU")
    parser.add_argument("--gpu", type=int, help="NVML index; default: the one that PyTorch uses")
    arguments = parser.parse_args()
    for name, text in {"CARBONTRACKER_LOCATION": "DK", "CARBONTRACKER_RECORD": "0"}.items():
        os.environ.setdefault(name, text)  # nothing to warn of, no files
    with ExitStack() as stack:
        if arguments.pretend:
            stack.enter_context(pretended())
        load = Load(arguments.pretend)
        try:
            gpu, driver = find_gpu(arguments.gpu, load)
        except (NvmlError, IndexError) as error:
            sys.exit(
                f"gpu_check needs an NVIDIA GPU: {error}. (--pretend tries the script itself.)"
            )
        label = re.sub(r"[^A-Za-z0-9]+", "-", gpu.name).strip("-")
        name = f"gpu-{'pretended-' * arguments.pretend}{label}"
        report = Report(name, f"Check on {gpu.name}", arguments.quick)
        if arguments.pretend:
            report.say("PRETENDED HARDWARE: this only shows that the script runs.")
        report.say(f"GPU {gpu.index}: {gpu.name}, driver {driver}.")
        check(gpu, load, arguments.quick, report)
        report.finish(arguments)


if __name__ == "__main__":
    main()
