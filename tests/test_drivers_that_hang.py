"""Drivers and files that do not answer: nothing waits for them, and what comes late joins late."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from carbontracker.energy.config import Config
from carbontracker.energy.sensor_events import SensorEvent, SensorEvents
from carbontracker.energy.session import Session
from carbontracker.hostfiles import MAX_BYTES, host_text
from carbontracker.location.cloud import looks_like
from carbontracker.records.reader import read_run
from carbontracker.records.validate import check_file
from carbontracker.report.document import notes
from carbontracker.traces.samples import SampleFile, SampleWriter, read_power
from tests.support.build import build_perf
from tests.support.fakehost import cpuinfo, fake_host, fake_nvml, meminfo, powercap_tree, proc_stat
from tests.test_rapl import places_tree, pmu_tree, write_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from carbontracker.energy.energy import Energy
    from tests.support.fakehost import FakeNvml, Value

PATIENCE_S = 60.0
"""No test waits for so long unless something hangs."""
SHORT_S = 0.2
CPU = "Intel(R) Xeon(R) Gold 6226R CPU @ 2.70GHz"


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def machine_tree() -> dict[str, Value]:
    """Return a machine whose processor is estimated."""
    return {
        "proc/stat": proc_stat(4, 100, 900),
        "proc/cpuinfo": cpuinfo(CPU),
        "proc/meminfo": meminfo(16),
    }


def ids(session: Session) -> list[str]:
    return [entry.id for entry in session.entries]


def energy_between(session: Session, start: object, end: object) -> Energy:
    session.await_final(start, end, timeout_s=10.0)  # type: ignore[arg-type]
    return session.energy(start, end)  # type: ignore[arg-type]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path at which a file opens the gate of a driver's initialisation."""
    path = tmp_path / "gate"
    monkeypatch.setenv("FAKE_NVML_INIT_GATE", str(path))
    return path


def late_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml) -> Session:
    for name, value in nvml.environment.items():
        if name.startswith("FAKE"):
            monkeypatch.setenv(name, value)
    root = fake_host(tmp_path, machine_tree())
    return Session.probe(Config(root=str(root), nvml_library=str(nvml.library)), SHORT_S)


# ---- drivers -------------------------------------------------------------------------------


def test_a_driver_that_answers_late_joins_and_is_right_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Path
) -> None:
    with fake_nvml(tmp_path, [{"power": "constant:250", "arch": 7}]) as nvml:
        session = late_gpu(tmp_path, monkeypatch, nvml)
        try:
            before = ids(session)
            assert before == ["cpu:0", "dram:0"]
            awaited = [m for m in session.missing if m.awaited]
            assert [(m.source, m.what) for m in awaited] == [("nvml", "gpu")]
            assert "no answer" in awaited[0].reason
            session.start()
            began = session.mark()
            told: list[SensorEvent] = []
            events = SensorEvents(session, began, told.append)
            time.sleep(1.0)
            early = session.mark()
            gate.touch()
            assert eventually(lambda: "gpu:0" in ids(session))
            assert ids(session)[: len(before)] == before
            events.look()
            events.close()
            joined = {one.data["id"]: one.data["seconds_after_start"] for one in told}
            assert joined["gpu:0"] >= (early.t_ns - began.t_ns) / 1e9
            assert [one.event for one in told] == ["sensor_joined"] * len(joined)
            index = ids(session).index("gpu:0")
            assert eventually(lambda: session.core.channel_stats(index).readings > 10)  # type: ignore[union-attr]
            start = session.mark()
            time.sleep(1.5)
            end = session.mark()
            known = energy_between(session, start, end)
            whole = energy_between(session, began, end)
            nothing = session.energy(began, early)
        finally:
            session.close()
        assert known.by_device["gpu:0"].joules == pytest.approx(
            nvml.truth(0, start.t_ns, end.t_ns), rel=0.03
        )
        assert known.coverage == 1.0
        assert not [m for m in session.missing if m.awaited]
        share = 1 - joined["gpu:0"] * 1e9 / (end.t_ns - began.t_ns)
        assert whole.by_device["gpu:0"].coverage == pytest.approx(share, abs=0.1)
        assert whole.by_device["gpu:0"].coverage < 0.9
        assert nothing.by_device["gpu:0"].quality == "missing"


def test_a_driver_that_hangs_in_a_call_for_a_name_is_awaited_and_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_NVML_NAME_GATE", str(tmp_path / "never"))
    with fake_nvml(tmp_path, [{"power": "constant:250"}]) as nvml:
        session = late_gpu(tmp_path, monkeypatch, nvml)
        session.start()
        assert [m.source for m in session.missing if m.awaited] == ["nvml"]
        session.close()
        assert [m.source for m in session.missing if m.awaited] == ["nvml"]
        (tmp_path / "never").touch()


