"""Several processes on one node: one of them reads each sensor, for all of them."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
    from pathlib import Path

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


def test_a_follower_has_every_sample_of_the_reader(node: Node) -> None:
    members = [node.member(CARBONTRACKER_RATE_HZ="1000").ready() for _ in range(2)]
    for member in members:
        member.ask("mark")
    time.sleep(3.0)
    follower = next(member for member in members if reads(member) == 0)
    for member in (follower, *members):
        member.ask("mark")
    for member in members:
        assert member.ask("final", 1)
    entries = list(follower.ask("state")["readers"])
    for index, entry in enumerate(entries):
        mine, of_reader = (
            dict(zip(*member.ask("power", index, 0, 1), strict=True))
            for member in (follower, next(m for m in members if m is not follower))
        )
        begin, end = max(map(min, (mine, of_reader))), min(map(max, (mine, of_reader)))
        between = [{t for t in series if begin < t < end} for series in (mine, of_reader)]
        assert between[0] >= between[1], entry  # the follower lacks none
        assert between[0]


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
