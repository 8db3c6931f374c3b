"""Counters of HPE Cray nodes: the node is shown, its parts count where no sensor is."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.fakehost import fake_host, powercap_tree
from tests.support.sensing import counted, joules, machine, sensing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WATTS = {
    "energy": 2400,
    "cpu_energy": 280,
    "memory_energy": 70,
    "accel0_energy": 500,
    "accel1_energy": 450,
}
FOLDER = "sys/cray/pm_counters"
OTHERS = {
    "freshness": "12",
    "power": "2400 W 1 us",
    "power_cap": "0 W",
    "accel0_power": "500 W 1 us",
}


def text_of(watts: int, seconds: float) -> str:
    return f"{9_000 + int(watts * seconds):012d} J {1_700_000_000_000_000 + int(seconds * 1e6)} us"


@contextmanager
def running(root: Path, *without: str) -> Iterator[None]:
    """Renew the counters ten times a second."""
    names = set(WATTS) - set(without)
    files = {name: os.open(root / FOLDER / name, os.O_WRONLY) for name in names}
    stop, began = threading.Event(), time.monotonic()

    def renew() -> None:
        while not stop.wait(0.1):
            seconds = round(time.monotonic() - began, 1)
            for name, file in files.items():
                os.pwrite(file, text_of(WATTS[name], seconds).encode(), 0)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for file in files.values():
            os.close(file)


def node(tmp_path: Path, **more: str) -> Path:
    tree = machine()
    for name, watts in WATTS.items():
        tree[f"{FOLDER}/{name}"] = text_of(watts, 0)
    tree |= {f"{FOLDER}/{name}": text for name, text in (OTHERS | more).items()}
    return fake_host(tmp_path, tree)


def test_the_parts_count_and_the_node_is_shown(tmp_path: Path) -> None:
    root = node(tmp_path)
    with running(root), sensing(root) as session:
        parts = {
            "cpu:cray": 280,
            "dram:cray": 70,
            "gpu:accel0": 500,
            "gpu:accel1": 450,
        }
        assert counted(session) == set(parts)
        whole = {one.id: one for one in session.entries}["node:cray"]
        assert (whole.kind, whole.counted) == ("node", False)
        energy, start_ns, end_ns = joules(session, 3.0)
        for name, watts in parts.items():
            # A tenth of a second and a joule at each end.
            assert energy[name] == pytest.approx(watts * (end_ns - start_ns) / 1e9, rel=0.06)


def test_packages_that_are_read_are_not_counted_again(tmp_path: Path) -> None:
    root = node(tmp_path)
    fake_host(tmp_path, powercap_tree(1, children=(), psys=False, mmio=False))
    with running(root), sensing(root) as session:
        assert counted(session) == {"cpu:0", "dram:cray", "gpu:accel0", "gpu:accel1"}
        beside = {one.id: one for one in session.entries}["cpu:cray"]
        assert "shown for comparison" in beside.why


def test_a_file_without_joules_is_named(tmp_path: Path) -> None:
    root = node(tmp_path, cpu_energy="12 mJ 1 us")
    with running(root, "cpu_energy"), sensing(root) as session:
        (missing,) = [one for one in session.missing if one.source == "cray"]
        assert (missing.what, missing.reason) == ("cpu:cray", "cpu_energy has no joules")


def test_counters_that_stand_still_own_nothing(tmp_path: Path) -> None:
    with sensing(node(tmp_path)) as session:
        assert not [one for one in session.entries if one.source == "cray"]
        (frozen,) = [one.reason for one in session.missing if one.source == "cray"]
        assert "stand still" in frozen
        assert [one.quality for one in session.entries if one.kind == "cpu" and one.counted] == [
            "modelled"
        ]
