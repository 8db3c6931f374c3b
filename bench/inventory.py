"""What the sensors find on machines that are not here, and 5 s of them against the truth.

``python -m bench.inventory FOLDER [--seconds 5]``: FOLDER has a machine in each folder (its
``proc`` and ``sys``). Each is copied and stands still, except its energy counters, which are
driven at a constant power: what is measured is compared with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common import Report, arguments_parser, table
from carbontracker.energy.config import Config
from carbontracker.energy.session import Session, acquire, release
from carbontracker.report.formatting import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.energy.session import Entry

WATTS = 60.0
"""Of each driven counter, W; one more for each one that comes after it."""
MAX_TARGET = 300
"""Length of the target of a link, bytes."""
COLUMNS = ("machine", "counted", "shown", "W", "driven W", "off")


@contextmanager
def driven(root: Path) -> Iterator[list[float]]:
    """Drive the counters of packages and cards, and yield their power, W."""
    found = [*root.glob("sys/**/energy_uj"), *root.glob("sys/**/energy*_input")]
    counters = sorted({file.resolve() for file in found})
    power = {file: WATTS + place for place, file in enumerate(counters)}
    began = {file: int(file.read_text()) for file in counters}
    stop, start_s = threading.Event(), time.monotonic()

    def renew() -> None:
        while not stop.wait(0.005):
            seconds = time.monotonic() - start_s
            for file, watts in power.items():
                descriptor = os.open(file, os.O_WRONLY)
                text = f"{began[file] + int(1e6 * watts * seconds):020d}\n"
                os.pwrite(descriptor, text.encode(), 0)
                os.close(descriptor)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield list(power.values())
    finally:
        stop.set()
        thread.join()


def restore_links(folder: Path) -> None:
    """Replace the small files that stand for links in a copy without links."""
    for file in [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]:
        if file.stat().st_size < MAX_TARGET and file.read_bytes().startswith(b"../"):
            target = file.read_text().strip()
            file.unlink()
            file.symlink_to(target)


def row_of(name: str, session: Session, seconds: float, driven_watts: list[float]) -> list[str]:
    """Return the row of a machine."""
    session.await_final(session.mark(), timeout_s=3.0)
    start = session.mark()
    time.sleep(seconds)
    end = session.mark()
    session.await_final(start, end, timeout_s=3.0)
    energy = session.energy(start, end)
    length = (end.t_ns - start.t_ns) / 1e9
    known = {key: part.joules / length for key, part in energy.by_device.items()}
    measured = [e for e in session.entries if e.counted and e.read and e.quality == "measured"]
    truth = [w for w in driven_watts if any(abs(known[e.id] / w - 1) < 0.02 for e in measured)]
    off = max((_off(known[e.id], truth) for e in measured), default=None)
    counted = [_named(e, known.get(e.id)) for e in session.entries if e.counted and e.read]
    shown = [
        _shown(e, session.mean_watts(place, start.t_ns, end.t_ns))
        for place, e in enumerate(session.entries)
        if e.read and not e.counted
    ]
    return [
        name,
        _listed(counted),
        _listed(shown),
        plain(sum(watts for watts in known.values() if watts == watts), 4),  # without NaN
        ", ".join(plain(watts, 3) for watts in truth),
        "" if off is None else f"{off:.2%}",
    ]


def _off(watts: float, truth: list[float]) -> float:
    return min((abs(watts / one - 1) for one in truth), default=1.0)


def _named(entry: Entry, watts: float | None) -> str:
    covers = f" covers {'+'.join(entry.covers)}" if entry.covers else ""
    power = "unknown" if watts is None or watts != watts else f"{watts:.1f} W"
    return f"{entry.id} {power} ({entry.source}, {entry.quality}){covers}"


def _shown(entry: Entry, watts: float | None) -> str:
    power = "" if watts is None else f" {watts:.1f} W"
    return f"{entry.id}{power} ({entry.source})" + (f" in {entry.part_of}" if entry.part_of else "")


def _listed(names: list[str]) -> str:
    most = 4
    more = f"; {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def main() -> None:
    """Write the table."""
    parser = arguments_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    rows = []
    for machine in sorted(path for path in arguments.folder.iterdir() if (path / "proc").is_dir()):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "host"
            shutil.copytree(machine, root, symlinks=True)
            restore_links(root / "sys")
            with driven(root) as power:
                config = Config(root=str(root), nvml_library="/nonexistent")
                session = acquire(config, 10.0)
                try:
                    rows.append(row_of(machine.name, session, arguments.seconds, power))
                finally:
                    release(session)
    report = Report(
        "inventory", "What the sensors find on machines that are not here", arguments.quick
    )
    report.say(table(COLUMNS, rows))
    report.finish(arguments)


if __name__ == "__main__":
    main()
