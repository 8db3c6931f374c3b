"""Joules against the closed form: what is reported must be what the pretended hardware drew."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.energy.config import Config
from carbontracker.energy.session import Session, acquire, release
from tests.support.build import build
from tests.support.fakehost import (
    NO_CODES,
    Counter,
    FakeNvml,
    Gpu,
    Link,
    Mode,
    RunningPowercap,
    Tree,
    cpuinfo,
    energy_key,
    fake_host,
    fake_nvml,
    meminfo,
    powercap_tree,
    proc_stat,
    running_powercap,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from carbontracker.energy.energy import Energy
    from carbontracker.energy.session import Mark

LATE_S = 0.05
"""How late a double may be written or read where it shares a busy core, s."""
LOST = 15
"""What NVML answers when a GPU has fallen off the bus."""

# ---- the machine ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """A pretended machine while it is measured."""

    session: Session
    driver: FakeNvml
    powercap: RunningPowercap | None
    zones: Sequence[str]
    """Channel ids in the order of the running counters."""

    def truth(self, channel: str, start: Mark, end: Mark) -> float:
        """Return the joules that a channel's hardware drew between two marks."""
        if channel in self.zones:
            assert self.powercap is not None
            return self.powercap.truth(self.zones.index(channel), start.t_ns, end.t_ns)
        kind, _, number = channel.partition(":")
        assert kind == "gpu"
        return self.driver.truth(int(number), start.t_ns, end.t_ns)

    def energy(self, start: Mark, end: Mark, timeout_s: float = 1.0) -> Energy:
        """Return the energy once every sensor has moved past the end."""
        self.session.await_final(end, timeout_s=timeout_s)
        return self.session.energy(start, end)

    def index(self, channel: str) -> int:
        """Return the position of a channel in the session."""
        return [entry.id for entry in self.session.entries].index(channel)

    def sleep_until(self, seconds: float) -> None:
        """Sleep until so long after the waves began; not at all if that has passed."""
        time.sleep(max(0.0, seconds - (time.monotonic_ns() - self.driver.epoch_ns) / 1e9))


def counter(root: Path, zone: str, wave: str, **options: Any) -> Counter:
    """Return a moving counter for a zone of the tree below ``root``."""
    return Counter(root / energy_key(zone), wave, **options)


@contextmanager
def machine(
    tmp_path: Path,
    *,
    gpus: Sequence[Gpu] = (),
    tree: Tree | None = None,
    zones: Mapping[str, tuple[str, dict[str, Any]]] | None = None,
    **settings: Any,
) -> Iterator[Machine]:
    """Measure a machine with these GPUs and files; ``zones`` move: channel id to zone, counter."""
    build(tmp_path.parent / "c-doubles")  # before the waves begin: compiling takes a while
    root = fake_host(tmp_path, tree or {})
    moving = [counter(root, zone, **options) for zone, options in (zones or {}).values()]
    epoch_ns = time.monotonic_ns()
    with ExitStack() as stack:
        driver = stack.enter_context(fake_nvml(tmp_path, gpus, epoch_ns=epoch_ns))
        powercap = None
        if moving:
            playing = running_powercap(tmp_path, moving, epoch_ns=epoch_ns)
            powercap = stack.enter_context(playing)
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        for name in ("FAKE_NVML_SPEC", "FAKE_NVML_CALLS"):
            environment.setenv(name, driver.environment[name])
        session = acquire(Config(root=str(root), nvml_library=str(driver.library), **settings))
        stack.callback(release, session)
        yield Machine(session, driver, powercap, list(zones or {}))


def processor_tree(name: str, **options: Any) -> dict[str, Any]:
    """Return the files of a machine that has only a processor, idle, and 64 GiB of memory."""
    return {
        "proc/cpuinfo": cpuinfo(name, **options),
        "proc/meminfo": meminfo(64),
        "proc/stat": proc_stat(4, 1_000, 9_000),
    }


def near(truth: float, watts: float) -> Any:
    """Compare with the true joules of a short window on a device that draws so much.

    What is sought by these tests is counted twice or not at all. How exact a window is shows in
    one that is long beside the delays of a busy machine, or in its own error.
    """
    return pytest.approx(truth, abs=0.01 * truth + LATE_S * watts)


def timing_error(machine: Machine, channel: str, energy: Energy) -> float:
    """Return the error that is claimed for timing and resolution alone.

    The doubles have no gain error, so the tolerance that is claimed for it must not help them.
    """
    gain = machine.session.entries[machine.index(channel)].relative_error
    return energy.error_joules - gain * energy.joules


# ---- a whole node: eight GPUs, two packages --------------------------------------------------

GPU_WATTS = [100.0 * (number + 1) for number in range(8)]
PACKAGE_RANGE_UJ = 300_000_000
NODE_ZONES: dict[str, tuple[str, dict[str, Any]]] = {
    "cpu:0": ("intel-rapl:0", {"wave": "constant:80", "start_uj": 250_000_000}),
    "core:0": ("intel-rapl:0:0", {"wave": "constant:60", "start_uj": 1_000_000}),
    "dram:0": ("intel-rapl:0:1", {"wave": "constant:20", "start_uj": 2_000_000}),
    "cpu:1": ("intel-rapl:1", {"wave": "constant:120", "start_uj": 200_000_000}),
    "core:1": ("intel-rapl:1:0", {"wave": "constant:95", "start_uj": 3_000_000}),
    "dram:1": ("intel-rapl:1:1", {"wave": "constant:25", "start_uj": 4_000_000}),
    "platform:0": ("intel-rapl:2", {"wave": "constant:310", "start_uj": 299_000_000}),
    "mmio": ("intel-rapl-mmio:0", {"wave": "constant:80", "start_uj": 250_000_000}),
}


