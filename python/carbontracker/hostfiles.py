"""Files of the machine, which may be anything: the only way in which Python opens one."""

from __future__ import annotations

import errno
import os
import stat

MOST_BYTES = 1 << 20
"""The most that is read of a file."""


def host_text(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> str:
    """Return the text of a regular file, of a larger one as much as ``most_bytes``.

    To open it waits for nothing: where a pipe lies there is no waiting for its other end.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        parts: list[bytes] = []
        left = most_bytes
        while left > 0 and (part := os.read(fd, left)):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "replace")
