"""Estimates on machines that are not here: what is modelled, against what it should be.

``python -m bench.hosts FOLDER [--names FILE] [--before FILE.json]``: FOLDER has a machine in each
folder (its ``etc``, ``proc``, ``sys``; ``expected.json`` with ranges of watts), FILE a model name a
line after ``|``. Each machine is copied and its ``/proc/stat`` driven, once idle and once busy;
``--figures FILE.json`` keeps the figures, which a later version takes as ``--before``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import statistics
import tempfile
import threading
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common import Report, arguments_parser, figure, table
from carbontracker.energy import sensors

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("cpu", "dram")
LOADS = {"idle": 0.0, "busy": 1.0}
OLD_WIDTHS = {"cpu": (0.6, 1.4), "dram": (0.4, 1.6)}
"""Intervals of versions that did not say theirs."""
NO_CODES = "cpu family\t: 0\nmodel\t\t: 0\nstepping\t: 0\n"
"""A processor whose codes are not known: only its name is left."""
CODES = "cpu family\t: 6\nmodel\t\t: 85\nstepping\t: 7\n"
"""Those of Cascade Lake, for names that hide the number: such machines have codes."""
HIDDEN = re.compile(r"Intel\(R\) Xeon\(R\)( CPU| Processor| Platinum| Gold)?( @ .*)?")


@dataclass
class Figure:
    """The description of a part of a machine under a load, and what it should be."""

    watts: float
    lower: float
    upper: float
    detail: str
    expected: tuple[float, float] | None = None
    error: float = math.nan
    """``relative_error``, which is what energies are charged with."""

    @property
    def middle(self) -> float:
        """The middle of the expected range, W."""
        return statistics.mean(self.expected) if self.expected else math.nan

    @property
    def is_within(self) -> bool:
        """Whether the estimate lies in the expected range."""
        return self.expected is not None and self.expected[0] <= self.watts <= self.expected[1]

    @property
    def holds(self) -> bool:
        """Whether the interval that is stated holds the expected middle."""
        return self.watts * self.lower <= self.middle <= self.watts * self.upper

    @property
    def is_within_error(self) -> bool:
        """Whether the error, which has one figure for both sides, reaches the expected middle."""
        return abs(self.middle - self.watts) <= self.watts * self.error

    @property
    def reaches_both_ends(self) -> bool:
        """Whether the error is no shorter than either side of the interval that is stated."""
        return self.error >= max(self.upper - 1, 1 - self.lower) - 0.006  # in whole percents

    @property
    def off(self) -> float:
        """How far the estimate is from the expected middle, in doublings."""
        return abs(math.log2(self.watts / self.middle))


@dataclass
class Machine:
    """The description of a machine."""

    name: str
    figures: dict[str, Figure] = field(default_factory=dict)
    """By part and load: ``cpu idle``."""
    absent: list[str] = field(default_factory=list)


@contextlib.contextmanager
def driven(root: Path, utilisation: float) -> Iterator[None]:
    """Let the kernel's count of ticks go on at a utilisation."""
    over = threading.Event()
    stat = root / "proc" / "stat"
    size = max(stat.stat().st_size, 4096)

    def write(ticks: int) -> None:
        busy, idle = 1000 + round(ticks * utilisation), 9000 + round(ticks * (1 - utilisation))
        line = f"cpu  {busy:020d} 0 0 {idle:020d} 0 0 0 0 0 0\n"
        with stat.open("r+") as file:  # in place: the reader keeps it open
            file.write(line.ljust(size - 1) + "\n")

    def play() -> None:
        ticks = 0
        while not over.wait(0.01):
            ticks += 10
            write(ticks)

    write(0)
    player = threading.Thread(target=play)
    player.start()
    try:
        yield
    finally:
        over.set()
        player.join()


def look(root: Path, utilisation: float, seconds: float) -> sensors.Sensors:
    """Return what is found on a machine under a load."""
    os.environ["CARBONTRACKER_ROOT"] = str(root)
    os.environ["CARBONTRACKER_NVML"] = str(root / "no-such-library.so")
    with driven(root, utilisation):
        return sensors.sensors(seconds)


def widths(kind: str, detail: str) -> tuple[float, float]:
    """Return the interval that a detail states, as multiples of the estimate."""
    found = re.search(r"([-+]\d+) % to ([-+]\d+) %", detail)
    if not found:
        return OLD_WIDTHS[kind]
    return 1 + int(found[1]) / 100, 1 + int(found[2]) / 100


def restore_links(root: Path) -> None:
    """Make links again of files that hold where they led: some ways of copying write that."""
    for path in root.glob("sys/**/*"):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 200:
            continue
        text = path.read_bytes()
        if text.startswith(b"../"):
            path.unlink()
            path.symlink_to(text.decode().strip())


def lock_counters(root: Path) -> None:
    """Make RAPL's counters unreadable, as for every user but root; no mode keeps root out."""
    for path in root.glob("sys/devices/**/energy_uj"):
        path.unlink()
        path.mkdir()


def read_machine(folder: Path, scratch: Path, seconds: float) -> Machine:
    """Look at a copy of a machine, idle and busy."""
    root = scratch / folder.name
    shutil.copytree(folder, root, symlinks=True)
    restore_links(root)
    lock_counters(root)
    expected = json.loads((folder / "expected.json").read_text())["expect"]
    machine = Machine(folder.name)
    for load, utilisation in LOADS.items():
        found = look(root, utilisation, seconds)
        for one in found.readable:
            if one.kind not in KINDS or one.quality != "modelled" or one.watts is None:
                continue
            bounds = expected.get(one.kind, {}).get(f"{load}_watts")
            lower, upper = widths(one.kind, one.detail)
            machine.figures[f"{one.kind} {load}"] = Figure(
                one.watts,
                lower,
                upper,
                one.detail,
                tuple(bounds) if bounds else None,
                one.relative_error,
            )
        # Earlier versions did not separate devices from other reasons.
        machine.absent = [one.what for one in found.absent if getattr(one, "device", "")]
    return machine


