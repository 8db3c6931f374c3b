"""What an administrator expects of a machine (``expected.json``), against what its sensors are.

The folder of machines is not a part of this repository: ``CARBONTRACKER_HOSTS`` names it, else
``shared/hosts`` beside the checkout. Each machine in it has ``etc``, ``proc`` and ``sys``.

Run as a program in such a folder, it prints the checks of its machine as JSON, as a user without
special rights sees it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.energy.session import Entry, Session

WHOLE = Path(__file__).parents[2]
MAX_TARGET = 300
"""Length of the target of a link, bytes."""
TOLERANCE = 0.005
"""Of a power that is stated."""
MODEL = re.compile(r"; ([\d.]+) W idle to ([\d.]+) W busy")
LOADS = ("idle", "busy")
WINDOW_S = 1.0
PATIENCE_S = 15.0
"""For sensors that are read every few seconds."""
TIMEOUT_S = 120
NOBODY = 65534


def hosts_folder() -> Path | None:
    """Return the folder of machines, or None if there is none."""
    stated = os.environ.get("CARBONTRACKER_HOSTS")
    folder = Path(stated) if stated else WHOLE.parent / "shared" / "hosts"
    return folder if folder.is_dir() else None


def machines(folder: Path | None) -> list[Path]:
    """Return the machines of a folder that have expectations."""
    return sorted(one.parent for one in folder.glob("*/expected.json")) if folder else []


def copied(machine: Path, scratch: Path) -> Path:
    """Copy a machine, with links where small files stand for them, and return its root."""
    root = scratch / "host"
    shutil.copytree(machine, root, symlinks=True)
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)  # a folder that is lent may be read-only
    for path in [one for one in root.glob("sys/**/*") if one.is_file() and not one.is_symlink()]:
        if path.stat().st_size < MAX_TARGET and path.read_bytes().startswith(b"../"):
            target = path.read_text().strip()
            path.unlink()
            path.symlink_to(target)
    return root


def lock_counters(root: Path) -> None:
    """Show RAPL's counters to root only, as the kernel does."""
    for path in root.glob("sys/devices/**/energy_uj"):
        path.chmod(0o400)


@dataclass(frozen=True)
class Check:
    """A fact that is expected, and what was found."""

    fact: str
    expected: str
    found: str
    holds: bool


class Found:
    """The sensors of a session, and the mean power of each over a window."""

    def __init__(self, session: Session, start_ns: int, end_ns: int) -> None:
        self.missing = list(session.missing)
        self.watts: dict[str, float] = {}
        self.entries: list[Entry] = [one for one in session.entries if one.read]
        for place, entry in enumerate(session.entries):
            if entry.read:
                watts = session.mean_watts(place, start_ns, end_ns)
                self.watts[entry.id] = float("nan") if watts is None else watts

    def counted(self, kind: str = "") -> list[Entry]:
        """Return the channels that are added to the total, of one kind or all."""
        return [one for one in self.entries if one.counted and kind in ("", one.kind)]

    def named(self, name: str) -> list[Entry]:
        """Return the channels with this name of the hardware."""
        return [one for one in self.entries if one.name == name]


def checks(expected: dict[str, Any], found: Found) -> list[Check]:
    """Return every fact of ``expected.json`` that says something about sensors."""
    made: list[Check] = []
    for kind, facts in expected["expect"].items():
        if kind in ("nesting", "never"):
            continue
        if isinstance(facts, str):
            ids = [one.id for one in found.counted(kind)]
            made.append(Check(f"{kind} counted", facts, ", ".join(ids) or "none", not ids))
        elif kind == "modules":
            made.extend(_modules(facts, found))
        elif all(key.isdigit() for key in facts):
            made.extend(_sockets(kind, facts, found))
        else:
            made.extend(_facts(kind, facts, found))
    if "nesting" in expected["expect"]:
        made.extend(_nesting(expected["expect"]["nesting"], found))
    if words := expected.get("remedy_contains"):
        remedies = " ".join(one.remedy for one in found.missing)
        holds = all(word in remedies for word in words)
        made.append(Check("remedy", " ".join(words), "named" if holds else remedies, holds))
    made.append(nothing_twice(found))
    return made


def nothing_twice(found: Found) -> Check:
    """Check that no two channels of the total have one device or contain each other."""
    counted = found.counted()
    pairs = [
        f"{one.id} and {other.id}"
        for one in counted
        for other in counted
        if one is not other
        and (
            one.domain == other.domain or (one.source != other.source and other.kind in one.covers)
        )
    ]
    pairs += [f"{one.id} in {one.part_of}" for one in counted if one.part_of]
    return Check("twice in the total", "nothing", ", ".join(pairs) or "nothing", not pairs)


def _listed(found: Found, entries: list[Entry]) -> str:
    return ", ".join(f"{one.id} {found.watts[one.id]:.3f} W" for one in entries) or "none"


def _power(fact: str, watts: float, entries: list[Entry], found: Found) -> Check:
    total = sum(found.watts[one.id] for one in entries)
    holds = bool(entries) and abs(total / watts - 1) <= TOLERANCE
    return Check(fact, f"{watts:g} W", _listed(found, entries), holds)


