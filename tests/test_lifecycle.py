"""From import to exit: forks, threads, signals and deaths, with sampling threads running."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.carbon.factors import make_carbon_factors
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import acquire, release
from carbontracker.training.window import Window
from tests.support.fakehost import cpuinfo, fake_host, meminfo, proc_stat
from tests.support.programs import (
    PRELUDE,
    TIMEOUT_S,
    assert_power,
    hide_sensors,
    python,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carbontracker.energy.session import Session


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


@pytest.fixture
def estimated_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give windows something to measure: a processor whose load is known."""
    tree = {
        "proc/stat": proc_stat(16, 1000, 1000),
        "proc/cpuinfo": cpuinfo("Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz"),
        "proc/meminfo": meminfo(64),
    }
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(fake_host(tmp_path, tree)))


def answer(program: str, *arguments: str, **variables: str) -> Any:
    """Run a program that ends well and return the JSON of its last line."""
    done = python(program, *arguments, **variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---- import --------------------------------------------------------------------------------

HEAVY = """
heavy = {"numpy", "socket", "_socket", "ssl", "http", "http.client", "urllib.request", "requests"}
heavy |= {"carbontracker._core", "multiprocessing", "asyncio", "platformdirs", "subprocess"}
"""


@pytest.mark.parametrize("statement", ["import carbontracker", "import carbontracker.constants"])
def test_importing_loads_nothing_and_starts_nothing(statement: str) -> None:
    program = f"""
import json, os, sys
before = set(sys.modules)
open_files = os.listdir("/proc/self/fd")
{statement}
loaded = set(sys.modules) - before
threads = len(os.listdir("/proc/self/task"))
same_files = os.listdir("/proc/self/fd") == open_files
{HEAVY}
print(json.dumps([sorted(loaded & heavy), threads, same_files]))
"""
    assert answer(program) == [[], 1, True]


@pytest.mark.parametrize(
    "statement",
    [
        "from carbontracker.tracker import CarbonTracker",
        "import carbontracker; carbontracker.measure, carbontracker.track",
    ],
)
def test_importing_the_tracker_loads_nothing_large(statement: str) -> None:
    program = f"""
import json, sys
before = set(sys.modules)
{statement}
loaded = set(sys.modules) - before
{HEAVY}
heavy -= {{"carbontracker._core"}}
heavy |= {{"rich", "pyarrow", "pandas", "matplotlib", "configparser", "zoneinfo", "ctypes"}}
print(json.dumps([sorted(loaded & heavy), len(os.listdir("/proc/self/task"))]))
"""
    assert answer("import os\n" + program) == [[], 1]


@pytest.mark.parametrize("predict_after", [0, 1])
def test_a_training_needs_no_numpy(tmp_path: Path, predict_after: int) -> None:
    program = f"""
import json, sys
from carbontracker.tracker import CarbonTracker
tracker = CarbonTracker(2, epochs_before_pred={predict_after}, log_dir={str(tmp_path)!r},
                        verbose=0, sim_gpu="A", sim_gpu_watts=100, components="gpu")
for _ in range(2): tracker.epoch_start(); tracker.epoch_end()
print(json.dumps([len(tracker.result.forecasts), "numpy" in sys.modules]))
"""
    assert answer(program) == [predict_after, False]


def test_the_names_are_loaded_on_request() -> None:
    program = """
import json, carbontracker
names = carbontracker.__all__
assert dir(carbontracker) == sorted(names)
assert all(getattr(carbontracker, name) is not None for name in names)
try:
    carbontracker.no_such_name
except AttributeError as error:
    print(json.dumps(str(error)))
"""
    assert answer(program) == "module 'carbontracker' has no attribute 'no_such_name'"


@pytest.mark.parametrize(
    "first",
    [
        "from carbontracker.tracker import CarbonTracker",
        "from carbontracker.training.window import Window",
        "from carbontracker.energy.sensors import Sensors",
        "import carbontracker.training.window, carbontracker.energy.sensors",
    ],
)
def test_functions_are_not_hidden_by_modules_of_their_name(first: str) -> None:
    program = f"""
import json
{first}
import carbontracker as ct
with ct.measure("forward") as window:
    pass
ct.sensors(0.0)
print(json.dumps([callable(ct.track), window.name]))
"""
    assert answer(program) == [True, "forward"]


NO_SOCKETS = """
import sys
seen = []
def watch(event, args):
    if event.startswith(("socket.", "urllib.", "http.", "ssl.")):
        seen.append(event)
sys.addaudithook(watch)
"""


def test_no_socket_is_opened_from_import_to_exit(tmp_path: Path) -> None:
    program = (
        NO_SOCKETS
        + PRELUDE
        + """
import atexit
import carbontracker
atexit.register(lambda: print(json.dumps([seen, sorted(clients & set(sys.modules))])))
clients = {"ssl", "http.client", "urllib.request", "requests"}
tracker = CarbonTracker(2, log_dir=sys.argv[1], **DEVICES)
for _ in tracker.epochs():
    with carbontracker.measure() as window:
        pass
carbontracker.sensors(0.0)
window.footprint
"""
    )
    assert answer(program, str(tmp_path)) == [[], []]


def test_importing_again(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
import importlib
import carbontracker

def run_once():
    tracker = importlib.import_module("carbontracker.tracker").CarbonTracker(
        1, verbose=0, log_dir=sys.argv[1], **DEVICES
    )
    tracker.epoch_start(); time.sleep(0.05); tracker.epoch_end()
    return spent(tracker)

found = [run_once()]
importlib.reload(carbontracker)
found.append(run_once())
for name in ("training.run", "energy.session", "training.training_run", "tracker"):
    importlib.reload(sys.modules[f"carbontracker.{name}"])
found.append(run_once())
for name in [name for name in sys.modules if name.split(".")[0] == "carbontracker"]:
    del sys.modules[name]
found.append(run_once())
with importlib.import_module("carbontracker.training.window").measure() as window:
    pass
print(json.dumps(found))
"""
    )
    found = answer(program, str(tmp_path))
    assert len(found) == 4
    for spent in found:
        assert_power(*spent)


# ---- fork ----------------------------------------------------------------------------------

IN_CHILD = """
import carbontracker

def look(tracker, before):
    before_fork = before.energy.joules
    counter = tracker.epoch_counter
    tracker.epoch_start(); tracker.epoch_end(); tracker.stop()
    tracker.set_api_keys({"electricitymaps": "k"})
    looped = list(tracker.epochs())
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "before": [math.isnan(before_fork), math.isnan(before.footprint.kwh), before.coverage],
        "power": {name: len(times) for name, (times, watts) in before.power().items()},
        "counter": tracker.epoch_counter - counter,
        "result": tracker.result,
        "looped": looped,
    }

tracker = CarbonTracker(3, verbose=0, log_dir=sys.argv[1], **DEVICES)
tracker.epoch_start()
with carbontracker.measure() as before:
    time.sleep(0.05)
"""
AFTER_FORK = """
time.sleep(0.05)
tracker.epoch_end()
tracker.epoch_start(); time.sleep(0.02); tracker.epoch_end(); tracker.stop()
with carbontracker.measure() as after:
    time.sleep(0.05)
after.wait()
result = tracker.result
print(json.dumps({
    "child": child,
    "spent": spent(tracker),
    "coverage": result.energy.coverage,
    "window": [after.energy.quality, after.energy.joules > 0],
}))
"""


def assert_fork(found: dict[str, Any], logs: Path) -> None:
    child = found["child"]
    assert child["threads"] == 1
    assert child["before"] == [True, True, 0.0]
    assert not any(child["power"].values())
    assert (child["counter"], child["result"], child["looped"]) == (0, None, [0, 1, 2])
    assert_power(*found["spent"])
    assert found["coverage"] == pytest.approx(1.0)
    assert found["window"] == ["modelled", True]
    events = [event["event"] for event in read_record(logs)]
    events = [event for event in events if event != "epoch_final"]
    assert events == ["run_started", "epoch", "prediction", "epoch", "run_finished"]


@pytest.mark.usefixtures("estimated_processor")
def test_a_forked_child_leaves_its_parents_run_alone_and_does_not_hang(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + IN_CHILD
        + """
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(writer, json.dumps(look(tracker, before)).encode())
    sys.exit(0)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0
child = json.loads(os.read(reader, 100_000))
"""
        + AFTER_FORK
    )
    logs = tmp_path / "logs"
    done = python(program, str(logs))
    assert done.returncode == 0, done.stderr
    assert_fork(json.loads(done.stdout.splitlines()[-1]), logs)


@pytest.mark.usefixtures("estimated_processor")
def test_a_worker_of_multiprocessing_does_not_hang_either(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + "import multiprocessing\n"
        + IN_CHILD
        + """
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
workers = [context.Process(target=lambda: queue.put(look(tracker, before))) for _ in range(2)]
for worker in workers:
    worker.start()
found = [queue.get() for _ in workers]
for worker in workers:
    worker.join()
assert [worker.exitcode for worker in workers] == [0, 0]
assert found[0] == found[1]
child = found[0]
"""
        + AFTER_FORK
    )
    logs = tmp_path / "logs"
    done = python(program, str(logs))
    assert done.returncode == 0, done.stderr
    assert_fork(json.loads(done.stdout.splitlines()[-1]), logs)


def test_a_child_of_a_process_that_does_not_measure_can_measure(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
def run_once():
    tracker = CarbonTracker(1, verbose=0, log_dir=sys.argv[1], **DEVICES)
    tracker.epoch_start(); time.sleep(0.05); tracker.epoch_end()
    return spent(tracker)

run_once()  # and it is over before the fork
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(writer, json.dumps(run_once()).encode())
    sys.exit(0)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0
print(json.dumps([json.loads(os.read(reader, 1000)), run_once()]))
"""
    )
    # From 3.12 on, Python warns of any fork beside threads, such as those that numpy has.
    found = answer(program, str(tmp_path), PYTHONWARNINGS="ignore::DeprecationWarning")
    for spent in found:
        assert_power(*spent)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2  # one a process


