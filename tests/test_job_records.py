"""Jobs from records: which runs are ranks of one training, and its joules in closed form."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from carbontracker.records.aggregate import OVERLAP, PARTLY, SILENT, UNKNOWN, add_runs
from carbontracker.records.jobs import cost_of, find_jobs, job_by_hand
from carbontracker.records.reader import read_runs
from carbontracker.report.sentences import skew_line
from tests.support.records import BEGAN, GRAMS, PUE, Made

if TYPE_CHECKING:
    from pathlib import Path

    from carbontracker.records.aggregate import Total
    from carbontracker.records.jobs import Job

KWH = PUE / 3.6e6
START_NS = 10**15


@dataclass(frozen=True)
class Rank(Made):
    """A run that is one rank; its clock is that of its node."""

    rank: int = 0
    world: int = 2
    uid: str = ""
    said: str = '{"slurm": {"job_id": "71", "step_id": "0"}}'
    user: str = "ada"
    one_training: bool = True
    training_id: str = ""
    cpus: tuple[int, int] = (64, 64)
    """That the job has, and of the node."""

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the run, with its place in the job."""
        events = super().events()
        said = json.loads(self.said) or {"none": {}}
        first = next(iter(said.values()))
        first |= {"rank": str(self.rank), "world_size": str(self.world)}
        events[0] |= {"job": said, "one_training": self.one_training}
        events[0]["host"]["user"] = self.user
        usable, installed = self.cpus
        events[0]["host"] |= {"usable_cpus": usable, "logical_cpus": installed}
        began_ns = START_NS + round(self.began_s * 1e9)
        for event in events:
            if event["event"] == "series":
                event["t0_ns"] = began_ns + round(event["start_s"] * 1e9)
        if self.uid:
            events.insert(1, self._event("job", 0.1, job_uid=self.uid))
        if self.training_id:
            events.insert(1, self._event("job", 0.1, training_id=self.training_id))
        return events


def gpu(rank: int) -> tuple[tuple[str, str], ...]:
    return (("gpu:0", f"gpu/GPU-{rank}"), ("cpu:0", "cpu/0"))


def jobs_in(directory: Path, *runs: Made) -> list[Job]:
    for run in runs:
        run.write(directory)
    return find_jobs(read_runs(directory, series=False, epochs=False))


def joules(job: Job) -> float:
    return cost_of(job).energy.joules


def test_ranks_with_one_uid_are_one_job(tmp_path: Path) -> None:
    ranks = [
        Rank(f"r{i}", (2000.0, 4000.0), devices=gpu(i), boot_id="b1", rank=i, uid="u1u1", said="{}")
        for i in range(2)
    ]
    jobs = jobs_in(tmp_path, *ranks, Rank("other", uid="v2v2", said="{}", world=1))
    (job,) = [one for one in jobs if one.id == "u1u1"]
    cost = cost_of(job)
    # Two GPUs of 1000 and 2000 J, and one processor of the same.
    assert cost.energy.joules == pytest.approx(3 * 3000)
    assert cost.seconds == pytest.approx(20.0)
    assert cost.footprint.gco2eq == pytest.approx(9000 * KWH * GRAMS)
    assert cost.results[0].ranks is not None
    assert cost.results[0].ranks.seen == (0, 1)
    assert [one.id for one in job.members] == ["r0", "r1"]


def test_two_nodes_add_up_and_the_slowest_takes_the_time(tmp_path: Path) -> None:
    ranks = [
        Rank("r0", (1000.0,), 0.0, 10.0, "n1", "b1", rank=0),
        Rank("r1", (3000.0,), 1.0, 15.0, "n2", "b2", rank=1),
    ]
    (job,) = jobs_in(tmp_path, *ranks)
    cost = cost_of(job)
    assert cost.energy.joules == pytest.approx(4000)
    assert cost.seconds == pytest.approx(15.0)
    assert set(cost.energy.by_device) == {"gpu:0@n1", "gpu:0@n2"}


def test_an_epoch_of_a_node_lasts_until_its_last_rank(tmp_path: Path) -> None:
    """At 100 W each for GPU and processor; rank 1 begins 2 s later and takes 3 s longer."""
    ranks = [
        Rank("r0", (2000.0,), 0.0, 10.0, devices=gpu(0), boot_id="b1", rank=0),
        Rank("r1", (2200.0,), 2.0, 11.0, devices=gpu(1), boot_id="b1", rank=1),
    ]
    (job,) = jobs_in(tmp_path, *ranks)
    cost = cost_of(job)
    assert cost.seconds == pytest.approx(13.0)
    # The processor is known for 13 s by both, GPU 0 for 10 s by one and GPU 1 for 11 s.
    assert cost.energy.joules == pytest.approx(100.0 * (13 + 10 + 11))
    assert cost.energy.coverage < 0.9