def test_a_measurement_that_joins_late_continues_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two packages and their memory take the place of one estimate: nothing is counted twice."""
    library = build_perf(tmp_path.parent / "c-doubles")
    monkeypatch.setenv("FAKE_PERF_SPEC", str(tmp_path / "perf.spec"))
    monkeypatch.setenv("FAKE_PERF_GATE", str(tmp_path / "gate"))
    waves = {(0, "pkg"): 60, (0, "ram"): 20, (1, "pkg"): 90, (1, "ram"): 10}
    root = fake_host(tmp_path, machine_tree() | pmu_tree(24, "0-1") | places_tree(2))
    write_spec(
        tmp_path / "perf.spec",
        time.monotonic_ns(),
        {place: f"constant:{watts}" for place, watts in waves.items()},
    )
    config = Config(root=str(root), nvml_library="/nonexistent", perf_library=str(library))
    session = Session.probe(config, SHORT_S)
    try:
        assert [entry.quality for entry in session.entries] == ["modelled", "modelled"]
        session.start()
        marks = [session.mark()]
        time.sleep(0.5)
        (tmp_path / "gate").touch()
        while "cpu:1" not in ids(session):
            marks.append(session.mark())
            time.sleep(0.02)
        start = session.mark()
        for _ in range(60):
            marks.append(session.mark())
            time.sleep(0.02)
        end = session.mark()
        known = energy_between(session, start, end)
        whole = energy_between(session, marks[0], end)
        levels = [session.energy(marks[0], mark).joules for mark in marks[1:]]
    finally:
        session.close()
    counted = {entry.id for entry in session.entries if entry.counted}
    assert counted == {"cpu:0", "dram:0", "cpu:1", "dram:1"}
    continuing = {entry.id: entry.standby_for for entry in session.entries if entry.standby_for}
    assert continuing == {"cpu:0@rapl_perf": "cpu:0", "dram:0@rapl_perf": "dram:0"}
    seconds = (end.t_ns - start.t_ns) / 1e9
    assert known.joules == pytest.approx(180 * seconds, rel=0.03)
    assert known.quality == "measured"
    assert {name: part.joules / seconds for name, part in known.by_device.items()} == (
        pytest.approx({"cpu:0": 60, "dram:0": 20, "cpu:1": 90, "dram:1": 10}, rel=0.05)
    )
    assert whole.coverage == pytest.approx(1.0, abs=0.01)
    assert levels == sorted(levels)
    assert {one.owner for one in session.successions()} == {"cpu:0", "dram:0"}


TRAINING = """
import sys, time
from pathlib import Path
from carbontracker.tracker import CarbonTracker

tracker = CarbonTracker(epochs=2, epochs_before_pred=0, location="DK", log_dir=sys.argv[1])
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(1.0)
    Path(sys.argv[2]).touch()
    time.sleep(1.0)
    tracker.epoch_end()