def names_known(names: Path, scratch: Path) -> dict[str, str]:
    """Return, for each model name, what gives its figure: model, kind of core, brand, nothing."""
    known = {}
    for number, line in enumerate(names.read_text().splitlines()):
        name = line.rpartition("|")[2]
        root = scratch / f"name-{number}"
        (root / "proc").mkdir(parents=True)
        (root / "proc" / "stat").write_text("cpu  1000 0 0 9000 0 0 0 0 0 0\n")
        codes = CODES if HIDDEN.fullmatch(name) else NO_CODES
        text = f"processor\t: 0\nvendor_id\t: GenuineIntel\n{codes}model name\t: {name}\n\n"
        (root / "proc" / "cpuinfo").write_text(text)
        found = look(root, 0.0, 0.0)
        (detail,) = (one.detail for one in found.readable if one.kind == "cpu")
        if "no TDP known" in detail:
            known[name] = "nothing"
        elif "TDP of" in detail:
            known[name] = "model"
        else:
            known[name] = "brand" if widths("cpu", detail)[1] > 2 else "kind of core"
    return known


def from_json(data: list[dict[str, Any]]) -> list[Machine]:
    """Return the machines of an earlier run."""
    return [
        Machine(
            one["name"],
            {
                key: Figure(**dict(each, expected=tuple(each["expected"] or ()) or None))
                for key, each in one["figures"].items()
            },
            one["absent"],
        )
        for one in data
    ]


def summary(machines: list[Machine], kinds: tuple[str, ...]) -> list[str]:
    """Return the figures by which the estimates of these kinds are judged."""
    every = [
        one
        for machine in machines
        for key, one in machine.figures.items()
        if key.split()[0] in kinds
    ]
    known = [one for one in every if one.expected]
    off = [one.off for one in known]
    return [
        str(len(known)),
        str(sum(one.is_within for one in known)),
        str(sum(one.holds for one in known)),
        str(sum(one.is_within_error for one in known)),
        f"{sum(one.reaches_both_ends for one in every)} of {len(every)}",
        figure(statistics.median(one.upper / one.lower for one in every)),
        figure(statistics.median(off)),
        figure(max(off)),
    ]


def rows(machines: list[Machine], before: list[Machine]) -> Iterator[list[str]]:
    """Return a line a machine, part and load."""
    earlier = {machine.name: machine for machine in before}
    for machine in machines:
        for key, one in machine.figures.items():
            old = earlier[machine.name].figures.get(key) if machine.name in earlier else None
            bounds = f"{one.expected[0]:g} to {one.expected[1]:g}" if one.expected else "-"
            yield [
                machine.name,
                key,
                f"{old.watts:.1f}" if old else "-",
                f"{one.watts:.1f}",
                f"{one.watts * one.lower:.1f} to {one.watts * one.upper:.1f}",
                bounds,
                ("yes" if one.is_within else "no") if one.expected else "",
                ("yes" if one.holds else "no") if one.expected else "",
            ]


def main() -> None:
    """Look at all machines of a folder and write the tables."""
    parser = arguments_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", type=Path, help="a file of model names")
    parser.add_argument("--before", type=Path, help="the figures of an earlier version")
    parser.add_argument("--figures", type=Path, help="where to keep the figures")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long to look at each")
    given = parser.parse_args()
    before = json.loads(given.before.read_text()) if given.before else {"machines": [], "names": {}}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        hosts = sorted(path.parent for path in given.folder.glob("*/expected.json"))
        machines = [read_machine(host, scratch, given.seconds) for host in hosts]
        names = names_known(given.names, scratch) if given.names else {}
    if given.figures:
        found = {"machines": [asdict(one) for one in machines], "names": names}
        given.figures.write_text(json.dumps(found, indent=1))
    old = from_json(before["machines"])
    report = Report("hosts", "Estimates on machines that are not here", given.quick)
    head = ["machine", "part", "before W", "W", "interval", "expected", "within", "held"]
    report.say(table(head, list(rows(machines, old))))
    head = ["part", "version", "with a range", "within it", "middle in the interval"]
    head += ["in the error", "error reaches both ends", "upper / lower end"]
    head += ["doublings off (median)", "(worst)"]
    lines = [
        [" and ".join(kinds), when, *summary(one, kinds)]
        for kinds in (("cpu",), ("dram",), KINDS)
        for when, one in (("before", old), ("now", machines))
        if one
    ]
    report.say(table(head, lines))
    lines = [[one.name, "; ".join(one.absent)] for one in machines if one.absent]
    report.say(table(["machine", "seen, not read, and named now"], lines))
    for when, told in (("before", before["names"]), ("now", names)):
        if told:
            count = Counter(told.values())
            counts = ", ".join(f"{number} by {what}" for what, number in count.most_common())
            rest = ", ".join(name for name, what in told.items() if what in {"brand", "nothing"})
            report.say(f"{len(told)} names, {when}: {counts}. By brand or nothing: {rest or '-'}.")
    report.finish(given)


if __name__ == "__main__":
    main()
