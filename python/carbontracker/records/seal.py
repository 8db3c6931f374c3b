"""A seal: a hash chain over a record, its labels and declared values, in a file of its own.

It makes a later change visible. Who sealed it, and when, is shown by a signature of that file with
a key of the user's own (``docs/ledger.md``).
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.json_values import mapping, mappings, string, whole
from carbontracker.records.labels import labels_in, labels_path
from carbontracker.records.validate import ERROR, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SUFFIX = ".seal.json"
VERSION = 1
_BEGINNING = b"carbontracker seal 1"
_READ_BYTES = 1 << 20


class Part(NamedTuple):
    """A file, as it was sealed."""

    name: str
    """Relative to the folder of the record."""
    size_bytes: int
    """How much of it is sealed; a record and its labels may grow."""
    may_grow: bool
    digest: str
    """SHA-256 of the digest of the part before and of these bytes; of the first one, of a fixed
    text. In hexadecimal digits."""


def seal_path(record: Path) -> Path:
    """Return the file with the seal of a record."""
    return record.with_name(record.name.removesuffix(".jsonl") + SUFFIX)


def seal(record: Path, declared: Sequence[Path] = ()) -> Path:
    """Seal a record, its labels and files with declared values; return the file of the seal.

    A seal that is there already is replaced.

    Raises:
        OSError: a file cannot be read, or the seal not written.
    """
    folder = record.absolute().parent
    labels = labels_path(record)
    grows = [(record, True), *([(labels, True)] if labels.exists() else [])]
    parts: list[Part] = []
    before = hashlib.sha256(_BEGINNING).hexdigest()
    for path, may_grow in [*grows, *((one, False) for one in declared)]:
        before, size_bytes = _chained(before, path, None)
        name = os.path.relpath(path.absolute(), folder)
        parts.append(Part(name, size_bytes, may_grow, before))
    data: dict[str, Any] = {
        "seal": VERSION,
        "sealed_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hash": "SHA-256, each over the digest before it and the bytes of the file",
        "parts": [part._asdict() for part in parts],
    }
    data["digest"] = _digest_of_seal(data)
    path = seal_path(record)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    new.replace(path)
    return path


def _chained(before: str, path: Path, size_bytes: int | None) -> tuple[str, int]:
    """Return the digest of a file that follows another, and how many bytes of it are in it.

    Raises:
        OSError: the file cannot be read.
    """
    digest, left, done = hashlib.sha256(before.encode()), size_bytes, 0
    with path.open("rb") as file:
        while left is None or left > 0:
            block = file.read(_READ_BYTES if left is None else min(left, _READ_BYTES))
            if not block:
                break
            digest.update(block)
            done += len(block)
            left = None if left is None else left - len(block)
    return digest.hexdigest(), done


def _digest_of_seal(data: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all values of a seal but this one, so that no part can be left out."""
    others = {name: value for name, value in data.items() if name != "digest"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def check_seal(record: Path) -> Iterator[Finding]:
    """Yield what differs from the seal of a record; nothing if there is no seal.

    What was appended after the seal is a warning, and each later label is listed.
    """
    path = seal_path(record)
    try:
        data = mapping(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError) as error:
        yield Finding(path, 0, ERROR, f"the seal cannot be read: {error}")
        return
    listed = mappings(data.get("parts"))
    if data.get("seal") != VERSION or not listed:
        yield Finding(path, 0, ERROR, "this is no seal that this version knows")
        return
    if data.get("digest") != _digest_of_seal(data):
        yield Finding(path, 0, ERROR, "the seal itself was changed after it was made")
    before = hashlib.sha256(_BEGINNING).hexdigest()
    names = []
    for one in listed:
        part = Part(
            string(one.get("name")),
            whole(one.get("size_bytes")),
            one.get("may_grow") is True,
            string(one.get("digest")),
        )
        names.append(part.name)
        file = record.absolute().parent / part.name
        yield from _part_findings(before, part, file, string(data.get("sealed_at")))
        before = part.digest
    if record.name not in names:
        yield Finding(path, 0, ERROR, f"it is the seal of other files: {', '.join(names)}")
    labels = labels_path(record)
    if labels.name not in names:
        yield from _later_labels(labels, 0)


def _part_findings(before: str, part: Part, file: Path, sealed_at: str) -> Iterator[Finding]:
    if not file.is_file():  # a pipe would be waited for
        yield Finding(file, 0, ERROR, f"sealed at {sealed_at}, and not there any more")
        return
    try:
        digest, _ = _chained(before, file, part.size_bytes)
        size_bytes = file.stat().st_size
    except OSError as error:
        yield Finding(file, 0, ERROR, f"sealed, and cannot be read: {error.strerror or error}")
        return
    if digest != part.digest:
        yield Finding(file, 0, ERROR, f"changed since it was sealed at {sealed_at}")
    elif size_bytes > part.size_bytes and not part.may_grow:
        yield Finding(file, 0, ERROR, f"changed since it was sealed at {sealed_at}: it is longer")
    elif size_bytes > part.size_bytes:
        later = []
        if file.name.endswith(".labels.jsonl"):
            later = list(_later_labels(file, part.size_bytes))
        yield from later
        if not later or len(later) < _lines_after(file, part.size_bytes):
            what = "of which some are no label" if later else "were appended"
            more = size_bytes - part.size_bytes
            yield Finding(file, 0, WARNING, f"after the seal: {more} bytes {what}")


def _lines_after(file: Path, size_bytes: int) -> int:
    with file.open("rb") as opened:
        opened.seek(size_bytes)
        return sum(1 for line in opened if line.strip())


def _later_labels(labels: Path, size_bytes: int) -> Iterator[Finding]:
    """Yield the labels that come after so many bytes."""
    if not labels.exists():
        return
    with labels.open("rb") as file:
        sealed_lines = len(file.read(size_bytes).splitlines())
    for label in labels_in(labels):
        if label.line > sealed_lines:
            said = ", ".join(f"{name}={text!r}" for name, text in label.values.items())
            said = said or "with no value that is known"
            message = f"after the seal: run {label.run_id} {said} ({label.time})"
            yield Finding(labels, label.line, WARNING, message)