def test_a_name_that_checkpoints_carry_joins_attempts(tmp_path: Path) -> None:
    """Resumed by hand: no scheduler knows, and no count of restarts differs."""

    def named(name: str, began_s: float, carried: str) -> Rank:
        alone = {"said": "{}", "world": 1, "one_training": False, "training_id": carried}
        return Rank(name, (1000.0,), began_s, 10.0, **alone)  # type: ignore[arg-type]

    first, again, at_once, other = (
        named("r0", 0.0, "t1"),
        named("r1", 100.0, "t1"),
        named("r2", 105.0, "t1"),
        named("r3", 200.0, "t2"),
    )
    jobs = jobs_in(tmp_path, first, again, other)
    assert [[one.members[0].id for one in job.attempts] for job in jobs] == [["r0", "r1"], ["r3"]]
    assert joules(jobs[0]) == pytest.approx(2000)
    jobs = jobs_in(tmp_path / "branched", again, at_once)
    assert len(jobs) == 2, "two that run at once from one checkpoint are two"


def test_a_requeue_and_a_restart_are_attempts_of_one_job(tmp_path: Path) -> None:
    def slurm(count: int) -> str:
        return json.dumps({"slurm": {"job_id": "71", "step_id": "0", "restart_count": str(count)}})

    attempts = [
        Rank(f"a{n}r{i}", (1000.0,), 100.0 * n, boot_id=f"b{i}", rank=i, said=slurm(n), uid=uid)
        for n, uid in enumerate(("", "u2u2"))
        for i in range(2)
    ]
    (job,) = jobs_in(tmp_path, *attempts)
    assert [len(one.members) for one in job.attempts] == [2, 2]
    assert joules(job) == pytest.approx(4000)
    agent = json.dumps({"torchrun": {"job_id": "none", "starter": "b1:7:70"}})
    again = agent.replace('"none"', '"none", "restart_count": "1"')
    folder = tmp_path / "elastic"
    runs = [
        Rank("e0", said=agent, uid="u3u3", boot_id="b1"),
        Rank("e1", began_s=50.0, said=again, uid="u4u4", boot_id="b1"),
    ]
    (elastic,) = jobs_in(folder, *runs)
    assert [one.uid for one in elastic.attempts] == ["u3u3", "u4u4"]


def test_what_does_not_belong_together(tmp_path: Path) -> None:
    base = Rank("a000", boot_id="b1", rank=0)
    others = [
        replace(base, run_id="b000", user="eve"),
        replace(base, run_id="c000", began_s=500.0),  # a later step of the same number
        replace(base, run_id="d000", one_training=False, rank=1),  # a farm
        replace(base, run_id="e000", said='{"slurm": {"job_id": "72", "step_id": "0"}}'),
        replace(base, run_id="f000", said='{"torchrun": {"job_id": "none"}}'),
        replace(base, run_id="f001", said='{"torchrun": {"job_id": "none"}}', rank=1),
        replace(base, run_id="f002", said='{"ray": {"job_id": "01000000"}}'),
        replace(base, run_id="f003", said='{"ray": {"job_id": "01000000"}}', rank=1),
        replace(base, run_id="g000", uid="u1u1"),
        replace(base, run_id="g001", uid="u2u2", rank=1),
    ]
    jobs = jobs_in(tmp_path, base, *others)
    together = [sorted(one.id for one in job.members) for job in jobs if len([*job.members]) > 1]
    # A rank whose uid was lost may be of either: uids that differ are kept apart.
    assert all(not {"g000", "g001"} <= {*ids} for ids in together)
    alone = {ids for job in jobs for ids in [one.id for one in job.members]}
    assert alone == {base.run_id, *(one.run_id for one in others)}
    for name in ("b000", "c000", "d000", "e000", "f000", "f001", "f002", "f003"):
        assert [len([*job.members]) for job in jobs if job.is_called(name)] == [1]


