"""What keeping every sample on disk costs, beside the same sampling without.

Machine: four RAPL counters and eight GPUs whose calls take 20 us, all pretended. One process
samples all the time, by the sensors' own rhythms or a thousand times a second, and sleeps in
slices: without a file, and with one that is begun, written once a second and ended within the
slice. CPU time is that of the whole process by its own clock. The time to load pyarrow is stated
apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bench.common import ROOT, Report, arguments_parser, ratios, spread, table
from bench.cost import boards
from bench.hardware import machine, rapl_zones

if TYPE_CHECKING:
    from bench.hardware import Machine

SETTINGS: dict[str, dict[str, str]] = {
    "own rhythms": {},
    "1 kHz": {"CARBONTRACKER_RATE_HZ": "1000", "CARBONTRACKER_OVERHEAD_BUDGET": "0"},
}
PROGRAM = """
import json, pathlib, sys, time
folder, rounds, slice_s = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release

def resident():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024

session = acquire(Config.from_environment())
time.sleep(3)
before_mib, began = resident(), time.process_time()
from carbontracker.traces.samples import SampleWriter, arrow
arrow()
load = [time.process_time() - began, resident() - before_mib]

def cpu(path):
    began, start = time.process_time(), time.monotonic()
    writer = SampleWriter(session, path) if path else None
    time.sleep(slice_s)
    if writer:
        writer.close()
    return (time.process_time() - began) / (time.monotonic() - start)

cpu(folder / "warm.arrow")
found, kept_mib = [], resident()
for number in range(rounds):
    path = folder / f"{number}.arrow"
    pair = {}
    for kind in (None, path) if number % 2 else (path, None):
        pair["with" if kind else "without"] = cpu(kind)
    found.append([pair["without"], pair["with"], path.stat().st_size / slice_s])
    path.unlink()
print(json.dumps({"load": load, "slices": found, "grown_mib": resident() - kept_mib}))
release(session)
"""


def run(host: Machine, setting: str, rounds: int, slice_s: float) -> dict[str, list[list[float]]]:
    """Return what one process found."""
    name = setting.replace(" ", "-")
    folder = host.folder / f"samples-{name}"
    folder.mkdir()
    variables = {**host.environment(name, **SETTINGS[setting]), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(rounds), str(slice_s)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=variables, cwd=ROOT
    )
    found: dict[str, list[list[float]]] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the table."""
    arguments = arguments_parser(__doc__).parse_args()
    report = Report("trace", "Every sample on disk", arguments.quick)
    if find_spec("pyarrow") is None:
        sys.exit("samples on disk need pyarrow: pip install pyarrow")
    rounds, slice_s = (7, 3.0) if arguments.quick else (15, 5.0)
    rows = []
    with machine(boards(8), rapl_zones(4)) as host:
        for setting in SETTINGS:
            found = run(host, setting, rounds, slice_s)
            without, with_file, sizes = zip(*found["slices"], strict=True)
            seconds, mib = found["load"]
            rows.append(
                [
                    setting,
                    str(spread(without).scaled(100)),
                    str(spread(with_file).scaled(100)),
                    str(spread(sizes).scaled(1 / 1024)),
                    f"{seconds:.2f}",
                    f"{mib:.0f}",
                    f"{found['grown_mib']:.1f}",
                ]
            )
            report.row(
                f"CPU with every sample on disk, {setting}",
                ratios(with_file, without),
                "the same sampling without",
            )
    report.say(f"{rounds} pairs of slices of {slice_s:g} s; twelve sensors.")
    head = ["sampling", "without, % of a core", "with, %", "KiB/s", "pyarrow: CPU s to load"]
    report.say(table([*head, "MiB to load", "MiB grown by the end"], rows))
    report.finish(arguments)


if __name__ == "__main__":
    main()
