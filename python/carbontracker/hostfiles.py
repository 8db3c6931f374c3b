"""Reads files of the machine, such as those below /sys and /proc, without blocking."""

from __future__ import annotations

import errno
import os
import stat

from carbontracker.operating_system import BINARY, NO_WAIT

MAX_BYTES = 1 << 20
"""Limit on the size that is read."""


def host_text(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a regular file: its first ``max_bytes`` bytes.

    The call never blocks on a pipe or a terminal at that path.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    fd = os.open(path, os.O_RDONLY | NO_WAIT | BINARY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        parts: list[bytes] = []
        left = max_bytes
        while left > 0 and (part := os.read(fd, left)):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "replace")
