"""How public scripts for carbontracker 2.4.x run on it and on ours: `python -m bench.usages`.

Each usage was found in public code and is written here in own words. A program runs in a process
and a directory of its own; its last line says what it got. No energy is compared: a machine
without sensors has an estimate in ours and none in 2.4.7.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import NamedTuple

from bench.common import Report, arguments_parser, table
from bench.peers import NAMES, python_of

TIMEOUT_S = 60.0
TOOLS = ("carbontracker", "ours")
MADE = """\
import time, sys, os
from carbontracker.tracker import CarbonTracker
SIMULATED = dict(sim_gpu="A", sim_gpu_watts=250, sim_gpu_util=0.5, components="gpu")
def train(tracker, epochs=3):
    for epoch in range(epochs):
        tracker.epoch_start(); time.sleep(1.2); tracker.epoch_end()
"""
COMMAND = """\
import subprocess, sys, os
def run(*words):
    program = os.path.join(os.path.dirname(sys.executable), "carbontracker")
    return subprocess.run([program, *words], capture_output=True, text=True)
"""


class Usage(NamedTuple):
    """A way to use 2.4.x, and a program that does it."""

    what: str
    program: str


USAGES = (
    Usage(
        "energy, times and intensity read in the loop",
        MADE
        + """
tracker = CarbonTracker(epochs=3, verbose=0, **SIMULATED)
for epoch in range(3):
    tracker.epoch_start(); time.sleep(1.2); tracker.epoch_end()
    kwh, times = tracker.tracker.total_energy_per_epoch(), tracker.tracker.epoch_times
    mean = tracker.intensity_updater.average_carbon_intensity()
    grams = kwh.sum() * getattr(mean, "carbon_intensity", mean)
print(len(kwh), "energies,", len(times), "times, grams", "known" if grams > 0 else "unknown")
""",
    ),
    Usage(
        "the same after the end",
        MADE
        + """
tracker = CarbonTracker(epochs=2, verbose=0, **SIMULATED)
train(tracker, 2)
print(len(tracker.tracker.total_energy_per_epoch()), "energies")
""",
    ),
    Usage(
        "CarbonTrackerThread imported and patched",
        MADE
        + """
try:
    from carbontracker.tracker import CarbonTrackerThread
    CarbonTrackerThread._log_components_info = lambda self: None
    tracker = CarbonTracker(epochs=1, verbose=0, **SIMULATED)
    train(tracker, 1)
    print("tracked")
except (ImportError, AttributeError):
    print("tracking is off, silently")
""",
    ),
    Usage(
        "epoch_start() before the loop and in it",
        MADE
        + """
tracker = CarbonTracker(epochs=2, monitor_epochs=2, log_dir="logs", verbose=0, **SIMULATED)
tracker.epoch_start()
train(tracker, 2)
tracker.stop()
from carbontracker import parser
log = parser.parse_all_logs("logs")[0]
epochs = len(log["components"]["gpu"]["epoch_durations (s)"])
print(epochs, "epochs in the log")
""",
    ),
    Usage(
        "epochs, monitor_epochs, verbose set afterwards",
        MADE
        + """
tracker = CarbonTracker(epochs=1, **SIMULATED)
tracker.epochs = 3
tracker.monitor_epochs = 2
tracker.verbose = 0
train(tracker, 3)
print("monitored", tracker.epoch_counter, "epochs")
""",
    ),
    Usage(
        "a command with --log_dir, then --parse",
        COMMAND
        + """
done = run("--log_dir=logs", sys.executable, "-c", "import time; time.sleep(3)")
parsed = run("--parse", "logs")
words = parsed.stdout.split()
kwh = float(words[words.index("kWh") - 1]) if "kWh" in words else 0.0
print("exit", done.returncode, "and", parsed.returncode, "energy", "known" if kwh else "zero")
""",
    ),
    Usage(
        "--log_dir and --api_keys before the program",
        COMMAND
        + """
done = run("--log_dir=logs", '--api_keys={"electricitymaps": "k"}', sys.executable, "-c",
           "import time; time.sleep(1); print('trained')")
print("exit", done.returncode, "program run" if "trained" in done.stdout else "program not run")
""",
    ),
    Usage(
        "the last of parse_all_logs() is the last run",
        MADE
        + """
for name in ("a", "b", "c"):
    tracker = CarbonTracker(epochs=1, log_dir="logs", log_file_prefix="", verbose=0, **SIMULATED)
    train(tracker, 1); tracker.stop()
    files = {f for f in os.listdir("logs")}
    if name == "b":
        before = files
from carbontracker import parser
last = os.path.basename(parser.parse_all_logs("logs")[-1]["output_filename"])
print("the last run" if last not in before else "another run")
""",
    ),
    Usage(
        'api_keys={"energidataservice": ""}',
        MADE
        + """
tracker = CarbonTracker(epochs=1, verbose=0, api_keys={"energidataservice": ""}, **SIMULATED)
train(tracker, 1)
print("trained")
""",
    ),
    Usage(
        "a regular expression over the output log",
        MADE
        + r"""
import glob, re
tracker = CarbonTracker(epochs=2, log_dir="logs", verbose=0, **SIMULATED)
train(tracker, 2); tracker.stop()
(log,) = glob.glob("logs/*_output.log")
found = [float(one) for one in re.findall(r"Energy:\s*([\d.]+)", open(log).read())]
print(len(found), "figures,", "all above 0" if all(found) else "some 0")
""",
    ),
    Usage(
        "a group's log directory (umask 002)",
        MADE
        + """
os.umask(0o002)
tracker = CarbonTracker(epochs=1, log_dir="logs", verbose=0, **SIMULATED)
train(tracker, 1); tracker.stop()
modes = {oct(os.stat(os.path.join("logs", f)).st_mode & 0o777) for f in os.listdir("logs")}
print("files", " ".join(sorted(modes)), "directory", oct(os.stat("logs").st_mode & 0o777))
""",
    ),
    Usage(
        "the extra pdfreport",
        """
from importlib.metadata import metadata
print("known" if "pdfreport" in metadata("carbontracker").get_all("Provides-Extra") else "unknown")
""",
    ),
)


def outcome(tool: str, usage: Usage) -> str:
    """Return the last line that a program prints on a tool, or how it ends."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with tempfile.TemporaryDirectory() as folder:
        own = {"CARBONTRACKER_LOCATION": "DK", "CARBONTRACKER_DIR": f"{folder}/records"}
        try:
            done = subprocess.run(
                [str(python_of(tool)), "-c", usage.program],
                cwd=folder,
                env=kept | own | {"CARBONTRACKER_OFFLINE": "1"},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"not finished after {TIMEOUT_S:.0f} s"
    error = (done.stderr.strip().splitlines() or [""])[-1]
    said = (done.stdout.strip().splitlines() or [error])[-1]
    return said[:80] if done.returncode == 0 else f"exit {done.returncode}: {error[:80]}"


def main() -> None:
    """Run every usage on both, and print a table."""
    arguments = arguments_parser(__doc__).parse_args()
    report = Report("usages", "Usages of public scripts for carbontracker 2.4.x", arguments.quick)
    rows = [[one.what, *(outcome(tool, one) for tool in TOOLS)] for one in USAGES]
    report.say(table(["usage", *(NAMES[tool] for tool in TOOLS)], rows))
    report.finish(arguments)


if __name__ == "__main__":
    main()
