"""The three log files of carbontracker 2.4.x, written beside the record for those who read them."""

from __future__ import annotations

import os
import threading
from datetime import datetime, timezone
from pathlib import Path

from carbontracker.guard import logger


class OldLogs:
    """``…_carbontracker.log``, ``…_output.log`` and, once there is an error, ``…_err.log``.

    Writing never raises: a log that cannot be written is said once and given up. Files are private
    to the user, written only by the process that made them, and open only while written to.
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None, prefix: str) -> None:
        self._owner_pid = os.getpid()
        self._stem: Path | None = None
        if log_dir is None:
            return
        try:
            Path(log_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            logger.warning("carbontracker: no log files are written: %s", error)
            return
        # The time ends in Z, so it is UTC, which upstream's is not.
        stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H%M%SZ")
        # Not from `random`: a training that seeds it must draw the same numbers as without us.
        number = 1 + int.from_bytes(os.urandom(4), "big") % 999_999
        name = f"{os.getpid()}.{number}_{stamp}_carbontracker"
        # Absolute, because a training may change its working directory.
        self._stem = Path(log_dir).absolute() / (f"{prefix}_{name}" if prefix else name)

    def info(self, *messages: str) -> None:
        """Append to the standard log."""
        self._append("", [f"{_time()} - {message}" for message in messages])

    def output(self, text: str) -> None:
        """Append to the log of what the console showed."""
        self._append("_output", [f"{_time()} - {text}"])

    def error(self, level: str, message: str) -> None:
        """Append to the error log."""
        now = datetime.now()
        time = f"{now:%Y-%m-%d %H:%M:%S},{now.microsecond // 1000:03d}"
        thread = threading.current_thread().name
        self._append("_err", [f"{time} - {thread} - {level} - {message}"])

    def _append(self, kind: str, lines: list[str]) -> None:
        if self._stem is None or os.getpid() != self._owner_pid:
            return
        path = f"{self._stem}{kind}.log"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, "".join(line + "\n" for line in lines).encode())
            finally:
                os.close(fd)
        except OSError as error:
            logger.warning("carbontracker: no log files from here on: %s", error)
            self._stem = None


def _time() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
