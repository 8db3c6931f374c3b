"""The three log files of carbontracker 2.4.x, written beside the record."""

from __future__ import annotations

import os
import threading
from datetime import datetime, timezone
from pathlib import Path
from time import time_ns

from carbontracker.guard import LOGS, Part, nothing, optional
from carbontracker.json_values import text
from carbontracker.operating_system import BINARY

_ENDED = Part("no log files from here on", "the run goes on")


class LogFiles:
    """``…_carbontracker.log``, ``…_output.log`` and, once there is an error, ``…_err.log``.

    Writing never raises: if a log cannot be written, one warning follows, and writing ends. Only
    the process that created the files writes to them, and they are open only during a write. The
    directory is created with the first file. The umask says who may read them: a group may share
    a directory.
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None, prefix: str) -> None:
        self._owner_pid = os.getpid()
        self._stem: Path | None = None
        self._begun = False
        if log_dir is not None:
            self._stem = optional(LOGS, lambda: _new_stem(Path(log_dir), prefix), nothing)

    def info(self, *messages: str) -> None:
        """Append to the standard log."""
        self._append("", [f"{_time()} - {message}" for message in messages])

    def output(self, shown: str) -> None:
        """Append to the log of what the console showed."""
        self._append("_output", [f"{_time()} - {shown}"])

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
        part = _ENDED if self._begun else LOGS
        optional(part, lambda: self._write(path, lines), self._give_up)

    def _write(self, path: str, lines: list[str]) -> None:
        if not self._begun:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._begun = True
        _append_to(path, lines)

    def _give_up(self, _why: str) -> None:
        self._stem = None


def _new_stem(folder: Path, prefix: str) -> Path:
    """Return what the paths of a run's log files begin with."""
    # The time ends in Z, so it is UTC, which upstream's is not.
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H%M%SZ")
    # A rising number where upstream's is random: the last one by name is the last run.
    number = time_ns() // 1000
    name = f"{os.getpid()}.{number}_{stamp}_carbontracker"
    # Absolute, because a training may change its working directory.
    return folder.absolute() / (f"{prefix}_{name}" if prefix else name)


def _append_to(path: str, lines: list[str]) -> None:
    content = "".join(f"{text(line)}\n" for line in lines).encode()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | BINARY, 0o666)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def _time() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