def test_forking_while_another_thread_measures(tmp_path: Path) -> None:
    """A lock that is held at the fork must not be waited for in the child."""
    program = (
        PRELUDE
        + """
import carbontracker
stop = threading.Event()

def measure_all_the_time():
    while not stop.is_set():
        with carbontracker.measure() as window:
            pass
        window.energy

tracker = CarbonTracker(1, verbose=0, log_dir=sys.argv[1], **DEVICES)
tracker.epoch_start()
threads = [threading.Thread(target=measure_all_the_time) for _ in range(2)]
for thread in threads:
    thread.start()
codes = []
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        with carbontracker.measure() as window:
            pass
        window.energy, window.power(), window.wait(), tracker.stop()
        os._exit(3)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
for thread in threads:
    thread.join()
tracker.epoch_end()
print(json.dumps([codes == [3] * 40, spent(tracker)]))
"""
    )
    done = python(program, str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found[0]
    assert_power(*found[1])


# ---- threads -------------------------------------------------------------------------------


@pytest.fixture
def session() -> Iterator[Session]:
    found = acquire(
        Config.from_environment(
            simulated=(
                SimulatedDevice("gpu", "ramping", "ramp:0,1000,10"),
                SimulatedDevice("cpu", "steady", "constant:100"),
            )
        )
    )
    yield found
    release(found)


def test_windows_in_eight_threads_nested_and_overlapping(session: Session) -> None:
    factors = make_carbon_factors()
    started = threading.Barrier(9)
    outer: list[list[Window]] = [[] for _ in range(8)]

    def work(mine: list[Window]) -> None:
        started.wait()
        for _ in range(5):
            whole = Window(session.core, "whole", (session, factors))
            parts = [Window(session.core, "part", (session, factors)) for _ in range(2)]
            with whole:
                for part in parts:
                    with part:
                        time.sleep(0.01)
            mine += [whole, *parts]

    threads = [threading.Thread(target=work, args=(mine,)) for mine in outer]
    everything = Window(session.core, "everything", (session, factors))
    for thread in threads:
        thread.start()
    with everything:
        started.wait()
        for thread in threads:
            thread.join()
    assert everything.wait(5.0)

    for mine in outer:
        assert len(mine) == 15
        for whole, first, second in zip(*[iter(mine)] * 3, strict=True):
            assert whole.final
            check(whole)
            inside = first.energy.joules + second.energy.joules
            slack = 1e-9
            assert inside <= whole.energy.joules + slack
            assert whole.energy.joules <= everything.energy.joules + slack
            assert first.seconds + second.seconds <= whole.seconds


def check(window: Window) -> None:
    """Hold the steady device against its power, and the sum against its parts."""
    energy = window.energy
    steady = energy.by_device["cpu:0"]
    true = 100.0 * window.seconds
    assert abs(steady.joules - true) <= steady.error_joules + 0.05 * true
    parts = [part.joules for part in energy.by_device.values()]
    assert energy.joules == pytest.approx(sum(parts))
    assert energy.coverage == pytest.approx(1.0)


def test_windows_that_meet_add_up_exactly(session: Session) -> None:
    marks = [session.mark()]
    for _ in range(6):
        time.sleep(0.007)
        marks.append(session.mark())
    assert session.await_final(marks[-1], timeout_s=5.0)
    pieces = [session.energy(a, b).joules for a, b in itertools.pairwise(marks)]
    assert math.fsum(pieces) == pytest.approx(session.energy(marks[0], marks[-1]).joules)
    assert min(pieces) >= 0.0


def test_trackers_in_threads() -> None:
    program = (
        PRELUDE
        + """
results = []
def work():
    tracker = CarbonTracker(2, verbose=0, record=False, **DEVICES)
    for _ in tracker.epochs():
        time.sleep(0.04)
    results.append(spent(tracker))

import numpy  # has threads of its own
before = len(os.listdir("/proc/self/task"))
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
# A thread that was joined may be listed by the kernel for a moment longer.
deadline = time.monotonic() + 10
while len(os.listdir("/proc/self/task")) > before and time.monotonic() < deadline:
    time.sleep(0.01)
print(json.dumps([len(os.listdir("/proc/self/task")) - before, results]))
"""
    )
    left_over, found = answer(program)
    assert (left_over, len(found)) == (0, 8)
    for spent in found:
        assert_power(*spent)


# ---- the end -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "code"),
    [("pass", 0), ("sys.exit(4)", 4), ("os._exit(5)", 5), ("raise SystemExit", 0)],
)
def test_exit_while_sampling_at_a_kilohertz(last: str, code: int) -> None:
    program = (
        PRELUDE
        + f"""
import carbontracker
tracker = CarbonTracker(3, verbose=0, **DEVICES)
window = carbontracker.measure("open")
window.__enter__()
tracker.epoch_start()
time.sleep(0.05)
{last}
"""
    )
    done = python(program, CARBONTRACKER_RATE_HZ="1000", CARBONTRACKER_OVERHEAD_BUDGET="0")
    assert (done.returncode, done.stderr) == (code, "")