def test_a_rank_without_the_uid_is_joined_by_what_started_it(tmp_path: Path) -> None:
    said = json.dumps({"torchrun": {"job_id": "none", "starter": "b1:7:70"}})
    ranks = [
        Rank("r0", boot_id="b1", said=said, finished=False),
        Rank("r1", boot_id="b1", said=said, uid="u1u1", rank=1),
    ]
    (job,) = jobs_in(tmp_path, *ranks)
    assert job.id == "u1u1"
    assert joules(job) == pytest.approx(1000)


def test_runs_are_joined_by_hand(tmp_path: Path) -> None:
    said = '{"torchrun": {"job_id": "none"}}'
    ranks = [
        Rank("aaaa1", (1000.0,), boot_id="b1", said=said),
        Rank("bbbb1", (3000.0,), boot_id="b2", said=said, rank=1),
    ]
    jobs = jobs_in(tmp_path, *ranks)
    assert len(jobs) == 2
    job = job_by_hand(jobs, ["aaaa", "bbbb1"])
    assert len(job.attempts) == 1
    assert joules(job) == pytest.approx(4000)
    with pytest.raises(LookupError):
        job_by_hand(jobs, ["nowhere"])


def test_a_name_that_many_jobs_share_joins_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other in one directory; none is an attempt of another."""
    for number, said in enumerate(
        (
            '{"torchrun": {"job_id": "none"}}',
            '{"ray": {"job_id": "01000000"}}',
            '{"slurm": {"job_id": "71", "step_id": "0", "cluster": "a"}}',
        )
    ):
        folder, name = tmp_path / str(number), json.loads(said).popitem()[1]["job_id"]
        again = said.replace('"a"', '"b"')
        Rank("aaaa", (1000.0,), 0.0, boot_id="b1", said=said).write(folder)
        Rank("bbbb", (3000.0,), 500.0, boot_id="b2", said=again).write(folder)
        assert main(["aggregate", str(folder), "--job", name, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["joules"] for row in rows] == pytest.approx([1000, 3000])
        assert main(["aggregate", str(folder), "--job", f"{name},aaaa"]) == 2
        assert f"several jobs are called {name!r}" in capsys.readouterr().err


def test_aggregate_lists_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = '{"torchrun": {"job_id": "none"}}'
    for run in (
        Rank("r000", boot_id="b1", uid="u1u1"),
        Rank("r001", boot_id="b2", uid="u1u1", rank=1, world=4),
        Rank("aaaa", boot_id="b1", said=said, began_s=900.0),
        Rank("bbbb", boot_id="b2", said=said, rank=1, began_s=900.0),
    ):
        run.write(tmp_path)
    assert main(["aggregate", str(tmp_path), "--job"]) == 0
    out = capsys.readouterr().out
    assert "job u1u1 (slurm 71.0): 2 of 4 ranks on 2 nodes: " in out
    assert "no record of ranks 2-3." in out
    assert out.count("not joined with others: many jobs are called torchrun none") == 2
    assert main(["aggregate", str(tmp_path), "--job", "aaaa,bbbb"]) == 0
    assert "2 of 2 ranks on 2 nodes" in capsys.readouterr().out
    assert main(["aggregate", str(tmp_path), "--job", "71", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["joules"] == pytest.approx(2000)
    assert row["user"] == "ada"
    assert main(["aggregate", str(tmp_path), "--job", "nowhere"]) == 2
    assert "no job is called 'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        *((["--job", "71"], ["r000"]), (["--job", "u1u1"], ["r000"]), (["--job", "u1"], [])),
        *((["--user", "eve"], ["e000"]), (["--user", "ada"], ["r000"])),
    ],
)
def test_runs_of_a_job_and_of_a_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], ids: list[str]
) -> None:
    Rank("r000", uid="u1u1").write(tmp_path)
    Rank("e000", user="eve", said="{}").write(tmp_path)
    assert main(["runs", str(tmp_path), "--json", *words]) == 0
    rows = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["id"] for row in rows] == ids


# ---- the total of all jobs -----------------------------------------------------------------


def total_of(directory: Path, *runs: Made) -> Total:
    for run in runs:
        run.write(directory)
    return add_runs(read_runs(directory, series=False, epochs=False))


def test_the_total_counts_ranks_and_attempts_as_one_job(tmp_path: Path) -> None:
    def rank(name: str, number: int, **more: Any) -> Rank:
        given: dict[str, Any] = {"boot_id": f"b{number // 2}", "uid": "u1u1", "world": 4} | more
        return Rank(name, (2000.0,), devices=gpu(number), rank=number, **given)

    restarted = '{"slurm": {"job_id": "71", "step_id": "0", "restart_count": "1"}}'
    again = {"said": restarted, "uid": "u2u2"}
    first = [rank(f"r{i}", i) for i in range(4)]
    second = [rank(f"s{i}", i, began_s=100.0, **again) for i in range(4)]
    alone = Made("alone", (500.0,), began_s=300.0)
    total = total_of(tmp_path, *first, *second, alone)
    # In each attempt four GPUs of 1000 J and two processors of 1000 J.
    assert total.joules == pytest.approx(2 * 6000 + 500)
    assert (total.jobs, total.jobs_resumed, total.left_out) == (2, 1, {})
    jobs = find_jobs(read_runs(tmp_path, series=False, epochs=False))
    assert total.joules == pytest.approx(sum(map(joules, jobs)), rel=1e-9)


def test_ranks_that_see_the_same_devices_are_no_overlap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of eight ranks only the first has joules that no other has; two last longer."""
    ranks = [
        Rank(f"r{i}", (100.0 * s,), seconds=s, boot_id="b1", uid="u1u1", rank=i, world=9)
        for i, s in enumerate([10.0, 12.0, *[10.0] * 5, 13.0])
    ]
    total = total_of(tmp_path, *ranks)
    assert total.joules == pytest.approx(1300)
    assert (total.jobs, total.left_out) == (1, {SILENT: 8})
    assert main(["aggregate", str(tmp_path)]) == 0
    assert "\n1 job(s) of 8 run(s): " in capsys.readouterr().out


