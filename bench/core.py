"""Builds and runs `bench_core`: ring, meter, reading and sampler of the native core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.common import MAX_DRIFT, ROOT, Report, Spread, arguments_parser, table

PROGRAM = ROOT / "build" / "bench" / "bench" / "cpp" / "bench_core"


def build() -> Path:
    """Build the program with the preset `bench`; cmake and ninja come with this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    cmake = shutil.which("cmake", path=path)
    if cmake is None:
        sys.exit("bench.core needs cmake and ninja: pip install cmake ninja")
    for step in (["--preset", "bench"], ["--build", "--preset", "bench"]):
        done = subprocess.run(
            [cmake, *step],
            cwd=ROOT,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(f"cmake {' '.join(step)} failed:\n{done.stdout}{done.stderr}")
    return PROGRAM


def doubt_of(null: Spread) -> str:
    """Return why a ratio says nothing, from what the same thing gave twice; or nothing."""
    steady = max(abs(null.low - 1), abs(null.high - 1)) <= MAX_DRIFT
    return "" if steady else f"the same loop again: {null}"


def main() -> None:
    """Print the table."""
    arguments = arguments_parser(__doc__).parse_args()
    report = Report("core", "The native core", arguments.quick)
    printed = subprocess.run([build()], capture_output=True, text=True, check=True).stdout
    lines = [
        [cell.strip() for cell in line.strip("| \n").split("|")]
        for line in printed.splitlines()
        if line.startswith("| ")
    ]
    head, rows = lines[0], lines[1:]
    report.say(table(head, rows))
    nulls = {
        what: Spread(float(median), float(low), float(high), int(count))
        for what, median, low, high, unit, count in rows
        if unit.startswith("null: ")
    }
    for what, median, low, high, unit, count in rows:
        if unit.startswith("ratio to "):
            values = Spread(float(median), float(low), float(high), int(count))
            doubt = doubt_of(nulls[what]) if what in nulls else ""
            report.row(what, values, unit.removeprefix("ratio to "), doubt=doubt)
    report.finish(arguments)


if __name__ == "__main__":
    main()
