"""Several processes on one node: one of them reads each sensor, for all of them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release
from tests.support.fakehost import energy_key, fake_host, powercap_tree
from tests.support.running import (
    CARDS,
    Counter,
    FakeNvml,
    RunningPowercap,
    fake_nvml,
    running_powercap,
)
from tests.support.sharing import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DEADLINE_S = 60.0
GPU_WATTS = (250.0, 130.0)
CPU_WATTS = 90.0
MARGIN_J = 4.0
"""Half of what the GPUs draw in one refresh period: a mark of a short window lies within one."""


@dataclass
class Node:
    """A machine with two GPUs and a processor, and where its processes share readings."""

    folder: Path
    nvml: FakeNvml
    powercap: RunningPowercap
    environment: dict[str, str]
    stack: ExitStack

    def member(self, **variables: str) -> Member:
        """Start a process that measures."""
        return self.stack.enter_context(Member(self.environment | variables))

    def members(self, count: int) -> list[Member]:
        """Start processes at the same time."""
        return [member.ready() for member in [self.member() for _ in range(count)]]

    def files(self) -> list[Path]:
        """Return the shared files."""
        return sorted(self.folder.glob("carbontracker-*"))

    def truth(self, start_ns: int, end_ns: int) -> float:
        """Return the joules of all devices."""
        gpus = sum(self.nvml.truth(i, start_ns, end_ns) for i in range(len(GPU_WATTS)))
        return gpus + self.powercap.truth(0, start_ns, end_ns)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    folder = tmp_path / "shm"
    folder.mkdir()
    root = fake_host(tmp_path / "host", powercap_tree(1, children=(), psys=False, mmio=False))
    counter = Counter(root / energy_key("intel-rapl:0"), f"constant:{CPU_WATTS}")
    boards = [CARDS["v100"] | {"power": f"constant:{watts}"} for watts in GPU_WATTS]
    with (
        running_powercap(tmp_path, [counter]) as powercap,
        fake_nvml(tmp_path, boards) as nvml,
        ExitStack() as stack,
    ):
        environment = nvml.environment | {
            "CARBONTRACKER_ROOT": str(root),
            "CARBONTRACKER_NVML": str(nvml.library),
            "CARBONTRACKER_SHARE": str(folder),
        }
        yield Node(folder, nvml, powercap, environment, stack)


def reads(member: Member) -> int:
    """Return how often a process has read sensors."""
    return sum(member.ask("state")["reads"].values())


def reader_of(members: list[Member]) -> Member:
    """Return the only one of these processes that reads."""
    readers = [member for member in members if reads(member) > 0]
    assert len(readers) == 1
    return readers[0]


def follows(member: Member, reader: Member) -> bool:
    """Return whether a process takes all samples from another one."""
    return set(member.ask("state")["readers"].values()) == {reader.pid}


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def assert_right(node: Node, member: Member, i: int, j: int, times: tuple[int, int]) -> None:
    """Hold the energy between two marks of a process against the truth."""
    assert member.ask("final", j)
    energy: dict[str, Any] = member.ask("energy", i, j)
    truth = node.truth(*times)
    bar = min(energy["error_joules"], 0.03 * truth)  # short windows on a busy machine
    assert energy["joules"] == pytest.approx(truth, rel=0.002, abs=max(MARGIN_J, bar))
    assert energy["coverage"] == pytest.approx(1.0)


def assert_all_right(node: Node, members: Sequence[Member], seconds: float) -> None:
    """Each member measures the next seconds rightly."""
    starts = [member.ask("mark") for member in members]
    time.sleep(seconds)
    ends = [member.ask("mark") for member in members]
    for member, *times in zip(members, starts, ends, strict=True):
        assert_right(node, member, 0, 1, tuple(times))


@contextmanager
def stopped(member: Member) -> Iterator[None]:
    os.kill(member.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(member.pid, signal.SIGCONT)


def test_one_process_reads_for_all(node: Node) -> None:
    members = node.members(4)
    assert_all_right(node, members, 2.0)
    reader = reader_of(members)
    for member in members:
        state = member.ask("state")
        samplers = {"ct-nvml", "ct-powercap"} & set(state["threads"])
        assert bool(samplers) == (member is reader)
        expected = 0 if member is reader else reader.pid
        assert set(state["readers"].values()) == {expected}
    assert len(node.files()) == 1
    assert node.files()[0].stat().st_mode & 0o777 == 0o600
    for member in members:
        assert member.ask("stop") == "stopped"
    assert node.files() == []


def test_a_follower_has_the_samples_of_the_reader_and_no_others(node: Node) -> None:
    members = [node.member(CARBONTRACKER_RATE_HZ="1000").ready() for _ in range(2)]
    start = max(member.ask("mark") for member in members)
    time.sleep(3.0)
    end = min(member.ask("mark") for member in members)
    time.sleep(0.2)
    for member in members:
        member.ask("mark")
        assert member.ask("final", 2)
    entries = list(members[0].ask("state")["readers"])
    for index, entry in enumerate(entries):
        of_reader, of_follower = (member.ask("power", index, start, end) for member in members)
        assert of_reader == of_follower, entry
        assert len(of_reader[0]) > 10


def test_a_stopped_reader_that_comes_back_is_the_only_reader_again(node: Node) -> None:
    members = node.members(3)
    reader = reader_of(members)
    others = [member for member in members if member is not reader]
    starts = [member.ask("mark") for member in members]
    with stopped(reader):
        assert eventually(lambda: all(reads(member) > 0 for member in others))
        late = node.member().ready()
        assert reads(late) > 0  # it does not wait for a reader that has stopped
    others.append(late)
    for member in others:
        assert eventually(partial(follows, member, reader))
        assert not {"ct-nvml", "ct-powercap"} & set(member.ask("state")["threads"])
    before = [reads(member) for member in others]
    for member, start in zip(members, starts, strict=True):
        end = member.ask("mark")
        if member is not reader:  # it has no power of its own time asleep, but counters
            assert_right(node, member, 0, 1, (start, end))
    assert_all_right(node, [late], 1.0)
    assert [reads(member) for member in others] == before
    assert set(reader.ask("state")["readers"].values()) == {0}
    reader.close()
    assert eventually(lambda: any(reads(m) > n for m, n in zip(others, before, strict=True)))
    starts = [member.ask("mark") for member in others]
    time.sleep(2.0)
    for member, start in zip(others, starts, strict=True):
        assert_right(node, member, 2, 3, (start, member.ask("mark")))


@pytest.mark.parametrize("has_child", [False, True])
def test_a_killed_reader_is_replaced_and_no_energy_is_lost(node: Node, has_child: bool) -> None:
    members = node.members(3)
    starts = [member.ask("mark") for member in members]
    reader = reader_of(members)
    if has_child:
        reader.ask("fork")
    time.sleep(0.5)
    os.kill(reader.pid, signal.SIGKILL)
    at = members.index(reader)
    del members[at], starts[at]
    assert eventually(lambda: any(reads(member) > 0 for member in members))
    time.sleep(4.0)  # the next reader learns when the counters change
    ends = [member.ask("mark") for member in members]
    for member, *times in zip(members, starts, ends, strict=True):
        assert_right(node, member, 0, 1, tuple(times))
    assert set(reader_of(members).ask("state")["readers"].values()) == {0}


def test_a_killed_follower_changes_nothing(node: Node) -> None:
    members = node.members(2)
    starts = [member.ask("mark") for member in members]
    reader = reader_of(members)
    follower = next(member for member in members if member is not reader)
    os.kill(follower.pid, signal.SIGKILL)
    time.sleep(1.5)
    times = (starts[members.index(reader)], reader.ask("mark"))
    assert_right(node, reader, 0, 1, times)
    late = node.member().ready()
    late.ask("mark")
    assert reads(late) == 0


def test_a_stopped_reader_keeps_its_place(node: Node) -> None:
    members = node.members(3)
    starts = [member.ask("mark") for member in members]
    reader = reader_of(members)
    followers = [member for member in members if member is not reader]
    with stopped(reader):
        time.sleep(0.3)
        for member in followers:
            member.ask("mark")
        time.sleep(5.0)
        for member in followers:
            assert not member.ask("is_final", 1)
            assert reads(member) == 0
    time.sleep(1.0)
    for member in followers:
        end = member.ask("mark")
        assert_right(node, member, 0, 2, (starts[members.index(member)], end))
        assert reads(member) == 0


def test_a_reader_that_ends_is_replaced(node: Node) -> None:
    members = node.members(2)
    reader = reader_of(members)
    (follower,) = (member for member in members if member is not reader)
    start = follower.ask("mark")
    assert reader.ask("stop") == "stopped"
    assert eventually(lambda: reads(follower) > 0)
    time.sleep(0.5)
    assert_right(node, follower, 0, 1, (start, follower.ask("mark")))


def test_processes_with_another_rate_do_not_meet(node: Node) -> None:
    one = node.member().ready()
    other = node.member(CARBONTRACKER_RATE_HZ="50").ready()
    assert reads(one) > 0
    assert reads(other) > 0
    assert len(node.files()) == 2


def test_sharing_can_be_switched_off(node: Node) -> None:
    for member in [node.member(CARBONTRACKER_SHARE="0").ready() for _ in range(2)]:
        assert reads(member) > 0
    assert node.files() == []


@pytest.mark.parametrize("damage", ["noise", "empty", "short"])
def test_a_damaged_file_is_used_again(node: Node, damage: str) -> None:
    first = node.member().ready()
    (path,) = node.files()
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    size = path.stat().st_size
    path.write_bytes(
        {"noise": random.Random(4).randbytes(size), "empty": b"", "short": b"x" * 5000}[damage]
    )
    members = node.members(2)
    assert_all_right(node, members, 1.0)


def test_scribbles_over_the_file_cost_no_energy(node: Node) -> None:
    members = node.members(2)
    starts = [member.ask("mark") for member in members]
    (path,) = node.files()
    draw = random.Random(5)
    size = path.stat().st_size
    deadline = time.monotonic() + 4.0
    while time.monotonic() < deadline:
        with path.open("r+b") as file:
            for _ in range(20):
                file.seek(draw.randrange(size))
                file.write(draw.randbytes(draw.randrange(1, 5000)))
            if draw.random() < 0.05:
                file.truncate(draw.randrange(size))
        time.sleep(0.01)
    time.sleep(2.5)  # the reader writes once a second
    ends = [member.ask("mark") for member in members]
    for member, *times in zip(members, starts, ends, strict=True):
        assert_right(node, member, 0, 1, tuple(times))


@pytest.mark.parametrize("obstacle", ["absent folder", "link", "owner"])
def test_what_cannot_be_shared_is_named_once(
    node: Node, obstacle: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)
    if obstacle == "absent folder":
        monkeypatch.setenv("CARBONTRACKER_SHARE", str(node.folder / "absent"))
    else:
        first = node.member().ready()
        (path,) = node.files()
        first.close()
        if obstacle == "link":
            path.unlink()
            path.symlink_to(node.folder / "elsewhere")
        elif os.geteuid() == 0:
            os.chown(path, 1, 1)
        else:
            pytest.skip("only root can give a file away")
    session = acquire(Config.from_environment())
    try:
        assert sum(one.reads for one in session.stats().values()) > 0
        assert set(session.reader_pids()) == {0}
    finally:
        release(session)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "readings cannot be shared" in line]) == 1
    assert not (node.folder / "elsewhere").exists()


def test_sessions_of_one_process_share_too_and_the_file_may_be_closed_elsewhere(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)
    first = acquire(Config.from_environment())
    second = acquire(Config.from_environment(kinds=("gpu",)))
    try:
        assert first is not second
        assert sum(one.reads for one in second.stats().values()) == 0
        assert set(second.reader_pids()) == {os.getpid()}
        (path,) = node.files()
        path.open("rb").close()  # POSIX locks of this process end here
        start = second.mark()
        time.sleep(2.5)
        other = node.member().ready()
        assert reads(other) == 0
        release(first)
        assert eventually(
            lambda: sum(one.reads for one in second.stats().values()) > 0 or reads(other) > 0
        )
        time.sleep(0.5)
        end = second.mark()
        assert second.await_final(end, timeout_s=10.0)
        gpus = sum(node.nvml.truth(i, start.t_ns, end.t_ns) for i in range(len(GPU_WATTS)))
        assert second.energy(start, end).joules == pytest.approx(gpus, rel=0.002, abs=MARGIN_J)
    finally:
        release(second)
        release(first)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory, as a container's /dev/shm is."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def failure_here(node: Node, monkeypatch: pytest.MonkeyPatch) -> str:
    """Measure in this process; return why readings are not shared."""
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)
    session = acquire(Config.from_environment())
    try:
        assert sum(one.reads for one in session.stats().values()) > 0
        assert set(session.read_by().values()) == {"this process"}
        return session.share_failure
    finally:
        release(session)


@pytest.mark.parametrize(
    ("options", "filled_mb", "why"),
    [
        ("size=16m", 0, "less than 32 MiB would stay free"),
        ("size=64m", 40, "less than 32 MiB would stay free"),
        ("size=33m", 0, "no room for the channels"),
        ("size=64m,ro", 0, "read-only file system"),
        ("size=64m,noexec,nosuid,nodev", 0, ""),
    ],
)
def test_a_folder_with_little_room_or_rights(
    node: Node, monkeypatch: pytest.MonkeyPatch, options: str, filled_mb: int, why: str
) -> None:
    with mounted(node.folder, options):
        if filled_mb:
            (node.folder / "filling").write_bytes(bytes(filled_mb << 20))
        failure = failure_here(node, monkeypatch)
        assert why in failure
        assert bool(failure) == bool(why)
        assert not [path for path in node.files() if why]


def test_what_was_not_asked_for_is_no_warning(
    node: Node, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARBONTRACKER_SHARE")
    for name, value in node.environment.items():
        if name != "CARBONTRACKER_SHARE":
            monkeypatch.setenv(name, value)
    caplog.set_level("INFO", "carbontracker")
    session = acquire(replace(Config.from_environment(), share=str(node.folder / "absent")))
    release(session)
    (line,) = [record for record in caplog.records if "cannot be shared" in record.getMessage()]
    assert line.levelname == "INFO"


def test_files_of_killed_processes_are_removed_and_no_others(node: Node) -> None:
    living = node.member(CARBONTRACKER_RATE_HZ="40").ready()
    (kept,) = node.files()
    killed = [node.member(CARBONTRACKER_RATE_HZ=rate).ready() for rate in ("20", "30")]
    assert len(node.files()) == 3
    for member in killed:
        member.close()
    foreign = node.folder / f"carbontracker-{os.geteuid() + 1}-{kept.name[-16:]}"
    foreign.write_bytes(b"of another user")
    assert len(node.files()) == 4
    late = node.member(CARBONTRACKER_RATE_HZ="50").ready()
    left = node.files()
    assert {kept, foreign} < set(left)
    assert len(left) == 3
    follower = node.member(CARBONTRACKER_RATE_HZ="40").ready()
    assert reads(follower) == 0
    assert set(follower.ask("state")["readers"].values()) == {living.pid}
    assert reads(late) > 0


def test_the_same_folder_name_with_another_folder_behind_it_is_another_machine(
    node: Node, tmp_path: Path
) -> None:
    node.member().ready()
    (tmp_path / "host").rename(tmp_path / "before")
    shutil.copytree(tmp_path / "before", tmp_path / "host", symlinks=True)
    other = node.member().ready()
    assert reads(other) > 0
    assert len(node.files()) == 2


WORKERS = """
import multiprocessing, sys
from carbontracker import measure
from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release