@dataclass(frozen=True)
class Node:
    """Five seconds of a node, measured and over."""

    machine: Machine
    start: Mark
    end: Mark
    energy: Energy

    def truth(self, channel: str) -> float:
        """Return what a channel's hardware drew in the five seconds."""
        return self.machine.truth(channel, self.start, self.end)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Measure a node for five seconds, in which both packages' counters wrap."""
    gpus = [
        # Refreshed as differently as boards are, none in step with another.
        Gpu(
            power=f"constant:{watts}",
            period_ms=(20, 25, 50, 100)[number % 4],
            phase_ms=7.0 * number,
            start_j=5_000.0 * number,
            limit_w=watts + 100,
        )
        for number, watts in enumerate(GPU_WATTS)
    ]
    ranges = {
        channel: (zone, {**options, "range_uj": PACKAGE_RANGE_UJ})
        for channel, (zone, options) in NODE_ZONES.items()
        if "dram" not in channel
    }
    tree = powercap_tree(2, range_uj=PACKAGE_RANGE_UJ)
    with machine(
        tmp_path_factory.mktemp("node"), gpus=gpus, tree=tree, zones=NODE_ZONES | ranges
    ) as measured:
        time.sleep(0.5)
        start = measured.session.mark()
        time.sleep(5.0)
        end = measured.session.mark()
        energy = measured.energy(start, end)
    return Node(measured, start, end, energy)


def test_eight_gpus_against_the_closed_form(node: Node) -> None:
    gpus = {name: part for name, part in node.energy.by_device.items() if name.startswith("gpu:")}
    seconds = (node.end.t_ns - node.start.t_ns) / 1e9
    assert sorted(gpus) == [f"gpu:{number}" for number in range(8)]
    assert node.energy.by_kind["gpu"].joules == pytest.approx(3600 * seconds, rel=0.005)
    for number, watts in enumerate(GPU_WATTS):
        assert gpus[f"gpu:{number}"].joules == pytest.approx(watts * seconds, rel=0.01)
        assert gpus[f"gpu:{number}"].quality == "measured"
    # A machine that stands still for longer than a sensor may go unread has a gap, and says so.
    assert node.energy.coverage == pytest.approx(1.0, abs=0.01)


def test_packages_dram_psys_and_mmio_are_counted_once(node: Node) -> None:
    """Rows 2 and 10 of the scenarios: nested DRAM counts, psys is no processor."""
    counted = {name for name in node.energy.by_device if not name.startswith("gpu:")}
    assert counted == {"cpu:0", "cpu:1", "dram:0", "dram:1"}
    for channel in sorted(counted):
        joules = node.energy.by_device[channel].joules
        assert joules == pytest.approx(node.truth(channel), rel=0.01)
    rapl = sum(node.energy.by_device[channel].joules for channel in counted)
    assert rapl == pytest.approx(sum(map(node.truth, counted)), rel=0.005)
    assert node.energy.by_kind["dram"].joules == pytest.approx(
        node.truth("dram:0") + node.truth("dram:1"), rel=0.01
    )


def test_containers_and_parts_are_shown_and_not_added(node: Node) -> None:
    session = node.machine.session
    shown = {
        entry.id: entry.why for entry in session.entries if not (entry.counted or entry.standby_for)
    }
    assert sorted(shown) == ["core:0", "core:1", "platform:0"]
    assert shown["core:1"] == "part of cpu:1"
    assert "contains other channels" in shown["platform:0"]
    alternates = {entry.id: entry.standby_for for entry in session.entries}
    assert alternates["cpu:0@powercap"] == "cpu:0"  # the memory-mapped twin stands by
    # Shown means measured: the power of psys over the window is right too.
    times, watts = session.power(node.machine.index("platform:0"), node.start.t_ns, node.end.t_ns)
    assert len(times) > 20
    assert float(watts.mean()) == pytest.approx(310, rel=0.05)


def test_the_total_is_the_sum_of_the_roots(node: Node) -> None:
    everything = sum(map(node.truth, node.energy.by_device))
    assert node.energy.joules == pytest.approx(everything, rel=0.005)
    assert node.energy.joules == pytest.approx(
        math.fsum(part.joules for part in node.energy.by_device.values()), abs=1e-6
    )
    assert node.energy.quality == "measured"
    assert node.energy.modelled_joules == 0.0


# ---- numbering -----------------------------------------------------------------------------


