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
    """A process, told from a later one of the same number by when it began."""

    pid: int
    began: str


def family(pid: int) -> list[Member]:
    """Return the process and its descendants as they are now, the oldest first."""
    parents: dict[int, list[Member]] = {}
    found = []
    for folder in _PROC.iterdir():
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
    """Return all that this process, and what it has adopted, has started."""
    return family(os.getpid())[1:]


def adopt_orphans(*, adopt: bool = True) -> None:
    """Become the parent of descendants whose own has ended: daemons do not get away. Or no more.

    Where the system has no such thing they do, as from anybody else.
    """
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def bury(but: int) -> None:
    """Take the exit codes of adopted children that have ended, and leave that of ``but``."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, options)) is not None and ended.si_pid != but:
            os.waitpid(ended.si_pid, 0)


def running(members: list[Member]) -> bool:
    """Return whether any of them still runs."""
    stats = (_stat(member.pid) for member in members)
    return any(read[1] == member for read, member in zip(stats, members, strict=True) if read)


def tell(members: list[Member], number: signal.Signals) -> None:
    """Send a signal to those who are still there."""
    for member in members:
        if running([member]):
            with suppress(OSError):  # ended meanwhile, or became somebody else's
                os.kill(member.pid, number)


def _stat(pid: int) -> tuple[int, Member] | None:
    """Return the parent and the member; None if there is none, or only its exit code is left."""
    try:
        text = host_text(_PROC / str(pid) / "stat")
    except OSError:
        return None
    # The name in brackets may hold anything: what follows the last bracket is fields 3 and on.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else (int(fields[1]), Member(pid, fields[19]))