def test_exit_with_another_thread_still_at_it() -> None:
    program = (
        PRELUDE
        + """
import carbontracker
tracker = CarbonTracker(10**9, verbose=0, record=False, **DEVICES)

def train():
    while True:
        with carbontracker.measure() as window:
            tracker.epoch_start(); tracker.epoch_end()
        window.energy

threading.Thread(target=train, daemon=True).start()
time.sleep(0.1)
"""
    )
    done = python(program)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_process_leaves_no_other_behind() -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(3, **DEVICES)
tracker.epoch_start()
print("ready", flush=True)
time.sleep(600)
"""
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert "ready\n" in iter(process.stdout.readline, "")
        process.kill()
        assert process.wait(TIMEOUT_S) == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)


# ---- signals -------------------------------------------------------------------------------


def test_signals_are_the_program_s(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
caught = []
def note(number, frame):
    caught.append(threading.current_thread() is threading.main_thread())

before = {number: signal.getsignal(number) for number in signal.valid_signals()}
signal.signal(signal.SIGALRM, note)
tracker = CarbonTracker(1, verbose=0, log_dir=sys.argv[1], **DEVICES)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
tracker.epoch_start()
while len(caught) < 20:
    time.sleep(0.001)
tracker.epoch_end()
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_DFL)
after = {number: signal.getsignal(number) for number in signal.valid_signals()}
print(json.dumps([all(caught), before == after, tracker.result.finished_epochs]))
"""
    )
    assert answer(program, str(tmp_path)) == [True, True, 1]


