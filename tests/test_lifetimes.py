"""How long a run lives: from the first mark to the last reference, in the process that made it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.records.aggregate import OVERLAP, add_runs
from carbontracker.records.reader import read_runs
from tests.support.fakehost import cpuinfo, fake_host, meminfo, proc_stat
from tests.support.programs import (
    PRELUDE,
    TIMEOUT_S,
    assert_power,
    hide_sensors,
    python,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")
    # From 3.12 on, Python warns of any fork beside threads.
    monkeypatch.setenv("PYTHONWARNINGS", "ignore::DeprecationWarning")


def events_of(directory: Path) -> list[list[dict[str, Any]]]:
    """Return the events of every run below a directory, in the order of their beginnings."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(directory.rglob("*.jsonl")):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            runs.setdefault(event["run_id"], []).append(event)
    return sorted(runs.values(), key=lambda run: str(run[0]["began"]))


def finished(run: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the last event of a run, which must be its end."""
    assert run[-1]["event"] == "run_finished", [event["event"] for event in run]
    return run[-1]


def last_line(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---- a tracker that is gone ----------------------------------------------------------------

TRIALS = (
    PRELUDE
    + """
import gc
options = dict(DEVICES, verbose=0, log_dir=sys.argv[1])
spans = []  # from before a tracker is made until it is gone, as the program sees it

def until_all_have_ended(count):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        files = [os.path.join(sys.argv[1], name) for name in os.listdir(sys.argv[1])]
        text = "".join(open(name).read() for name in files if name.endswith(".jsonl"))
        if text.count('"event":"run_finished"') == count:
            return
        time.sleep(0.01)

def sweep(trial, count=3):
    for _ in range(count):
        began = time.monotonic()
        trial()
        gc.collect()
        spans.append(time.monotonic() - began)
    until_all_have_ended(count)
    time.sleep(0.5)
    ended = sum(thread.name.startswith("ct-") for thread in threading.enumerate())
    print(json.dumps(spans))
    sys.stdout.flush()

"""
)

LEFT = {
    "an exception": """
def trial():
    def diverge():
        tracker = CarbonTracker(3, **options)
        tracker.epoch_start(); time.sleep(0.1)
        raise ValueError("diverged")
    try: diverge()
    except ValueError: pass
""",
    "an exception in the loop": """
def trial():
    def diverge():
        tracker = CarbonTracker(3, **options)
        for _ in tracker.epochs():
            time.sleep(0.1)
            raise ValueError("diverged")
    try: diverge()
    except ValueError: pass
""",
    "a name given anew": """
def trial():
    global tracker
    tracker = CarbonTracker(3, **options)
    tracker.epoch_start(); time.sleep(0.1)
    tracker = None
""",
    "a cycle": """
def trial():
    tracker = CarbonTracker(3, **options)
    tracker.myself = tracker
    tracker.epoch_start(); time.sleep(0.1)
""",
    "a callback that has the tracker": """
class Trainer:
    def __init__(self):
        self.tracker = CarbonTracker(
            3, on_budget=self.over, max_kwh=1e6, loggers=[self], prometheus=0, progress=True,
            **options
        )
    def over(self, _): pass
    def begin(self, _): pass
    def epoch(self, _): pass

def trial():
    trainer = Trainer()
    trainer.tracker.epoch_start(); time.sleep(0.1)
""",
    "steps, phases, windows and counts that are kept": """
kept = []
def trial():
    tracker = CarbonTracker(3, **options)
    kept.append(tracker.epochs)
    tracker.epoch_start()
    kept.append(tracker.epochs)
    kept.append(tracker.window("forward"))
    with kept[-1]:
        time.sleep(0.05)
    kept.append(tracker.phase("validation"))
    with kept[-1]:
        time.sleep(0.05)
    list(tracker.steps(range(3)))
""",
    "a thread that ends": """
def trial():
    def work():
        tracker = CarbonTracker(3, **options)
        tracker.epoch_start(); time.sleep(0.1)
    thread = threading.Thread(target=work)
    thread.start(); thread.join()
""",
    "a copy": """
import copy
def trial():
    tracker = CarbonTracker(3, **options)
    other = copy.copy(tracker)
    other.epoch_start(); time.sleep(0.05)
    del other
    time.sleep(0.05)
""",
    "a subclass with a finaliser of its own": """
class Mine(CarbonTracker):
    def __del__(self): pass

def trial():
    tracker = Mine(3, **options)
    tracker.epoch_start(); time.sleep(0.1)
""",
}


@pytest.mark.parametrize("way", LEFT)
def test_a_deleted_tracker_ended_at_its_deletion(tmp_path: Path, way: str) -> None:
    done = python(TRIALS + LEFT[way] + "sweep(trial)\n", str(tmp_path / "r"))
    spans = last_line(done)
    runs = events_of(tmp_path / "r")
    assert len(runs) == len(spans) == 3
    for run, span in zip(runs, spans, strict=True):
        end = finished(run)
        assert 0.1 <= end["seconds"] <= span
        assert_power(end["energy"]["joules"], end["energy"]["error_joules"], end["seconds"])
        assert [event["finished"] for event in run if event["event"] == "epoch"] == [False]
    assert "still open" not in done.stderr
    assert "Traceback" not in done.stderr


def test_its_sensors_are_released_too(tmp_path: Path) -> None:
    """Those of a tracker that has marked nothing, too."""
    program = (
        PRELUDE
        + """
def names():
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                found.append(comm.read().strip())
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
    return [name for name in found if name.startswith("ct-")]

trackers = [CarbonTracker(2, verbose=0, log_dir=sys.argv[1], **DEVICES) for _ in range(2)]
trackers[0].epoch_start(); trackers[0].epoch_end()
before = names()
trackers.clear()
deadline = time.monotonic() + 30
while (names() or threading.active_count() > 1) and time.monotonic() < deadline:
    time.sleep(0.01)
print(json.dumps([len(before) > 0, names(), [t.name for t in threading.enumerate()]]))
"""
    )
    had, left, threads = last_line(python(program, str(tmp_path / "r")))
    assert had
    assert left == []
    assert threads == ["MainThread"]
    (run,) = events_of(tmp_path / "r")
    finished(run)


def test_a_finaliser_may_run_anywhere(tmp_path: Path) -> None:
    """Within our own locks, and in any thread; the garbage collector chooses."""
    program = (
        PRELUDE
        + """
import faulthandler, gc
faulthandler.dump_traceback_later(40, exit=True)
import carbontracker
from carbontracker.training import lifetime
from carbontracker.energy import session
options = dict(DEVICES, verbose=0, log_dir=sys.argv[1])

def leave_a_cycle():
    tracker = CarbonTracker(3, **options)
    tracker.myself = tracker
    tracker.epoch_start()

gc.set_threshold(0)  # only where the program says so
for lock in (session._shared.lock, lifetime._open._lock):
    leave_a_cycle()
    with lock:
        gc.collect()
leave_a_cycle()
collector = threading.Thread(target=gc.collect)
collector.start(); collector.join()
leave_a_cycle()
signal.signal(signal.SIGALRM, lambda *_: gc.collect())
signal.setitimer(signal.ITIMER_REAL, 0.01)
last = CarbonTracker(1, **options)
for _ in last.epochs():
    with carbontracker.measure() as window:
        time.sleep(0.05)
    window.energy
print(json.dumps(spent(last)))
"""
    )
    assert_power(*last_line(python(program, str(tmp_path / "r"))))
    runs = events_of(tmp_path / "r")
    assert [finished(run)["epochs"] for run in runs] == [0, 0, 0, 0, 1]


def test_without_threads_the_end_is_written_at_exit(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
def refuse(self):
    raise RuntimeError("can't start new thread")

start, threading.Thread.start = threading.Thread.start, refuse
began = time.monotonic()
tracker = CarbonTracker(3, verbose=0, log_dir=sys.argv[1], **DEVICES)
tracker.epoch_start(); time.sleep(0.1)
tracker = None
span = time.monotonic() - began
time.sleep(1.0)
print(json.dumps(span))
"""
    )
    span = last_line(python(program, str(tmp_path / "r")))
    (run,) = events_of(tmp_path / "r")
    end = finished(run)
    assert 0.1 <= end["seconds"] <= span
    assert_power(end["energy"]["joules"], end["energy"]["error_joules"], end["seconds"])


