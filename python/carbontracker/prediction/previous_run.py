"""A previous run of the same training, as its record tells it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.exceptions import NoSuchRun
from carbontracker.prediction import Prior
from carbontracker.records.reader import read_runs

if TYPE_CHECKING:
    import os


def previous_run(path: str | os.PathLike[str]) -> Prior:
    """Return what the newest run with finished epochs tells.

    Args:
        path: a record, a directory with records below it, or the id (or its beginning) of a run
            in the default directory.

    Raises:
        LookupError: there is no such run, or none with a finished epoch.
        ValueError: its epochs have no duration, or the path is no text.
        OSError: the record cannot be read.
    """
    where = Path(path)
    if where.exists() and not (where.is_file() or where.is_dir()):
        message = f"{path} is neither a file nor a directory"
        raise NoSuchRun(message)  # a pipe would be waited for
    newest = None
    for run in read_runs(path, series=False):
        epochs = {epoch.index: epoch for epoch in run.epochs if epoch.finished}
        if epochs and (newest is None or run.started >= newest[0]):
            newest = run.started, run.id, epochs
    if newest is None:
        message = f"no run in {path} has a finished epoch"
        raise NoSuchRun(message)
    _, run_id, epochs = newest
    first = epochs.pop(1, None)  # what is missing there is not known, and is not the second
    later = list(epochs.values())
    return Prior.of_epochs(
        run_id,
        [first.seconds if first else math.nan, *(epoch.seconds for epoch in later)],
        [first.energy.joules if first else math.nan, *(epoch.energy.joules for epoch in later)],
    )
