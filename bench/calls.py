"""What one call costs in calls: of the first ``epoch_end()``, and of ``measure()``.

    python -m bench.calls

Counts Python calls with ``sys.setprofile``, the functions and the files of the package that they
are in, and how often one file calls into another. The counts are exact and hold on any machine;
calls of other packages and of the standard library are left out.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import carbontracker
from carbontracker.tracker import CarbonTracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PACKAGE = str(Path(carbontracker.__file__).parent)


class Counts(NamedTuple):
    """What was called while a function ran."""

    calls: int
    functions: int
    files: tuple[str, ...]
    changes: int
    """How often the file changed from one call to the next."""

    def row(self, what: str) -> str:
        """Return the counts in one line."""
        return (
            f"{what:<28} {self.calls:>6} calls {self.functions:>5} functions "
            f"{len(self.files):>4} files {self.changes:>5} changes of file"
        )


def counted(function: Callable[[], Any]) -> Counts:
    """Return what ``function`` calls in the package, on this thread."""
    seen: list[tuple[str, str, int]] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            seen.append((code.co_filename, code.co_name, code.co_firstlineno))

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    files = [file for file, _, _ in seen]
    changes = sum(before != after for before, after in itertools.pairwise(files))
    names = {file.removeprefix(f"{PACKAGE}/") for file in files}
    return Counts(len(seen), len(set(seen)), tuple(sorted(names)), changes)


def measured_window() -> None:
    """Enter and leave a window."""
    with carbontracker.measure("window"):
        pass


def epoch_ends(verbose: int, console: str) -> list[tuple[str, Counts]]:
    """Return the counts of the first two ``epoch_end()`` of a tracker with a record."""
    tracker = CarbonTracker(
        5, sim_gpu="GPU", sim_gpu_watts=200.0, components="gpu", verbose=verbose
    )
    rows = []
    for index in (1, 2):
        tracker.epoch_start()
        rows.append((f"epoch_end() {index}, {console}", counted(tracker.epoch_end)))
    tracker.stop()
    return rows


def main() -> None:
    """Print the counts; with ``--files`` also which files were touched."""
    os.environ["CARBONTRACKER_DIR"] = tempfile.mkdtemp()
    rows = []
    for verbose, console in ((0, "silent"), (1, "console")):
        with contextlib.redirect_stdout(io.StringIO()):
            rows += epoch_ends(verbose, console)
    measured_window()
    rows.append(("measure() enter and exit", counted(measured_window)))
    for what, counts in rows:
        print(counts.row(what))
        if "--files" in sys.argv:
            print("".join(f"    {name}\n" for name in counts.files), end="")


if __name__ == "__main__":
    main()