HELD = (
    PRELUDE
    + """
options = dict(DEVICES, log_dir=sys.argv[1])
def train(tracker):
    for _ in range(2):
        tracker.epoch_start(); time.sleep(0.05); tracker.epoch_end()
"""
)


@pytest.mark.parametrize("held", ["a traceback", "a name", "several"])
def test_a_referenced_tracker_continues_and_the_next_one_reports_it(
    tmp_path: Path, held: str
) -> None:
    program = (
        HELD
        + {
            "a traceback": """
def diverge():
    tracker = CarbonTracker(3, verbose=0, **options)
    tracker.epoch_start(); time.sleep(0.05)
    raise ValueError("diverged")
try: diverge()
except ValueError as error: sys.last_value = error
""",
            "a name": """
out = CarbonTracker(3, verbose=0, **options)
out.epoch_start()
""",
            "several": """
out = [CarbonTracker(3, verbose=0, **options) for _ in range(3)]
for one in out: one.epoch_start()
""",
        }[held]
        + """
for _ in range(2):
    train(CarbonTracker(2, **options))
print(json.dumps(0))
"""
    )
    done = python(program, str(tmp_path / "r"))
    assert last_line(done) == 0
    (line,) = done.stderr.splitlines()  # once, after the first epoch of the next one
    which = "earlier trackers are" if held == "several" else "an earlier tracker is"
    assert line.startswith(f"CarbonTracker: WARNING - {which} still open and counting the same")
    assert "call stop()" in line
    runs = events_of(tmp_path / "r")
    left, later = runs[:-2], runs[-2:]
    for run in left:
        assert finished(run)["seconds"] > sum(finished(one)["seconds"] for one in later)
    warnings = [[event for event in run if event["event"] == "warning"] for run in later]
    assert [len(found) for found in warnings] == [1, 0]


