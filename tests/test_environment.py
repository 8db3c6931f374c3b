"""What a run says of where it ran: scheduler, host, process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from carbontracker.records.environment import (
    host_data,
    is_running,
    job_data,
    process_start_ticks,
    software_data,
)


@pytest.mark.parametrize(
    ("environ", "job"),
    [
        ({"PATH": "/bin"}, {}),
        ({"SLURM_NTASKS": "4"}, {}),  # an allocation's leftovers without a job
        (
            {"SLURM_JOB_ID": "7", "SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_JOB_NAME": ""},
            {"slurm": {"job_id": "7", "rank": "3", "world_size": "8"}},
        ),
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"},
            {"torchrun": {"job_id": "x", "rank": "1", "local_rank": "1", "world_size": "2"}},
        ),
        ({"RANK": "0", "WORLD_SIZE": "1"}, {"torchrun": {"rank": "0", "world_size": "1"}}),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-0", "POD_UID": "u"},
            {"kubernetes": {"pod": "train-0", "pod_uid": "u"}},
        ),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {"kubernetes": {}}),
        ({"OMPI_COMM_WORLD_RANK": "2"}, {"mpi": {"rank": "2"}}),
    ],
)
def test_jobs_are_recognised_by_their_variables(
    environ: dict[str, str], job: dict[str, dict[str, str]]
) -> None:
    assert job_data(environ) == job


def test_a_process_is_identified_by_pid_and_start() -> None:
    host = host_data()
    assert host["boot_id"]
    assert host["memory_bytes"] > 2**28
    assert 1 <= host["usable_cpus"] <= host["logical_cpus"]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ticks = process_start_ticks(child.pid)
        assert ticks is not None
        assert is_running(host, child.pid, ticks)
        assert not is_running(host, child.pid, ticks - 1)  # another one had the number before
        assert not is_running(host | {"boot_id": "other"}, child.pid, ticks)
        assert not is_running({}, child.pid, ticks)
        child.communicate(b"\n")
    assert process_start_ticks(child.pid) is None
    assert not is_running(host, child.pid, ticks)
    assert process_start_ticks(os.getpid()) is not None


def test_versions_are_those_of_loaded_packages_only() -> None:
    program = (
        "import sys, types\n"
        "from carbontracker.records.environment import software_data\n"
        "assert software_data() == {}, software_data()\n"
        "torch = sys.modules['torch'] = types.ModuleType('torch')\n"
        "torch.__version__ = '2.9.0'\n"
        "sys.modules['jax'] = None\n"
        "assert software_data() == {'torch': '2.9.0'}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert isinstance(software_data(), dict)