"""


def environment_of(root: Path, nvml: FakeNvml, gate: Path) -> dict[str, str]:
    return {
        **os.environ,
        **nvml.environment,
        "FAKE_NVML_INIT_GATE": str(gate),
        "CARBONTRACKER_ROOT": str(root),
        "CARBONTRACKER_NVML": str(nvml.library),
        "CARBONTRACKER_OFFLINE": "1",
    }


def finished(
    command: list[str], environment: dict[str, str], *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=check
    )


def test_a_driver_that_never_answers_is_named_at_the_end_as_well(tmp_path: Path) -> None:
    root = fake_host(tmp_path, machine_tree())
    training = TRAINING.replace("Path(sys.argv[2]).touch()", "pass")
    out = tmp_path / "result.json"
    ours = [sys.executable, "-m", "carbontracker", "run", "--json", str(out)]
    with fake_nvml(tmp_path, [{"power": "constant:250"}]) as nvml:
        tracker, command = (
            finished(words, environment_of(root, nvml, tmp_path / "gate"))
            for words in (
                [sys.executable, "-c", training, str(tmp_path / "logs"), ""],
                [*ours, "--log-dir", str(tmp_path / "more"), "--", "true"],
            )
        )
    line = "gpu is not measured: nvml did not answer until the end; the total may lack it"
    assert line in tracker.stdout
    assert line in command.stderr
    assert json.loads(out.read_text())["unanswered"] == [{"source": "nvml", "what": "gpu"}]
    for folder in ("logs", "more"):
        (record,) = (tmp_path / folder).glob("*.jsonl")
        assert f"{line}." in list(notes(read_run(record)))


def test_samples_of_a_device_that_joined_late_are_read_as_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Path
) -> None:
    pytest.importorskip("pyarrow")
    with fake_nvml(tmp_path, [{"power": "constant:250", "arch": 7}]) as nvml:
        session = late_gpu(tmp_path, monkeypatch, nvml)
        try:
            session.start()
            path = tmp_path / "late.arrow"
            writer = SampleWriter(session, path, "id", every_s=0.05)
            gate.touch()
            assert eventually(lambda: "gpu:0" in ids(session))
            index = ids(session).index("gpu:0")
            assert eventually(lambda: len(session.power(index, 0, time.monotonic_ns())[0]) > 10)
            writer.close()
            with SampleFile(path) as samples:
                assert "gpu:0" not in [one["id"] for one in samples.about["channels"]]
            power = read_power(path).devices
            uncounted = {e.id for e in session.entries if not e.counted}
        finally:
            session.close()
    assert set(power) >= {"gpu:0"}
    assert not set(power) & uncounted
    seconds = float(power["gpu:0"].edges_ns[-1] - power["gpu:0"].edges_ns[0]) / 1e9
    assert power["gpu:0"].joules == pytest.approx(250 * seconds, rel=0.03)


def test_the_record_the_console_and_the_report_name_late_sensors(tmp_path: Path) -> None:
    root = fake_host(tmp_path, machine_tree())
    with fake_nvml(tmp_path, [{"power": "constant:250", "arch": 7}]) as nvml:
        done = finished(
            [sys.executable, "-c", TRAINING, str(tmp_path / "logs"), str(tmp_path / "gate")],
            environment_of(root, nvml, tmp_path / "gate"),
        )
    assert re.search(
        r"gpu \(nvml\): no answer for \d+ s: it is measured from its first answer", done.stderr
    )
    assert "s after the start; before that it was not measured" in done.stderr
    (record,) = (tmp_path / "logs").glob("*.jsonl")
    assert not list(check_file(record))
    events = [json.loads(line) for line in record.read_text().splitlines()]
    joined = {event["id"]: event for event in events if event["event"] == "sensor_joined"}
    assert joined["gpu:0"]["source"] == "nvml"
    assert joined["gpu:0"]["seconds_after_start"] >= 0.0
    run = read_run(record)
    assert "gpu:0" in {sensor.id for sensor in run.metadata.sensors}
    assert any("gpu:0 joined" in note for note in notes(run))
    assert run.epochs[1].energy.by_device["gpu:0"].joules > 0
    assert run.epochs[0].energy.by_device["gpu:0"].coverage < 1


@pytest.mark.parametrize("use", ["run", "tracker", "measure", "track"])
def test_a_program_runs_and_ends_beside_a_driver_that_never_answers(
    tmp_path: Path, use: str
) -> None:
    programs = {
        "tracker": "from carbontracker.tracker import CarbonTracker as T\n"
        "tracker = T(epochs=1)\ntracker.epoch_start()",
        "measure": "import carbontracker as ct\nwith ct.measure('x'): pass",
        "track": "import carbontracker as ct\nct.track(lambda: None)()",
    }
    command = (
        [sys.executable, "-m", "carbontracker", "run", "--", "sh", "-c", "echo TRAINED; exit 7"]
        if use == "run"
        else [sys.executable, "-c", programs[use] + "\nprint('TRAINED')\nraise SystemExit(7)"]
    )
    root = fake_host(tmp_path, machine_tree())
    with fake_nvml(tmp_path, [{"power": "constant:250"}]) as nvml:
        done = finished(command, environment_of(root, nvml, tmp_path / "never"), check=False)
    assert "TRAINED" in done.stdout
    assert done.returncode == 7
    if use in {"run", "tracker"}:
        assert re.search("nvml.* (no|not) answer", done.stderr)


def test_sensors_waits_and_an_interrupt_ends_it(tmp_path: Path) -> None:
    root = fake_host(tmp_path, machine_tree())
    with fake_nvml(tmp_path, [{"power": "constant:250"}]) as nvml:
        command = [sys.executable, "-m", "carbontracker", "sensors"]
        looking = subprocess.Popen(
            command,
            env=environment_of(root, nvml, tmp_path / "never"),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with looking:
            assert looking.stderr is not None
            assert "waiting for a driver to answer" in looking.stderr.readline()
            looking.send_signal(signal.SIGINT)
            assert looking.wait(PATIENCE_S) in {130, -signal.SIGINT}
        (tmp_path / "gate").touch()
        found = finished(command, environment_of(root, nvml, tmp_path / "gate"))
    assert "gpu:0" in found.stdout


# ---- files ---------------------------------------------------------------------------------

MIB_2 = "1" * (2 << 20)


def whole_machine() -> dict[str, Value]:
    """Return a machine with every kind of file that probing opens."""
    pci = "sys/bus/pci/devices/0000:10:00.0"
    return {
        **machine_tree(),
        **powercap_tree(1, children=("dram",), psys=False, mmio=False),
        **pmu_tree(24, "0"),
        **places_tree(1),
        "sys/devices/system/cpu/cpu0/topology/die_id": 0,
        "proc/sys/kernel/perf_event_paranoid": 2,
        "dev/cpu/0/msr": "",
        "dev/cpu/0/msr_safe": "",
        f"{pci}/vendor": "0x10de",
        f"{pci}/class": "0x030200",
        f"{pci}/power/runtime_status": "active",
    }


def files_below(root: Path) -> list[str]:
    # What is linked lies elsewhere below the root.
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def put(path: Path, what: str) -> None:
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "zeros":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    else:
        path.write_text(MIB_2)


@pytest.mark.parametrize("what", ["pipe", "zeros", "folder", "large"])
def test_any_object_in_the_place_of_a_file_hangs_nothing(tmp_path: Path, what: str) -> None:
    original = fake_host(tmp_path, whole_machine())
    for name in files_below(original):
        root = tmp_path / "bent"
        shutil.copytree(original, root, symlinks=True)
        put(root / name, what)
        session = Session.probe(
            Config(root=str(root), nvml_library="/nonexistent", gpus_of_process=True), PATIENCE_S
        )
        assert not [m.source for m in session.missing if m.awaited], name
        assert session.entries, name
        session.close()
        shutil.rmtree(root)


@pytest.mark.parametrize("what", ["pipe", "zeros", "folder", "large"])
def test_any_object_in_the_place_of_a_file_delays_no_tracker(tmp_path: Path, what: str) -> None:
    """Python's files of the machine, too: all of them at once, and those of the core."""
    names = ("etc/carbontracker.ini", "etc/timezone", "etc/os-release", "proc/1/cgroup")
    dmi = [f"sys/class/dmi/id/{name}" for name in ("sys_vendor", "product_name", "board_vendor")]
    root = fake_host(tmp_path, whole_machine() | dict.fromkeys((*names, *dmi), "x"))
    for name in files_below(root):
        put(root / name, what)
    user = tmp_path / "config" / "carbontracker.ini"
    user.parent.mkdir()
    user.touch()
    put(user, what)
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))\n"
        "from carbontracker.tracker import CarbonTracker\n"
        "tracker = CarbonTracker(1, record=False)\n"
        "tracker.epoch_start(); tracker.epoch_end()\n"
        "print(tracker.result.finished_epochs)\n"
    )
    environment = {
        "CARBONTRACKER_ROOT": str(root),
        "CARBONTRACKER_NVML": "/nonexistent",
        "CARBONTRACKER_OFFLINE": "1",
        "XDG_CONFIG_HOME": str(user.parent),
    }
    ran = finished(
        [sys.executable, "-c", program],
        {k: v for k, v in os.environ.items() if k != "TZ"} | environment,
        check=False,
    )
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "1"), ran.stderr
    assert "without monitoring" not in ran.stderr


def test_a_library_that_is_a_pipe_is_not_loaded(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "libnvidia-ml.so.1")
    root = fake_host(tmp_path, machine_tree())
    pipe = str(tmp_path / "libnvidia-ml.so.1")
    session = Session.probe(Config(root=str(root), nvml_library=pipe, perf_library=pipe), 5.0)
    assert ids(session) == ["cpu:0", "dram:0"]
    assert not [m for m in session.missing if m.awaited]


def test_python_reads_regular_files_only_and_no_more_than_a_mebibyte(tmp_path: Path) -> None:
    for what in ("pipe", "zeros", "folder"):
        path = tmp_path / what
        path.touch()
        put(path, what)
        with pytest.raises(OSError, match=r"not a regular file|directory"):
            host_text(path)
    (tmp_path / "large").write_text(MIB_2)
    assert len(host_text(tmp_path / "large")) == MAX_BYTES
    dmi = tmp_path / "sys/class/dmi/id"
    dmi.mkdir(parents=True)
    for name in ("sys_vendor", "board_vendor", "bios_vendor", "product_name", "chassis_asset_tag"):
        os.mkfifo(dmi / name)
    assert looks_like({}, tmp_path) is None