def test_many_zones_in_any_order(tmp_path: Path) -> None:
    """Row 10 again, at its worst: the kernel's numbers mean the order of registration only."""
    names = [f"package-{number}" for number in range(12)]
    random.Random(7).shuffle(names)
    order = [names[0], "psys", *names[1:]]
    zones: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, name in enumerate(order):
        number = name.rpartition("-")[2]
        channel = "platform:0" if name == "psys" else f"cpu:{number}"
        watts = 700 if name == "psys" else 20 + 10 * int(number)
        # Whole joules apart, so that nothing can pass for a copy of another by its value.
        options = {"wave": f"constant:{watts}", "start_uj": 1_000_000 * (place + 1)}
        zones[channel] = (f"intel-rapl:{place}", options)
    tree = powercap_tree(order=order, children=(), mmio=False)
    with machine(tmp_path, tree=tree, zones=zones, kinds=("cpu", "platform")) as measured:
        time.sleep(0.3)
        start = measured.session.mark()
        time.sleep(1.0)
        end = measured.session.mark()
        energy = measured.energy(start, end)
    assert set(energy.by_device) == {f"cpu:{number}" for number in range(12)}
    for channel, part in energy.by_device.items():
        watts = 20 + 10 * int(channel.removeprefix("cpu:"))
        assert part.joules == near(measured.truth(channel, start, end), watts)
    assert [entry.id for entry in measured.session.entries if not entry.counted] == ["platform:0"]


def test_row_8_equal_counters_are_two_packages(tmp_path: Path) -> None:
    """Row 8, and row 9: the counters of both wrap right before the window's end."""
    watts, range_uj, unit_uj = 100, 262_143_328_850, 61.035
    wrap_at_s = 1.3
    start_uj = range_uj - round(wrap_at_s * watts * 1e6)
    options = {"wave": f"constant:{watts}", "start_uj": start_uj, "unit_uj": unit_uj}
    zones = {f"cpu:{number}": (f"intel-rapl:{number}", options) for number in range(2)}
    tree = powercap_tree(2, children=(), psys=False, mmio=False, range_uj=range_uj)
    with machine(tmp_path, tree=tree, zones=zones) as measured:
        measured.sleep_until(0.3)
        start = measured.session.mark()
        measured.sleep_until(wrap_at_s + 0.003)
        end = measured.session.mark()
        at_once = measured.session.energy(start, end)
        first = measured.energy(start, end)
        time.sleep(0.3)
        later = measured.session.mark()
        second = measured.energy(end, later)
    assert set(first.by_device) == {"cpu:0", "cpu:1"}
    for channel, part in first.by_device.items():
        truth = measured.truth(channel, start, end)
        assert part.joules == near(truth, watts)
        assert at_once.by_device[channel].joules == near(truth, watts)
        after = measured.truth(channel, end, later)
        assert second.by_device[channel].joules == near(after, watts)
    assert first.coverage == second.coverage == 1.0


# ---- awkward waves -------------------------------------------------------------------------

# None is in step with a refresh period: of such a wave a sensor that only samples power may see
# nothing but peaks, for ever, and cannot know it.
WAVES = {
    "square": "square:50,350,0.317,0.5",
    "sine": "sine:200,150,0.53",
    "ramp": "ramp:50,350,6",
    "burst": "burst:60,380,0.257,0.04",
}
PEAK_WATTS = {"square": 350.0, "sine": 350.0, "ramp": 350.0, "burst": 380.0}
REFRESH_MS = (1, 20, 100)
LENGTHS_S = (0.02, 4.0)


@dataclass(frozen=True)
class Awkward:
    """Six seconds of every wave on every kind of sensor, and marks at random moments."""

    machine: Machine
    sensors: Mapping[str, tuple[str, float]]
    """Channel id to the name of its wave and the refresh period, s."""
    marks: Sequence[Mark]
    windows: Sequence[tuple[Mark, Mark]]

    def tick_joules(self, channel: str) -> float:
        """Return the most that the sensor can have left unsaid: one refresh period at the peak."""
        wave, refresh_s = self.sensors[channel]
        return PEAK_WATTS[wave] * refresh_s


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Awkward:
    """Measure counters and power readings of three refresh periods, and RAPL, all at once."""
    gpus: list[Gpu] = []
    sensors: dict[str, tuple[str, float]] = {}
    for energy, refresh_ms, (name, wave) in itertools.product(
        (True, False), REFRESH_MS, WAVES.items()
    ):
        sensors[f"gpu:{len(gpus)}"] = (name, refresh_ms / 1000)
        gpus.append(Gpu(power=wave, period_ms=refresh_ms, phase_ms=0.3 * refresh_ms, energy=energy))
    zones: dict[str, tuple[str, dict[str, Any]]] = {}
    for number, (name, wave) in enumerate(WAVES.items()):
        # Refreshed every millisecond, but by a process that a busy machine holds up.
        sensors[f"cpu:{number}"] = (name, 0.01)
        zones[f"cpu:{number}"] = (f"intel-rapl:{number}", {"wave": wave})
    tree = powercap_tree(len(WAVES), children=(), psys=False, mmio=False)
    chance = random.Random(20240607)
    moments = sorted(chance.uniform(0.1, 6.0) for _ in range(80))
    directory = tmp_path_factory.mktemp("awkward")
    with machine(directory, gpus=gpus, tree=tree, zones=zones) as measured:
        began = time.monotonic()
        marks = []
        for moment in moments:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            marks.append(measured.session.mark())
        measured.session.await_final(marks[-1], timeout_s=1.0)
    pairs = [
        (a, b)
        for a, b in itertools.combinations(marks, 2)
        if LENGTHS_S[0] <= (b.t_ns - a.t_ns) / 1e9 <= LENGTHS_S[1]
    ]
    return Awkward(measured, sensors, marks, chance.sample(pairs, 200))


