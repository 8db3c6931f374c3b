"""The share of a process or job in the energy of its machine, against a closed form."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

import carbontracker as ct
from carbontracker import CarbonTracker
from carbontracker.energy.cpu_usage import CpuUsage, Usage
from carbontracker.energy.processor_model import power_line, processors
from carbontracker.model.attribution import Attribution
from carbontracker.records.reader import read_run
from carbontracker.report.derived import provenance_of
from carbontracker.report.sentences import attribution_line
from carbontracker.training.attribution import Share
from tests.support.fakehost import Link, Value, fake_host
from tests.support.sensing import acpi_meter, machine, sensing

if TYPE_CHECKING:
    from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
CPUS = 8
WATTS = 120.0


@dataclass
class Process:
    """What ``/proc`` shows of a process; times in ticks."""

    pid: int
    cpus: str = "0-7"
    name: str = "python"
    start: int = 500
    children: list[int] = field(default_factory=list)
    threads: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By thread: ticks, and the CPU where it ran last."""
    ended: int = 0
    """Of threads that have ended."""
    reaped: int = 0

    def files(self) -> dict[str, Value]:
        threads = self.threads or {self.pid: (0, 0)}
        ticks = sum(ticks for ticks, _ in threads.values()) + self.ended
        folder = f"proc/{self.pid}"
        tree: dict[str, Value] = {
            f"{folder}/stat": self._stat(self.pid, ticks, self.reaped, 0),
            f"{folder}/status": f"Name:\t{self.name}\nCpus_allowed_list:\t{self.cpus}",
        }
        for thread, (own, cpu) in threads.items():
            task = f"{folder}/task/{thread}"
            tree[f"{task}/stat"] = self._stat(thread, own, 0, cpu)
            tree[f"{task}/children"] = ""
        first = next(iter(threads))
        tree[f"{folder}/task/{first}/children"] = " ".join(map(str, self.children))
        return tree

    def _stat(self, pid: int, ticks: int, reaped: int, cpu: int) -> str:
        before = f"{pid} ({self.name}) S 1 1 1 0 -1 0 0 0 0 0"
        times = f"{ticks - ticks // 4} {ticks // 4} {reaped} 0"
        return f"{before} {times} 20 0 1 0 {self.start} {'0 ' * 16}{cpu} 0 0"


