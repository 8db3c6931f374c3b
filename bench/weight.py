"""What an environment weighs with ours, and with each peer: packages, megabytes, time to install.

    make wheel && python -m bench.weight

Each is installed into a new environment from a folder of wheels, so that no network is timed. The
installations alternate. Megabytes are those of all files that pip puts there, byte code included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.common import ROOT, Report, abba, arguments_parser, ratios, table
from bench.peers import NAMES, REQUIREMENTS

_LISTED = """
import json
from importlib.metadata import distributions
from pathlib import Path
files, names = set(), set()
for found in distributions():
    name = found.metadata["Name"].lower()
    if name not in ("pip", "setuptools", "wheel"):
        names.add(name)
        files |= {Path(found.locate_file(file)).resolve() for file in found.files or ()}
sizes = [file.stat().st_size for file in files if file.is_file()]
print(json.dumps({"packages": sorted(names), "bytes": sum(sizes)}))
"""


class Weight(NamedTuple):
    """What one installation brought."""

    seconds: float
    packages: list[str]
    megabytes: float


def own_wheel() -> Path:
    """Return the wheel in ``dist/``."""
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"{len(wheels)} wheels in dist/: run `make wheel`, which leaves one")
    return wheels[0]


def download(requirement: str, folder: Path) -> None:
    """Put the wheels of a package and of all that it needs into a folder."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([*pip, "--prefer-binary", requirement], check=True)


def installed(wheels: Path) -> Weight:
    """Install into a new environment; return its weight and the time of ``pip install``."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder, "bin", "python"))
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        began_s = time.perf_counter()
        subprocess.run([*pip, "--no-index", *map(str, wheels.glob("*.whl"))], check=True)
        seconds = time.perf_counter() - began_s
        listed = subprocess.run(
            [python, "-c", _LISTED], check=True, capture_output=True, text=True
        ).stdout
    found = json.loads(listed)
    return Weight(seconds, found["packages"], found["bytes"] / 1e6)


def main() -> None:
    """Print the table."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    report = Report("weight", "Packages, megabytes and time of an installation", arguments.quick)
    requirements = {"ours": str(own_wheel()), **REQUIREMENTS}
    weights: dict[str, list[Weight]] = {tool: [] for tool in requirements}
    with tempfile.TemporaryDirectory() as root:
        folders = {tool: Path(root, tool) for tool in requirements}
        for tool, requirement in requirements.items():
            download(requirement, folders[tool])
        rounds = arguments.rounds or (2 if arguments.quick else 4)
        for _, tool in abba(list(requirements), rounds):
            weights[tool].append(installed(folders[tool]))
    times = {tool: [one.seconds for one in found] for tool, found in weights.items()}
    rows = []
    for tool, (weight, *_) in weights.items():
        ratio = "1" if tool == "ours" else str(ratios(times[tool], times["ours"]))
        megabytes = f"{weight.megabytes:.0f}"
        rows.append([NAMES[tool], str(len(weight.packages)), megabytes, ratio])
    report.say(table(["installed", "packages", "MB", "time of pip install / ours"], rows))
    for tool, (weight, *_) in weights.items():
        report.say(f"{NAMES[tool]}: {', '.join(weight.packages)}.")
    for tool in REQUIREMENTS:
        report.row("time to install", ratios(times["ours"], times[tool]), NAMES[tool])
    report.finish(arguments)


if __name__ == "__main__":
    main()
