"""Every sample on disk: whole up to the last batch whatever happens, and private."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carbontracker.cli import main
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import Mark, acquire, release
from carbontracker.model.run_ending import RunEnding
from carbontracker.records.reader import read_run
from carbontracker.records.validate import check_file
from carbontracker.report.trace import write
from carbontracker.traces.power import power_of_record
from carbontracker.traces.samples import (
    SampleFile,
    SampleWriter,
    power_of_run,
    read_power,
    samples_path,
    start_sample_writer,
)
from carbontracker.tracker import CarbonTracker
from tests.support.programs import (
    CPU_WATTS,
    DEVICES,
    GPU_WATTS,
    PRELUDE,
    hide_sensors,
    python,
    read_record,
    record_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.energy.session import Session

WITHOUT = 'sys.modules["pyarrow"] = None\n'
"""In a program: pyarrow cannot be imported."""


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


@pytest.fixture(name="pyarrow")
def needs_pyarrow() -> Any:
    return pytest.importorskip("pyarrow")


@pytest.fixture(name="session")
def a_session() -> Iterator[Session]:
    devices = (
        SimulatedDevice("gpu", "A", "square:60,300,0.05,0.5"),
        SimulatedDevice("cpu", "B", "sine:100,50,0.07"),
    )
    session = acquire(Config.from_environment(simulated=devices))
    yield session
    release(session)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return all rows, the wall clock in nanoseconds since 1970."""
    rows = []
    with SampleFile(path) as samples:
        for batch in samples.batches():
            columns = [batch.column(i) for i in range(batch.num_columns)]
            columns[1] = columns[1].cast("int64")
            values = zip(*(column.to_pylist() for column in columns), strict=True)
            rows += [dict(zip(samples.schema.names, row, strict=True)) for row in values]
    return rows


def batches_in(path: Path) -> int:
    with SampleFile(path) as samples:
        return sum(1 for _ in samples.batches())


def of_channel(rows: list[dict[str, Any]], channel: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["channel"] == channel]


# ---- what is in it -------------------------------------------------------------------------


def test_rows_add_up_to_the_energy_of_the_session(
    pyarrow: Any, session: Session, tmp_path: Path
) -> None:
    path = tmp_path / "a.arrow"
    writer = SampleWriter(session, path, "id", every_s=0.02)
    while batches_in(path) < 4:
        time.sleep(0.02)
    writer.close()
    writer.close()  # again, which does nothing
    assert path.stat().st_mode & 0o777 == 0o600
    with SampleFile(path) as samples:
        assert samples.complete
        assert samples.about["run_id"] == "id"
        channels = samples.about["channels"]
        assert [(one["id"], one["counted"]) for one in channels] == [
            ("gpu:0", True),
            ("cpu:0", True),
        ]
        assert samples.schema.names == ["t_ns", "time", "channel", "watts", "counted"]
    rows = rows_of(path)
    for channel in ("gpu:0", "cpu:0"):
        mine = of_channel(rows, channel)
        times = np.array([row["t_ns"] for row in mine])
        assert (np.diff(times) > 0).all()
        assert mine[0]["watts"] is None
        watts = np.array([row["watts"] for row in mine[1:]])
        joules = float(np.sum(watts * np.diff(times)) / 1e9)
        ends = [Mark(None, False, int(t_ns)) for t_ns in (times[0], times[-1])]
        expected = session.energy(*ends).by_device[channel].joules
        assert joules == pytest.approx(expected, rel=1e-4)
        power = read_power(path).devices[channel]
        assert power.joules == pytest.approx(joules, rel=1e-12)
        # The wall clock beside each stamp is that of the anchor.
        apart_ns = np.array([row["time"] for row in mine]) - times
        assert np.ptp(apart_ns) < 1e6
        assert abs(apart_ns[0] - (time.time_ns() - time.monotonic_ns())) < 1e7
        assert abs(power.edges_ns[0] - mine[0]["time"]) < 1e6


