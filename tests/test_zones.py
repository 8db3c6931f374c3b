"""Which powercap zones are one counter and which are two: joules against the closed form."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release
from tests.support.fakehost import (
    Counter,
    Link,
    cpuinfo,
    energy_key,
    fake_host,
    powercap_control_type,
    powercap_zone,
    running_powercap,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.support.fakehost import Value

AMD = "AMD EPYC 9654 96-Core Processor"
INTEL = "Intel(R) Xeon(R) Platinum 9242 CPU @ 2.30GHz"


def zones_tree(model: str, names: Sequence[str]) -> dict[str, Value]:
    """Return a machine whose top-level zones have these names, each at a value of its own."""
    tree: dict[str, Value] = {"proc/cpuinfo": cpuinfo(model)}
    tree |= powercap_control_type("intel-rapl")
    for number, name in enumerate(names):
        tree |= powercap_zone(f"intel-rapl:{number}", name, energy_uj=7_000_003 * (number + 1))
    return tree


def mirror(tree: dict[str, Value], zone: int, of: int) -> None:
    """Make the counter of one zone show what that of another shows, as one register does."""
    path = energy_key(f"intel-rapl:{zone}")
    tree[path] = Link(os.path.relpath(energy_key(f"intel-rapl:{of}"), Path(path).parent))


def measured(
    tmp_path: Path, tree: Mapping[str, Value], waves: Mapping[str, str]
) -> tuple[dict[str, float], list[float], dict[str, str]]:
    """Measure a machine for a second; the counters of `waves`, by zone, move.

    Returns joules by counted device, the true joules of each counter, and why what is missing.
    """
    root = fake_host(tmp_path, tree)
    counters = [
        Counter(root / energy_key(zone), wave, start_uj=int(tree[energy_key(zone)]))  # type: ignore[arg-type]
        for zone, wave in waves.items()
    ]
    with running_powercap(tmp_path, counters) as powercap:
        session = acquire(Config(root=str(root), nvml_library="/nonexistent"))
        try:
            time.sleep(0.2)
            start = session.mark()
            time.sleep(1.0)
            end = session.mark()
            session.await_final(end, timeout_s=2.0)
            energy = session.energy(start, end)
            missing = {m.what: m.reason for m in session.missing if m.source == "powercap"}
        finally:
            release(session)
    true = [powercap.truth(i, start.t_ns, end.t_ns) for i in range(len(counters))]
    assert energy.quality == "measured"
    assert energy.joules == about(sum(true))
    return {name: part.joules for name, part in energy.by_device.items()}, true, missing


def swinging(watts: Mapping[int, int]) -> dict[str, str]:
    """Return a wave for each top-level zone of `watts`, about that power, each in its own way."""
    return {
        f"intel-rapl:{zone}": f"sine:{mean},{mean // 4},{0.3 + 0.1 * zone:.1f}"
        for zone, mean in watts.items()
    }


def about(joules: float) -> Any:
    """Return what is near enough: a counter too many or too few is far away."""
    return pytest.approx(joules, rel=0.1)


@pytest.mark.parametrize("dies", [2, 12])
def test_dies_that_show_one_counter_count_once(tmp_path: Path, dies: int) -> None:
    tree = zones_tree(AMD, [f"package-0-die-{die}" for die in range(dies)])
    for die in range(1, dies):
        mirror(tree, die, 0)
    joules, true, missing = measured(tmp_path, tree, swinging({0: 200}))
    assert joules == {"cpu:0": about(true[0])}
    assert missing["cpu:0"].count("intel-rapl:") == dies - 1


def test_dies_of_each_package_count_once(tmp_path: Path) -> None:
    tree = zones_tree(AMD, [f"package-{zone // 3}-die-{zone % 3}" for zone in range(6)])
    for zone in (1, 2, 4, 5):
        mirror(tree, zone, 3 * (zone // 3))
    joules, true, _ = measured(tmp_path, tree, swinging({0: 200, 3: 120}))
    assert joules == {"cpu:0": about(true[0]), "cpu:1": about(true[1])}


@pytest.mark.parametrize("model", [AMD, INTEL])
def test_dies_with_counters_of_their_own_are_added(tmp_path: Path, model: str) -> None:
    """What the counters do comes before what a vendor's kernels are known for."""
    tree = zones_tree(model, ["package-0-die-0", "package-0-die-1"])
    joules, true, _ = measured(tmp_path, tree, swinging({0: 90, 1: 60}))
    assert list(joules.values()) == [about(one) for one in true]


def test_intel_dies_that_show_one_counter_count_once(tmp_path: Path) -> None:
    tree = zones_tree(INTEL, ["package-0-die-0", "package-0-die-1"])
    mirror(tree, 1, 0)
    joules, true, _ = measured(tmp_path, tree, swinging({0: 150}))
    assert joules == {"cpu:0": about(true[0])}


@pytest.mark.parametrize("sockets", [2, 3])
def test_sockets_of_one_name_are_added(tmp_path: Path, sockets: int) -> None:
    tree = zones_tree(AMD, ["package-0"] * sockets)
    watts = {zone: 100 + 50 * zone for zone in range(sockets)}
    joules, true, missing = measured(tmp_path, tree, swinging(watts))
    assert sorted(joules.values()) == [about(one) for one in sorted(true)]
    assert next(iter(joules)) == "cpu:0"
    assert not missing


def test_one_counter_under_one_name_twice_counts_once(tmp_path: Path) -> None:
    tree = zones_tree(INTEL, ["package-0", "package-0"])
    mirror(tree, 1, 0)
    joules, true, _ = measured(tmp_path, tree, swinging({0: 100}))
    assert joules == {"cpu:0": about(true[0])}


def test_memory_of_sockets_of_one_name_is_added(tmp_path: Path) -> None:
    """Each zone belongs to the zone it is in, whatever other zone has that one's name."""
    tree = zones_tree(INTEL, ["package-0", "package-0"])
    for number in (0, 1):
        tree |= powercap_zone(f"intel-rapl:{number}:0", "dram", energy_uj=9_000_001 * (number + 1))
    waves = {
        "intel-rapl:0": "constant:100",
        "intel-rapl:1": "constant:150",
        "intel-rapl:0:0": "constant:10",
        "intel-rapl:1:0": "constant:20",
    }
    joules, true, _ = measured(tmp_path, tree, waves)
    assert list(joules.values()) == [about(one) for one in true]
    assert list(joules) == ["cpu:0", "cpu:0#2", "dram:0", "dram:0#2"]
