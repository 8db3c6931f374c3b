"""A child process whose signals, standard streams and exit code are its own."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from carbontracker.address_space import check_room
from carbontracker.cli.exits import restore_signals, say
from carbontracker.cli.process_tree import (
    Member,
    become_subreaper,
    descendants,
    reap,
    running,
    send_signal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

NOT_EXECUTABLE = 126
NOT_FOUND = 127
KILLED_BY_SIGNAL = 128
"""Plus the signal's number, as shells report it."""

_FORWARDED = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if name in signal.Signals.__members__
)


_START_BYTES = 1 << 20
"""Room that is needed to start a process. Without it `subprocess` may fail after the program has
started, and its process is lost."""

LOOK_S = 0.5
"""How often a program that has a limit is looked at, s."""


class Supervisor(Protocol):
    """Decides whether the program has to end."""

    grace_s: float
    """Time between asking it to end (SIGTERM) and ending it (SIGKILL), s."""

    def exceeded(self) -> bool:
        """Return whether a limit is exceeded, so that the program has to end now."""
        ...


@contextmanager
def executed(
    command: list[str], run_id: str | None, supervisor: Supervisor | None = None
) -> Iterator[int]:
    """Run ``command`` to its end, without a shell, and give its exit code.

    Signals for the program are passed on to it. Inside the block the program has ended and signals
    have no effect: an impatient second Ctrl-C does not lose the result.

    Args:
        command: the program and its arguments, passed on untouched.
        run_id: put into the environment of the child, whose own record then names this run.
        supervisor: asked twice a second whether the program, and all that it started, has to end.
    """
    environment = dict(os.environ)
    if run_id is not None:
        environment["CARBONTRACKER_RUN_ID"] = run_id
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []
    with _signals_forwarded(started, early):
        preexisting: list[Member] = []
        if supervisor is not None:
            preexisting = descendants()
            become_subreaper()
        try:
            check_room(_START_BYTES)
            started.append(_start(command, environment))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                error = _become(command, environment, error, limited=supervisor is not None)
            code = _not_run(command[0], error)
        else:
            for number in early:
                started[0].send_signal(number)
            code = (
                started[0].wait()
                if supervisor is None
                else _supervise(started[0], supervisor, preexisting)
            )
        yield code if code >= 0 else KILLED_BY_SIGNAL - code


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the program.

    If this process ignores SIGCHLD, as its parent may have set, the kernel keeps no exit code. So
    SIGCHLD is set to its default here, and ignored again in the program.
    """
    if not hasattr(signal, "SIGCHLD") or signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
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
    """Run ``command`` in place of this process, because no other process can be started.

    Returns the error, if that fails too.
    """
    unwatched = ", its limit is not watched" if limited else ""
    say(
        f"no energy is measured{unwatched}: no process can be started beside this one: "
        f"{error.strerror}"
    )
    if limited:
        become_subreaper(enable=False)  # exec keeps that
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


def _supervise(
    process: subprocess.Popen[bytes], supervisor: Supervisor, preexisting: list[Member]
) -> int:
    while (code := _ended(process, LOOK_S)) is None:
        reap(but=process.pid)
        if supervisor.exceeded():
            return _stop(process, supervisor.grace_s, preexisting)
    return code


def _stop(process: subprocess.Popen[bytes], grace_s: float, preexisting: list[Member]) -> int:
    """Send SIGTERM to the program and its descendants; after ``grace_s`` send SIGKILL.

    Descendants of this process that existed before the program (``preexisting``) are left alone.
    """
    members = _new_descendants(preexisting)
    send_signal(members, signal.SIGTERM)
    if not members:  # the system does not show them
        process.terminate()
    deadline = time.monotonic() + grace_s
    while process.poll() is None or running(members):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            _kill(process, [*members, *_new_descendants(preexisting)])
            break
        time.sleep(min(0.05, left_s))
    return process.wait()


def _kill(process: subprocess.Popen[bytes], members: list[Member]) -> None:
    if members:
        send_signal(members, signal.SIGKILL)
    process.kill()


def _new_descendants(preexisting: list[Member]) -> list[Member]:
    return [member for member in descendants() if member not in preexisting]


def _ended(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None


def _terminal_tells_the_child() -> bool:
    """Return whether Ctrl-C reaches the whole foreground group, the child included, by itself."""
    if not hasattr(os, "tcgetpgrp"):
        return True  # Windows: every process of the console gets it
    with suppress(OSError), open("/dev/tty", "rb") as terminal:  # noqa: PTH123  # needs the fd
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    return False