def work(_):
    session = acquire(Config.from_environment())
    try:
        start = session.mark()
        end = session.mark()
        assert session.await_final(start, end, timeout_s=10.0)
        return [sum(one.reads for one in session.stats().values()), *set(session.reader_pids())]
    finally:
        release(session)

if __name__ == "__main__":
    with measure():
        pass
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        found = pool.map(work, range(2))
    import os
    assert found == [[0, os.getpid()]] * 2, found
    print("as it should be")
"""

DAEMON = """
import os, sys, time
from carbontracker import measure
with measure():
    pass
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(3, 256)
with measure() as window:
    time.sleep(1.0)
window.wait(10.0)
print(window.energy.joules > 100, window.energy.coverage > 0.9, window.final, flush=True)
"""

INNER = """
from carbontracker.tracker import CarbonTracker
tracker = CarbonTracker(2, verbose=0)
for _ in tracker.epochs():
    pass
"""


def program(node: Node, *command: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | node.environment | variables,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_follow_the_process_that_started_them(
    node: Node, tmp_path: Path, method: str
) -> None:
    script = tmp_path / "workers.py"
    script.write_text(WORKERS, encoding="utf-8")
    assert "as it should be" in program(node, str(script), method)
    assert node.files() == []


def test_a_daemon_measures_by_itself(node: Node) -> None:
    assert program(node, "-c", DAEMON).split() == ["True", "True", "True"]


def test_trackers_inside_a_wrapped_program_follow_it_and_the_record_says_so(
    node: Node, tmp_path: Path
) -> None:
    records = tmp_path / "records"
    program(
        node,
        *("-m", "carbontracker", "run", sys.executable, "-c", INNER),
        CARBONTRACKER_DIR=str(records),
    )
    events = [
        json.loads(line)
        for path in records.glob("*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    pids = {one["run_id"]: one["pid"] for one in events if one["event"] == "run_started"}
    inner, outer = sorted(
        (one for one in events if one["event"] == "run_finished"), key=lambda one: "epochs" in one
    )[::-1]
    assert set(outer["read_by"].values()) == {"this process"}
    assert set(inner["read_by"].values()) == {f"process {pids[outer['run_id']]}"}
    assert set(inner["read_by"]) >= {"gpu:0", "gpu:1", "cpu:0"}


def test_the_list_of_sensors_names_the_reader(node: Node) -> None:
    reader = node.member().ready()
    found = json.loads(program(node, "-m", "carbontracker", "sensors", "--json"))
    assert {one["read_by"] for one in found["readable"]} == {f"process {reader.pid}"}
    assert found["not_shared"] == ""
    text = program(node, "-m", "carbontracker", "sensors")
    assert f"read by process {reader.pid}" in text


def open_files_in(folder: Path) -> int:
    """Return how many files of a folder this process has open."""
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder with the descriptors
            count += folder in path.readlink().parents
    return count


def test_a_session_that_has_stopped_holds_no_file(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)
    stopped_sessions = []
    counts = []
    for _ in range(4):
        session = acquire(Config.from_environment())
        session.mark()
        release(session)
        stopped_sessions.append(session)
        counts.append(open_files_in(node.folder))
        assert set(session.read_by().values()) == {"this process"}
    assert counts == [0] * 4
    assert node.files() == []
