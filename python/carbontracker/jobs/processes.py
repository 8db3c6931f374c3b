"""What names a machine and a process on it, by the kernel."""

from __future__ import annotations

from contextlib import suppress

from carbontracker.hostfiles import host_text


def boot_id() -> str | None:
    """Return what names this start of this machine; None if the kernel does not say.

    Containers on one machine share it. Their host names differ, so they name no machine.
    """
    with suppress(OSError):
        return host_text("/proc/sys/kernel/random/boot_id").strip() or None
    return None


def process_start_ticks(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None if there is no such process.

    Field 22 of ``/proc/PID/stat``, proc(5): with the boot and the pid it names one process.
    """
    with suppress(OSError, ValueError, IndexError):
        text = host_text(f"/proc/{pid}/stat")
        return int(text.rpartition(")")[2].split()[19])
    return None
