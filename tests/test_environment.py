"""What a run says of where it ran: scheduler, host, process."""

from __future__ import annotations

import os
import subprocess
import sys

from carbontracker.jobs.processes import process_start_ticks
from carbontracker.records.environment import (
    host_data,
    is_running,
    software_data,
)


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
