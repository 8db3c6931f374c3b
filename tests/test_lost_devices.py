"""Devices that are lost, stand still, come back or were never there: every view reports them."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from carbontracker.energy import sensor_events
from carbontracker.energy.sensor_events import SensorEvent
from carbontracker.records.reader import read_runs
from carbontracker.report.sentences import SensorEventLines
from carbontracker.tracker import CarbonTracker
from tests.support.build import build
from tests.support.fakehost import fake_host
from tests.support.running import Gpu, fake_nvml

if TYPE_CHECKING:
    from pathlib import Path

    from carbontracker.energy.energy import Energy
    from carbontracker.model.result import Result
    from tests.support.running import FakeNvml

LOST = 15
"""NVML_ERROR_GPU_IS_LOST."""
LIMIT_W = 400.0
FAULT_S = 4.0
"""After the driver's zero: time enough to begin a training on a busy machine."""
LATE_S = 0.5
PATIENCE_S = 120.0

GOOD, GONE, BACK, NEVER, STUCK = (f"gpu:{n}" for n in range(5))
BOARDS = [
    Gpu(power="constant:100", period_ms=20),
    Gpu(power="constant:300", period_ms=20, fail=f"{LOST}@{FAULT_S}-end"),
    Gpu(
        power="constant:200",
        period_ms=20,
        fail=[f"{LOST}@{FAULT_S}-{FAULT_S + 3}", f"{LOST}@{FAULT_S + 6}-{FAULT_S + 9}"],
    ),
    Gpu(power="constant:250", fail_open=f"{LOST}@0-end"),
    Gpu(power="constant:150", period_ms=20, usage=False, fields=False, stuck_at_s=FAULT_S),
]


