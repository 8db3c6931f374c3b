"""Marks that wait for the accelerator, if the user wants that."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.tracker import CarbonTracker
from carbontracker.training.synchronization import Synchronizer
from tests.support.programs import DEVICES, hide_sensors

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def make(**arguments: Any) -> CarbonTracker:
    return CarbonTracker(2, **DEVICES | {"verbose": 0} | arguments)


def test_ends_of_epochs_windows_and_phases_wait_and_steps_do_not() -> None:
    waits: list[str] = []
    tracker = make(sync=lambda: waits.append("wait"))
    counts = []

    def count() -> None:
        counts.append(len(waits))
        waits.clear()

    count()  # made
    tracker.epoch_start()
    count()
    for _ in range(1000):
        tracker.step()
    count()
    with tracker.window("forward"):
        count()
    count()
    with tracker.phase("validation"):
        count()
    count()
    tracker.epoch_end()
    count()
    assert counts == [0, 1, 0, 1, 1, 1, 1, 1]
    tracker.stop()


def test_what_was_queued_counts_before_the_mark() -> None:
    """A device that works while Python goes on: its work is in the epoch that queued it."""
    queued: list[float] = []

    def wait() -> None:
        import time

        for seconds in queued:
            time.sleep(seconds)
        queued.clear()

    tracker = make(sync=wait)
    for work in (0.3, 0.0):
        tracker.epoch_start()
        queued.append(work)
        tracker.epoch_end()
    assert tracker.result is not None
    first, second = tracker.result.epochs
    assert first.seconds >= 0.3
    assert second.seconds < 0.3


def test_a_function_that_fails_is_called_once_and_named(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def fails() -> None:
        calls.append(1)
        raise OSError("device lost")

    tracker = make(sync=fails)
    for _ in range(2):
        tracker.epoch_start()
        tracker.epoch_end()
    assert calls == [1]
    assert tracker.result is not None
    assert tracker.result.finished_epochs == 2
    (record,) = caplog.records
    assert record.message == (
        "carbontracker: marks do not wait for the accelerator any more: device lost; work that is "
        "queued before a mark may count after it"
    )


@pytest.mark.parametrize("sync", ["tensorflow", 1, ""])
def test_what_cannot_wait_is_refused(sync: object) -> None:
    with pytest.raises(ValueError, match="sync must be torch or jax or a function"):
        make(sync=sync)


def test_a_framework_that_is_not_imported_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "jax"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        Synchronizer(name)()
        assert name not in sys.modules


def test_torch_waits_for_the_backends_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark must not begin to use a device that the program does not use."""
    waits: list[str] = []

    def backend(name: str, used: bool) -> SimpleNamespace:
        return SimpleNamespace(is_initialized=lambda: used, synchronize=lambda: waits.append(name))

    torch = ModuleType("torch")
    torch.__dict__.update(
        cuda=backend("cuda", used=True),
        xpu=backend("xpu", used=False),
        backends=SimpleNamespace(mps=None),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    Synchronizer("torch")()
    assert waits == ["cuda"]


def test_jax_waits_for_each_local_device(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[str] = []

    class Value:
        def __init__(self, device: str) -> None:
            self.device = device

        def __add__(self, _: int) -> Value:
            return self

        def block_until_ready(self) -> None:
            waits.append(self.device)

    jax = ModuleType("jax")
    jax.__dict__.update(
        local_devices=lambda: ["cpu:0", "cpu:1"], device_put=lambda _, device: Value(device)
    )
    monkeypatch.setitem(sys.modules, "jax", jax)
    Synchronizer("jax")()
    assert waits == ["cpu:0", "cpu:1"]
