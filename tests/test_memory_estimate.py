"""The estimate of memory in what is measured: a part of the total, or absent and named."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import pytest

from carbontracker.energy import sensors
from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release
from tests.support.fakehost import cpuinfo, fake_host, meminfo, proc_stat

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("total", ["MemTotal: 0 kB\n", "MemTotal: 18446744073709551615 kB\n", ""])
def test_a_total_of_memory_that_no_machine_has_leaves_the_energy_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: str
) -> None:
    files = {
        "proc/cpuinfo": cpuinfo("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", cores=20),
        "proc/stat": proc_stat(20, 1_000, 9_000),
        "proc/meminfo": total,
    }
    root = fake_host(tmp_path, files)
    session = acquire(Config(root=str(root), nvml_library="/nonexistent"))
    try:
        assert [entry.kind for entry in session.entries] == ["cpu"]
        assert all(math.isfinite(entry.relative_error) for entry in session.entries)
        begin = session.mark()
        while not (energy := session.energy(begin, session.mark())).joules > 0.0:
            time.sleep(0.05)
        assert math.isfinite(energy.error_joules)
    finally:
        release(session)
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(root))
    monkeypatch.setenv("CARBONTRACKER_NVML", "/nonexistent")
    (told,) = [one for one in sensors.sensors(0.0).absent if one.what == "dram"]
    assert "/proc/meminfo" in told.reason


def test_modules_that_the_driver_calls_unbuffered_are_those_of_a_server(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": cpuinfo("Intel(R) Xeon(R) Silver 4314 CPU @ 2.40GHz", cores=16),
        "proc/stat": proc_stat(16, 1_000, 9_000),
        "proc/meminfo": meminfo(128),
    }
    for module in range(8):
        folder = f"sys/devices/system/edac/mc/mc{module // 2}/dimm{module % 2}"
        files[f"{folder}/size"] = "16384\n"
        files[f"{folder}/dimm_mem_type"] = "Unbuffered-DDR4\n"
    session = acquire(Config(root=str(fake_host(tmp_path, files)), nvml_library="/nonexistent"))
    try:
        (memory,) = [entry for entry in session.entries if entry.kind == "dram"]
        assert "8 modules of a server (EDAC), each 3 to 10 W, 24.0 to 80.0 W" in memory.detail
        assert memory.relative_error == pytest.approx(28 / 52)  # both ends, and no more
    finally:
        release(session)
