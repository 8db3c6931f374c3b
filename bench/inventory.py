"""What the sensors find on machines that are not here, and 5 s of them against the truth.

``python -m bench.inventory FOLDER [--seconds 5]``: FOLDER has a machine in each folder (``etc``,
``proc``, ``sys``, ``expected.json``) and ``drive.py``, which moves ``/proc/stat`` and the energy
counters of a copy in real time. The first table compares what is measured with the power that
drives it, or with the constant power in the files; the second one has every fact of
``expected.json``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common import Report, arguments_parser, table
from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release
from carbontracker.report.formatting import plain
from tests.support.expected import MODEL, Found, copied, judged, nothing_twice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.energy.session import Entry, Session

WATTS = 60.0
"""Of each driven counter, W; one more for each one that comes after it."""
UTILISATION = 0.6
COLUMNS = ("machine", "counted", "shown", "W", "truth W", "off", "twice")
ROUNDED = (
    "The truth of a modelled part is its own line as `carbontracker sensors` prints it, to 0.1 W "
    "for each end: on machines of a few watts, this alone is some 0.05 W."
)
LEAD_S = 1.5
"""From the start of the driver until the window begins, and after it ends."""


def counters_of(root: Path) -> dict[str, float]:
    """Return the energy counters that move, by path below the root, and their power, W.

    One that stands at 0 in the copy is a counter that never moves on that machine.
    """
    found = [*root.glob("sys/**/energy_uj"), *root.glob("sys/**/energy*_input")]
    files = sorted({file.resolve() for file in found})
    moving = [one for one in files if int(one.read_text()) > 0]
    return {
        str(file.relative_to(root.resolve())): WATTS + place for place, file in enumerate(moving)
    }


@contextmanager
def driven(drive: Path, root: Path, power: dict[str, float], seconds: float) -> Iterator[None]:
    """Let ``drive.py`` move a machine."""
    # A pattern of its shell-like matching: brackets do not occur in these paths, and * crosses /.
    globs = [f"{path}={watts}" for path, watts in power.items()]
    process = subprocess.Popen(
        [sys.executable, str(drive), str(root), str(UTILISATION), str(seconds), *globs]
    )
    try:
        time.sleep(LEAD_S)
        yield
    finally:
        process.terminate()
        process.wait()


def stated_watts(root: Path) -> dict[str, float]:
    """Return the power that stands in the files of a machine, W, by label or id of a channel."""
    stated: dict[str, float] = {}

    def number(path: Path) -> float:
        return float(path.read_text())

    cards = []
    for folder in sorted({path.resolve() for path in root.glob("sys/class/hwmon/*")}):
        name = (folder / "name").read_text().strip()
        if name == "power_meter":
            label = (folder / "device" / "power1_oem_info").read_text().strip()
            stated[label] = number(folder / "device" / "power1_average") / 1e6
        elif name == "amdgpu":
            files = [folder / "power1_average", folder / "power1_input"]
            cards += [number(file) / 1e6 for file in files if file.exists()][:1]
        else:
            for path in folder.glob("power*_label"):
                value = path.with_name(path.name.replace("label", "input"))
                if value.exists():
                    stated[path.read_text().strip()] = number(value) / 1e6
            for path in folder.glob("in*_label"):
                volts = path.with_name(path.name.replace("label", "input"))
                amperes = path.with_name(volts.name.replace("in", "curr", 1))
                if volts.exists() and amperes.exists():
                    stated[path.read_text().strip()] = number(volts) * number(amperes) / 1e6
    stated.update({f"gpu:{place}": watts for place, watts in enumerate(cards)})
    stated.update({"APU": cards[0]} if cards else {})
    batteries = [number(file) / 1e6 for file in root.glob("sys/class/power_supply/*/power_now")]
    stated.update({"node:battery": sum(batteries)} if batteries else {})
    return stated


def truth_of(entry: Entry, power: dict[str, float], stated: dict[str, float]) -> float | None:
    """Return the power of a channel by what drives it; None if it is not known.

    A counter is that of a file, a modelled part is its own line at the driven utilisation, and a
    power stands still.
    """
    if entry.quality == "measured":
        for path, watts in power.items():
            folder, name = path.split("/")[-2:]
            words = entry.detail.replace(";", " ").split()
            if name in words or (name == "energy_uj" and folder in words):
                return watts
        return None
    if entry.quality == "modelled":
        found = MODEL.search(entry.detail)
        if found is None:
            return None
        idle, busy = float(found[1]), float(found[2])
        return idle + UTILISATION * (busy - idle)
    if entry.name.startswith("AMD APU"):
        return stated.get("APU")
    return stated.get(entry.name, stated.get(entry.id))


def row_of(
    name: str, session: Session, seconds: float, root: Path, power: dict[str, float]
) -> list[str]:
    """Return the row of a machine."""
    start = session.mark()
    time.sleep(seconds)
    end = session.mark()
    session.await_final(start, end, timeout_s=3.0)
    energy = session.energy(start, end)
    length_s = (end.t_ns - start.t_ns) / 1e9
    found = Found(session, start.t_ns, end.t_ns)
    stated = stated_watts(root)
    counted = found.counted()
    known = {one.id: energy.by_device[one.id].joules / length_s for one in counted}
    truth = {one.id: truth_of(one, power, stated) for one in counted}
    missing = [one for one, watts in truth.items() if watts is None]
    total = sum(watts for watts in truth.values() if watts is not None)
    off = sum(known.values()) / total - 1 if total and not missing else None
    twice = nothing_twice(found)
    return [
        name,
        _listed([_named(one, known[one.id]) for one in counted]),
        _listed([_shown(one, found.watts[one.id]) for one in found.entries if not one.counted]),
        plain(sum(known.values()), 4),
        plain(total, 4) if not missing else "not known: " + ", ".join(missing),
        "" if off is None else f"{off:+.2%}",
        twice.found if twice.holds else f"TWICE: {twice.found}",
    ]


def _named(entry: Entry, watts: float) -> str:
    covers = f" covers {'+'.join(entry.covers)}" if entry.covers else ""
    return f"{entry.id} {watts:.1f} W ({entry.source}, {entry.quality}){covers}"


def _shown(entry: Entry, watts: float) -> str:
    power = f" {watts:.1f} W" if watts == watts else ""  # without NaN
    return f"{entry.id}{power} ({entry.source})" + (f" in {entry.part_of}" if entry.part_of else "")


def _listed(names: list[str]) -> str:
    most = 4
    more = f"; {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def measured(machine: Path, drive: Path, seconds: float) -> list[str]:
    """Return the row of a machine that is driven."""
    with tempfile.TemporaryDirectory() as folder:
        root = copied(machine, Path(folder))
        power = counters_of(root)
        with driven(drive, root, power, seconds + 4 * LEAD_S):
            session = acquire(Config(root=str(root), nvml_library="/nonexistent"), 10.0)
            try:
                session.await_final(session.mark(), timeout_s=LEAD_S)
                return row_of(machine.name, session, seconds, root, power)
            finally:
                release(session)


def main() -> None:
    """Write the tables."""
    parser = arguments_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    rows, facts = [], []
    for machine in sorted(one.parent for one in folder.glob("*/expected.json")):
        rows.append(measured(machine, folder / "drive.py", arguments.seconds))
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch).chmod(0o755)
            facts += [
                [machine.name, one.fact, one.expected, one.found, "yes" if one.holds else "NO"]
                for one in judged(machine, Path(scratch))
            ]
    report = Report(
        "inventory", "What the sensors find on machines that are not here", arguments.quick
    )
    report.say(f"{arguments.seconds:g} s windows, driven by drive.py at {UTILISATION:.0%} load:")
    report.say(table(COLUMNS, rows))
    report.say(ROUNDED)
    held = sum(one[-1] == "yes" for one in facts)
    report.say(
        f"Facts of expected.json, to a user without special rights: {held} of {len(facts)} hold."
    )
    report.say(table(("machine", "fact", "expected", "found", "holds"), facts))
    report.finish(arguments)


if __name__ == "__main__":
    main()
