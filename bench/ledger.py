"""The ledger of thousands of records, beside `aggregate` of the same: time and the most memory.

Every fourth run was killed and is resumed by the next one, so that its record is read again for
what came after its checkpoint. The programs run in interpreters of their own, interleaved. The most
memory is `VmHWM`: that of a parent does not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.common import ROOT, Report, abba, arguments_parser, ratios, spread, table
from tests.support.records import Made

HEAD = """\
import json, re, sys, time
from pathlib import Path
from carbontracker.records.reader import read_runs
start, cpu = time.perf_counter(), time.process_time()
"""
TAIL = """
status = Path("/proc/self/status").read_text()
peak_kib = int(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
print(json.dumps([time.perf_counter() - start, time.process_time() - cpu, peak_kib / 1024, total]))
"""
PROGRAMS = {
    "ledger": """
from carbontracker.records.ledger import make_ledger
from carbontracker.report.ledger import ledger_lines
ledger = make_ledger(read_runs(sys.argv[1], series=False, epochs=False))
list(ledger_lines(ledger))
total = ledger.whole.cost.kwh
""",
    "aggregate": """
from carbontracker.records.aggregate import add_runs
total = add_runs(read_runs(sys.argv[1], series=False, epochs=False)).kwh
""",
}


def make(directory: Path, count: int) -> None:
    """Write so many records, a hundred a folder."""
    for number in range(count):
        killed, resumes = number % 4 == 0, number % 4 == 1
        about = {"project": f"p{number % 5}", "stage": ("development", "training")[number // 4 % 2]}
        if resumes:  # the same project and stage as the run that was killed
            about = {"project": f"p{(number - 1) % 5}", "stage": about["stage"]}
            about["parent"] = f"{number - 1:016x}"
        Made(
            f"{number:016x}",
            [1000.0 + number % 7] * 5,
            began_s=100.0 * number,
            devices=(("gpu:0", "gpu/GPU-1"), ("cpu:0", "cpu/0")),
            finished=not killed,
            planned=5,
            about=about,
            saved_s=(25.0,),
        ).write(directory / f"{number // 100:03d}")


def run(name: str, directory: Path) -> tuple[float, float, float, float]:
    """Run a program; return its time, s, its CPU time, s, its peak, MiB, and its total, kWh."""
    program = HEAD + PROGRAMS[name] + TAIL
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, cpu_s, peak_mib, total = json.loads(done.stdout)
    return seconds, cpu_s, peak_mib, total


def main() -> None:
    """Print the table."""
    arguments = arguments_parser(__doc__).parse_args()
    report = Report("ledger", "The ledger of many records", arguments.quick)
    counts, rounds = ((200, 2000), 2) if arguments.quick else ((1000, 10_000), 4)
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), count)
            found: dict[str, list[tuple[float, float, float, float]]] = {
                key: [] for key in PROGRAMS
            }
            for _, program in abba(list(PROGRAMS), rounds):
                found[program].append(run(program, Path(name)))
        for program, each in found.items():
            times, cpus, peaks, totals = zip(*each, strict=True)
            row = [
                f"{count:,}",
                program,
                str(spread(times)),
                str(spread(cpus)),
                f"{max(peaks):.0f}",
            ]
            rows.append([*row, f"{totals[0]:.6f}"])
    report.say(table(["records", "what", "s", "CPU s", "peak, MiB", "kWh"], rows))
    report.row(
        "ledger over aggregate, CPU",
        ratios([one[1] for one in found["ledger"]], [one[1] for one in found["aggregate"]]),
        "aggregate",
    )
    report.finish(arguments)


if __name__ == "__main__":
    main()
