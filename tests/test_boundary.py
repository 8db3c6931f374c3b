"""The boundary between Python and the core: odd text, errors, and the ends of things."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from carbontracker import _core
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import acquire, core_host, release
from tests.support.fakehost import (
    NO_CODES,
    Link,
    cpuinfo,
    fake_host,
    fake_nvml,
    meminfo,
    powercap_zone,
    proc_stat,
)
from tests.support.programs import PRELUDE, hide_sensors, python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carbontracker.energy.session import Session
    from tests.support.fakehost import Tree

STEADY = SimulatedDevice("gpu", "steady", "constant:250")


@contextmanager
def measuring(**settings: object) -> Iterator[Session]:
    """Look at a machine without RAPL and NVML unless ``settings`` say otherwise."""
    nothing: dict[str, object] = {"root": "/no-such-root", "nvml_library": "/no-such-library.so"}
    session = acquire(Config(**(nothing | settings)))  # type: ignore[arg-type]
    try:
        yield session
    finally:
        release(session)


def texts(session: Session) -> list[str]:
    """Return every text that the core has for people."""
    found = []
    for thing in (*session.entries, *session.missing, *session.successions()):
        values = (getattr(thing, name) for name in dir(type(thing)) if not name.startswith("_"))
        found += [value for value in values if isinstance(value, str)]
    return [*found, *session.stats(), *session.rates_hz()]


def assert_printable(session: Session) -> None:
    """Hold what the core says against what files and terminals can take."""
    for text in texts(session):
        text.encode("utf-8")
        json.dumps(text, ensure_ascii=False).encode("utf-8")


def joules_of(session: Session, device: str) -> tuple[float, float]:
    """Return the joules of a device over a short while, and its seconds."""
    start = session.mark()
    time.sleep(0.05)
    end = session.mark()
    assert session.await_final(start, end, timeout_s=20.0)
    seconds = (end.t_ns - start.t_ns) / 1e9
    return session.energy(start, end).by_device[device].joules, seconds


def shown_as(name: bytes) -> str:
    """Return what people are shown of such a name: no character that a terminal obeys."""
    text = name.decode("utf-8", "replace")
    return "".join("\N{REPLACEMENT CHARACTER}" if one < " " else one for one in text)


# ---- text that is not UTF-8 ------------------------------------------------------------------

BYTES = [
    b"\xff\xfe0000",
    b"caf\xe9",
    b"\xc3",
    b"\xed\xb3\xbf",
    "日本 \U0001f525".encode(),
    b"a\x07b",
]
"""Rubbish, Latin-1, half a letter, a surrogate, and what is UTF-8 after all, with a bell."""


def as_text(name: bytes) -> str:
    """Return what Python makes of such a name in the environment or of a file."""
    return os.fsdecode(name)


@pytest.mark.parametrize("name", BYTES)
def test_a_processor_may_call_itself_anything(name: bytes, tmp_path: Path) -> None:
    tree: Tree = {
        "proc/stat": proc_stat(4, 1000, 1000),
        "proc/cpuinfo": cpuinfo("Genuine CPU " + as_text(name), codes=NO_CODES),
        "proc/meminfo": meminfo(8),
    }
    with measuring(root=str(fake_host(tmp_path, tree)), simulated=(STEADY,)) as session:
        joules, seconds = joules_of(session, "gpu:0")
        assert joules == pytest.approx(250 * seconds, rel=1e-6)
        (cpu,) = (entry for entry in session.entries if entry.id == "cpu:0")
        shown = shown_as(name)
        assert cpu.name == "Genuine CPU " + shown
        assert shown in cpu.detail
        assert_printable(session)


@pytest.mark.parametrize("name", BYTES)
def test_a_zone_may_have_any_name(name: bytes, tmp_path: Path) -> None:
    tree: Tree = {
        **powercap_zone("intel-rapl:0", "package-0", energy_uj=1000),
        **powercap_zone("intel-rapl:0:0", as_text(name), energy_uj=2000),
        **powercap_zone("intel-rapl:1", "package-1" + as_text(name), energy_uj=3000),
        **powercap_zone("intel-rapl:2", "package-1" + as_text(name + b"\xff"), energy_uj=4000),
        **powercap_zone("intel-rapl:3", as_text(name), energy_uj=5000),
        **powercap_zone("intel-rapl:4", "psys-" + as_text(name), energy_uj=6000),
    }
    with measuring(root=str(fake_host(tmp_path, tree))) as session:
        ids = [entry.id for entry in session.entries]
        assert "cpu:0" in ids
        assert len(set(ids)) == len(ids) == 6
        assert all(one.isascii() and one.isprintable() and " " not in one for one in ids)
        assert_printable(session)


@pytest.mark.parametrize("name", [one for one in BYTES if b" " not in one])
def test_a_gpu_may_have_any_name(
    name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = {"name": "NVIDIA " + as_text(name), "power": "constant:300"}
    with fake_nvml(tmp_path, [board]) as driver:  # type: ignore[list-item]
        for variable, value in driver.environment.items():
            monkeypatch.setenv(variable, value)
        with measuring(nvml_library=str(driver.library)) as session:
            start, end = session.mark(), None
            time.sleep(0.3)
            end = session.mark()
            assert session.await_final(start, end, timeout_s=20.0)
            energy = session.energy(start, end).by_device["gpu:0"]
            true = driver.truth(0, start.t_ns, end.t_ns)
            assert abs(energy.joules - true) <= energy.error_joules
            (gpu,) = (entry for entry in session.entries if entry.id == "gpu:0")
            assert gpu.name == "NVIDIA " + shown_as(name)
            assert_printable(session)


@pytest.mark.parametrize("name", BYTES)
def test_a_path_may_be_any_bytes(
    name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("folder " + as_text(name))
    folder.mkdir()
    root = fake_host(folder, powercap_zone("intel-rapl:0", "package-0", energy_uj=1000))
    with fake_nvml(tmp_path, [{"power": "constant:300"}]) as driver:
        library = folder / driver.library.name
        shutil.copy(driver.library, library)
        for variable, value in driver.environment.items():
            monkeypatch.setenv(variable, value)
        with measuring(
            root=str(root), nvml_library=str(library), perf_library=str(folder / "none.so")
        ) as session:
            assert {"gpu:0", "cpu:0"} <= {entry.id for entry in session.entries}
            assert_printable(session)
    shown = shown_as(name)
    with measuring(root=str(folder / "gone"), nvml_library=str(folder / "gone.so")) as session:
        assert any(shown in one.reason for one in session.missing if one.source == "nvml")
        assert any(shown in one.reason for one in session.missing if one.source == "powercap")
        assert_printable(session)


@pytest.mark.parametrize("visible", [b"\xff", b"0,\xff", b"caf\xe9,0"])
def test_visible_gpus_may_be_any_text(
    visible: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_nvml(tmp_path, [{"power": "constant:300"}] * 2) as driver:
        for variable, value in driver.environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", as_text(visible))
        monkeypatch.setenv("CUDA_DEVICE_ORDER", as_text(visible))
        monkeypatch.setenv("CARBONTRACKER_NVML", str(driver.library))
        session = acquire(Config.from_environment(root="/no-such-root"))
        try:
            gpus = [entry.id for entry in session.entries if entry.counted]
            assert gpus == (["gpu:0"] if visible.startswith(b"0") else [])
            assert_printable(session)
        finally:
            release(session)


@pytest.mark.parametrize("text", ["\udcff", "a\ud800", "b\udfff\udc80c"])
def test_a_simulated_device_may_have_any_name(text: str) -> None:
    odd = SimulatedDevice("gpu", text, "constant:250")
    other = SimulatedDevice("gpu" + text, "other", "constant:50")
    with measuring(simulated=(odd, other), kinds=()) as session:
        joules, seconds = joules_of(session, "gpu:0")
        assert joules == pytest.approx(250 * seconds, rel=1e-6)
        assert len({entry.id for entry in session.entries}) == 2
        assert_printable(session)


def test_words_of_an_error_can_be_printed() -> None:
    broken = SimulatedDevice("gpu", "\udcff", "constant:\udcff")
    with pytest.raises(ValueError, match="is not a waveform") as raised:
        _core.Session(core_host(Config(simulated=(broken,))))
    str(raised.value).encode("utf-8")
    host = core_host(Config(simulated=(SimulatedDevice("gpu", "g", "constant:1"),)))
    with pytest.raises(TypeError):
        _core.Session(host, kinds=[b"gpu"])  # type: ignore[list-item]


def test_a_training_on_such_a_machine(tmp_path: Path) -> None:
    tree: Tree = {
        "proc/stat": proc_stat(4, 1000, 1000),
        "proc/cpuinfo": cpuinfo("Genuine CPU \udcff\udcfe", codes=NO_CODES),
        "proc/meminfo": meminfo(8),
        "sys/class/powercap/intel-rapl:0/name": Link("\udcff"),
    }
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(1, log_dir=sys.argv[1])
tracker.epoch_start(); time.sleep(0.02); tracker.epoch_end()
(record,) = __import__("pathlib").Path(sys.argv[1]).glob("*.jsonl")
print(json.dumps([json.loads(line)["event"] for line in record.read_bytes().splitlines()][0]))
"""
    )
    done = python(
        program,
        str(tmp_path / "logs"),
        CARBONTRACKER_ROOT=str(fake_host(tmp_path, tree)),
        CARBONTRACKER_NVML=str(tmp_path / "\udcff.so"),
        CUDA_VISIBLE_DEVICES="\udcff",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '"run_started"'


# ---- the ends of things ------------------------------------------------------------------------


def test_a_session_without_options_shares_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    config = Config.from_environment(simulated=(SimulatedDevice("gpu", "g", "constant:250"),))
    session = _core.Session(core_host(config))
    session.start()
    files = list(work.iterdir())
    session.stop()
    assert files == []


def test_a_daemon_thread_that_measures_at_the_end_does_not_abort_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    program = """
import threading, time
from carbontracker import _core
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import core_host

def open_sessions():
    config = Config.from_environment(simulated=(SimulatedDevice("gpu", "g", "constant:250"),))
    while True:
        core = _core.Session(core_host(config))
        core.start()
        started.set()
        start, end = _core.Mark(core), _core.Mark(core)
        core.energy(start, end), core.is_final(end), core.power(0, 0, 1), core.failovers()
        core.stop()

started = threading.Event()
for _ in range(3):
    threading.Thread(target=open_sessions, daemon=True).start()
started.wait()
"""
    for _ in range(5):
        done = python(program)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_sub_interpreter_is_refused_in_one_sentence() -> None:
    program = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
import carbontracker
for again in range(2):
    try:
        carbontracker.measure
    except ImportError as error:
        print(error, flush=True)
'''
if sys.version_info < (3, 12):
    made = [interpreters.create()]
elif sys.version_info < (3, 13):
    made = [interpreters.create(), interpreters.create(isolated=False)]
else:
    made = [interpreters.create("isolated"), interpreters.create("legacy")]
for one in made:
    failed = interpreters.run_string(one, code)
    assert failed is None, failed
print("the program goes on")
"""
    done = python(program)
    assert done.returncode == 0, done.stderr
    *refusals, last = done.stdout.splitlines()
    assert last == "the program goes on"
    assert len(refusals) >= 2
    assert {line.count("sub") for line in refusals} <= {1}, refusals


# ---- waiting -----------------------------------------------------------------------------------

CORE = """
import json, os, signal, sys, threading, time
from carbontracker import _core
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import Session

def make(watts=250):
    config = Config(
        root="/no-such-root",
        nvml_library="/no-such-library.so",
        simulated=(SimulatedDevice("gpu", "g", f"constant:{watts}"),),
    )
    session = Session.probe(config)
    session.start()
    return session

def joules_off(session, watts, start):
    end = session.mark()
    assert session.await_final(start, end, timeout_s=20.0)
    seconds = (end.t_ns - start.t_ns) / 1e9
    return session.energy(start, end).joules - watts * seconds

session = make()
start, end = session.mark(), session.mark()
"""


def test_a_call_that_waits_for_others_lets_other_threads_run() -> None:
    """A call that waited with the interpreter's lock would hold up all threads, this one too."""
    program = (
        CORE
        + """
core = session.core
calls = [
    lambda: core.energy(start, end),
    lambda: core.is_final(end),
    lambda: core.power(0, 0, end.t_ns),
    lambda: core.failovers(),
    lambda: core.channel_stats(0),
    lambda: core.entries,
    lambda: core.missing,
]
for call in calls:
    held = _core.HoldProbe(core)
    done, began = threading.Event(), threading.Event()
    def ask():
        began.set()
        call()
        done.set()
    thread = threading.Thread(target=ask)
    thread.start()
    began.wait()
    assert not done.wait(0.05)  # it waits, and this thread goes on
    held.release()
    done.wait()
    thread.join()
core.stats(), core.cpu_ns, core.owned_by_this_process, core.entry_count, core.skipped_rounds
session.close()
print("none stood still")
"""
    )
    done = python(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "none stood still\n", "")


def test_a_forked_child_waits_for_no_lock_of_its_parent() -> None:
    program = (
        CORE
        + """
core = session.core
span = _core.Span(core, "s")
span.__enter__()
held = _core.HoldProbe(core)  # a child sees it held for ever
child = os.fork()
if child == 0:
    signal.alarm(20)
    wrong = []
    def expect(what):
        if not what:
            wrong.append(what)
    expect(not core.owned_by_this_process)
    total, devices = core.energy(start, end)
    expect(total[3] == "missing" and devices == ())
    expect(core.is_final(end))
    t_ns, watts, thinned_to_ns = core.power(0, 0, end.t_ns)
    expect((len(t_ns), len(watts), thinned_to_ns) == (0, 0, 0))
    expect(core.failovers() == [] and core.entries == [] and core.missing == [])
    expect(core.channel_stats(0).readings == 0)
    core.stats(), core.cpu_ns, core.skipped_rounds
    core.start(), core.stop()
    mark = _core.Mark(core)
    span.__exit__(None, None, None)
    del mark, span, start, end, held
    session.core = core = None  # the last that knew of the session
    os._exit(len(wrong))
_, status = os.waitpid(child, 0)
held.release()
print(json.dumps(os.waitstatus_to_exitcode(status)))
session.close()
"""
    )
    done = python(program, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_a_session_that_a_forked_child_makes_itself_measures_there_and_here() -> None:
    program = (
        CORE
        + """
held = _core.HoldProbe(session.core)
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    signal.alarm(40)
    own = make(80)
    begin = own.mark()
    time.sleep(0.05)
    owned = [own.owned_by_this_process, session.owned_by_this_process]
    os.write(writer, json.dumps([joules_off(own, 80, begin), *owned]).encode())
    own.close()
    os._exit(0)
held.release()
_, status = os.waitpid(child, 0)
found = json.loads(os.read(reader, 1000))
print(json.dumps([os.waitstatus_to_exitcode(status), found, joules_off(session, 250, start)]))
session.close()
"""
    )
    done = python(program, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert done.returncode == 0, done.stderr
    status, (in_child, own, parents), here = json.loads(done.stdout)
    assert (status, own, parents) == (0, True, False)
    assert in_child == pytest.approx(0, abs=1e-4)
    assert here == pytest.approx(0, abs=1e-4)


def test_marks_of_another_session_are_times() -> None:
    one = Config(root="/no", nvml_library="/no.so", simulated=(STEADY,))
    many = Config(root="/no", nvml_library="/no.so", simulated=(STEADY,) * 8)
    first, second = acquire(one), acquire(many)
    try:
        start = first.mark()
        time.sleep(0.05)
        end = second.mark()
        for session, devices in ((first, 1), (second, 8)):
            assert session.await_final(start, end, timeout_s=20.0)
            energy = session.energy(start, end)
            seconds = (end.t_ns - start.t_ns) / 1e9
            assert energy.joules == pytest.approx(devices * 250 * seconds, rel=1e-6)
            assert len(energy.by_device) == devices
    finally:
        release(first)
        release(second)


# ---- what cannot be had ------------------------------------------------------------------------


def test_a_program_that_may_have_no_more_threads_goes_on_unmeasured() -> None:
    program = """
import os, resource, threading, time
import numpy  # it makes threads of its own
import carbontracker
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import Session
carbontracker.measure
if os.getuid() == 0:
    os.setuid(54321)  # limits are counted by user, and not kept by root
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("no thread")
config = Config(
    root="/no", nvml_library="/no.so", simulated=(SimulatedDevice("gpu", "g", "constant:250"),)
)
session = Session.probe(config)
session.start()
start, end = session.mark(), session.mark()
print(session.energy(start, end))
for one in session.missing:
    print(one.source, one.what, one.reason, sep=": ")
session.close()
print("the training goes on")
"""
    done = python(program)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    if lines[0] != "no thread":
        pytest.skip("threads of this user are not limited here")
    assert lines[1] == "<Energy not measured>"
    assert any(one.startswith("simulated: gpu:0: not measured: no thread could") for one in lines)
    assert lines[-1] == "the training goes on"


def test_memory_that_is_short_for_seconds_ends_nothing() -> None:
    program = (
        CORE
        + """
import resource
size = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")]
before = resource.getrlimit(resource.RLIMIT_AS)
hoard = []
resource.setrlimit(resource.RLIMIT_AS, (size[0] * 1024 + 2**24, before[1]))
for step in (2**20, 2**14, 2**9, 2**6):
    try:
        while True:
            hoard.append(bytearray(step))
    except MemoryError:
        pass
until = time.monotonic() + 3.0  # rounds of the supervisor
while time.monotonic() < until:
    pass
hoard = None
resource.setrlimit(resource.RLIMIT_AS, before)
print(json.dumps(joules_off(session, 250, start)))
session.close()
"""
    )
    done = python(program)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(0, abs=1e-3)
