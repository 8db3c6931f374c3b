"""A terminal used as a whole: drawn over in place, read key by key, and left as it was found."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if sys.platform != "win32":
    import termios
    import tty

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import TextIO

    from typing_extensions import Self

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"
"""The alternate screen, without a cursor, empty (xterm, "ctlseqs")."""
_LEAVE = "\x1b[?25h\x1b[?1049l"
_KEYS = {"\x1b[A": "up", "\x1bOA": "up", "k": "up", "\x1b[B": "down", "\x1bOB": "down", "j": "down"}
_NO_CURSOR = {"", "dumb", "unknown"}
"""Values of TERM of what cannot place a cursor, or may not."""
_KEY = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?|.", re.DOTALL)
"""A control sequence, a key with Alt, or a character (ECMA-48 5.4)."""


def usable(out: TextIO | None) -> bool:
    """Return whether a stream is a terminal that can place its cursor."""
    if sys.platform == "win32" or out is None or os.environ.get("TERM", "") in _NO_CURSOR:
        return False
    try:
        return out.isatty()
    except (AttributeError, ValueError):  # closed, or replaced by another object
        return False


class FullScreen:
    """A context manager; whatever ends the block, the terminal is as it was before.

    Keys are read if standard input is a terminal. SIGTERM and SIGHUP end the block with
    ``SystemExit``; Ctrl-Z leaves the screen until the process continues.

    Args:
        out: a terminal, see ``usable``.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._keyboard = sys.stdin.fileno() if usable(sys.stdin) else None
        self._pressed: deque[str] = deque()
        """Keys that were read together, as a held one is over ssh, and have not been returned."""
        self._modes: list[Any] = []
        self._handlers: dict[int, Any] = {}
        self._awake: tuple[int, int] | None = None
        """A pipe that gets a byte with each signal, so that a wait ends at once."""

    def __enter__(self) -> Self:
        """Take the terminal."""
        self._awake = os.pipe()
        for end in self._awake:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._awake[1], warn_on_full_buffer=False)
        ends = dict.fromkeys((signal.SIGTERM, signal.SIGHUP), self._end)
        for number, handler in {
            **ends,
            signal.SIGTSTP: self._suspend,
            signal.SIGWINCH: _ignore,
        }.items():
            self._handlers[number] = signal.signal(number, handler)
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        for end in self._awake or ():
            os.close(end)

    def size(self) -> tuple[int, int]:
        """Return columns and rows now."""
        with suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(self._out.fileno())
            if columns > 0 and rows > 0:
                return columns, rows
        return 80, 24

    def show(self, lines: Sequence[str]) -> None:
        """Draw lines over the screen."""
        text = "\r\n".join(f"{line}\x1b[K" for line in lines)
        self._put(f"\x1b[H{text}\x1b[J")

    def key(self, until_s: float) -> str | None:
        """Wait for a key, at most until a time of ``time.monotonic()``.

        Returns:
            A character, ``up``, ``down``, or a control sequence; None if the time is over or a
            signal came.
        """
        assert self._awake is not None
        if self._pressed:
            return self._pressed.popleft()
        ends = [self._awake[0], *([] if self._keyboard is None else [self._keyboard])]
        ready, _, _ = select.select(ends, [], [], max(0.0, until_s - time.monotonic()))
        if self._awake[0] in ready:
            with suppress(OSError):
                os.read(self._awake[0], 512)
        if self._keyboard is None or self._keyboard not in ready:
            return None
        text = os.read(self._keyboard, 64).decode("utf-8", "replace")
        if not text:  # the terminal has gone
            self._keyboard = None
            return None
        self._pressed.extend(_KEYS.get(key, key) for key in _KEY.findall(text))
        return self._pressed.popleft()

    def _take(self) -> None:
        if self._keyboard is not None:
            with suppress(termios.error):
                self._modes = termios.tcgetattr(self._keyboard)
                tty.setcbreak(self._keyboard, termios.TCSANOW)
        self._put(_ENTER)

    def _give_back(self) -> None:
        with suppress(OSError, ValueError):
            self._put(_LEAVE)
        if self._keyboard is not None and self._modes:
            with suppress(termios.error):
                termios.tcsetattr(self._keyboard, termios.TCSANOW, self._modes)

    def _put(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def _end(self, number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Only the wakeup matters: the next picture has the new size."""
