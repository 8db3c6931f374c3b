"""What `import carbontracker` costs beside bare Python, numpy and the peers.

All commands run in turn, interleaved, so that a noisy machine disturbs all of them alike; what is
reported is the median of each command's time over the bare interpreter's in the same round.
Each peer is installed in an environment of its own.
"""

from __future__ import annotations

import os
import subprocess
import time

from bench import peers
from bench.common import Report, abba, arguments_parser, ratios, spread, table

OURS = "import carbontracker"
READY = "from carbontracker import measure"
IMPORTS = {
    OURS: ("ours", OURS),
    READY: ("ours", READY),
    "import carbontracker.tracker": ("ours", "import carbontracker.tracker"),
    "import numpy": ("ours", "import numpy"),
    "carbontracker 2.4.7": ("carbontracker", "import carbontracker.tracker"),
    "CodeCarbon 3.3.2": ("codecarbon", "import codecarbon"),
    "Zeus 0.16.0": ("zeus", "from zeus.monitor import ZeusMonitor"),
}


def seconds(tool: str, code: str) -> float:
    """Return the wall time of an interpreter that runs a line."""
    command = [str(peers.python_of(tool)), "-c", code]
    start = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    report = Report("import_time", "Time of the import", arguments.quick)
    tools = peers.available(sorted({tool for tool, _ in IMPORTS.values()}))
    wanted = {name: entry for name, entry in IMPORTS.items() if entry[0] in tools}
    extra_ms: dict[str, list[float]] = {name: [] for name in wanted}
    for number, name in abba(
        list(wanted), 1 + (arguments.rounds or (7 if arguments.quick else 15))
    ):
        tool, code = wanted[name]
        over_bare_ms = 1e3 * (seconds(tool, code) - seconds(tool, "pass"))
        if number:  # the first round only warms the caches
            extra_ms[name].append(over_bare_ms)
    numpy_ms = extra_ms["import numpy"]
    rows = [
        [name, str(spread(values)), str(ratios(values, numpy_ms))]
        for name, values in extra_ms.items()
    ]
    report.say("Over bare Python of the same environment:")
    report.say(table(["import", "ms (quartiles)", "ratio to numpy's"], rows))
    report.row(OURS, ratios(extra_ms[OURS], numpy_ms), "import numpy")
    # The package itself loads nothing: beside the peers stands what is ready for use.
    for name in (name for name, (tool, _) in wanted.items() if tool != "ours"):
        report.row(READY, ratios(extra_ms[READY], extra_ms[name]), name)
    report.finish(arguments)


if __name__ == "__main__":
    main()
