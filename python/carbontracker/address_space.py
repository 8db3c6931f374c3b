"""Room in the address space, asked for before it is needed.

Libraries that find no memory while they load, and threads that find none for their thread-local
data, end the process: no exception can be caught. And where one can, it may come anywhere. So we
look for the room first, and leave a part out where there is too little.
"""

from __future__ import annotations

import errno
import math
import os
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

with suppress(ImportError, MemoryError):  # here, because a program may give up its rights later
    import mmap

_THREAD_BYTES = 12 << 20
"""A stack of the usual 8 MiB, and room for the first allocations of the thread."""
BEGIN_S = 2.0
"""How long a thread may take to begin; on a busy machine it takes milliseconds."""
_TURNS = 20
"""It is waited for in so many parts: only time in which this process runs counts."""
PAUSE_S = 60.0
"""How long no thread is tried after one that did not begin, so that a program is not held again."""
MEASURING_BYTES = 192 << 20
"""For the core, the modules that measure, and ten threads. Found by ``ulimit -v``: 80 MB were
enough on a machine without GPU. With 128 MiB here, a training in an address space of 196 MB was
once ended by its threads."""
COMMAND_LINE_BYTES = 16 << 20
"""For the modules that read the arguments of a command and start it. Found by ``ulimit -v``."""

TLS_BYTES = 192 << 20
"""For OpenSSL and its certificates in a thread: malloc maps 128 MiB to align the heap of a thread,
and without that heap it maps each allocation for itself, which takes seconds instead of 50 ms."""

_NO_RESERVE = 0x4000
"""MAP_NORESERVE of mmap(2), which the module ``mmap`` does not have before Python 3.11: room is
wanted, not memory."""


class _Threads:
    """Of this process."""

    none_before_s = -math.inf
    """On the clock of ``time.monotonic``."""


def check_room(n_bytes: int) -> None:
    """Check that so many bytes can be mapped.

    Raises:
        OSError: they cannot.
    """
    if sys.platform != "linux":
        return  # others have neither that limit nor that flag
    try:
        mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE).close()
    except (NameError, MemoryError):  # the module itself found no room
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None


def start_thread(thread: threading.Thread) -> None:
    """Start a thread.

    ``Thread.start`` waits until the thread says that it has begun. A thread that finds no memory
    for its first step ends without a word, and the wait would have no end.

    Raises:
        OSError: the address space has no room for it, or it has not begun within ``BEGIN_S``, or
            another one has not within the last ``PAUSE_S``.
        RuntimeError: the system makes no more threads.
    """
    import threading

    if time.monotonic() < _Threads.none_before_s:
        raise OSError(errno.ENOMEM, "there was no memory for a thread a short time ago")
    check_room(_THREAD_BYTES)
    decided = threading.Lock()  # by who comes first: the thread that begins, or we who give it up
    begun = threading.Event()

    def run_unless_given_up() -> None:
        if decided.acquire(blocking=False):
            del vars(thread)["run"]
            thread.run()

    wait = partial(threading.Event.wait, begun, BEGIN_S / _TURNS)
    vars(begun)["wait"] = lambda: any(wait() for _ in range(_TURNS))
    vars(thread).update(_started=begun, run=run_unless_given_up)
    try:
        thread.start()
    finally:
        del vars(begun)["wait"]
    if not begun.is_set() and decided.acquire(blocking=False):
        _Threads.none_before_s = time.monotonic() + PAUSE_S
        raise OSError(errno.ENOMEM, f"a thread has not begun within {BEGIN_S:g} s")