def test_a_tracker_keeps_samples_and_its_record_names_them(pyarrow: Any, tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    tracker = CarbonTracker(
        2, verbose=0, log_dir=tmp_path, trace=path, update_interval=10, **DEVICES
    )
    for _ in tracker.epochs():
        time.sleep(0.3)
    assert tracker.trace == path
    events = {event["event"]: event for event in read_record(tmp_path)}
    assert events["samples"]["path"] == str(path)
    assert [str(one) for one in check_file(record_file(tmp_path))] == []
    rows = rows_of(path)
    for channel, watts in (("gpu:0", GPU_WATTS), ("cpu:0", CPU_WATTS)):
        known = [row["watts"] for row in of_channel(rows, channel)[1:]]
        assert known == pytest.approx([watts] * len(known), rel=1e-3)
    # Views draw the samples rather than the record's grid, which has one step an epoch here.
    run = read_run(record_file(tmp_path))
    coarse, fine = power_of_record(run), power_of_run(run)
    for device in coarse.devices:
        assert len(fine.devices[device].watts) > len(coarse.devices[device].watts)
        # On one clock: the samples lie within the run, from after its beginning on.
        inside = coarse.devices[device].edges_ns[[0, -1]]
        assert inside[0] <= fine.devices[device].edges_ns[0] < inside[1]
    trace = write(run, tmp_path / "trace.json")
    assert len(trace.devices["gpu:0"].watts) == len(fine.devices["gpu:0"].watts)
    # Not of a sensor that was found wrong: its samples are still what it reported.
    succeeded = {"successions": [{"owner": "gpu:0", "successor": "x", "t_ns": 1, "why": "stuck"}]}
    doubted = power_of_run(replace(run, ending=RunEnding.from_dict(succeeded)))
    assert len(doubted.devices["gpu:0"].watts) == len(coarse.devices["gpu:0"].watts)
    assert len(doubted.devices["cpu:0"].watts) == len(fine.devices["cpu:0"].watts)
    path.unlink()
    assert len(power_of_run(run).devices["gpu:0"].watts) == len(coarse.devices["gpu:0"].watts)


def test_a_samples_file_that_is_spoilt_leaves_the_record_to_draw(
    pyarrow: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = CarbonTracker(1, verbose=0, log_dir=tmp_path, trace=True, **DEVICES)
    for _ in tracker.epochs():
        time.sleep(0.02)
    (path,) = tmp_path.glob("*.arrow")
    path.write_bytes(b"no arrow")
    run = read_run(record_file(tmp_path))
    assert set(power_of_run(run).devices) == {"gpu:0", "cpu:0"}
    assert "the power is that of the record" in caplog.text


def test_where_samples_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trace must be True or the path of a file, not 3"):
        CarbonTracker(1, verbose=0, trace=3)  # type: ignore[arg-type]
    assert samples_path("x.arrow", lambda: tmp_path) == Path("x.arrow")
    first, second = (samples_path(True, lambda: tmp_path / "new") for _ in range(2))
    assert first.parent == tmp_path / "new"
    assert first != second
    assert first.suffix == ".arrow"


def test_a_command_keeps_samples(pyarrow: Any, tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    options = ["--quiet", "--log-dir", str(tmp_path), "--trace", str(path)]
    options += ["--sim-gpu", "A", "--sim-gpu-watts", "100", "--sim-gpu-util", "1"]
    assert main(["run", *options, "sleep", "0.2"]) == 0
    assert {row["channel"] for row in rows_of(path)} == {"gpu:0"}
    assert read_run(record_file(tmp_path)).complete
    # A file that is there is not overwritten, and nothing runs.
    size = path.stat().st_size
    assert main(["run", *options, "touch", str(tmp_path / "ran")]) == 2
    assert path.stat().st_size == size
    assert not (tmp_path / "ran").exists()


def test_parquet_has_the_same_rows(
    pyarrow: Any, tmp_path: Path, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyarrow import parquet

    path, out = tmp_path / "a.arrow", tmp_path / "a.parquet"
    writer = SampleWriter(session, path, every_s=0.02)
    time.sleep(0.2)
    writer.close()
    assert main(["trace", str(path), "--parquet", str(out)]) == 0
    said = capsys.readouterr().err
    assert "samples" in said
    assert "no end" not in said
    table = parquet.read_table(out)
    with SampleFile(path) as samples:
        assert table.equals(pyarrow.Table.from_batches(samples.batches()))
    assert main(["trace", str(path), "--out", str(tmp_path / "a.json")]) == 0


# ---- what goes wrong -----------------------------------------------------------------------

KILLED = (
    PRELUDE
    + """
from pathlib import Path
from carbontracker.traces.samples import SampleFile, SampleWriter
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import acquire
session = acquire(Config.from_environment(simulated=(SimulatedDevice("gpu", "A", "constant:100"),)))
path = Path(sys.argv[1])
writer = SampleWriter(session, path, every_s=0.03)
def batches():
    with SampleFile(path) as samples:
        return sum(1 for _ in samples.batches())
while batches() < 4:
    time.sleep(0.005)
print(batches(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
)


def test_a_killed_run_is_readable_up_to_its_last_batch(
    pyarrow: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "killed.arrow"
    done = python(KILLED, str(path))
    assert done.returncode == -9, done.stderr
    with SampleFile(path) as samples:
        assert not samples.complete
        assert len(list(samples.batches())) >= int(done.stdout) >= 4
    known = [row["watts"] for row in rows_of(path)[1:]]
    assert known == pytest.approx([100.0] * len(known), rel=1e-3)
    assert main(["trace", str(path), "--parquet", str(tmp_path / "p.parquet")]) == 0
    assert "no end marker" in capsys.readouterr().err
    # Cut anywhere after its beginning, as a power cut may do, it has every batch before the cut.
    whole, rows = path.read_bytes(), rows_of(path)
    with SampleFile(path) as samples:
        begins = len(samples.schema.serialize())
    for size in range(begins, len(whole), 97):
        path.write_bytes(whole[:size])
        cut = rows_of(path)
        assert cut == rows[: len(cut)]
    assert len(cut) > len(rows) / 2
    path.write_bytes(whole[: begins - 1])
    with pytest.raises(ValueError, match="not a file of samples"):
        SampleFile(path)


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
from pathlib import Path
from carbontracker.traces.samples import SampleWriter
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import acquire, release
gpu = SimulatedDevice("gpu", "A", "constant:100")
config = Config.from_environment(simulated=(gpu,), rate_hz=1000)
session = acquire(config)
writer = SampleWriter(session, Path(sys.argv[1]), every_s=0.02)
start = session.mark()
while any(thread.name == "carbontracker-trace" for thread in threading.enumerate()):
    time.sleep(0.01)
end = session.mark()
writer.close()
session.await_final(end)
print(session.energy(start, end).joules / ((end.t_ns - start.t_ns) / 1e9))
release(session)
"""


def test_a_full_disk_ends_the_file_and_nothing_else(pyarrow: Any, tmp_path: Path) -> None:
    path = tmp_path / "full.arrow"
    done = python(PRELUDE + FULL, str(path), CARBONTRACKER_SHARE="0")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(100, rel=0.3)
    assert done.stderr.count("end here, because writing failed: ") == 1
    assert 0 < path.stat().st_size <= 6000
    with SampleFile(path) as samples:
        assert not samples.complete
        assert sum(batch.num_rows for batch in samples.batches()) > 10


FORKED = """
import logging
tracker = CarbonTracker(1, verbose=0, log_dir=sys.argv[1], trace=sys.argv[2], **DEVICES)
tracker.epoch_start()
pid = os.fork()
if pid == 0:
    tracker.epoch_end()
    tracker.stop()
    sys.exit(0)
os.waitpid(pid, 0)
time.sleep(0.1)
tracker.epoch_end()
"""


def test_a_forked_child_leaves_the_file_to_its_parent(pyarrow: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    done = python(PRELUDE + FORKED, str(tmp_path), str(path))
    assert done.returncode == 0, done.stderr
    with SampleFile(path) as samples:
        assert samples.complete
    rows = of_channel(rows_of(path), "gpu:0")
    assert len(rows) > 3
    assert [row["t_ns"] for row in rows] == sorted({row["t_ns"] for row in rows})


def test_a_place_that_cannot_be_costs_no_training(
    pyarrow: Any, session: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = tmp_path / "there.arrow"
    there.write_text("mine")
    for path, why in [
        (there, "the file exists and is not overwritten"),
        (tmp_path / "no" / "a.arrow", "its directory does not exist"),
    ]:
        caplog.clear()
        assert start_sample_writer(session, path, None) is None
        assert "no samples are kept: " in caplog.text
        assert why in caplog.text
    assert there.read_text() == "mine"


def test_without_pyarrow_the_training_goes_on_after_one_warning(
    tmp_path: Path,
) -> None:
    program = """
tracker = CarbonTracker(1, verbose=0, log_dir=sys.argv[1], trace=True, **DEVICES)
for _ in tracker.epochs():
    pass
print(tracker.result.finished_epochs)
from carbontracker.cli import main
print(main(["run", "--quiet", "--trace", sys.argv[1] + "/x.arrow", "touch", sys.argv[1] + "/ran"]))
"""
    done = python(PRELUDE + WITHOUT + program, str(tmp_path))
    assert done.stdout.split()[-2:] == ["1", "2"], done.stderr
    assert done.stderr.count("pip install pyarrow") == 2
    assert not (tmp_path / "ran").exists()
    assert not list(tmp_path.glob("*.arrow"))


def test_no_thread_and_no_file_without_a_request(tmp_path: Path) -> None:
    program = """
tracker = CarbonTracker(1, verbose=0, log_dir=sys.argv[1], **DEVICES)
for _ in tracker.epochs():
    pass
print(json.dumps(sorted({"pyarrow", "carbontracker.traces.samples"} & set(sys.modules))))
"""
    done = python(PRELUDE + program, str(tmp_path))
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert not list(tmp_path.glob("*.arrow"))