class Trained:
    """A training on those boards, and what it left."""

    def __init__(self, driver: FakeNvml, result: Result, told: str, records: Path) -> None:
        (path,) = records.glob("*.jsonl")
        self.driver = driver
        self.result = result
        self.told = told
        self.path = path
        self.events = [json.loads(line) for line in path.read_text().splitlines()]
        (self.run,) = read_runs(path)
        series = next(event for event in self.events if event["event"] == "series")
        self.began_ns: int = series["t0_ns"] - round(series["start_s"] * 1e9)
        self.fault_s = FAULT_S - (self.began_ns - driver.epoch_ns) / 1e9
        """When the first fault is, s after monitoring began."""

    def of(self, event: str, device: str) -> list[dict[str, Any]]:
        """Return these events of a device."""
        return [e for e in self.events if e["event"] == event and e["id"] == device]

    def part(self, device: str) -> Energy:
        """Return the energy of a device."""
        return self.result.energy.by_device[device]

    def truth(self, device: str, from_s: float, to_s: float) -> float:
        """Return its true joules between two moments, s after monitoring began."""
        a, b = (self.began_ns + round(seconds * 1e9) for seconds in (from_s, to_s))
        return self.driver.truth(int(device[4:]), a, b)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train in short epochs until all that is to happen is in the record."""
    tmp_path = tmp_path_factory.mktemp("lost")
    build(tmp_path.parent / "c-doubles")  # before the waves begin: compiling takes a while
    records, told = tmp_path / "records", tmp_path / "told"
    with (
        fake_nvml(tmp_path, BOARDS) as driver,
        pytest.MonkeyPatch.context() as environment,
        told.open("w+") as stderr,
    ):
        for name, value in driver.environment.items():
            environment.setenv(name, value)
        environment.setenv("CARBONTRACKER_NVML", str(driver.library))
        environment.setenv("CARBONTRACKER_ROOT", str(fake_host(tmp_path, {})))
        environment.setenv("CARBONTRACKER_DIR", str(records))
        environment.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        environment.setattr("sys.stderr", stderr)
        result = train(records)
        told_text = told.read_text()
    return Trained(driver, result, told_text, records)


def train(records: Path) -> Result:
    tracker = CarbonTracker(epochs=10_000, monitor_epochs=-1, epochs_before_pred=0)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        tracker.epoch_start()
        time.sleep(0.5)
        tracker.epoch_end()
        written = next(records.glob("*.jsonl")).read_text()
        losses = re.findall(r'"sensor_(?:lost|returned)"[^\n]*"id": ?"(gpu:\d)"', written)
        if losses.count(BACK) == 4 and {GONE, STUCK} <= set(losses):
            break
    tracker.stop()
    result = tracker.result
    assert result is not None
    return result


def test_each_device_is_reported_when_it_is_lost_and_when_it_is_read_again(
    trained: Trained,
) -> None:
    assert not trained.of("sensor_lost", GOOD)
    (gone,) = trained.of("sensor_lost", GONE)
    (stuck,) = trained.of("sensor_lost", STUCK)
    assert gone["why"] == "it does not answer"
    assert stuck["why"] == "its counter stands still"
    assert len(trained.of("sensor_lost", BACK)) == 2
    assert len(trained.of("sensor_returned", BACK)) == 2
    for event in (gone, stuck, *trained.of("sensor_lost", BACK)[:1]):
        # Known up to the last change before it happened, which a busy machine may read late.
        assert event["seconds_after_start"] <= trained.fault_s + LATE_S
    for device, times in ((GONE, 1), (STUCK, 1), (BACK, 2)):
        lines = [line for line in trained.told.splitlines() if f"{device} is not read from" in line]
        assert len(lines) == times
    assert trained.told.count(f"{BACK} is read again from") == 2
    assert f"{NEVER} is not read from" not in trained.told  # the start reported it
    assert f"{NEVER} (GPU is lost (15)): not read, and not in the total" in trained.told


def test_known_energy_is_exact_and_the_unknown_part_is_a_separate_figure(trained: Trained) -> None:
    seconds = trained.result.seconds
    for device in (GOOD, BACK):  # a counter goes on counting while it cannot be read
        part = trained.part(device)
        assert part.coverage == pytest.approx(1.0, abs=0.01)
        assert part.joules == pytest.approx(trained.truth(device, 0, seconds), rel=0.02)
    for device in (GONE, STUCK):
        part = trained.part(device)
        (lost,) = trained.of("sensor_lost", device)
        known_s = lost["seconds_after_start"]
        assert part.coverage == pytest.approx(known_s / seconds, abs=0.02)
        truth = trained.truth(device, 0, known_s)
        late = trained.truth(device, 0, LATE_S)
        assert part.joules == pytest.approx(truth, abs=0.03 * truth + late)
        assert part.unknown_joules_max == pytest.approx(LIMIT_W * (seconds - known_s), rel=0.05)
    never = trained.part(NEVER)
    assert never.coverage == 0.0
    assert never.unknown_joules_max == pytest.approx(LIMIT_W * seconds, rel=0.01)
    whole = trained.result.energy
    assert whole.quality == "incomplete"
    parts = whole.by_device.values()
    assert whole.unknown_joules_max == pytest.approx(sum(p.unknown_joules_max for p in parts))
    assert whole.error_joules >= max(p.error_joules for p in parts if p.joules > 0)
    assert 0 < whole.coverage < 1
    assert 0 < whole.coverage_devices < 1


def test_the_end_names_each_in_the_console_and_in_every_report(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, card = tmp_path / "page.html", tmp_path / "card.md"
    outputs = ["--html", str(page), "--markdown", str(card)]
    assert main(["report", str(trained.path), *outputs]) == 0
    assert main(["report", str(trained.path)]) == 0
    told_at_once = trained.told + capsys.readouterr().out
    for told in (told_at_once, page.read_text(), card.read_text()):
        plain = " ".join(told.split())
        assert f"1 GPU not counted: {NEVER}" in plain
        for device in (GONE, STUCK):
            assert re.search(rf"{device}: known for \d+ %; the total lacks the rest", plain)
        assert re.search(rf"plus at most [\d.]+ [mk]?J of {GONE}", plain)
        assert re.search(rf"[\d.]+ [mk]?J of {NEVER}", plain)
        assert f"{GOOD}: known for" not in plain


def test_the_record_has_the_events_as_documented(trained: Trained) -> None:
    assert main(["check", str(trained.path)]) == 0
    assert trained.run.energy.quality == "incomplete"
    assert trained.run.energy.unknown_joules_max == pytest.approx(
        trained.result.energy.unknown_joules_max
    )
    (gone,) = [p for name, p in trained.run.energy.by_device.items() if name == GONE]
    assert gone.unknown_joules_max > 0


def test_a_device_that_fails_and_returns_causes_a_few_lines() -> None:
    """And of the one beside it as many as there are."""
    lines = SensorEventLines()
    said = []
    for second in range(1000):
        event = sensor_events.LOST if second % 2 == 0 else sensor_events.RETURNED
        said += lines.of(SensorEvent(event, {"id": "gpu:0", "seconds_after_start": second}), [])
    assert 10 < len(said) < 50
    assert "gpu:0: further events are only in the record" in said[-1]
    beside = SensorEvent(
        sensor_events.LOST, {"id": "gpu:1", "seconds_after_start": 5.0, "why": "it is gone"}
    )
    (line,) = lines.of(beside, [])
    assert line.startswith("gpu:1 is not read from 5.0 s")
