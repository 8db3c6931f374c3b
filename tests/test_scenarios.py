"""What went wrong elsewhere and must not here: one test a row of a list of observed defects.

The rows that are about joules of one sensor (1, 2, 3, 8, 9, 10, 13) are in ``test_truth.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import carbontracker
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import acquire, release
from carbontracker.tracker import CarbonTracker
from tests.support.fakehost import Gpu, cpuinfo, fake_host, fake_nvml, meminfo, proc_stat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

TIMEOUT_S = 60


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a machine without sensors: a processor of known name, memory, and nothing else."""
    root = fake_host(
        tmp_path,
        {
            "proc/cpuinfo": cpuinfo("Intel(R) Xeon(R) Gold 6330 CPU @ 2.00GHz"),
            "proc/meminfo": meminfo(16),
            "proc/stat": proc_stat(8, 1_000, 9_000),
        },
    )
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(root))
    monkeypatch.setenv("CARBONTRACKER_NVML", str(tmp_path / "libnvidia-ml.so.1"))
    return root


def run(
    program: list[str], cwd: Path, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own; it must end with ``code``."""
    done = subprocess.run(
        program,
        env=os.environ | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def events(directory: Path) -> list[dict[str, Any]]:
    """Return all lines of all records in a directory."""
    return [
        json.loads(line)
        for path in sorted(directory.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


# ---- processes -----------------------------------------------------------------------------

FORK = """
import json, os, sys, time, warnings
warnings.simplefilter("ignore")  # of forking with threads, which is the point
import carbontracker
from carbontracker.tracker import CarbonTracker

tracker = CarbonTracker(epochs=2, verbose=0, sim_gpu="A", sim_gpu_watts=200, sim_gpu_util=1,
                        components="gpu")
tracker.epoch_start()
with carbontracker.measure("before") as before:
    time.sleep(0.2)
child = os.fork()
if child == 0:
    tracker.epoch_end()
    tracker.stop()
    other = CarbonTracker(epochs=1, verbose=0, sim_gpu="A", sim_gpu_watts=200, sim_gpu_util=1,
                          components="gpu")
    other.epoch_start()
    time.sleep(0.05)
    other.epoch_end()
    assert before.energy.quality == "missing", before.energy
    sys.exit(0)  # by way of everything that runs at exit
_, status = os.waitpid(child, 0)
tracker.epoch_end()
tracker.stop()
print(json.dumps([os.waitstatus_to_exitcode(status), tracker.result.energy.joules,
                  tracker.result.seconds]))
"""


def test_row_4_a_forked_child_leaves_its_parents_run_alone(bare: Path, tmp_path: Path) -> None:
    records = tmp_path / "of-the-run"
    done = run([sys.executable, "-c", FORK], tmp_path, CARBONTRACKER_DIR=str(records))
    status, joules, seconds = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    assert joules == pytest.approx(200 * seconds, rel=0.02)
    by_run: dict[str, list[dict[str, Any]]] = {}
    for event in events(records):
        by_run.setdefault(event["run_id"], []).append(event)
    # The run is recorded once, by the process that measured it.
    for run_events in by_run.values():
        names = [event["event"] for event in run_events]
        assert [names.count(once) for once in ("run_started", "epoch", "run_finished")] == [1] * 3
    # A tracker that the child made for itself is another run, and a part of the first one.
    of_parent, of_child = sorted(by_run.values(), key=lambda one: one[0]["parent_run_id"] or "")
    assert of_child[0]["parent_run_id"] == of_parent[0]["run_id"]
    assert of_parent[-1]["energy"]["joules"] == pytest.approx(joules)
    ended = of_child[-1]
    assert ended["energy"]["joules"] == pytest.approx(200 * ended["seconds"], rel=0.02)


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_row_12_the_exit_status_is_that_of_the_program(
    bare: Path, tmp_path: Path, code: int
) -> None:
    command = [sys.executable, "-c", f"import sys; print('out'); sys.exit({code})"]
    options = ["--no-record", "--quiet"]
    done = run(
        [sys.executable, "-m", "carbontracker", *options, "--", *command], tmp_path, code=code
    )
    assert done.stdout == "out\n"


def test_row_12_a_program_that_a_signal_ends(bare: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"]
    run([sys.executable, "-m", "carbontracker", "--no-record", *command], tmp_path, code=128 + 15)


CLEAN_IMPORT = """
import importlib, importlib.abc, json, pkgutil, sys

ALLOWED = {"carbontracker", "numpy", "platformdirs"}

class OnlyWhatIsDeclared(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in ALLOWED or top in sys.stdlib_module_names:
            return None
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

# What a site's start-up has loaded already would hide a missing dependency.
for name in list(sys.modules):
    if name.partition(".")[0] not in ALLOWED | sys.stdlib_module_names | {"__main__"}:
        del sys.modules[name]
sys.meta_path.insert(0, OnlyWhatIsDeclared())

import carbontracker
names = [m.name for m in pkgutil.walk_packages(carbontracker.__path__, "carbontracker.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps([len(names), [name for name in carbontracker.__all__
                               if getattr(carbontracker, name) is None]]))
