"""Processor time of this process or its job, and of everything, on each package of the machine."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.hostfiles import host_text

if TYPE_CHECKING:
    from pathlib import Path

JOB, PROCESS = "job", "process"
SCOPES = (JOB, PROCESS)

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_BUSY_FIELDS = (0, 1, 2, 5, 6)
"""Of a line of /proc/stat: user (guests are in it), nice, system, irq, softirq. Not idle, iowait,
and not the time that the host took (steal)."""
_LXCFS = "lxcfs"
_CPU_LINE = re.compile(r"cpu(\d+) ")
_SLURM_JOB = re.compile(r"job_\d+")


class Usage(NamedTuple):
    """Processor time since the first reading, s, by package."""

    mine: dict[int, float]
    busy: dict[int, float]
    """Of all processes."""


class Allocation(NamedTuple):
    """What this process or its job may use."""

    how: str
    """For display: ``the cgroup /slurm/job_42``."""
    cpus: dict[int, float] | None
    """Logical CPUs by package; None if nothing limits them to a part of the machine."""


class _Times(NamedTuple):
    """Processor time of one process, s."""

    start: int
    """Start of the process, in ticks since boot: with its pid, it identifies the process."""
    own: float
    reaped: float
    """Of its children that have ended and were waited for, and of their children."""


class CpuUsage:
    """Reads the processor time of one process tree or cgroup.

    Args:
        root: the folder above ``proc`` and ``sys``.
        scope: ``job`` for the cgroup of the job, or the process tree if there is none; ``process``
            for the process tree.
        pid: of the process; by default this one, by its number in ``root``.

    Raises:
        LookupError: the processor time cannot be known here; its text says why.
    """

    def __init__(self, root: Path, scope: str, pid: int | None = None) -> None:
        self._proc = root / "proc"
        self._cpus = _cpus_by_package(root, self._proc)
        self._pid = _own_pid(self._proc) if pid is None else pid
        self._known: dict[int, _Times] = {}
        self._threads: dict[tuple[int, int], float] = {}
        self._mine = dict.fromkeys(self._cpus, 0.0)
        self._busy = dict.fromkeys(self._cpus, 0.0)
        self._busy_by_cpu: dict[int, float] = {}
        self._cgroup = _job_cgroup(root, self._proc, self._pid) if scope == JOB else None
        self._cgroup_s = math.nan
        mounts = _text(self._proc / "self/mountinfo")
        if any(_LXCFS in line and " /proc/stat " in line for line in mounts.splitlines()):
            reason = "/proc/stat shows the container (lxcfs), and the energy is that of the host"
            raise LookupError(reason)
        self.allocation = self._allocation(root)
        if self.read() is None:
            reason = f"the processor time of process {self._pid} cannot be read"
            raise LookupError(reason)

    @property
    def cpus(self) -> dict[int, int]:
        """Return the number of logical CPUs of each package."""
        return {package: len(cpus) for package, cpus in self._cpus.items()}

    def read(self) -> Usage | None:
        """Return the processor time since the first reading; None if it cannot be read."""
        try:
            ran, seconds = self._read_mine()
            busy = self._read_busy()
        except (OSError, ValueError, IndexError):
            return None
        for package, part in busy.items():
            self._busy[package] += part
        # A thread's time counts where the thread ran last.
        weights = ran if math.fsum(ran.values()) > 0 else self._weights(busy)
        whole = math.fsum(weights.values())
        for package, weight in weights.items():
            self._mine[package] += seconds * weight / whole
        return Usage(dict(self._mine), dict(self._busy))

    def _weights(self, busy: dict[int, float]) -> dict[int, float]:
        """Return how time is split over packages if no thread shows it."""
        allowed = self.allocation.cpus or self.cpus
        used = {package: busy[package] for package in allowed if allowed[package] and busy[package]}
        return used or {package: float(count) for package, count in allowed.items() if count}

    # ---- of this process or job ----

    def _read_mine(self) -> tuple[dict[int, float], float]:
        """Return where its threads ran since the last reading, and how long in total."""
        if self._cgroup is None:
            processes = self._tree()
            seconds = self._advance(processes)
            pids = list(processes)
        else:
            now_s = _usage_s(self._cgroup)
            seconds = max(0.0, now_s - self._cgroup_s) if self._cgroup_s >= 0 else 0.0
            self._cgroup_s = now_s
            pids = _pids_in(self._cgroup) if len(self._cpus) > 1 else []
        # On a single package there is nothing to split, and threads may be many.
        return (self._ran(pids) if len(self._cpus) > 1 else {}), seconds

    def _tree(self) -> dict[int, _Times]:
        """Return this process and its descendants, with those that have lost their parent."""
        found: dict[int, _Times] = {}
        pending = [self._pid] + [
            pid
            for pid, before in self._known.items()
            if (now := _times(self._proc, pid)) is not None and now.start == before.start
        ]
        while pending:
            pid = pending.pop()
            times = None if pid in found else _times(self._proc, pid)
            if times is not None:
                found[pid] = times
                pending += _children(self._proc, pid)
        if self._pid not in found:
            raise OSError
        return found

    def _advance(self, processes: dict[int, _Times]) -> float:
        """Return the time of these processes since the last reading, s."""
        before, self._known = self._known, processes
        if not before:
            return 0.0
        own = reaped = 0.0
        same = {
            pid: old
            for pid, old in before.items()
            if pid in processes and processes[pid].start == old.start
        }
        for pid, now in processes.items():
            old = same.get(pid, _Times(0, 0.0, 0.0))
            own += max(0.0, now.own - old.own)
            reaped += max(0.0, now.reaped - old.reaped)
        # What ended meanwhile is now in its parent's time: the part that was counted leaves it.
        ended = math.fsum(old.own + old.reaped for pid, old in before.items() if pid not in same)
        return own + max(0.0, reaped - ended)

    def _ran(self, pids: list[int]) -> dict[int, float]:
        """Return the time of the threads of these processes, by the package where each ran last."""
        package_of = {cpu: package for package, cpus in self._cpus.items() for cpu in cpus}
        ran = dict.fromkeys(self._cpus, 0.0)
        threads: dict[tuple[int, int], float] = {}
        for pid in pids:
            for task in _numbers_in(self._proc / f"{pid}/task"):
                fields = _stat_fields(self._proc / f"{pid}/task/{task}/stat")
                if fields is None:
                    continue
                now_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
                threads[pid, task] = now_s
                package = package_of.get(int(fields[36]))
                if package is not None:
                    ran[package] += max(0.0, now_s - self._threads.get((pid, task), 0.0))
        self._threads = threads
        return {package: seconds for package, seconds in ran.items() if seconds > 0}

    def _allocation(self, root: Path) -> Allocation:
        online = [cpu for cpus in self._cpus.values() for cpu in cpus]
        if self._cgroup is None:
            status = _text(self._proc / f"{self._pid}/status")
            found = re.search(r"^Cpus_allowed_list:\s*(\S+)", status, re.MULTILINE)
            allowed = _cpu_list(found[1]) if found else set(online)
            cpus = self._in_packages(allowed) if set(online) - allowed else None
            return Allocation(f"process {self._pid} and its children", cpus)
        name = "/" + str(self._cgroup.relative_to(root / "sys/fs/cgroup"))
        allowed = _cpu_list(_text(self._cgroup / "cpuset.cpus.effective")) & set(online)
        quota = _quota_cpus(self._cgroup)
        given = _SLURM_JOB.fullmatch(self._cgroup.name) is not None
        limited = bool(set(online) - allowed) or quota < len(allowed) or given
        part = min(1.0, quota / max(1, len(allowed)))
        cpus = {k: n * part for k, n in self._in_packages(allowed).items()} if limited else None
        return Allocation(f"the cgroup {name}", cpus)

    def _in_packages(self, allowed: set[int]) -> dict[int, float]:
        return {
            package: float(len(allowed.intersection(cpus))) for package, cpus in self._cpus.items()
        }

    # ---- of everything ----

    def _read_busy(self) -> dict[int, float]:
        """Return the processor time of all processes since the last reading, s, by package."""
        package_of = {cpu: package for package, cpus in self._cpus.items() for cpu in cpus}
        result = dict.fromkeys(self._cpus, 0.0)
        for cpu, now_s in _busy_by_cpu(self._proc).items():
            before_s = self._busy_by_cpu.get(cpu, now_s)
            self._busy_by_cpu[cpu] = now_s
            if cpu in package_of:
                result[package_of[cpu]] += max(0.0, now_s - before_s)
        return result


def _own_pid(proc: Path) -> int:
    """Return the number of this process in a tree, which may be that of the host."""
    with suppress(OSError, ValueError):
        return int((proc / "self").readlink().name)
    reason = f"{proc} does not show this process"
    raise LookupError(reason)


def _cpus_by_package(root: Path, proc: Path) -> dict[int, list[int]]:
    try:
        online = list(_busy_by_cpu(proc))
    except (OSError, ValueError, IndexError):
        online = []
    if not online:
        reason = "/proc/stat cannot be read"
        raise LookupError(reason)
    result: dict[int, list[int]] = {}
    for cpu in online:
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        package = _text(folder / "physical_package_id").strip()
        result.setdefault(int(package) if package.isdecimal() else 0, []).append(cpu)
    return result


def _busy_by_cpu(proc: Path) -> dict[int, float]:
    result = {}
    for line in host_text(proc / "stat").splitlines():
        if (found := _CPU_LINE.match(line)) is not None:
            fields = line.split()[1:]
            ticks = sum(int(fields[i]) for i in _BUSY_FIELDS if i < len(fields))
            result[int(found[1])] = ticks / _TICKS_PER_S
    return result


def _stat_fields(path: Path) -> list[str] | None:
    """Return the fields after the name, which may hold blanks and parentheses; None if gone."""
    fields = _text(path).rpartition(")")[2].split()
    return fields if len(fields) > 36 else None  # the CPU is the last one read


def _times(proc: Path, pid: int) -> _Times | None:
    fields = _stat_fields(proc / f"{pid}/stat")
    if fields is None:
        return None
    user, system, of_children, system_of_children = (int(one) for one in fields[11:15])
    return _Times(
        int(fields[19]),
        (user + system) / _TICKS_PER_S,
        (of_children + system_of_children) / _TICKS_PER_S,
    )


def _children(proc: Path, pid: int) -> list[int]:
    """Return the children of all threads of a process."""
    return [
        int(child)
        for task in _numbers_in(proc / f"{pid}/task")
        for child in _text(proc / f"{pid}/task/{task}/children").split()
    ]


def _job_cgroup(root: Path, proc: Path, pid: int) -> Path | None:
    """Return the cgroup of Slurm's job, else the deepest with CPUs of its own; None without."""
    base = root / "sys/fs/cgroup"
    found = re.search(r"^0::/(.*)$", _text(proc / f"{pid}/cgroup"), re.MULTILINE)
    if found is None:
        return None
    own = base / found[1]
    candidates = [
        folder
        for folder in (own, *own.parents)
        if folder.is_relative_to(base)
        and (folder / "cpuset.cpus.effective").is_file()
        and (folder / "cgroup.type").is_file()  # which the machine's own cgroup lacks
    ]
    jobs = [folder for folder in candidates if _SLURM_JOB.fullmatch(folder.name)]
    return next(iter([*jobs, *candidates]), None)


def _usage_s(cgroup: Path) -> float:
    found = re.search(r"^usage_usec (\d+)$", host_text(cgroup / "cpu.stat"), re.MULTILINE)
    if found is None:
        raise ValueError(cgroup)
    return int(found[1]) / 1e6


def _quota_cpus(cgroup: Path) -> float:
    """Return how many CPUs the quota is worth; infinite without one."""
    with suppress(ValueError, ZeroDivisionError):
        quota, period = _text(cgroup / "cpu.max").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    return math.inf


def _pids_in(cgroup: Path) -> list[int]:
    files = [cgroup / "cgroup.procs", *cgroup.rglob("*/cgroup.procs")]
    return [int(pid) for file in files for pid in _text(file).split()]


def _cpu_list(text: str) -> set[int]:
    """Return the CPUs of ``0-3,8``."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def _numbers_in(folder: Path) -> list[int]:
    with suppress(OSError):
        return [int(name) for name in os.listdir(folder) if name.isdecimal()]  # noqa: PTH208
    return []


def _text(path: Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    with suppress(OSError):
        return host_text(path)
    return ""
