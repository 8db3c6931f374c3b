"""What `import carbontracker` costs beside bare Python, numpy and carbontracker 2.4.7.

All commands run in turn, interleaved, so that a noisy machine disturbs all of them alike; what is
reported is the median of each command's time over the bare interpreter's in the same round.
The peer is installed in an environment of its own, because both packages have one name.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

PEER = "carbontracker==2.4.7"


def peer_python(folder: Path) -> Path:
    """Return an interpreter with the peer installed, made at the first use."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {PEER} into {folder} ...", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
    return python


def seconds(command: list[str]) -> float:
    """Return the wall time of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peer", type=Path, default=Path("build/peer"), help="its environment")
    arguments = parser.parse_args()
    peer = str(peer_python(arguments.peer))
    here = sys.executable
    commands = {
        "bare python, this environment": [here, "-c", "pass"],
        "import carbontracker": [here, "-c", "import carbontracker"],
        "import carbontracker.tracker": [here, "-c", "import carbontracker.tracker"],
        "import numpy": [here, "-c", "import numpy"],
        "bare python, peer's environment": [peer, "-c", "pass"],
        f"import carbontracker.tracker ({PEER})": [peer, "-c", "import carbontracker.tracker"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for round_number in range(arguments.rounds + 1):
        for name, command in commands.items():
            took = seconds(command)
            if round_number:  # the first round only warms the caches
                times[name].append(took)
    bare = {True: times["bare python, peer's environment"], False: next(iter(times.values()))}
    numpy_extra = statistics.median(
        a - b for a, b in zip(times["import numpy"], bare[False], strict=True)
    )
    print(f"{'':<52} over bare python, ms: median (quartiles)   ratio to numpy")
    for name, took_s in times.items():
        of_peer = PEER in name or "peer" in name
        extra = [a - b for a, b in zip(took_s, bare[of_peer], strict=True)]
        low, median, high = statistics.quantiles(extra, n=4)
        print(
            f"{name:<52} {median * 1e3:8.1f}  ({low * 1e3:.1f} to {high * 1e3:.1f})"
            f"{median / numpy_extra:28.3f}"
        )


if __name__ == "__main__":
    main()