class Machine:
    """A machine with packages of equal size, and what moves on it."""

    def __init__(self, tmp_path: Path, packages: int = 1) -> None:
        meters = [acpi_meter(n, f"Grace Power Socket {n}", WATTS) for n in range(packages)]
        tree = machine(*meters, cpus=CPUS)
        for cpu in range(CPUS):
            folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
            tree[f"{folder}/physical_package_id"] = cpu * packages // CPUS
        self.root = fake_host(tmp_path, tree)
        self.busy(dict.fromkeys(range(CPUS), 1_000))

    def put(self, tree: dict[str, Value]) -> None:
        fake_host(self.root.parent, tree)

    def show(self, *processes: Process) -> None:
        for process in processes:
            self.put(process.files())

    def end(self, process: Process) -> None:
        for path in sorted((self.root / f"proc/{process.pid}").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    def busy(self, ticks: dict[int, int]) -> None:
        lines = [f"cpu{cpu} {count} 0 0 9000 7 0 0 55 0 0" for cpu, count in ticks.items()]
        self.put({"proc/stat": "\n".join([f"cpu {sum(ticks.values())} 0 0 9 0", *lines])})

    def idle_joules(self, seconds: float) -> float:
        """Return that of one of all packages, if there is one."""
        line = power_line(processors(self.root))
        return line.idle_watts / processors(self.root).logical * CPUS * seconds


def test_two_processes_on_halves_of_a_package_add_up_to_it(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    one, two = Process(41, "0-3", name="a) (b"), Process(42, "4-7")
    host.show(one, two)
    with sensing(host.root) as session:
        shares = [Share(session, "process", process.pid) for process in (one, two)]
        start, before = session.mark(), [share.read() for share in shares]
        session.await_final(start, timeout_s=2)
        one.threads, two.threads = {41: (300, 0), 43: (90, 2)}, {42: (130, 5)}
        host.show(one, two)
        host.busy({cpu: 1_000 + (390 if cpu < 4 else 130) // 4 for cpu in range(CPUS)})
        after = [share.read() for share in shares]
        end = session.mark()
        session.await_final(end, timeout_s=2)
        energy = session.energy(start, end)
        parts = [
            share.of([(energy, *used)])
            for share, used in zip(shares, zip(before, after, strict=True), strict=True)
        ]
    whole, idle = energy.joules, host.idle_joules(energy.seconds)
    assert sum(part.joules for part in parts) == pytest.approx(whole, rel=0.02)
    for part, ticks in zip(parts, (390, 130), strict=True):
        assert part.joules == pytest.approx((whole - idle) * ticks / 520 + idle / 2, rel=0.05)
        assert part.idle_joules == pytest.approx(idle / 2, rel=1e-6)
        assert part.of_joules == pytest.approx(whole)
        assert part.how.endswith("4 of 8 CPUs")
        assert list(part.by_device) == ["cpu:0"]


def usage(before: Usage | None, after: Usage | None) -> list[float]:
    """Return the ticks of mine between two readings, by package."""
    assert before is not None
    assert after is not None
    return [round((after.mine[one] - before.mine[one]) / TICK_S, 6) for one in after.mine]


def test_a_child_that_was_waited_for_counts_once(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    parent, child = Process(41, children=[42]), Process(42, threads={42: (50, 1)})
    host.show(parent, child)
    reader = CpuUsage(host.root, "process", 41)
    first = reader.read()
    child.threads = {42: (80, 1)}
    host.show(child)
    second = reader.read()
    assert usage(first, second) == [30]
    # It ran 20 ticks more, ended, and its time became that of its parent; another came and went.
    host.end(child)
    parent.children, parent.reaped, parent.threads = [], 100 + 7, {41: (5, 0)}
    host.show(parent)
    third = reader.read()
    assert usage(second, third) == [20 + 7 + 5]


def test_an_orphan_stays_and_a_number_given_again_is_not_followed(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    parent, child = Process(41, children=[42]), Process(42)
    host.show(parent, child)
    reader = CpuUsage(host.root, "process", 41)
    first = reader.read()
    parent.children, child.threads = [], {42: (25, 1)}
    host.show(parent, child)
    second = reader.read()
    assert usage(first, second) == [25]
    host.end(child)
    host.show(Process(42, start=900, threads={42: (700, 1)}))  # a stranger
    assert usage(second, reader.read()) == [0]


def test_threads_that_have_ended_count_and_packages_are_split_by_threads(tmp_path: Path) -> None:
    host = Machine(tmp_path, packages=2)
    process = Process(41, threads={41: (10, 0), 45: (0, 6)})
    host.show(process)
    reader = CpuUsage(host.root, "process", 41)
    first = reader.read()
    process.threads, process.ended = {41: (20, 0), 45: (30, 6)}, 8
    host.show(process)
    second = reader.read()
    assert usage(first, second) == [12, 36]  # 48 ticks, as 10 to 30


def test_each_package_is_split_by_its_own_use(tmp_path: Path) -> None:
    host = Machine(tmp_path, packages=2)
    process = Process(41, "0-3", threads={41: (0, 0)})
    host.show(process)
    with sensing(host.root) as session:
        share = Share(session, "process", 41)
        start, before = session.mark(), share.read()
        session.await_final(start, timeout_s=2)
        process.threads = {41: (100, 0)}
        host.show(process)
        # Package 0: 100 of 200 ticks are mine. Package 1: others use 800.
        host.busy({cpu: 1_000 + (50 if cpu < 4 else 200) for cpu in range(CPUS)})
        after, end = share.read(), session.mark()
        session.await_final(end, timeout_s=2)
        energy = session.energy(start, end)
        part = share.of([(energy, before, after)])
    idle = host.idle_joules(energy.seconds) / 2
    first = energy.by_device["cpu:0"].joules
    assert part.by_device["cpu:0"] == pytest.approx((first - idle) / 2 + idle, rel=1e-6)
    assert part.by_device["cpu:1"] == pytest.approx(0.0, abs=1e-9)


def cgroup(name: str, cpus: str, usec: int, **files: Value) -> dict[str, Value]:
    """Return a cgroup of version 2."""
    folder = f"sys/fs/cgroup/{name}"
    inside = {"cpuset.cpus.effective": cpus, "cpu.stat": f"usage_usec {usec}", "cgroup.type": "t"}
    return {f"{folder}/{key}": value for key, value in (inside | files).items()}


@pytest.mark.parametrize(
    ("name", "inside", "cpus", "quota", "held"),
    [
        ("system.slice/slurmstepd.scope/job_42", "/step_0/user/task_0", "0-1", "max 100000", 2.0),
        ("system.slice/slurmstepd.scope/job_42", "/step_0", "0-7", "max 100000", 8.0),
        ("docker-1a.scope", "", "0-7", "200000 100000", 2.0),
        ("docker-1a.scope", "", "0-7", "max 100000", None),
    ],
    ids=["Slurm", "a whole node", "a quota", "no limit"],
)
def test_a_job_is_its_cgroup(
    tmp_path: Path, name: str, inside: str, cpus: str, quota: str, held: float | None
) -> None:
    host = Machine(tmp_path)
    files: dict[str, Value] = {"cpu.max": quota}
    host.put(cgroup(name, cpus, 1_000_000, **files))
    if inside:
        host.put(cgroup(name + inside, cpus, 300_000))
    host.put({"proc/41/cgroup": f"0::/{name}{inside}"})
    host.show(Process(41))
    reader = CpuUsage(host.root, "job", 41)
    first = reader.read()
    host.put(cgroup(name, cpus, 1_750_000, **files))
    second = reader.read()
    assert [ticks * TICK_S for ticks in usage(first, second)] == [pytest.approx(0.75)]
    assert name in reader.allocation.how
    assert reader.allocation.cpus == (None if held is None else {0: held})


def test_without_a_cgroup_the_job_is_the_process_tree(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    host.show(Process(41))
    # The machine's own group has no type: it is not a job.
    host.put({"sys/fs/cgroup/cpuset.cpus.effective": "0-7", "proc/41/cgroup": "0::/"})
    reader = CpuUsage(host.root, "job", 41)
    assert reader.allocation.how == "process 41 and its children"
    assert reader.allocation.cpus is None


def test_the_view_of_a_container_is_not_a_denominator(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    host.show(Process(41))
    host.put({"proc/self/mountinfo": "71 60 0:44 /proc/stat /proc/stat rw - fuse.lxcfs lxcfs rw"})
    with sensing(host.root) as session:
        share = Share(session, "process", 41)
        mark = session.mark()
        part = share.of([(session.energy(mark, mark), share.read(), share.read())])
    assert math.isnan(part.joules)
    assert "lxcfs" in part.reason
    assert "is not known: /proc/stat shows the container (lxcfs)" in attribution_line(part)


def test_a_tree_without_this_process_is_an_unknown_share(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    with sensing(host.root) as session:
        part = Share(session, "process").of([])
    assert "does not show this process" in part.reason


def test_record_report_and_result_show_it_beside_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Machine(tmp_path)
    process = Process(41, "0-1")
    host.show(process)
    host.put({"proc/self": Link("41")})
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(host.root))
    monkeypatch.setenv("CARBONTRACKER_NVML", "/nonexistent")
    tracker = CarbonTracker(
        epochs=2, attribution="process", log_dir=tmp_path / "logs", location="DK", locate="never"
    )
    for epoch in (1, 2):
        tracker.epoch_start()
        process.threads = {41: (100 * epoch, 0)}
        host.show(process)
        host.busy(dict.fromkeys(range(CPUS), 1000 + 50 * epoch))
        mark = tracker._training.run.session.mark()  # type: ignore[union-attr]
        tracker._training.run.session.await_final(mark, timeout_s=2)  # type: ignore[union-attr]
        tracker.epoch_end()
    result = tracker.result
    assert result is not None
    part = result.attributed
    assert part is not None
    idle = host.idle_joules(result.seconds)
    expected = (result.energy.joules - idle) * 200 / 800 + idle * 2 / 8
    assert part.joules == pytest.approx(expected, rel=0.02)
    assert part.of_joules == pytest.approx(result.energy.joules)
    assert "The part of this process and its children, by processor time: " in (
        capsys.readouterr().out
    )
    (record,) = (tmp_path / "logs").glob("*.jsonl")
    end = json.loads(record.read_text().splitlines()[-1])
    assert end["energy"]["joules"] == pytest.approx(result.energy.joules)  # stays the machine's
    assert Attribution.from_dict(end["attributed"]) == part
    read = read_run(record)
    assert read.result.attributed == part
    assert dict(provenance_of(read))["Attributed"] == attribution_line(part)


@pytest.mark.parametrize("scope", ["job", "process"])
def test_a_window_has_the_part_beside_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    host = Machine(tmp_path)
    mine = Process(os.getpid(), "0-3")
    host.put({"proc/self": Link(str(mine.pid))})
    host.show(mine)
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(host.root))
    monkeypatch.setenv("CARBONTRACKER_NVML", "/nonexistent")

    def work() -> None:
        mine.threads = {mine.pid: (mine.threads.get(mine.pid, (0, 0))[0] + 300, 0)}
        host.show(mine)
        host.busy({cpu: before + 50 for cpu, before in ticks.items()})

    ticks = dict.fromkeys(range(CPUS), 1_000)
    with ct.measure("all") as whole, ct.measure("part", attribution=scope) as window:
        work()
        time.sleep(0.3)
    window.wait(2.0)
    part = window.attributed
    assert whole.attributed is None
    assert part is not None
    assert part.scope == scope
    energy = window.energy.by_device["cpu:0"]
    idle = host.idle_joules(energy.seconds)
    expected = (energy.joules - idle) * 300 / 400 + idle / 2
    assert part.by_device["cpu:0"] == pytest.approx(expected, rel=0.05)
    ticks = dict.fromkeys(range(CPUS), 1_050)
    tracked = ct.track(attribution=scope)(work)
    tracked()
    assert tracked.window.attributed.scope == scope  # type: ignore[attr-defined]


def test_other_scopes_are_refused() -> None:
    with pytest.raises(ValueError, match="attribution must be job or process, got 'node'"):
        CarbonTracker(epochs=1, attribution="node")