def test_windows_lie_within_their_error(awkward: Awkward) -> None:
    inside = dict.fromkeys(awkward.sensors, 0)
    for start, end in awkward.windows:
        energy = awkward.machine.session.energy(start, end)
        for channel in awkward.sensors:
            part = energy.by_device[channel]
            error = abs(part.joules - awkward.machine.truth(channel, start, end))
            claimed = timing_error(awkward.machine, channel, part)
            inside[channel] += error <= claimed + awkward.tick_joules(channel)
    shares = {channel: count / len(awkward.windows) for channel, count in inside.items()}
    few = {channel: share for channel, share in shares.items() if share < 0.9}
    assert not few, {channel: (awkward.sensors[channel], share) for channel, share in few.items()}


def test_marks_add_up_to_the_microjoule(awkward: Awkward) -> None:
    session = awkward.machine.session
    whole = session.energy(awkward.marks[0], awkward.marks[-1])
    parts = [session.energy(a, b) for a, b in itertools.pairwise(awkward.marks)]
    assert math.fsum(part.joules for part in parts) == pytest.approx(whole.joules, abs=1e-6)
    for channel, device in whole.by_device.items():
        total = math.fsum(part.by_device[channel].joules for part in parts)
        assert total == pytest.approx(device.joules, abs=1e-6)
    for a, b, c in zip(awkward.marks, awkward.marks[1:], awkward.marks[2:], strict=False):
        halves = session.energy(a, b).joules + session.energy(b, c).joules
        assert halves == pytest.approx(session.energy(a, c).joules, abs=1e-6)


def test_long_windows_are_right_for_any_waveform(awkward: Awkward) -> None:
    start, end = awkward.marks[0], awkward.marks[-1]
    energy = awkward.machine.session.energy(start, end)
    for channel in awkward.sensors:
        entry = awkward.machine.session.entries[awkward.machine.index(channel)]
        truth = awkward.machine.truth(channel, start, end)
        assert energy.by_device[channel].quality == entry.quality
        if entry.is_counter:
            assert energy.by_device[channel].joules == pytest.approx(
                truth, abs=0.005 * truth + awkward.tick_joules(channel)
            )
        # Readings of power miss what happens between them: the error must say so.
        assert abs(energy.by_device[channel].joules - truth) <= energy.by_device[
            channel
        ].error_joules + awkward.tick_joules(channel)


# ---- counters that start again -------------------------------------------------------------


def test_row_3_a_reset_books_nothing(tmp_path: Path) -> None:
    reset_at_s = 1.0
    gpus = [
        Gpu(power="constant:200", period_ms=20, start_j=200_000, reset_at_s=reset_at_s),
        Gpu(power="constant:300", period_ms=20, start_j=200_000),
    ]
    falls = {"wave": "constant:150", "start_uj": 200_000_000_000, "reset_at_s": reset_at_s}
    steady = {"wave": "constant:90", "start_uj": 100_000_000_000}
    zones = {"cpu:0": ("intel-rapl:0", falls), "cpu:1": ("intel-rapl:1", steady)}
    tree = powercap_tree(2, children=(), psys=False, mmio=False)
    with machine(tmp_path, gpus=gpus, tree=tree, zones=zones) as measured:
        measured.sleep_until(0.4)
        start = measured.session.mark()
        measured.sleep_until(1.7)
        end = measured.session.mark()
        energy = measured.energy(start, end)
        session = measured.session
        resets = {entry.id: session.channel_stats(i) for i, entry in enumerate(session.entries)}
        takeovers = [(one.owner, one.why) for one in session.successions()]
    # A GPU's power bridges the gap, and its counter is believed again once they agree.
    assert ("gpu:0", "its counter was reset") in takeovers
    part, truth = energy.by_device["gpu:0"], measured.truth("gpu:0", start, end)
    assert part.joules == pytest.approx(truth, rel=0.03)
    assert part.coverage == 1.0
    for channel in ("gpu:0", "cpu:0"):
        stats = resets[channel]
        assert stats is not None
        assert stats.resets == 1
    for channel in ("cpu:0",):
        part, truth = energy.by_device[channel], measured.truth(channel, start, end)
        assert part.coverage < 1.0
        # What is lost is the time from the last good reading to the first that is believed again.
        assert part.joules == pytest.approx(truth, rel=0.15)
        assert part.joules <= truth + part.error_joules
        assert abs(part.joules - truth) <= part.error_joules
    for channel, watts in (("gpu:1", 300), ("cpu:1", 90)):
        part, truth = energy.by_device[channel], measured.truth(channel, start, end)
        assert part.joules == near(truth, watts)
        assert part.coverage == 1.0
    assert energy.coverage < 1.0


# ---- GPUs that go away ---------------------------------------------------------------------


