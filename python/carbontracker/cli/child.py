"""A child process whose signals, standard streams and exit code are its own."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from carbontracker.cli.exits import restore_signals, say
from carbontracker.cli.process_tree import Member, adopt_orphans, bury, descendants, running, tell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

NOT_EXECUTABLE = 126
NOT_FOUND = 127
KILLED_BY_SIGNAL = 128
"""Plus the signal's number, as shells report it."""

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


LOOK_S = 0.5
"""How often a program that has a limit is looked at, s."""


class Overseer(Protocol):
    """Somebody who may have the program ended."""

    grace_s: float
    """Time between asking it to end (SIGTERM) and ending it (SIGKILL), s."""

    def enough(self) -> bool:
        """Return whether it has to end now."""
        ...


@contextmanager
def executed(
    command: list[str], run_id: str | None, overseer: Overseer | None = None
) -> Iterator[int]:
    """Run ``command`` to its end, without a shell, and give its exit code.

    Signals meant for the program are passed on to it. Inside the block it has ended and they stop
    nobody: an impatient second Ctrl-C costs no result.

    Args:
        command: the program and its arguments, passed on untouched.
        run_id: told to the child, so that a record of its own can name the run it is part of.
        overseer: asked twice a second whether the program, and all that it started, has to end.
    """
    environment = dict(os.environ)
    if run_id is not None:
        environment["CARBONTRACKER_RUN_ID"] = run_id
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []
    with _signals_forwarded(started, early):
        strangers: list[Member] = []
        if overseer is not None:
            strangers = descendants()
            adopt_orphans()
        try:
            started.append(_start(command, environment))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                error = _become(command, environment, error, limited=overseer is not None)
            code = _not_run(command[0], error)
        else:
            for number in early:
                started[0].send_signal(number)
            code = (
                started[0].wait() if overseer is None else _oversee(started[0], overseer, strangers)
            )
        yield code if code >= 0 else KILLED_BY_SIGNAL - code


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the program; its exit code is kept for us.

    Where whoever started us ignores SIGCHLD, the kernel would keep no exit code: we do not ignore
    it, and the program goes on to.
    """
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
        return subprocess.Popen(command, env=environment)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return subprocess.Popen(
        command,
        env=environment,
        # It takes no lock that another thread may hold: one system call, then exec.
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),  # noqa: PLW1509
    )


def _not_run(program: str, error: OSError) -> int:
    if isinstance(error, FileNotFoundError):
        say(f"command not found: {program}")
        return NOT_FOUND
    say(f"cannot run {program}: {error.strerror}")
    return NOT_EXECUTABLE


def _become(
    command: list[str], environment: dict[str, str], error: OSError, *, limited: bool
) -> OSError:
    """Run ``command`` in place of this process, where none can be started beside it.

    Returns why not, if that fails too.
    """
    unwatched = ", its limit is not watched" if limited else ""
    say(
        f"no energy is measured{unwatched}: no process can be started beside this one: "
        f"{error.strerror}"
    )
    if limited:
        adopt_orphans(adopt=False)  # exec keeps that
    for number in _FORWARDED:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    restore_signals()
    try:
        os.execvpe(command[0], command, environment)
    except OSError as final:
        return final


@contextmanager
def _signals_forwarded(started: list[subprocess.Popen[bytes]], early: list[int]) -> Iterator[None]:
    def forward(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and _terminal_tells_the_child():
            return
        if started:
            started[0].send_signal(number)
        else:
            early.append(number)

    before = {}
    # What the user made us ignore (nohup) stays ignored, and the child inherits that.
    for number in _FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, forward)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _oversee(process: subprocess.Popen[bytes], overseer: Overseer, strangers: list[Member]) -> int:
    while (code := _ended(process, LOOK_S)) is None:
        bury(but=process.pid)
        if overseer.enough():
            return _stop(process, overseer.grace_s, strangers)
    return code


def _stop(process: subprocess.Popen[bytes], grace_s: float, strangers: list[Member]) -> int:
    """Ask the program and its descendants to end, then end those that have not.

    Those are all of ours but the ``strangers``, which were there before the program.
    """
    members = _but(strangers)
    tell(members, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while process.poll() is None or running(members):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            tell([*members, *_but(strangers)], signal.SIGKILL)
            break
        time.sleep(min(0.05, left_s))
    return process.wait()


def _but(strangers: list[Member]) -> list[Member]:
    return [member for member in descendants() if member not in strangers]


def _ended(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None


def _terminal_tells_the_child() -> bool:
    """Return whether Ctrl-C reaches the whole foreground group, the child included, by itself."""
    with suppress(OSError), open("/dev/tty", "rb") as terminal:  # noqa: PTH123  # needs the fd
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    return False