def test_no_sampling_thread_takes_a_signal() -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(1, verbose=0, **DEVICES)
blocked = {}
for task in os.listdir("/proc/self/task"):
    status = open(f"/proc/self/task/{task}/status").read()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    blocked[fields["Name"].strip()] = int(fields["SigBlk"], 16)
native = {name: mask for name, mask in blocked.items() if name.startswith("ct-")}
term, alarm = 1 << signal.SIGTERM - 1, 1 << signal.SIGALRM - 1
print(json.dumps([len(native), all(mask & term and mask & alarm for mask in native.values())]))
"""
    )
    done = python(program)
    threads, blocked = json.loads(done.stdout.splitlines()[-1])
    assert threads >= 1
    assert blocked


def test_a_signal_handler_may_use_a_tracker_at_any_moment() -> None:
    program = (
        PRELUDE
        + """
import faulthandler
faulthandler.dump_traceback_later(20, exit=True)
options = dict(DEVICES, verbose=0, record=False, intensity=1.0)
first, second = (CarbonTracker(10**9, **options) for _ in range(2))
hits, busy = 0, False

def handle(number, frame):
    global hits, busy
    if busy:
        return
    busy = True
    second.epoch_start(); second.epoch_end()
    hits, busy = hits + 1, False

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
while hits < 100:
    first.epoch_start(); first.epoch_end()
