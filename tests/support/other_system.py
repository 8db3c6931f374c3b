"""Run a program as if on a system that is not Linux: `other_system.py win32 -m MODULE [ARGS]`.

What Windows or macOS lacks is taken away from the standard library before the program starts. What
they have and Linux lacks is not there either, so that only what all three share can be used.
"""

from __future__ import annotations

import builtins
import ctypes
import http.client
import io
import mmap
import multiprocessing
import os
import platform
import runpy
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

# Loaded as they are on Linux, because they choose by the system what they need.
_LOADED = (
    *(ctypes, http.client, mmap, multiprocessing, platform, shutil, ssl, subprocess, tempfile),
    urllib.request,
)

_NOWHERE = ("/proc", "/sys", "/dev/shm", "/dev/tty")
_MAC_LACKS = {
    os: "O_DIRECT O_PATH O_TMPFILE memfd_create pidfd_open posix_fadvise sched_getaffinity "
    "sched_setaffinity waitid P_ALL WEXITED WNOWAIT",
    signal: "SIGRTMIN SIGPWR sigtimedwait sigwaitinfo",
}
_WINDOWS_LACKS = {
    os: "fork forkpty register_at_fork uname getuid geteuid getgid getegid getpgrp getpgid setsid "
    "tcgetpgrp sysconf sysconf_names O_CLOEXEC O_NONBLOCK O_NOCTTY O_NOFOLLOW O_DIRECTORY "
    "pread pwrite mkfifo statvfs killpg getloadavg nice fchmod fchown chown set_blocking",
    signal: "SIGHUP SIGUSR1 SIGUSR2 SIGCHLD SIGPIPE SIGXFSZ SIGKILL SIGALRM SIGTSTP SIGCONT "
    "SIGSTOP SIGQUIT SIGWINCH setitimer pthread_sigmask alarm",
}
_LACKED_MODULES = {
    "darwin": set[str](),
    "win32": {"fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "curses", "readline"},
}


class _NoSuchModules:
    """Finds nothing, aloud."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def _take_away(names_by_module: dict[Any, str]) -> None:
    for module, names in names_by_module.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)


def _hidden(function: Any) -> Any:
    def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        if not isinstance(path, int) and os.fsdecode(path).startswith(_NOWHERE):
            raise FileNotFoundError(2, "No such file or directory", os.fsdecode(path))
        return function(path, *args, **kwargs)

    return call


def become(system: str) -> None:
    """Change this process: `win32` or `darwin`."""
    lacked = _LACKED_MODULES[system] | {"carbontracker._core"}
    for name in lacked:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _NoSuchModules(lacked))
    for name in ("open", "stat", "lstat", "scandir", "listdir", "access", "readlink"):
        setattr(os, name, _hidden(getattr(os, name)))
    builtins.open = io.open = _hidden(io.open)
    _take_away(_MAC_LACKS)
    if system == "win32":
        _take_away(_WINDOWS_LACKS)
        members = signal.Signals.__dict__["_member_map_"]
        for name in [name for name in members if not hasattr(signal, name)]:
            del members[name]
    sys.platform = system


if __name__ == "__main__":
    _, chosen, first, *rest = sys.argv
    become(chosen)
    sys.path[0] = ""
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")