def test_a_lost_gpu_is_missing_and_the_others_are_not(tmp_path: Path) -> None:
    for_a_while, for_good = f"{LOST}@0.8-1.5", f"{LOST}@0.8-end"
    gpus = [
        Gpu(power="constant:100", period_ms=20),
        Gpu(power="constant:200", period_ms=20, fail=for_a_while),
        Gpu(power="constant:300", period_ms=20, fail=for_good),
        Gpu(power="constant:250", period_ms=20, fail=for_good, energy=False),
        Gpu(power="constant:350", period_ms=20, energy=False),
        Gpu(power="step:100,300,0.85", period_ms=20, fail=for_a_while, energy=False),
    ]
    with machine(tmp_path, gpus=gpus) as measured:
        session = measured.session
        measured.sleep_until(0.4)
        start = session.mark()
        measured.sleep_until(1.4)
        during = session.mark()
        then = session.energy(start, during)
        measured.sleep_until(1.8)
        end = session.mark()
        measured.sleep_until(2.1)
        late = session.mark()
        energy = measured.energy(start, end, 0.2)
        after = measured.energy(end, late, 0.2)
        errors = {entry.id: session.channel_stats(i) for i, entry in enumerate(session.entries)}

    def truth(number: int, a: Mark = start, b: Mark = end) -> float:
        return measured.truth(f"gpu:{number}", a, b)

    for number, watts in ((0, 100), (4, 350)):
        assert energy.by_device[f"gpu:{number}"].joules == near(truth(number), watts)
        assert energy.by_device[f"gpu:{number}"].coverage == 1.0
    # A counter goes on counting while it cannot be read: once it is back, nothing is lost.
    assert energy.by_device["gpu:1"].joules == near(truth(1), 200)
    assert energy.by_device["gpu:1"].coverage == 1.0
    # A query in the middle states that it is not known.
    assert 0.0 < then.by_device["gpu:1"].coverage < 1.0
    for number, watts in ((2, 300), (3, 250)):
        part = energy.by_device[f"gpu:{number}"]
        assert 0.0 < part.coverage < 0.8
        assert 0.0 < part.joules < truth(number)
        assert abs(part.joules - truth(number)) <= part.error_joules + LATE_S * watts
    # Power that was not read is bridged, and what may be wrong with that is in the error.
    part = energy.by_device["gpu:5"]
    assert 1.0 < abs(part.joules - truth(5)) <= part.error_joules - 0.05 * part.joules
    for number in (1, 2, 3, 5):
        stats = errors[f"gpu:{number}"]
        assert stats is not None
        assert stats.errors > 0
    assert 0.0 < energy.coverage < 1.0
    # A window that begins after the loss knows nothing of the lost ones: missing is not zero.
    unknown = [name for name, part in after.by_device.items() if math.isnan(part.joules)]
    assert unknown == ["gpu:2", "gpu:3"]
    assert after.by_device["gpu:2"].quality == "missing"
    assert after.coverage_devices == pytest.approx(4 / 6)
    known = math.fsum(truth(number, end, late) for number in (0, 1, 4, 5))
    assert after.joules == near(known, 100 + 200 + 350 + 300)
    # They are weighed by their limits, of 400 W each, and may have drawn that.
    at_most = 2 * 400 * after.seconds
    assert after.unknown_joules_max == pytest.approx(at_most)
    assert after.coverage == pytest.approx(after.joules / (after.joules + at_most))
    assert after.quality == "incomplete"


def test_a_gpu_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    gpus = [Gpu(power="constant:100"), Gpu(fail_open=f"{LOST}@0-end"), Gpu(power="constant:300")]
    with machine(tmp_path, gpus=gpus) as measured:
        start = measured.session.mark()
        time.sleep(0.3)
        energy = measured.energy(start, measured.session.mark())
        missing = {absent.what: absent.reason for absent in measured.session.missing}
    assert sorted(energy.by_device) == ["gpu:0", "gpu:1", "gpu:2"]
    assert missing["gpu:1"] == "GPU is lost (15)"
    assert math.isnan(energy.by_device["gpu:1"].joules)
    assert energy.by_device["gpu:1"].quality == "missing"
    assert energy.quality == "incomplete"


# ---- power readings ------------------------------------------------------------------------


def test_power_and_counters_together_are_mixed(tmp_path: Path) -> None:
    """Readings that no board can draw are no readings."""
    gpus = [
        Gpu(power="constant:120", period_ms=20),
        Gpu(power="constant:80", period_ms=20, energy=False, bogus_w="65535@0.7-1.0"),
        Gpu(power="constant:240", energy=False, bogus_w=["4294967@0-0.2", "5001@1.1-1.15"]),
    ]
    with machine(tmp_path, gpus=gpus) as measured:
        measured.sleep_until(0.4)
        start = measured.session.mark()
        measured.sleep_until(1.4)
        end = measured.session.mark()
        energy = measured.energy(start, end)
        stats = [
            measured.session.channel_stats(i)
            for i, entry in enumerate(measured.session.entries)
            if entry.counted
        ]
    assert energy.quality in {"mixed", "incomplete"}
    for (channel, part), watts in zip(energy.by_device.items(), (120, 80, 240), strict=True):
        # Nothing is booked for the time of which nothing is known.
        known_joules = part.coverage * measured.truth(channel, start, end)
        assert part.joules == near(known_joules, watts)
        assert part.coverage > 0.5
    counted = energy.by_device["gpu:0"]
    assert (counted.quality, counted.coverage) == ("measured", 1.0)
    assert energy.modelled_joules == 0.0
    # How many of the others were read in those moments is up to the machine.
    assert stats[0] is not None
    assert stats[0].errors == 0


def test_a_power_above_the_limit_is_named(tmp_path: Path) -> None:
    """The source refuses it, and the user is told what it was."""
    board = Gpu(
        power="constant:20", period_ms=20, limit_w=300, max_w=350, energy=False, bogus_w="593@3-end"
    )
    with machine(tmp_path, gpus=[board]) as measured:
        measured.sleep_until(3.0)
        wanted = "readings up to 593 W refused: above the sensor's limit of 525 W"
        end = time.monotonic() + 30
        reasons: set[str] = set()
        while wanted not in reasons and time.monotonic() < end:
            time.sleep(0.05)
            reasons = {absent.reason for absent in measured.session.missing}
    assert wanted in reasons