signal.setitimer(signal.ITIMER_REAL, 0)
first.stop(); second.stop()
print(json.dumps([spent(first), spent(second), second.result.finished_epochs]))
"""
    )
    done = python(program)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert all("an earlier tracker is still open" in line for line in said)  # where one was within
    assert len(said) <= 1
    *both, epochs = json.loads(done.stdout.splitlines()[-1])
    for spent in both:
        assert_power(*spent)
    assert epochs >= 100


def test_stop_in_a_signal_handler(tmp_path: Path) -> None:
    """As on clusters, where SIGTERM means stop(): it may come in the middle of epoch_end()."""
    program = (
        PRELUDE
        + """
import faulthandler
faulthandler.dump_traceback_later(20, exit=True)
signal.signal(signal.SIGALRM, lambda number, frame: tracker.stop())
results = []
for number in range(25):
    tracker = CarbonTracker(10**9, verbose=0, log_dir=sys.argv[1], intensity=1.0, **DEVICES)
    signal.setitimer(signal.ITIMER_REAL, 0.001 + number / 5_000)
    while not tracker.deleted:
        tracker.epoch_start(); tracker.epoch_end()
        if number % 5 == 0:
            tracker.stop()
    signal.setitimer(signal.ITIMER_REAL, 0)
    results.append(tracker.result is not None)
print(json.dumps([len(results), all(results)]))
"""
    )
    done = python(program, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [25, True]
    assert "Traceback" not in done.stderr
    events = [event["event"] for event in read_record(tmp_path)]
    # A stop before the first mark leaves nothing behind, and one within it leaves all of it.
    assert events.count("run_finished") == events.count("run_started") > 0
    for path in tmp_path.glob("*_carbontracker.log"):
        assert path.read_text().count("Monitoring thread ended.") == 1
