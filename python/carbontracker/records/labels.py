"""What people say of a run after it began: in a file of its own beside the record.

The record is not rewritten. Each line of ``<record>.labels.jsonl`` is one JSON object: the run, the
time, and the names that it sets. The last value of a name counts; an empty one takes it back.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.json_values import string, text
from carbontracker.model.run_ending import OUTCOMES, RUNNING
from carbontracker.model.run_metadata import PURPOSE
from carbontracker.operating_system import BINARY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SUFFIX = ".labels.jsonl"
OUTCOME, NOTE = "outcome", "note"
NAMES = (*PURPOSE, OUTCOME, NOTE)
"""What can be said: the fields of a record that say what a run was for, its outcome, a remark."""
GIVEN = tuple(one for one in OUTCOMES if one != RUNNING)
"""The outcomes that people may give a run."""


class Label(NamedTuple):
    """One line."""

    line: int
    """From 1."""
    run_id: str
    time: str
    values: Mapping[str, str]


def labels_path(record: Path) -> Path:
    """Return the file with the labels of the runs in a record."""
    return record.with_name(record.name.removesuffix(".jsonl") + SUFFIX)


def labels_in(path: Path) -> Iterator[Label]:
    """Yield the labels in a file; nothing if there is no file. A damaged line is passed over.

    Raises:
        OSError: it cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("run_id"), str):
            values = {name: string(found[name]) for name in NAMES if name in found}
            if values.get(OUTCOME, "") not in ("", *GIVEN):
                del values[OUTCOME]
            yield Label(number, found["run_id"], string(found.get("time")), values)


def labels_of(record: Path) -> dict[str, dict[str, str]]:
    """Return what is said of each run in a record, by id."""
    found: dict[str, dict[str, str]] = {}
    for label in labels_in(labels_path(record)):
        found.setdefault(label.run_id, {}).update(label.values)
    return found


def check_label(values: Mapping[str, str]) -> None:
    """Check what is to be said of a run.

    Raises:
        ValueError: a name or an outcome that is not known.
    """
    for name in values:
        if name not in NAMES:
            raise ValueError(f"unknown label {name!r}: choose from {', '.join(NAMES)}")
    if values.get(OUTCOME, "") not in ("", *GIVEN):
        message = f"outcome must be {' or '.join(GIVEN)}, not {values[OUTCOME]!r}"
        raise ValueError(message)


def add_label(record: Path, run_id: str, values: Mapping[str, str]) -> None:
    """Append a label.

    Raises:
        OSError: it cannot be written.
        ValueError: a name or an outcome that is not known.
    """
    check_label(values)
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    line: dict[str, Any] = {"run_id": run_id, "time": now}
    line |= {name: text(value.strip()) for name, value in values.items()}
    whole = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    path = labels_path(record)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | BINARY, 0o600)
    try:
        torn = bool(os.fstat(fd).st_size)
        if torn:
            os.lseek(fd, -1, os.SEEK_END)
            torn = os.read(fd, 1) != b"\n"
        os.write(fd, (b"\n" if torn else b"") + whole)  # one call: two commands do not mix
    finally:
        os.close(fd)
