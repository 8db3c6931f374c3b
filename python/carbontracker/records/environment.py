"""What a run is part of and runs on: host, hardware, software, and the job's own names."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from carbontracker.hostfiles import host_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_JOB_VARIABLES = {
    "slurm": {
        "job_id": "SLURM_JOB_ID",
        "step_id": "SLURM_STEP_ID",
        "array_job_id": "SLURM_ARRAY_JOB_ID",
        "array_task_id": "SLURM_ARRAY_TASK_ID",
        "restart_count": "SLURM_RESTART_COUNT",
        "job_name": "SLURM_JOB_NAME",
        "cluster": "SLURM_CLUSTER_NAME",
        "nodes": "SLURM_JOB_NUM_NODES",
        "node": "SLURMD_NODENAME",
        "rank": "SLURM_PROCID",
        "local_rank": "SLURM_LOCALID",
        "world_size": "SLURM_NTASKS",
    },
    "torchrun": {
        "job_id": "TORCHELASTIC_RUN_ID",
        "restart_count": "TORCHELASTIC_RESTART_COUNT",
        "group_rank": "GROUP_RANK",
        "rank": "RANK",
        "local_rank": "LOCAL_RANK",
        "world_size": "WORLD_SIZE",
        "local_world_size": "LOCAL_WORLD_SIZE",
    },
    "kubernetes": {
        "pod": "POD_NAME",
        "pod_uid": "POD_UID",
        "namespace": "POD_NAMESPACE",
        "node": "NODE_NAME",
        "job_completion_index": "JOB_COMPLETION_INDEX",
    },
    "mpi": {
        "rank": "OMPI_COMM_WORLD_RANK",
        "local_rank": "OMPI_COMM_WORLD_LOCAL_RANK",
        "world_size": "OMPI_COMM_WORLD_SIZE",
    },
}
"""Names of variables as set by Slurm (sbatch(1), srun(1)), torchrun (torch.distributed.elastic),
Kubernetes (by the pod's own ``fieldRef`` entries, in the names its documentation uses; the index
by the Job controller) and Open MPI."""

_PRESENT = {
    "slurm": "SLURM_JOB_ID",
    "torchrun": "TORCHELASTIC_RUN_ID",
    "kubernetes": "KUBERNETES_SERVICE_HOST",
    "mpi": "OMPI_COMM_WORLD_RANK",
}
"""The variable that tells each of them is there. A program that sets RANK itself counts as
torchrun's way of saying it."""

_FRAMEWORKS = ("torch", "tensorflow", "jax", "keras", "lightning", "transformers", "numpy")
"""Whose versions are told, if the program has loaded them already: nothing is imported for it."""


def job_data(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the identifiers that schedulers and launchers gave the process, by scheduler."""
    found = {}
    for system, variables in _JOB_VARIABLES.items():
        here = _PRESENT[system] in environ or (system == "torchrun" and "RANK" in environ)
        said = {name: environ[key] for name, key in variables.items() if environ.get(key)}
        if here and (said or system == "kubernetes"):
            # In a pod the host's name is the pod's, unless it says otherwise.
            pod = {"pod": environ["HOSTNAME"]} if environ.get("HOSTNAME") else {}
            found[system] = pod | said if system == "kubernetes" else said
    return found


def host_data() -> dict[str, Any]:
    """Return the machine's name, system and hardware, from the kernel."""
    kernel = os.uname()
    return {
        "name": kernel.nodename,
        "system": f"{kernel.sysname} {kernel.release} {kernel.machine}",
        "python": sys.version.split()[0],
        "logical_cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cpu": _cpu_name(),
        # Tells machines of one name apart, and containers on one machine together.
        "boot_id": _first_line("/proc/sys/kernel/random/boot_id"),
    }


def software_data() -> dict[str, str]:
    """Return the versions of the frameworks that this program has loaded."""
    versions = {}
    for name in _FRAMEWORKS:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            versions[name] = str(version)
    return versions


def process_start_ticks(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None if there is no such process.

    Field 22 of ``/proc/PID/stat``, proc(5): with the boot and the pid it names one process.
    """
    with suppress(OSError, ValueError, IndexError):
        text = host_text(f"/proc/{pid}/stat")
        return int(text.rpartition(")")[2].split()[19])
    return None


def is_running(host: Mapping[str, Any], pid: int | None, start_ticks: int | None) -> bool:
    """Return whether the process that a record names is still there, on this machine."""
    boot = host.get("boot_id")
    if not boot or pid is None or start_ticks is None:
        return False
    here = boot == _first_line("/proc/sys/kernel/random/boot_id")
    return here and process_start_ticks(pid) == start_ticks


def _first_line(path: str) -> str | None:
    with suppress(OSError):
        return host_text(path).strip() or None
    return None


def _cpu_name() -> str | None:
    with suppress(OSError):
        for line in host_text("/proc/cpuinfo").split("\n"):
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    return None