def test_a_tracker_without_an_open_epoch_is_not_reported(tmp_path: Path) -> None:
    """Neither has marked nothing, nor is between epochs, nor belongs to another thread."""
    program = (
        HELD
        + """
unused = CarbonTracker(3, **options)
between = CarbonTracker(3, verbose=0, **options)
between.epoch_start(); between.epoch_end()
go, done = threading.Event(), threading.Event()
def beside():
    tracker = CarbonTracker(3, verbose=0, **options)
    tracker.epoch_start(); go.set(); done.wait(); tracker.epoch_end()
thread = threading.Thread(target=beside)
thread.start(); go.wait()
train(CarbonTracker(2, **options))
done.set(); thread.join()
print(json.dumps(0))
"""
    )
    done = python(program, str(tmp_path / "r"))
    assert last_line(done) == 0
    assert done.stderr == ""


def test_a_loop_keeps_its_tracker_and_a_count_does_not(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
import copy, pickle
options = dict(DEVICES, verbose=0, log_dir=sys.argv[1])
for _ in CarbonTracker(3, **options).epochs():
    time.sleep(0.02)
tracker = CarbonTracker(3, **options)
early = tracker.epochs
tracker.epoch_start()
late = tracker.epochs
del tracker
copies = [copy.deepcopy(early), pickle.loads(pickle.dumps(late))]
print(json.dumps([list(early()), list(late()), copies]))
"""
    )
    assert last_line(python(program, str(tmp_path / "r"))) == [[0, 1, 2], [0, 1, 2], [3, 3]]
    assert [finished(run)["epochs"] for run in events_of(tmp_path / "r")] == [3, 0]


# ---- processes that are forked -------------------------------------------------------------

FORKING = (
    PRELUDE
    + """
import multiprocessing
options = dict(DEVICES, verbose=0)

def in_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(); code = 0
        finally:
            sys.stdout.flush(); sys.stderr.flush(); os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def own(name="child", epochs=2, stop=True):
    tracker = CarbonTracker(epochs, log_dir=os.path.join(sys.argv[1], name), **options)
    for _ in range(2):
        tracker.epoch_start(); time.sleep(0.05); tracker.epoch_end()
"""
)

USES = {
    "epochs": "parents.epoch_start(); parents.epoch_end()",
    "a loop": "assert list(parents.epochs()) == [0, 1, 2]",
    "steps": "parents.step(); parents.step()",
    "items": "assert list(parents.steps('ab')) == ['a', 'b']",
    "a phase": "with parents.phase('validation'): pass",
    "a window": "with parents.window('w') as w: pass\n    assert w.energy.quality == 'missing'",
}


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("use", USES)
def test_a_child_gets_a_warning_that_its_parents_tracker_measures_nothing(
    tmp_path: Path, use: str, begun: bool
) -> None:
    program = (
        FORKING
        + f"""
parents = CarbonTracker(3, log_dir=os.path.join(sys.argv[1], "parent"), **options)
begun = {begun}
if begun:
    parents.epoch_start(); parents.step(); time.sleep(0.05)

def work():
    {USES[use]}
    {USES[use]}
    parents.stop(); parents.set_api_keys({{"electricitymaps": "k"}})
    assert parents.result is None

in_child(work)
if not begun:
    parents.epoch_start()
parents.epoch_end(); parents.stop()
print(json.dumps([os.getpid(), spent(parents)]))
"""
    )
    done = python(program, str(tmp_path))
    pid, spent = last_line(done)
    (line,) = done.stderr.splitlines()
    assert line == (
        f"CarbonTracker: WARNING - this tracker was made in process {pid}, before a fork: in this "
        "process it measures nothing; make a CarbonTracker here"
    )
    assert_power(*spent)
    assert [path.parent.name for path in tmp_path.rglob("*.jsonl")] == ["parent"]
    (run,) = events_of(tmp_path)
    finished(run)


def test_a_child_that_leaves_it_alone_is_silent(tmp_path: Path) -> None:
    """As workers of a data loader do: they are forked, they end, and they collect garbage."""
    program = (
        FORKING
        + """
import gc
def load():
    global parents
    kept = parents
    del parents, kept
    gc.collect()

parents = CarbonTracker(3, log_dir=os.path.join(sys.argv[1], "parent"), **options)
parents.epoch_start()
in_child(load)
in_child(lambda: parents.stop())  # a handler of SIGTERM that was inherited
pid = os.fork()
if pid == 0:
    sys.exit(0)  # through atexit
assert os.waitpid(pid, 0)[1] == 0
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    pool.map(abs, range(4))
worker = context.Process(target=load)
worker.start(); worker.join()
assert worker.exitcode == 0
time.sleep(0.05)
parents.epoch_end(); parents.stop()
print(json.dumps(spent(parents)))
"""
    )
    done = python(program, str(tmp_path))
    assert_power(*last_line(done))
    assert done.stderr == ""
    (run,) = events_of(tmp_path)
    names = [event["event"] for event in run if event["event"] != "epoch_final"]
    assert names == ["run_started", "epoch", "series", "prediction", "series", "run_finished"]


CHILDREN = {
    "os.fork": "in_child(own)",
    "a worker of multiprocessing": """
worker = multiprocessing.get_context("fork").Process(target=own)
worker.start(); worker.join()
assert worker.exitcode == 0
""",
    "one that forgets to stop": """
worker = multiprocessing.get_context("fork").Process(target=own, args=("child", 5))
worker.start(); worker.join()
assert worker.exitcode == 0
""",
}


@pytest.mark.parametrize("how", CHILDREN)
def test_a_tracker_that_a_child_makes_measures_and_names_its_parents_run(
    tmp_path: Path, how: str
) -> None:
    program = (
        FORKING
        + """
parents = CarbonTracker(3, log_dir=os.path.join(sys.argv[1], "parent"), **options)
parents.epoch_start()
"""
        + CHILDREN[how]
        + """
parents.epoch_end(); parents.stop()
print(json.dumps(spent(parents)))
"""
    )
    done = python(program, str(tmp_path))
    spent = last_line(done)
    assert done.stderr == ""
    assert_power(*spent)
    (parent,), (child,) = events_of(tmp_path / "parent"), events_of(tmp_path / "child")
    assert child[0]["parent_run_id"] == parent[0]["run_id"]
    assert child[0]["pid"] != parent[0]["pid"]
    end = finished(child)
    assert end["epochs"] == 2
    assert_power(end["energy"]["joules"], end["energy"]["error_joules"], end["seconds"])
    total = add_runs(read_runs(tmp_path))
    assert total.joules == pytest.approx(finished(parent)["energy"]["joules"])
    assert total.left_out == {OVERLAP: 1}


def test_windows_of_a_child_measure_there_and_those_from_before_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tree = {
        "proc/stat": proc_stat(16, 1000, 1000),
        "proc/cpuinfo": cpuinfo("Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz"),
        "proc/meminfo": meminfo(64),
    }
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(fake_host(tmp_path, tree)))
    program = (
        FORKING
        + """
import carbontracker
config = dict(edge_reads=True)
before = carbontracker.measure("before", **config)
with before:
    time.sleep(0.02)
usual = carbontracker.measure()
with usual:
    pass

@carbontracker.track
def tracked():
    time.sleep(0.02)

def work():
    assert math.isnan(before.energy.joules) and before.power() == {}
    for window in (carbontracker.measure("after", **config), carbontracker.measure()):
        with window:
            time.sleep(0.05)
        window.wait(5.0)
        assert window.energy.quality == "modelled", window.energy
        assert window.energy.joules > 0
    tracked()
    tracked.window.wait(5.0)
    assert tracked.window.energy.joules > 0
    in_child(again)

def again():
    with carbontracker.measure() as window:
        time.sleep(0.05)
    window.wait(5.0)
    assert window.energy.joules > 0

in_child(work)
assert before.energy.joules > 0
print(json.dumps(0))
"""
    )
    done = python(program)
    assert last_line(done) == 0
    assert done.stderr == ""


def test_a_daemon_that_makes_its_tracker_after_its_forks_measures(tmp_path: Path) -> None:
    program = (
        FORKING
        + """
before = CarbonTracker(2, log_dir=os.path.join(sys.argv[1], "before"), **options)
reader, writer = os.pipe()
if os.fork():
    os.close(writer)
    print(json.dumps(json.loads(os.read(reader, 1000))), flush=True)
    os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
own("daemon")
before.epoch_start(); before.epoch_end(); before.stop()
os.write(writer, json.dumps(before.result).encode())
os._exit(0)
"""
    )
    done = python(program, str(tmp_path))
    assert last_line(done) is None
    (line,) = done.stderr.splitlines()
    assert "before a fork" in line
    (run,) = events_of(tmp_path)
    assert run[0]["parent_run_id"] is None  # what was made before had recorded nothing
    assert finished(run)["epochs"] == 2


def test_one_of_a_script_that_a_command_runs_names_the_nearest_run(tmp_path: Path) -> None:
    program = (
        FORKING
        + """
parents = CarbonTracker(3, log_dir=os.path.join(sys.argv[1], "parent"), **options)
parents.epoch_start()
in_child(own)
parents.epoch_end(); parents.stop()
in_child(lambda: own("later"))
"""
    )
    outside = ["-m", "carbontracker", "-q", "--log-dir", str(tmp_path / "command")]
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *outside, *command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    ids = {}
    parents = {}
    for name in ("command", "parent", "child", "later"):
        (path,) = (tmp_path / name).glob("*.jsonl")
        started = json.loads(path.read_text().splitlines()[0])
        ids[name], parents[name] = started["run_id"], started["parent_run_id"]
    assert parents == {
        "command": None,
        "parent": ids["command"],
        "child": ids["parent"],
        "later": ids["command"],
    }


# ---- processes that import the main module -------------------------------------------------

WITH_WORKERS = """
import json, multiprocessing, os, sys, threading, time
from carbontracker.tracker import CarbonTracker

tracker = CarbonTracker(
    2, log_dir=os.environ["OUT"], prometheus=0, loggers=[], trace=False, sim_gpu="X",
    sim_gpu_watts=100, sim_gpu_util=1.0, components="gpu", verbose=1,
)

def load(_):
    time.sleep(0.02)
    return sorted(name for name in map(comm, os.listdir("/proc/self/task"))
                  if name.startswith("ct-"))

def comm(task):
    try:
        with open(f"/proc/self/task/{task}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""

def marks(_):
    tracker.epoch_start(); time.sleep(0.05); tracker.epoch_end()
    tracker.stop()
    return tracker.result and tracker.result.energy.joules / tracker.result.seconds

def makes(where):
    own = CarbonTracker(
        1, log_dir=where, sim_gpu="X", sim_gpu_watts=100, sim_gpu_util=1.0, components="gpu",
        verbose=0,
    )
    for _ in own.epochs():
        time.sleep(0.05)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    if sys.argv[1] == "forkserver":
        context.set_forkserver_preload(["__main__"])
    with context.Pool(2) as pool:
        for _ in range(2):
            tracker.epoch_start()
            sampled = pool.map(load, range(4), chunksize=1)
            tracker.epoch_end()
        marked = pool.map(marks, range(1)) if sys.argv[2] == "marks" else []
        pool.close()
        pool.join()
    if sys.argv[2] == "makes":
        worker = context.Process(target=makes, args=(os.environ["OUT"],))
        worker.start(); worker.join()
        assert worker.exitcode == 0
    print(json.dumps([sampled, marked]))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("use", ["load", "marks", "makes"])
def test_workers_leave_nothing_behind_unless_they_mark(
    tmp_path: Path, method: str, use: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(WITH_WORKERS)
    done = subprocess.run(
        [sys.executable, str(script), method, use],
        env=os.environ | {"OUT": str(tmp_path / "out")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = events_of(tmp_path / "out")
    sampled, marked = json.loads(done.stdout.splitlines()[-1])
    assert sampled == [[]] * 4  # no thread of ours
    # A fork server imports the main module itself, where the version of Python can.
    inherits = method == "fork" or (method == "forkserver" and done.stderr != "")
    if use == "marks" and inherits:
        (line,) = done.stderr.splitlines()
        assert "before a fork" in line
        assert (len(runs), marked) == (1, [None])
        return
    assert len(runs) == 1 + (use != "load")
    assert done.stdout.count("components were found") == 1 + (use == "marks")
    assert done.stderr == ""
    for run in runs:
        end = finished(run)
        assert_power(end["energy"]["joules"], end["energy"]["error_joules"], end["seconds"], 100.0)
    assert marked == ([pytest.approx(100.0, rel=0.3)] if use == "marks" else [])
