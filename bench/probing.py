"""Processor time of probing every sensor where none is found, beside ``import numpy``.

Both run in the same interpreter in turn, each in a process of its own: what is compared is the
processor time of the one step, by the kernel's count for the process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

from bench.common import Report, abba, arguments_parser, ratios, spread, table

PROBE = """
from carbontracker.energy.config import Config
from carbontracker.energy.session import Session
config = Config(root={root!r}, nvml_library="/nonexistent")
began = time.process_time_ns()
session = Session.probe(config)
"""
STEPS = {
    "probing": PROBE,
    "import numpy": "began = time.process_time_ns()\nimport numpy\n",
}


def cpu_ms(code: str) -> float:
    """Return the processor time of a step in a process of its own."""
    text = f"import time\n{code}\nprint(time.process_time_ns() - began)"
    done = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1e6


def main() -> None:
    """Print the table."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    report = Report("probing", "Probing where there is no sensor", arguments.quick)
    taken: dict[str, list[float]] = {name: [] for name in STEPS}
    with tempfile.TemporaryDirectory() as root:
        for number, name in abba(
            list(STEPS), 1 + (arguments.rounds or (7 if arguments.quick else 25))
        ):
            ms = cpu_ms(STEPS[name].format(root=root))
            if number:  # the first round only warms the caches
                taken[name].append(ms)
    numpy = taken["import numpy"]
    rows = [[name, str(spread(ms)), str(ratios(ms, numpy))] for name, ms in taken.items()]
    report.say(table(["step", "CPU ms (quartiles)", "ratio to numpy's"], rows))
    report.row("probing", ratios(taken["probing"], numpy), "import numpy")
    report.finish(arguments)


if __name__ == "__main__":
    main()
