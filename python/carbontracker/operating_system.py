"""What Linux has and other systems lack, in one place: the package is used on all of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Python opens files so that programs it starts do not get them: no flag is needed for that.
BINARY = getattr(os, "O_BINARY", 0)
"""Windows would change the ends of lines, and stop at a Ctrl-Z."""
NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
"""Opening a pipe would wait for its other end."""
NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def after_fork_in_child(function: Callable[[], object]) -> None:
    """Have ``function`` called in every forked child; do nothing where processes are not forked."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def user_name() -> str:
    """Return whose process this is: the name, or the number where it has no name."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except ImportError:  # not Linux or macOS
        return os.environ.get("USERNAME", "")
    except KeyError:  # a container that knows the number only
        return str(os.getuid())


def host_name() -> str:
    """Return the name of this machine."""
    if hasattr(os, "uname"):
        return os.uname().nodename  # `platform` takes milliseconds to import
    import platform

    return platform.node()


def system_name() -> str:
    """Return name and version of the system, and the architecture: ``Linux 6.1.0 x86_64``."""
    if hasattr(os, "uname"):
        kernel = os.uname()
        return f"{kernel.sysname} {kernel.release} {kernel.machine}"
    import platform

    return f"{platform.system()} {platform.release()} {platform.machine()}"


def usable_cpus() -> int | None:
    """Return the number of CPUs that this process may use; None if it is not known."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def memory_bytes() -> int | None:
    """Return the size of the memory; None if the system does not tell it in this way."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
