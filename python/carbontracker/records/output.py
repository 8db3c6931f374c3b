"""Files that a command writes: never over what was recorded, and whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from typing import TYPE_CHECKING

from carbontracker.records.labels import SUFFIX as LABELS
from carbontracker.records.seal import SUFFIX as SEAL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_RECORDED = (LABELS, SEAL, ".arrow")
"""Ends of the names of labels, seals and samples."""
_EVENT = re.compile(rb'^\{"event": ?"', re.MULTILINE)
_HEAD_BYTES = 65_536
"""The beginning of a file, in which a record has an event, also if its first line is damaged."""


def check_output(path: Path, read: Iterable[Path] = ()) -> None:
    """Check that a file can be written without loss of what was recorded.

    Args:
        path: the file to be written.
        read: files from which its content is made.

    Raises:
        ValueError: there is a record, its labels, its seal, a file of samples or one of ``read``.
        OSError: the file that is there cannot be read.
    """
    if not path.is_file():
        return
    if _is_recorded(path):
        message = (
            f"{path} is a recording of carbontracker and is not overwritten: name another file"
        )
        raise ValueError(message)
    if any(one.exists() and one.samefile(path) for one in read):
        raise ValueError(
            f"{path} is read for this output and is not overwritten: name another file"
        )


def write_output(path: Path, content: bytes, read: Iterable[Path] = ()) -> None:
    """Write a file; an existing one is replaced only after the new one is complete, if it can be.

    Args:
        path: the file, or a pipe or device.
        content: its bytes.
        read: files from which the content is made.

    Raises:
        ValueError: see ``check_output``.
        OSError: it cannot be written.
    """
    check_output(path, read)
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    target = path.resolve()
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content)
        if target.exists():
            shutil.copymode(target, beside)
        beside.replace(target)
    except OSError as error:
        # A file that is mounted by itself cannot be replaced, nor one in a folder of others.
        if error.errno not in (errno.EACCES, errno.EBUSY, errno.EPERM) or not target.exists():
            raise
        target.write_bytes(content)
    finally:
        beside.unlink(missing_ok=True)


def _is_recorded(path: Path) -> bool:
    if path.name.endswith(_RECORDED) and path.stat().st_size > 0:
        return True
    with path.open("rb") as file:
        return _EVENT.search(file.read(_HEAD_BYTES)) is not None
