"""`aggregate` over thousands of records, beside a program that json.loads all of them.

The records are made of nothing but numbers: five epochs of two devices with their energy over
time, every tenth run without its end. Both programs run in interpreters of their own, interleaved;
what is compared is their time, wall and CPU, and the most memory they ever held.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import peers
from bench.common import ROOT, Report, abba, arguments_parser, ratios, spread, table
from tests.support.records import Made

EPOCHS = 5
POINTS = 60
MIB = 1024 * 1024
HEAD = """\
import json, pathlib, sys, time
start, cpu = time.perf_counter(), time.process_time()
"""
TAIL = """
print(json.dumps([
    time.perf_counter() - start,
    time.process_time() - cpu,
    int(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024,
    total,
]))
"""
PROGRAMS = {
    "aggregate": """
from carbontracker.records.aggregate import add_runs
from carbontracker.records.reader import read_runs
total = add_runs(read_runs(sys.argv[1], series=False, epochs=False)).joules
""",
    "runs --json": """
from carbontracker.records.reader import read_runs
from carbontracker.report.tabular import run_row
total = 0.0
for run in read_runs(sys.argv[1], series=False, epochs=False):
    row = run_row(run)
    json.dumps(row)
    total += row["joules"]
""",
    "everything, one run at a time": """
from carbontracker.records.reader import read_runs
total = sum(run.energy.joules for run in read_runs(sys.argv[1]))
""",
    "json.loads of all": """
runs = [
    [json.loads(line) for line in path.open()]
    for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.jsonl"))
]
total = 0.0
for events in runs:
    if events[-1]["event"] == "run_finished":
        total += events[-1]["energy"]["joules"]
    else:
        total += sum(e["energy"]["joules"] for e in events if e["event"] == "epoch")
""",
}
NAIVE = "json.loads of all"


def make(directory: Path, count: int) -> int:
    """Write so many records, a hundred a folder; return their size in bytes."""
    size = 0
    for number in range(count):
        made = Made(
            f"{number:016x}",
            [1000.0 + number % 7 + epoch for epoch in range(EPOCHS)],
            began_s=100.0 * number,
            devices=(("gpu:0", "gpu/GPU-1"), ("cpu:0", "cpu/0")),
            finished=number % 10 != 0,
        )
        events = made.events()
        for event in events:
            if event["event"] == "series":
                step = made.seconds / POINTS
                event["t_s"] = [step * i for i in range(POINTS + 1)]
                for name, joules in event["joules"].items():
                    rise = (joules[-1] - joules[0]) / POINTS
                    event["joules"][name] = [joules[0] + rise * i for i in range(POINTS + 1)]
        folder = directory / f"{number // 100:03d}"
        folder.mkdir(exist_ok=True)
        text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)
        (folder / f"{number:08d}.jsonl").write_text(text)
        size += len(text)
    return size


def run(name: str, directory: Path) -> list[float]:
    """Return wall seconds, CPU seconds, MiB and the total that a program found."""
    command = [str(peers.python_of("ours")), "-c", HEAD + PROGRAMS[name] + TAIL, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found: list[float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the table."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--count", type=int)
    arguments = parser.parse_args()
    report = Report("records", "Many records", arguments.quick)
    count = arguments.count or (2_000 if arguments.quick else 10_000)
    results: dict[str, list[list[float]]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        size = make(Path(folder), count)
        report.say(f"{count} records, {size / MIB:.0f} MiB; the first round only warms the cache.")
        rounds = 1 + (arguments.rounds or (3 if arguments.quick else 5))
        for number, name in abba(list(PROGRAMS), rounds):
            found = run(name, Path(folder))
            if number:
                results[name].append(found)
    totals = {round(found[3]) for every in results.values() for found in every}
    if len(totals) != 1:
        sys.exit(f"the programs do not agree: {totals}")
    columns = {
        name: [spread([found[i] for found in every]) for i in range(3)]
        for name, every in results.items()
    }
    rows = [[name, *map(str, values)] for name, values in columns.items()]
    report.say(table(["program", "wall s (quartiles)", "CPU s", "peak MiB"], rows))
    for name in PROGRAMS:
        if name == NAIVE:
            continue
        for i, what in ((1, "CPU time"), (2, "peak memory")):
            pair = ([found[i] for found in results[one]] for one in (name, NAIVE))
            report.row(f"{name}: {what}", ratios(*pair), NAIVE)
    report.finish(arguments)


if __name__ == "__main__":
    main()
