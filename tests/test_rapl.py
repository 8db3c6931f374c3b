"""RAPL through perf from end to end, beside powercap, and the list of its traps."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release
from tests.support.build import build_perf, build_powercap
from tests.support.fakehost import Counter, energy_key, fake_host, powercap_tree, running_powercap
from tests.support.waveforms import as_wave

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.fakehost import Value

ROOT = Path(__file__).parents[1]
POWER = "sys/bus/event_source/devices/power"
CONFIGS = {"pkg": 2, "ram": 3}


def pmu_tree(pmu_type: int, cpumask: str) -> dict[str, Value]:
    """Return the `power` PMU with packages and memory."""
    tree: dict[str, Value] = {f"{POWER}/type": pmu_type, f"{POWER}/cpumask": cpumask}
    for name, config in CONFIGS.items():
        tree[f"{POWER}/events/energy-{name}"] = f"event=0x{config:02x}"
        tree[f"{POWER}/events/energy-{name}.scale"] = "2.3283064365386962890625e-10"
        tree[f"{POWER}/events/energy-{name}.unit"] = "Joules"
    return tree


def places_tree(packages: int) -> dict[str, Value]:
    """Return the topology of packages with one CPU each."""
    cpus = "sys/devices/system/cpu"
    tree: dict[str, Value] = {f"{cpus}/online": f"0-{packages - 1}"}
    for package in range(packages):
        tree[f"{cpus}/cpu{package}/topology/physical_package_id"] = package
    return tree


def write_spec(path: Path, epoch_ns: int, waves: Mapping[tuple[int, str], str]) -> None:
    """Say what the double plays from now on; replaced whole, for it may be read at any time."""
    lines = [f"unit type=24 epoch_ns={epoch_ns}\n"]
    for (cpu, name), wave in waves.items():
        # 100 J before its end: those of the packages wrap within the window, and this kernel
        # forgets to undo that.
        words = f"cpu={cpu} config={CONFIGS[name]} wave={as_wave(wave)}"
        lines.append(f"event {words} register={2**32 - 100 * 2**14} falls=yes\n")
    new = path.with_suffix(".new")
    new.write_text("".join(lines))
    new.replace(path)


def test_perf_owns_what_powercap_shows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two doors, one counter: counted once, and right through the wrap of the register."""
    waves = {
        (0, "pkg"): "square:60,180,0.4,0.5",
        (0, "ram"): "constant:20",
        (1, "pkg"): "sine:100,50,0.7",
        (1, "ram"): "constant:10",
    }
    ids = {(cpu, name): f"{'cpu' if name == 'pkg' else 'dram'}:{cpu}" for cpu, name in waves}
    tree = powercap_tree(2, children=("dram",), psys=False, mmio=False)
    root = fake_host(tmp_path, tree | pmu_tree(24, "0-1") | places_tree(2))
    cache = tmp_path.parent / "c-doubles"
    library = build_perf(cache)
    build_powercap(cache)
    zones = {(cpu, "pkg"): f"intel-rapl:{cpu}" for cpu in range(2)}
    zones |= {(cpu, "ram"): f"intel-rapl:{cpu}:0" for cpu in range(2)}
    counters = [Counter(root / energy_key(zones[place]), wave) for place, wave in waves.items()]
    spec = tmp_path / "perf.spec"
    monkeypatch.setenv("FAKE_PERF_SPEC", str(spec))
    epoch_ns = time.monotonic_ns()
    write_spec(spec, epoch_ns, waves)
    with running_powercap(tmp_path, counters, epoch_ns=epoch_ns) as powercap:
        session = acquire(
            Config(root=str(root), nvml_library="/nonexistent", perf_library=str(library))
        )
        try:
            time.sleep(0.3)
            start = session.mark()
            time.sleep(2.0)
            end = session.mark()
            session.await_final(end, timeout_s=2.0)
            energy = session.energy(start, end)
        finally:
            release(session)
    counted = {entry.id: entry.source for entry in session.entries if entry.counted}
    assert counted == dict.fromkeys(ids.values(), "rapl_perf")
    standing_by = {entry.standby_for for entry in session.entries if entry.source == "powercap"}
    assert standing_by == set(ids.values())
    true = {
        ids[place]: powercap.truth(number, start.t_ns, end.t_ns)
        for number, place in enumerate(waves)
    }
    for channel, joules in true.items():
        part = energy.by_device[channel]
        assert part.joules == pytest.approx(joules, rel=0.02, abs=part.error_joules)
    assert energy.joules == pytest.approx(sum(true.values()), rel=0.02, abs=energy.error_joules)
    assert energy.quality == "measured"


# ---- the list of traps ---------------------------------------------------------------------

ROW = re.compile(r"^\| ([RP]\d+) \|[^|]*\| (.*) \|$", re.MULTILINE)
TEST = re.compile(r"`(\w+\.cpp)::(\w+)`")
ALIKE = ("the same", "the same two", "the same: the fall is the same")
"""Cells that refer to the row above."""
UNTESTED = ("R30",)


def test_every_trap_names_a_test_that_exists() -> None:
    rows = ROW.findall((ROOT / "docs" / "traps-rapl.md").read_text(encoding="utf-8"))
    traps = [trap for trap, _ in rows]
    assert sorted(traps) == sorted(
        [f"R{n}" for n in range(1, 34)] + [f"P{n}" for n in range(1, 12)]
    )
    for trap, cell in rows:
        named = TEST.findall(cell)
        assert named or cell in ALIKE or trap in UNTESTED, f"{trap} names no test"
        for file, name in named:
            text = (ROOT / "tests" / "cpp" / file).read_text(encoding="utf-8")
            assert f"TEST({name})" in text, f"{trap}: {file}::{name}"