def test_two_jobs_that_share_a_node_say_so_and_count_its_hours_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has a GPU and a part of the CPUs; both see the package, at 100 W, for 10 of 15 s."""
    one, other = (
        Rank(
            f"r{i}",
            (200.0 * 15,),
            began_s=5.0 * i,
            seconds=15.0,
            boot_id="b1",
            devices=gpu(i),
            world=1,
            said=json.dumps({"slurm": {"job_id": f"7{i}", "cpus_on_node": str(cpus)}}),
            cpus=(cpus, 64),
        )
        for i, cpus in enumerate([16, 32])
    )
    total = total_of(tmp_path, one, other)
    assert total.joules == pytest.approx(2 * 1500 + 100 * 20)
    assert (total.jobs, total.left_out) == (2, {PARTLY: 1})
    assert (total.jobs_with_part_of_node, total.shares_of_cpus) == (2, (0.25, 0.5))
    assert main(["aggregate", str(tmp_path)]) == 0
    assert "2 job(s) had 25 % to 50 % of the CPUs of their nodes" in capsys.readouterr().out
    assert main(["aggregate", str(tmp_path), "--job", "71"]) == 0
    sentence = "CPU and memory are those of the whole node, of which this job has 50 % of the CPUs."
    assert sentence in capsys.readouterr().out
    same = Rank("r9", (200.0 * 15,), seconds=15.0, boot_id="b1", devices=gpu(0), user="eve")
    assert total_of(tmp_path, same).left_out == {PARTLY: 1, OVERLAP: 1}


# ---- ranks of marks only -------------------------------------------------------------------


def marks_only(rank: Rank) -> list[dict[str, Any]]:
    """Return the events of a rank whose energy is in the record of another."""
    started, *events = rank.events()
    unix_ns = int(BEGAN.timestamp()) * 10**9
    clock = {"monotonic_ns": START_NS, "unix_ns": unix_ns}
    started |= {"sensors": [], "marks_only": True, "began": rank.at(0.0), "clock": clock}
    del started["pricing"]
    kept = [started, *(event for event in events if event["event"] == "job")]
    for epoch in (event for event in events if event["event"] == "epoch"):
        times = [epoch["index"], epoch["start_s"], epoch["end_s"], 7]
        kept.append({"event": "marks", "run_id": rank.run_id, "epoch": times})
    if rank.finished:
        energy = {**rank.energy(0.0), "joules": None, "by_device": {}, "quality": "missing"}
        footprint = {**rank.footprint(0.0), "kwh": None, "gco2eq": None, "intensity": {}}
        kept.append(events[-1] | {"energy": energy, "footprint": footprint})
    return kept


def write_events(directory: Path, name: str, events: list[dict[str, Any]]) -> None:
    directory.mkdir(exist_ok=True)
    lines = (json.dumps(event, separators=(",", ":")) + "\n" for event in events)
    (directory / f"{name}.jsonl").write_text("".join(lines))


@pytest.mark.parametrize("finished", [True, False])
def test_a_rank_of_marks_only_lengthens_the_epochs_of_its_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], finished: bool
) -> None:
    """At 200 W; rank 0 has epochs of 10 s without a pause, rank 1 takes until 20.5 s."""
    whole = Rank("r0", (2000.0, 2000.0, 500.0), devices=gpu(0), boot_id="b1", uid="u1u1")
    events = whole.events()
    # The third epoch of the record is what rank 0 measured after its last one: no epoch of its.
    events = [one for one in events if one["event"] != "epoch" or one["index"] < 3]
    events[-2] |= {"t_s": [0.0, 2.5], "joules": {n: [2000.0, 2250.0] for n, _ in gpu(0)}}
    events[-1] |= {"energy": whole.energy(4000.0), "footprint": whole.footprint(4000.0)}
    events[-1] |= {"seconds": 20.0, "time": whole.at(22.5)}
    write_events(tmp_path, "r0", events)
    late = Rank("r1", (1.0, 1.0), 0.5, boot_id="b1", uid="u1u1", rank=1, finished=finished)
    write_events(tmp_path, "r1", marks_only(late))
    total = add_runs(read_runs(tmp_path, series=False, epochs=False))
    assert total.joules == pytest.approx(200.0 * 20.5)
    assert (total.jobs, total.runs, total.left_out) == (1, 2, {})
    (job,) = find_jobs(read_runs(tmp_path, series=False, epochs=False))
    assert joules(job) == pytest.approx(200.0 * 20.5)
    ranks = cost_of(job).results[0].ranks
    assert ranks is not None
    assert (ranks.seen, ranks.silent) == ((0, 1), ())
    assert [one.epochs for one in ranks.costs] == [2, 2]
    assert main(["report", str(tmp_path / "r1.jsonl")]) == 0
    assert "This record has the times of one rank." in capsys.readouterr().out
    assert main(["check", str(tmp_path / "r1.jsonl")]) == 0


def test_a_rank_of_marks_only_alone_is_without_energy(tmp_path: Path) -> None:
    write_events(tmp_path, "r1", marks_only(Rank("r1", rank=1, uid="u1u1")))
    total = add_runs(read_runs(tmp_path, series=False, epochs=False))
    assert (total.jobs, total.runs, total.left_out) == (0, 0, {UNKNOWN: 1})


def test_what_differs_between_ranks_is_in_the_records(tmp_path: Path) -> None:
    """Rank 3 is slow, and draws most; each rank has a GPU of its own, and 100 steps an epoch."""
    for i, (seconds, watts) in enumerate(
        [(10.0, 100.0), (10.5, 120.0), (9.5, 140.0), (13.0, 160.0)]
    ):
        rank = Rank(
            f"r{i}",
            (watts * seconds,),
            seconds=seconds,
            devices=gpu(i)[:1],
            boot_id="b1",
            rank=i,
            world=4,
        )
        events = [
            event | ({"steps": 100} if event["event"] == "epoch" else {}) for event in rank.events()
        ]
        write_events(tmp_path, f"r{i}", events)
    (job,) = find_jobs(read_runs(tmp_path, series=False, epochs=False))
    ranks = cost_of(job).results[0].ranks
    assert ranks is not None
    assert [one.gpu_watts for one in ranks.costs] == pytest.approx([100, 120, 140, 160])
    each = [one.gpu_joules_per_step for one in ranks.costs]
    assert each == pytest.approx([10.0, 12.6, 13.3, 20.8])
    assert skew_line(ranks) == (
        "Rank 3 took the longest in epochs, 13.0 s, and rank 2 the shortest, 9.5 s; the GPU of "
        "rank 3 used the most, 2.08 kJ, and that of rank 0 the least, 1 kJ; the highest mean power "
        "is that of rank 3, 160 W; their energy for each step is from 10 J (rank 0) to 20.8 J "
        "(rank 3)."
    )


def test_two_trainings_that_one_process_started_are_not_joined(tmp_path: Path) -> None:
    said = '{"torchrun": {"job_id": "none", "starter": "b1:7:70"}}'
    ranks = [Rank(f"t{i}", rank=i % 2, said=said) for i in range(4)]
    assert [len(one.attempts[0].members) for one in jobs_in(tmp_path / "four", *ranks)] == [1] * 4
    assert len(jobs_in(tmp_path / "two", *ranks[:2])) == 1
