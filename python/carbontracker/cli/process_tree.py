"""A process with all that it has started, so that stopping a shell stops what runs in it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.hostfiles import host_text

if TYPE_CHECKING:
    import signal

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36
"""Of prctl(2), Linux 3.4 and later."""


class Member(NamedTuple):
    """A process. Its start time distinguishes it from a later process of the same number."""

    pid: int
    began: str


def family(pid: int) -> list[Member]:
    """Return the process and its descendants as they are now, the oldest first.

    Without ``/proc`` they are not known: the list is empty.
    """
    parents: dict[int, list[Member]] = {}
    found = []
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if not folder.name.isdecimal():
            continue
        read = _stat(int(folder.name))
        if read is None:
            continue
        parent, member = read
        parents.setdefault(parent, []).append(member)
        if member.pid == pid:
            found.append(member)
    for member in found:  # grows while it is walked
        found += parents.get(member.pid, [])
    return found


def descendants() -> list[Member]:
    """Return the descendants of this process, adopted ones included."""
    return family(os.getpid())[1:]


def become_subreaper(*, enable: bool = True) -> None:
    """Become the parent of descendants whose own parent has ended, such as daemons; or stop that.

    Has no effect where the system has no subreapers.
    """
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(enable), 0, 0, 0)


def reap(but: int) -> None:
    """Collect the exit codes of children that have ended, but not that of process ``but``."""
    if not hasattr(os, "waitid"):
        return  # and no descendant is adopted
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, options)) is not None and ended.si_pid != but:
            os.waitpid(ended.si_pid, 0)


def running(members: list[Member]) -> bool:
    """Return whether any of these processes still runs."""
    stats = (_stat(member.pid) for member in members)
    return any(read[1] == member for read, member in zip(stats, members, strict=True) if read)


def send_signal(members: list[Member], number: signal.Signals) -> None:
    """Send a signal to those of the processes that still run."""
    for member in members:
        if running([member]):
            with suppress(OSError):  # it has ended meanwhile, or has another user
                os.kill(member.pid, number)


def _stat(pid: int) -> tuple[int, Member] | None:
    """Return parent and member; None if the process has ended, its exit code collected or not."""
    try:
        text = host_text(_PROC / str(pid) / "stat")
    except OSError:
        return None
    # The name in brackets may hold anything: what follows the last bracket is fields 3 and on.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else (int(fields[1]), Member(pid, fields[19]))