"""


def test_row_11_every_module_imports_on_a_clean_install(tmp_path: Path) -> None:
    """With what the package declares, and no network library or anything else besides."""
    done = run([sys.executable, "-c", CLEAN_IMPORT], tmp_path)
    modules, absent = json.loads(done.stdout)
    assert modules > 20
    assert absent == []
    assert done.stderr == ""


# ---- windows and trackers ------------------------------------------------------------------


def test_row_5_windows_within_a_run_take_nothing_from_it(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nested and overlapping windows are marks on one time: the run keeps its own length."""
    # Power, because the sum of a constant one is exact however late it is read.
    gpus = [Gpu(power="constant:200", energy=False)]
    with fake_nvml(tmp_path, gpus) as driver:
        for name, value in driver.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CARBONTRACKER_NVML", str(driver.library))
        began = time.monotonic_ns()
        tracker = CarbonTracker(epochs=2, verbose=0, components="gpu")
        windows = []
        for _ in range(2):
            tracker.epoch_start()
            with carbontracker.measure("outer") as outer:
                time.sleep(0.1)
                with carbontracker.measure("inner") as inner:
                    time.sleep(0.2)
                late = carbontracker.measure("overlapping").__enter__()
                time.sleep(0.1)
            time.sleep(0.1)
            late.__exit__(None, None, None)
            tracker.epoch_end()
            windows.append((outer, inner, late))
        tracker.stop()
        ended = time.monotonic_ns()
        result = tracker.result
        assert result is not None
        for window in (window for group in windows for window in group):
            window.wait(1.0)
            joules = window.energy.by_device["gpu:0"].joules
            assert joules == pytest.approx(200 * window.seconds, rel=0.01)
    assert len(result.epochs) == 2
    assert result.seconds <= (ended - began) / 1e9
    assert result.energy.joules == pytest.approx(200 * result.seconds, rel=0.01)
    for epoch, (outer, inner, late) in zip(result.epochs, windows, strict=True):
        assert epoch.seconds >= outer.seconds >= inner.seconds
        assert epoch.seconds >= late.seconds
        assert epoch.seconds >= 0.5  # the sleeps in it
        assert epoch.energy.joules == pytest.approx(200 * epoch.seconds, rel=0.01)


@pytest.mark.parametrize("rate_hz", [1000.0, 100.0, 10.0, 0.0])
def test_row_6_a_constant_source_is_exact_at_any_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate_hz: float
) -> None:
    """The time that readings take is part of the time that they measure."""
    gpus = [
        # Slow calls, whose time a reader that stamps only their end would lose.
        Gpu(power="constant:200", latency_us=300),
        Gpu(power="constant:150", latency_us=300, energy=False),
    ]
    root = tmp_path / "empty"
    root.mkdir()
    with fake_nvml(tmp_path, gpus) as driver:
        for name, value in driver.environment.items():
            monkeypatch.setenv(name, value)
        session = acquire(
            Config(
                root=str(root),
                nvml_library=str(driver.library),
                simulated=(SimulatedDevice("cpu", "A", "constant:120"),),
                rate_hz=rate_hz,
                overhead_budget=0.0,
            )
        )
        try:
            time.sleep(0.15)
            start = session.mark()
            time.sleep(0.7)
            end = session.mark()
            session.await_final(end, timeout_s=1.0)
            energy = session.energy(start, end)
        finally:
            release(session)
    seconds = (end.t_ns - start.t_ns) / 1e9
    # A counter's moment is as sure as the call is short on a busy machine; a sum of power, and a
    # formula, are exact but for the milliwatts and microjoules that they are counted in.
    watts = {"cpu:0": (120, 0.0005), "gpu:0": (200, 0.02), "gpu:1": (150, 0.0005)}
    assert set(energy.by_device) == set(watts)
    for channel, (expected, within) in watts.items():
        joules = energy.by_device[channel].joules
        assert joules == pytest.approx(expected * seconds, rel=within)


