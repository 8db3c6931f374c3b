"""What the benches share: interleaving, robust statistics, the machine's name, tables, results."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import random
import re
import shlex
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
BUILD = ROOT / "build" / "bench-tools"
"""Where compiled helpers are kept."""

NAN = float("nan")
MAX_STEAL = 0.01
"""Of the run; above it no goal is judged."""
MAX_DRIFT = 0.15
"""How far the quartiles of a calibration may move from slice to slice; beyond, none is judged."""

# ---- statistics ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """A median with the range around it: quartiles, or an interval of confidence."""

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        """Return `median (low to high)` in three significant digits."""
        return f"{figure(self.median)} ({figure(self.low)} to {figure(self.high)})"

    def scaled(self, factor: float) -> Spread:
        """Return the same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.count)


def figure(value: float) -> str:
    """Return three significant digits without an exponent where that is readable."""
    if math.isnan(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 2 - math.floor(math.log10(abs(value))) if value else 0
        return f"{value:.{max(0, digits)}f}"
    return f"{value:.2e}"


def spread(values: Sequence[float]) -> Spread:
    """Return the median and quartiles of what is a number."""
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return Spread(NAN, NAN, NAN, 0)
    if len(known) == 1:
        return Spread(known[0], known[0], known[0], 1)
    low, median, high = statistics.quantiles(known, n=4, method="inclusive")
    return Spread(median, low, high, len(known))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of the ratios of pairs that were run beside each other."""
    return spread([a / b if b else NAN for a, b in zip(ours, theirs, strict=True)])


def confidence(values: Sequence[float], resamples: int = 2000, seed: int = 1) -> Spread:
    """Return the median with its bootstrap 95 % confidence interval."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(NAN, NAN, NAN, 0)
    draw = random.Random(seed)
    medians = sorted(statistics.median(draw.choices(known, k=len(known))) for _ in range(resamples))
    low, high = medians[round(0.025 * resamples)], medians[round(0.975 * resamples) - 1]
    return Spread(statistics.median(known), low, high, len(known))


def ratio_of_means(ours: Sequence[float], theirs: Sequence[float], seed: int = 1) -> Spread:
    """Return mean over mean of two groups, with its bootstrap 95 % confidence interval."""
    a = [value for value in ours if not math.isnan(value)]
    b = [value for value in theirs if not math.isnan(value)]
    if not a or not b or not any(b):
        return Spread(NAN, NAN, NAN, min(len(a), len(b)))
    draw = random.Random(seed)
    drawn = sorted(
        statistics.fmean(draw.choices(a, k=len(a)))
        / max(statistics.fmean(draw.choices(b, k=len(b))), 1e-300)
        for _ in range(500)
    )
    return Spread(statistics.fmean(a) / statistics.fmean(b), drawn[12], drawn[487], len(a))


def unsteady(calibration: Sequence[float]) -> str:
    """Return why a run says nothing, from the same thing measured again and again, or nothing."""
    steps = [b / a for a, b in itertools.pairwise(calibration) if a]
    null = spread(steps)
    if max(abs(null.low - 1), abs(null.high - 1)) <= MAX_DRIFT:
        return ""
    return f"the same loop again: {null}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which so much of the values lies; NaN of none."""
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return NAN
    return known[min(len(known) - 1, round(share * (len(known) - 1)))]


def mean(values: Sequence[float]) -> float:
    """Return the mean of what is a number; NaN of none."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else NAN


def abba(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield (round, name): each round has every name, every other round backwards."""
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            yield number, name


# ---- the machine ---------------------------------------------------------------------------


def cpu_model() -> str:
    """Return what the processor calls itself."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def compiler() -> list[str]:
    """Return the command of the C compiler."""
    return shlex.split(os.environ.get("CC", "cc"))


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout


def _first_line(command: Sequence[str]) -> str:
    return (_output(command).splitlines() or ["unknown"])[0]


def machine_lines() -> list[str]:
    """Return what a reader must know of the machine to place a result."""
    cores = f"{os.cpu_count()} logical cores, {len(os.sched_getaffinity(0))} usable"
    changed = _output(["git", "status", "--porcelain", "--untracked-files=no"]) != ""
    commit = _first_line(["git", "rev-parse", "--short", "HEAD"])
    return [
        f"processor: {cpu_model()}, {cores}",
        f"kernel: {platform.release()}",
        f"compiler: {_first_line([*compiler(), '--version'])}",
        f"python: {platform.python_version()}",
        f"commit: {commit}{' and changes' * changed}",
        f"date: {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
    ]


def stolen_ticks() -> tuple[int, int]:
    """Return the ticks that the hypervisor has stolen so far, and all ticks."""
    fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (fields[7] if len(fields) > 7 else 0), sum(fields[:8])


# ---- what a bench says -----------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the table at the end of `make bench`."""

    what: str
    ratio: Spread
    against: str
    goal: float | None = None
    """The ratio should not be above this; None where there is no such goal."""
    doubt: str = ""
    """Why nothing may be concluded from this run, where that is so."""

    def cells(self) -> list[str]:
        """Return the row as text, with the verdict on its goal."""
        if self.doubt:
            verdict = f"not judged: {self.doubt}"
        elif self.goal is None or math.isnan(self.ratio.median):
            verdict = ""
        else:
            met = "met" if self.ratio.median <= self.goal else "missed"
            verdict = f"<= {self.goal:g}: {met}"
        return [self.what, str(self.ratio), str(self.ratio.count), self.against, verdict]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table whose source is aligned too."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


RATIO_HEAD = ("what", "median ratio (spread)", "pairs", "against", "goal")


@dataclass
class Report:
    """What a bench found: prose and tables for people, rows for the table at the end."""

    name: str
    title: str
    quick: bool
    parts: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    steal_at_start: tuple[int, int] = field(default_factory=stolen_ticks)

    def say(self, text: str) -> None:
        """Add a paragraph or a table, and show it at once."""
        self.parts.append(text)
        print(text, end="\n\n", flush=True)

    def row(
        self, what: str, ratio: Spread, against: str, goal: float | None = None, doubt: str = ""
    ) -> None:
        """Add a line to the table of ratios; `doubt` says why it must not be judged."""
        self.rows.append(Row(what, ratio, against, goal, doubt))

    def steal(self) -> float:
        """Return the share of the run that the hypervisor has stolen."""
        stolen, total = (b - a for a, b in zip(self.steal_at_start, stolen_ticks(), strict=True))
        return stolen / max(1, total)

    def text(self) -> str:
        """Return the whole report as markdown."""
        mode = "quick" if self.quick else "full"
        noise = f"{100 * self.steal():.2f} % of the run stolen by the hypervisor"
        load = f"load average at its end {os.getloadavg()[0]:.2f}"
        machine = [*machine_lines(), f"mode: {mode}; {noise}; {load}"]
        ratio_table = [table(RATIO_HEAD, [row.cells() for row in self.rows])] if self.rows else []
        head = [f"# {self.title}", "\n".join(f"- {line}" for line in machine)]
        return "\n\n".join([*head, *self.parts, *ratio_table]) + "\n"

    def finish(self, arguments: argparse.Namespace) -> None:
        """Show the ratios; write the report and, if asked, the rows for the common table."""
        if (share := self.steal()) > MAX_STEAL:
            reason = f"{100 * share:.1f} % stolen by the hypervisor"
            self.rows = [replace(row, doubt=row.doubt or reason) for row in self.rows]
        if self.rows:
            print(table(RATIO_HEAD, [row.cells() for row in self.rows]), flush=True)
        arguments.results.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        path = arguments.results / f"{self.name}-{'quick-' * self.quick}{stamp}.md"
        path.write_text(self.text(), encoding="utf-8")
        if arguments.json is not None:
            arguments.json.write_text(json.dumps([asdict(row) for row in self.rows]))
        print(f"\nwritten: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")


def rows_from_json(text: str) -> list[Row]:
    """Read what `Report.finish` wrote for the common table."""
    return [Row(**{**row, "ratio": Spread(**row["ratio"])}) for row in json.loads(text)]


def arguments_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every bench has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repetitions")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    parser.add_argument("--json", type=Path, help="write the ratios here, for bench.all")
    return parser


def compile_c(name: str, *flags: str) -> Path:
    """Compile `bench/<name>.c` into the build folder, unless it is there and newer."""
    source, target = ROOT / "bench" / f"{name}.c", BUILD / name
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return target
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [*compiler(), "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", str(source)]
    done = subprocess.run([*command, "-o", str(target), "-ldl", *flags], check=False)
    if done.returncode != 0:
        sys.exit(f"{name}: the C compiler failed; is `{compiler()[0]}` installed?")
    return target