# ---- which GPUs are ours -------------------------------------------------------------------

UUIDS = [
    "GPU-4e81d9a0-3c55-4f0e-9a3b-0d6f5b7c8e91",
    "GPU-4e81d9a0-7b12-4d6a-8c2f-51a9e3f40b7d",
    "GPU-c0a4f7e2-96d8-4b3e-b1f5-7e20d8c94a63",
]
MIG = [f"MIG-0{slot}{UUIDS[2][6:]}" for slot in range(2)]


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, [0, 1, 2]),
        (UUIDS[1], [1]),  # rows 1 and 13: a real UUID begins with a G and is no number
        (f"{UUIDS[2]},{UUIDS[0]}", [0, 2]),
        ("GPU-c0a4", [2]),
        ("GPU-4e81d9a0", []),  # two begin like this, so it means neither
        (MIG[0], [2]),
        (",".join(MIG), [2]),  # two instances, one board: its energy counts once
        (f"MIG-{UUIDS[2]}/1/0", [2]),
        ("2,0", [0, 2]),
        ("0,-1,1", [0]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_rows_1_and_13_visible_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, seen: list[int]
) -> None:
    gpus = [Gpu(uuid=UUIDS[0]), Gpu(uuid=UUIDS[1]), Gpu(uuid=UUIDS[2], mig=2)]
    with fake_nvml(tmp_path, gpus) as driver:
        for name, value in driver.environment.items():
            monkeypatch.setenv(name, value)
        config = Config(root=str(tmp_path), nvml_library=str(driver.library), visible_gpus=visible)
        session = Session.probe(config)
    assert [entry.id for entry in session.entries if not entry.standby_for] == [
        f"gpu:{number}" for number in seen
    ]
    reasons = [absent.reason for absent in session.missing if absent.what == "gpu"]
    assert reasons == (
        [] if seen else [f"CUDA_VISIBLE_DEVICES='{visible}' leaves no GPU to this process"]
    )


def test_only_visible_devices_are_counted(tmp_path: Path) -> None:
    gpus = [
        Gpu(uuid=UUIDS[0], power="constant:110", period_ms=20),
        Gpu(uuid=UUIDS[1], power="constant:220", period_ms=20),
        Gpu(uuid=UUIDS[2], power="constant:330", period_ms=20, mig=2),
    ]
    with machine(tmp_path, gpus=gpus, visible_gpus=",".join(MIG)) as measured:
        time.sleep(0.3)
        start = measured.session.mark()
        time.sleep(0.5)
        end = measured.session.mark()
        energy = measured.energy(start, end)
    assert list(energy.by_device) == ["gpu:2"]
    assert energy.joules == near(measured.truth("gpu:2", start, end), 330)


# ---- what cannot be read -------------------------------------------------------------------

UNPRIVILEGED = """
import json, os, sys, time
import carbontracker.training.window
from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release
# The tests' directories are closed to others, so the pretended machine is the working directory.
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
session = acquire(Config(root=".", nvml_library="/nonexistent/libnvidia-ml.so.1"))
start = session.mark()
time.sleep(0.5)
end = session.mark()
session.await_final(end)
energy = session.energy(start, end)
release(session)
print(json.dumps({
    "missing": [[m.source, m.what, m.reason, m.remedy] for m in session.missing],
    "quality": energy.quality,
    "joules": energy.joules,
    "modelled_joules": energy.modelled_joules,
    "error_joules": energy.error_joules,
    "devices": {id: part.quality for id, part in energy.by_device.items()},
}))
"""


