"""Room in the address space, asked for before it is needed.

Libraries that find no memory while they load, and threads that find none for their thread-local
data, end the process: no exception can be caught. And where one can, it may come anywhere. So we
look for the room first, and leave a part out where there is too little.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

with suppress(ImportError, MemoryError):  # here, because a program may give up its rights later
    import mmap

_THREAD_BYTES = 12 << 20
"""A stack of the usual 8 MiB, and room for the first allocations of the thread."""
MEASURING_BYTES = 128 << 20
"""For the core, the modules that measure, and ten threads. Found by ``ulimit -v``: 80 MB were
enough on a machine without GPU."""
COMMAND_LINE_BYTES = 16 << 20
"""For the modules that read the arguments of a command and start it. Found by ``ulimit -v``."""

TLS_BYTES = 192 << 20
"""For OpenSSL and its certificates in a thread: malloc maps 128 MiB to align the heap of a thread,
and without that heap it maps each allocation for itself, which takes seconds instead of 50 ms."""

_NO_RESERVE = 0x4000
"""MAP_NORESERVE of mmap(2), which the module ``mmap`` does not have before Python 3.11: room is
wanted, not memory."""


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

    Raises:
        OSError: the address space has no room for it.
        RuntimeError: the system makes no more threads.
    """
    check_room(_THREAD_BYTES)
    thread.start()