# ---- labels --------------------------------------------------------------------------------


def test_row_7_nothing_is_called_measured_where_there_is_no_sensor(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tmp_path / "of-the-run"
    monkeypatch.setenv("CARBONTRACKER_DIR", str(records))
    tracker = CarbonTracker(epochs=1, verbose=0)
    tracker.epoch_start()
    with carbontracker.measure("epoch") as window:
        time.sleep(0.4)
    tracker.epoch_end()
    window.wait(1.0)
    result = tracker.result
    assert result is not None
    for energy in (window.energy, result.energy):
        assert energy.quality == "modelled"
        assert energy.modelled_joules == energy.joules > 0.0
        assert {part.quality for part in energy.by_device.values()} == {"modelled"}
        # An estimate of TDP and utilisation is good to 40 % and says so.
        assert energy.by_device["cpu:0"].error_joules >= 0.4 * energy.by_device["cpu:0"].joules
    text = "".join(json.dumps(event) for event in events(records))
    assert '"modelled"' in text
    assert '"measured"' not in text


def test_row_7_the_command_line_states_modelled(bare: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(0.4)"]
    options = ["run", "--json", "result.json", "--no-record"]
    done = run([sys.executable, "-m", "carbontracker", *options, "--", *command], tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["quality"] == "modelled"
    assert result["modelled_joules"] == result["joules"]
    assert "modelled, not measured" in done.stderr
    found = json.loads(
        run([sys.executable, "-m", "carbontracker", "sensors", "--json"], tmp_path).stdout
    )
    assert {sensor["quality"] for sensor in found["readable"]} == {"modelled"}
    assert {absent["source"] for absent in found["absent"]} >= {"nvml", "powercap"}


# ---- exceptions ----------------------------------------------------------------------------


class OwnError(Exception):
    """What the user's code raises."""


def fail() -> NoReturn:
    """Raise an exception with a cause, as user code does."""
    raise OwnError("the user's own", 42) from ValueError("the cause")


@carbontracker.track
def failing() -> None:
    fail()


@carbontracker.track(name="steps")
def failing_generator() -> Iterator[int]:
    yield 1
    fail()


@carbontracker.track
async def failing_coroutine() -> None:
    await asyncio.sleep(0)
    fail()


def run_generator() -> None:
    """Run through the generator to its exception."""
    iterator = failing_generator()
    assert next(iterator) == 1
    next(iterator)


@pytest.mark.parametrize(
    ("call", "tracked"),
    [
        (failing, failing),
        (run_generator, failing_generator),
        (lambda: asyncio.run(failing_coroutine()), failing_coroutine),
    ],
    ids=["function", "generator", "coroutine"],
)
def test_row_14_an_exception_comes_out_unchanged(
    bare: Path, call: Callable[[], None], tracked: Any
) -> None:
    for _ in range(2):  # and the second call is measured like the first
        with pytest.raises(OwnError) as caught:
            call()
        error = caught.value
        assert type(error) is OwnError
        assert error.args == ("the user's own", 42)
        assert isinstance(error.__cause__, ValueError)
        assert error.__cause__.args == ("the cause",)
        assert caught.traceback[-1].name == "fail"
        assert tracked.window.seconds > 0.0


def test_row_14_leaving_a_window_by_an_exception_ends_it(bare: Path) -> None:
    def leave() -> None:
        with carbontracker.measure("left") as window:
            windows.append(window)
            fail()

    windows: list[carbontracker.Window] = []
    with pytest.raises(OwnError):
        leave()
    length = windows[0].seconds
    time.sleep(0.02)
    assert windows[0].seconds == length


def test_row_14_what_track_cannot_follow_is_refused_when_decorating() -> None:
    async def steps() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match="asynchronous generator"):
        carbontracker.track(steps)