def run_python(
    code: str, *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Any:
    """Run a script in a process of its own and return the JSON value that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | (environment or {}),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_unreadable_counters_are_named_with_the_remedy(tmp_path: Path) -> None:
    tree: dict[str, Any] = powercap_tree(1, children=("dram",), psys=False, mmio=False)
    for zone in ("intel-rapl:0", "intel-rapl:0:0"):
        tree[energy_key(zone)] = Mode("123456\n", 0o000)
    tree |= processor_tree("Intel(R) Xeon(R) Gold 6330 CPU @ 2.00GHz")
    root = fake_host(tmp_path, tree)
    found = run_python(UNPRIVILEGED, cwd=root)
    denied = {
        what: (reason, remedy)
        for source, what, reason, remedy in found["missing"]
        if source == "powercap"
    }
    assert sorted(denied) == ["cpu:0 (package-0)", "dram:0 (package-0 dram)"]
    for reason, remedy in denied.values():
        assert "permission denied (EACCES)" in reason
        assert remedy.startswith("sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj")
    # What is reported instead is an estimate and nothing else.
    assert found["devices"] == {"cpu:0": "modelled", "dram:0": "modelled"}
    assert found["quality"] == "modelled"
    assert found["modelled_joules"] == found["joules"] > 0.0
    assert found["error_joules"] >= 0.4 * found["joules"]


def test_hidden_counters_and_a_missing_driver_are_explained(tmp_path: Path) -> None:
    masked = {"sys/class/powercap/intel-rapl:0": Link("../../devices/virtual/powercap/masked")}
    hidden = fake_host(tmp_path, masked)
    session = Session.probe(
        Config(root=str(hidden), nvml_library=str(tmp_path / "libnvidia-ml.so.1"))
    )
    assert session.entries == []
    missing = {absent.source: absent for absent in session.missing}
    assert "holds no readable RAPL zone" in missing["powercap"].reason
    assert "CARBONTRACKER_ROOT=/host" in missing["powercap"].remedy
    assert "no NVIDIA GPU was found" in missing["nvml"].reason
    assert "proc/stat" in missing["cpu_load"].reason
    bare = Session.probe(Config(root=str(tmp_path / "nowhere"), nvml_library="/nonexistent"))
    reasons = [absent.reason for absent in bare.missing if absent.source == "powercap"]
    assert ["Intel or AMD processor" in reason for reason in reasons] == [True]


def test_a_machine_where_nothing_can_be_read_reports_nothing(tmp_path: Path) -> None:
    with machine(tmp_path) as measured:
        start = measured.session.mark()
        energy = measured.energy(start, measured.session.mark())
    assert math.isnan(energy.joules)
    assert math.isnan(energy.error_joules)
    assert energy.quality == "missing"
    assert energy.coverage == 0.0


# ---- the estimate --------------------------------------------------------------------------

SERVER = "Intel(R) Xeon(R) Gold 6330 CPU @ 2.00GHz"
SERVER_TDP = 205.0
GIB = 64


def line(idle: float, full: float, utilisation: float) -> float:
    """Return the watts of a machine that draws so much when idle and when fully busy."""
    return idle + (full - idle) * utilisation


def test_the_estimate_follows_its_formula_and_is_labelled(tmp_path: Path) -> None:
    """P = idle + (full - idle) * utilisation, as cpp/src/sources/cpu_load.cpp documents it."""
    server = processor_tree(SERVER, sockets=2, cores=28, threads=2)
    unknown = processor_tree("Mystery 9000", cores=4, threads=2, codes=NO_CODES)
    guest = processor_tree(SERVER, cores=4, threads=2, flags="fpu vme tsc hypervisor msr")
    trees = {"idle": server, "busy": server, "unknown": unknown, "guest": guest}
    # Two sockets; eight logical CPUs of no known model; 8 of the 56 threads of one socket.
    cpu_watts = {
        "idle": line(0.2, 0.9, 0.0) * 2 * SERVER_TDP,
        "busy": line(0.2, 0.9, 0.75) * 2 * SERVER_TDP,
        "unknown": line(0.74, 3.5, 0.0) * 8,
        "guest": line(0.2, 0.9, 0.0) * SERVER_TDP * 8 / 56,
    }
    roots = {name: fake_host(tmp_path / name, tree) for name, tree in trees.items()}
    over = threading.Event()

    def play() -> None:
        """Let all counters go on, as kernels do; one machine is busy in 3 of 4 ticks."""
        step = 0
        while not over.wait(0.02):
            step += 1
            for name, root in roots.items():
                busy = 3 if name == "busy" else 0
                text = proc_stat(4, 1_000 + busy * step, 9_000 + (4 - busy) * step)
                # In place, as a kernel shows it: the file stays open.
                with (root / "proc/stat").open("r+") as file:
                    file.write(text)

    sessions = {}
    player = threading.Thread(target=play)
    player.start()
    try:
        for name, root in roots.items():
            sessions[name] = acquire(Config(root=str(root), nvml_library="/nonexistent"))
        marks: dict[str, list[Mark]] = {name: [] for name in sessions}
        for pause_s in (0.5, 1.2):
            time.sleep(pause_s)
            for name, session in sessions.items():
                marks[name].append(session.mark())
        energies = {
            name: (session.await_final(marks[name][1]), session.energy(*marks[name]))[1]
            for name, session in sessions.items()
        }
    finally:
        over.set()
        player.join()
        for session in sessions.values():
            release(session)
    for name, energy in energies.items():
        start, end = marks[name]
        seconds = (end.t_ns - start.t_ns) / 1e9
        cpu, dram = energy.by_device["cpu:0"], energy.by_device["dram:0"]
        assert cpu.joules == pytest.approx(cpu_watts[name] * seconds, rel=0.01)
        # Modules of 32 GiB, half way between idle and busy whatever the processor does.
        memory_watts = GIB / 32 * (3.0 + 10.0) / 2
        assert dram.joules == pytest.approx(memory_watts * seconds, rel=0.01)
        assert energy.quality == "modelled"
        assert energy.modelled_joules == energy.joules
        assert cpu.error_joules >= 0.4 * cpu.joules
        assert dram.error_joules >= 0.6 * dram.joules
    details = {name: session.entries[0].detail for name, session in sessions.items()}
    assert all(detail.startswith("modelled: ") for detail in details.values())
    assert "TDP of 205.0 W" in details["busy"]
    assert "no TDP known for 'Mystery 9000'" in details["unknown"]
    assert "of this virtual machine being 14.3 %" in details["guest"]


@pytest.mark.parametrize(("children", "modelled"), [((), ["dram:0"]), (("dram",), [])])
def test_the_estimate_steps_aside_for_a_counter(
    tmp_path: Path, children: tuple[str, ...], modelled: list[str]
) -> None:
    tree: dict[str, Any] = powercap_tree(1, children=children, psys=False, mmio=False)
    tree |= processor_tree(SERVER)
    zones: dict[str, tuple[str, dict[str, Any]]] = {
        "cpu:0": ("intel-rapl:0", {"wave": "constant:90"})
    }
    if children:
        zones["dram:0"] = ("intel-rapl:0:0", {"wave": "constant:30"})
    with machine(tmp_path, tree=tree, zones=zones) as measured:
        time.sleep(0.3)
        start = measured.session.mark()
        time.sleep(0.5)
        end = measured.session.mark()
        energy = measured.energy(start, end)
        aside = [m for m in measured.session.missing if m.source == "cpu_load"]
    assert sorted(energy.by_device) == ["cpu:0", "dram:0"]
    estimates = [name for name, part in energy.by_device.items() if part.quality == "modelled"]
    assert estimates == modelled
    assert energy.quality == ("mixed" if modelled else "measured")
    estimated = math.fsum(energy.by_device[name].joules for name in modelled)
    assert energy.modelled_joules == estimated
    for channel in zones:
        truth = measured.truth(channel, start, end)
        assert energy.by_device[channel].joules == near(truth, 90)
    assert "an estimate, not needed: cpu:0 is measured" in [absent.reason for absent in aside]


# ---- other processes -----------------------------------------------------------------------

MEASURE_UNTIL_TOLD = """
import json, sys
from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release
session = acquire(Config(**json.loads(sys.argv[1])))
start = session.mark()
print("ready", flush=True)
sys.stdin.readline()
end = session.mark()
session.await_final(end, timeout_s=2.0)
energy = session.energy(start, end)
release(session)
print(json.dumps({
    "marks": [start.t_ns, end.t_ns],
    "devices": {id: [part.joules, part.coverage] for id, part in energy.by_device.items()},
}))
"""


def test_a_stopped_process_loses_nothing(tmp_path: Path) -> None:
    """The counters go on while the process stands still, and are read when it goes on too."""
    gpus = [
        Gpu(power="square:100,300,0.4,0.5", period_ms=20),
        Gpu(power="constant:150", period_ms=20, energy=False),
    ]
    root = fake_host(tmp_path, powercap_tree(1, children=(), psys=False, mmio=False))
    moving = [counter(root, "intel-rapl:0", "square:40,120,0.5,0.5")]
    with fake_nvml(tmp_path, gpus) as driver, running_powercap(tmp_path, moving) as powercap:
        config = {"root": str(root), "nvml_library": str(driver.library)}
        with subprocess.Popen(
            [sys.executable, "-c", MEASURE_UNTIL_TOLD, json.dumps(config)],
            env=os.environ | driver.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.4)
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.2)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.4)
            process.stdin.write("\n")
            process.stdin.close()
            found = json.loads(process.stdout.read())
    start_ns, end_ns = found["marks"]
    truth = {f"gpu:{number}": driver.truth(number, start_ns, end_ns) for number in range(2)}
    truth["cpu:0"] = powercap.truth(0, start_ns, end_ns)
    assert set(found["devices"]) == set(truth)
    for channel, (joules, coverage) in found["devices"].items():
        assert joules == near(truth[channel], 300)
        assert coverage == 1.0


MEASURE_WINDOW = """
import json, time
import carbontracker
with carbontracker.measure("outer") as outer:
    time.sleep(0.3)
    with carbontracker.measure("inner") as inner:
        time.sleep(0.8)
outer.wait(2.0)
print(json.dumps([
    {
        "seconds": window.seconds,
        "joules": window.energy.joules,
        "devices": {id: part.joules for id, part in window.energy.by_device.items()},
        "kwh": window.footprint.kwh,
        "pue": window.footprint.pue,
        "final": window.final,
    }
    for window in (outer, inner)
]))
"""


@contextmanager
def steady_machine(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run a machine of 250 W GPU and 100 W package; yield the environment that leads to it."""
    root = fake_host(tmp_path, powercap_tree(1, children=(), psys=False, mmio=False))
    moving = [counter(root, "intel-rapl:0", "constant:100")]
    gpus = [Gpu(power="constant:250", period_ms=20)]
    with fake_nvml(tmp_path, gpus) as driver, running_powercap(tmp_path, moving):
        yield driver.environment | {
            "CARBONTRACKER_ROOT": str(root),
            "CARBONTRACKER_NVML": str(driver.library),
        }


def test_windows_find_the_machine_in_the_environment(tmp_path: Path) -> None:
    with steady_machine(tmp_path) as environment:
        outer, inner = run_python(MEASURE_WINDOW, environment=environment)
    for window in (outer, inner):
        assert window["final"]
        assert window["devices"]["gpu:0"] == near(250 * window["seconds"], 250)
        assert window["devices"]["cpu:0"] == near(100 * window["seconds"], 100)
        assert window["joules"] == pytest.approx(sum(window["devices"].values()))
        assert window["kwh"] == pytest.approx(window["joules"] * window["pue"] / 3.6e6)


def test_the_command_line_reports_the_program(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import time; time.sleep(1)"]
    options = ["--json", "-", "--quiet", "--no-record", "--pue", "1.2", "--intensity", "300"]
    with steady_machine(tmp_path) as environment:
        done = subprocess.run(
            [sys.executable, "-m", "carbontracker", "run", *options, "--", *program],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for channel, watts in (("gpu:0", 250), ("cpu:0", 100)):
        joules = result["by_device"][channel]["joules"]
        assert joules == near(watts * result["seconds"], watts)
    assert result["quality"] == "measured"
    assert result["coverage"] == 1.0
    assert result["kwh"] == pytest.approx(result["joules"] * 1.2 / 3.6e6)
    assert result["gco2eq"] == pytest.approx(300 * result["kwh"])
    assert done.stderr == ""