def _facts(kind: str, facts: dict[str, Any], found: Found) -> Iterator[Check]:
    counted = found.counted(kind)
    for fact, value in facts.items():
        if fact.endswith("_watts") and isinstance(value, list):
            yield _range(kind, fact.removesuffix("_watts"), value, counted)
        elif fact == "tdp":
            texts = [one.detail for one in counted]
            holds = bool(texts) and all(f"TDP of {value:.1f} W" in text for text in texts)
            yield Check(f"{kind} TDP", f"{value} W", "; ".join(texts), holds)
        elif fact == "channels":
            yield Check(f"{kind} channels", str(value), str(len(counted)), len(counted) == value)
        elif fact == "watts_each":
            holds = all(abs(found.watts[one.id] / value - 1) <= TOLERANCE for one in counted)
            yield Check(f"{kind} each", f"{value} W", _listed(found, counted), holds)
        elif fact == "integrated_watts":
            holds = {one.quality for one in counted} == {"integrated"}
            yield Check(f"{kind} quality", "integrated", _qualities(counted), holds)
            yield _power(f"{kind} power", value, counted, found)
        elif fact == "watts":
            entries = counted or [one for one in found.entries if one.kind == kind]
            yield _power(f"{kind} power", value, entries, found)
        elif fact in ("measured_channel", "part", "source"):
            word = value.split()[-1] if fact == "source" else value.split()[0]
            owners = {one.id for one in counted}
            shown = [one for one in found.entries if one.part_of in owners]
            entries = shown if fact == "part" else counted
            holds = bool(entries) and all(word in one.detail for one in entries)
            yield Check(f"{kind} {fact}", value, "; ".join(one.detail for one in entries), holds)
        elif fact == "measured":
            names = re.findall(r'"([^"]*)"', value)
            found_names = [one.name for one in counted]
            yield Check(f"{kind} sensors", value, ", ".join(found_names), found_names == names)
        elif fact == "rails":
            names = re.findall(r"[A-Z]\w+_\w+", value)
            holds = all(any(one.counted for one in found.named(name)) for name in names)
            found_names = [one.name for one in found.counted()]
            yield Check("rails added", value, ", ".join(found_names), holds)
        elif fact != "why":
            yield Check(f"{kind} {fact}", str(value), "this fact has no check", False)


def _qualities(entries: list[Entry]) -> str:
    return ", ".join(f"{one.id} {one.quality}" for one in entries) or "none"


def _range(kind: str, load: str, ends: list[float], entries: list[Entry]) -> Check:
    texts = [one.detail for one in entries]
    found = [MODEL.search(text) for text in texts]
    watts = sum(float(one[1 + LOADS.index(load)]) for one in found if one)
    holds = all(found) and ends[0] <= watts <= ends[1]
    what = f"{watts:g} W" if all(found) else "; ".join(texts)
    return Check(f"{kind} {load}", f"{ends[0]:g} to {ends[1]:g} W", what, bool(found) and holds)


def _modules(facts: dict[str, float], found: Found) -> Iterator[Check]:
    for number, watts in facts.items():
        entries = [one for one in found.counted() if one.name == f"Module Power Socket {number}"]
        yield _power(f"module {number}", watts, entries, found)
        covers = [sorted(one.covers) for one in entries]
        yield Check(
            f"module {number} covers", "cpu, dram", str(covers), covers == [["cpu", "dram"]]
        )


def _sockets(kind: str, facts: dict[str, float], found: Found) -> Iterator[Check]:
    for number, watts in facts.items():
        entries = found.named(f"{kind.upper()} Power Socket {number}")
        yield _power(f"{kind} {number}", watts, entries, found)


def _nesting(text: str, found: Found) -> Iterator[Check]:
    """Check ``Module > Grace > CPU, SysIO``: each is a part of what is left of it."""
    levels = [[word.strip() for word in level.split(",")] for level in text.split(">")]
    for (whole, *_), parts in pairwise(levels):
        for part in parts:
            for entry in [one for one in found.entries if one.name.startswith(f"{part} ")]:
                name = entry.name.replace(part, whole, 1)
                ids = [one.id for one in found.named(name)]
                holds = entry.part_of in ids and not entry.counted
                yield Check(f"{entry.name} in", name, entry.part_of or "none", holds)


def observed(session: Session) -> Found:
    """Return the sensors over a window in which each of them has given readings."""
    start = session.mark()
    began_s = time.monotonic()
    while True:
        time.sleep(WINDOW_S)
        end = session.mark()
        session.await_final(start, end, timeout_s=3.0)
        found = Found(session, start.t_ns, end.t_ns)
        is_known = all(watts == watts for watts in found.watts.values())  # no NaN
        if is_known or time.monotonic() - began_s > PATIENCE_S:
            return found


def judged(machine: Path, scratch: Path) -> list[Check]:
    """Return every check of a machine, in a copy of it below ``scratch``."""
    root = copied(machine, scratch)
    lock_counters(root)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.expected"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(WHOLE)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return [Check(**one) for one in json.loads(done.stdout)]


def main() -> None:
    """Print the checks of the machine in the present folder."""
    import numpy  # noqa: F401, ICN001  # needed later, and its files may be closed to others

    expected = json.loads(Path("expected.json").read_text())
    if os.geteuid() == 0:  # the folders of tests are closed to others, but this one is open here
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    session = acquire(Config(root=".", nvml_library="/nonexistent"))
    try:
        found = observed(session)
    finally:
        release(session)
    print(json.dumps([asdict(one) for one in checks(expected, found)]))


if __name__ == "__main__":
    main()
