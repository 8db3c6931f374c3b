"""The table of a fleet: its rows in closed form, and its queries in a real engine."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from carbontracker.records.fleet import COLUMNS, job_rows, write_parquet
from carbontracker.records.reader import read_runs
from tests.support.records import GRAMS, PUE, Made
from tests.test_job_records import Rank, gpu

if TYPE_CHECKING:
    from collections.abc import Iterator

KWH = PUE / 3.6e6
PAGE = Path(__file__).parents[1] / "docs" / "fleet.md"
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
SLURM = '{{"slurm": {{"job_id": "71", "step_id": "0", "cluster": "big/1", "restart_count": "{}"}}}}'


def export(directory: Path) -> dict[str, dict[str, Any]]:
    rows = job_rows(read_runs(directory, series=False, epochs=False))
    return {row["job"]: row for row in rows}


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Return records of a job of two ranks and two attempts, of one that was killed, of a command.

    The devices of each rank share its energy: a GPU of its own and the processor of the node.
    """
    folder = tmp_path / "records"
    for attempt in range(2):
        for rank in range(2):
            Rank(
                f"r{attempt}{rank}",
                (2000.0,),
                began_s=100.0 * attempt,
                devices=gpu(rank),
                boot_id="b1",
                rank=rank,
                uid=f"u{attempt}u{attempt}",
                said=SLURM.format(attempt),
            ).write(folder)
    Made("killed", (500.0,), began_s=86400.0, boot_id="b2", finished=False).write(folder)
    return folder


def test_rows_are_jobs(records: Path) -> None:
    found = export(records)
    assert set(found) == {"u0u0", "killed"}
    job, killed = found["u0u0"], found["killed"]
    # In each attempt two GPUs of 1000 J, and a processor of 1000 J that both ranks saw.
    assert job["joules"] == pytest.approx(6000)
    assert job["gpu_joules"] == pytest.approx(4000)
    assert job["kwh"] == pytest.approx(6000 * KWH)
    assert job["gco2eq"] == pytest.approx(6000 * KWH * GRAMS)
    assert job["seconds"] == pytest.approx(20)
    assert job["gpu_hours"] == pytest.approx(2 * 20 / 3600)
    told = {name: job[name] for name in ("attempts", "runs", "nodes", "gpus", "resumed", "outcome")}
    assert told == {
        "attempts": 2,
        "runs": 4,
        "nodes": 1,
        "gpus": 2,
        "resumed": True,
        "outcome": "finished",
    }
    assert (job["user_name"], job["cluster"], job["date"]) == ("ada", "big/1", "2026-03-01")
    assert job["started"] == datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
    assert (killed["outcome"], killed["resumed"], killed["cluster"]) == ("killed", False, "none")
    assert killed["joules"] == pytest.approx(500)
    assert killed["project"] is None
    assert set(job) == {*COLUMNS, "date", "cluster"}


def test_the_command_writes_a_file_for_each_date_and_cluster(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    fleet = tmp_path / "fleet"
    for _ in range(2):  # the second time replaces the files
        assert main(["aggregate", str(records), "--parquet", str(fleet)]) == 0
        assert "2 job(s) written to" in capsys.readouterr().err
        assert sorted(str(one.relative_to(fleet)) for one in fleet.rglob("*.parquet")) == [
            "date=2026-03-01/cluster=big%2F1/jobs.parquet",
            "date=2026-03-02/cluster=none/jobs.parquet",
        ]
    table = parquet.read_table(fleet / "date=2026-03-01" / "cluster=big%2F1" / "jobs.parquet")
    assert table.column("joules").to_pylist() == [pytest.approx(6000)]
    assert set(COLUMNS) <= set(table.column_names)


def test_without_the_package_one_line_names_it(
    records: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["aggregate", str(records), "--parquet", str(tmp_path / "fleet")]) == 2
    assert "pip install pyarrow" in capsys.readouterr().err
    assert not (tmp_path / "fleet").exists()


# ---- the queries of the page ---------------------------------------------------------------


def made_rows() -> Iterator[dict[str, Any]]:
    """Yield 100 jobs of two users in two months: each i-th has i kWh; every fourth failed."""
    for i in range(1, 101):
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        month = 1 + i % 2
        row |= {
            "job": f"j{i}",
            "user_name": "ada" if i <= 50 else "eve",
            "project": "p1",
            "script": "train.py",
            "started": datetime(2026, month, 3, 12, tzinfo=timezone.utc),
            "outcome": "failed" if i % 4 == 0 else "finished",
            "resumed": i % 10 == 0,
            "kwh": float(i),
            "gco2eq": 100.0 * i,
            "gpu_model": "A100" if i % 2 else None,
            "gpus": 2 if i % 2 else 0,
            "gpu_joules": 7200.0 if i % 2 else None,
            "gpu_hours": 0.02 if i % 2 else 0.0,
            "date": f"2026-0{month}-03",
            "cluster": "c1",
        }
        yield row


def test_the_queries_of_the_page_in_duckdb(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    assert write_parquet(made_rows(), tmp_path) == 100
    connection = duckdb.connect()
    files = f"read_parquet('{tmp_path}/*/*/*.parquet', hive_partitioning = true)"
    connection.execute(f"CREATE VIEW jobs AS SELECT * FROM {files}")
    users, projects, scripts, gpus, months, shares = (
        connection.execute(one).fetchall() for one in QUERIES
    )
    kwh = {"eve": sum(range(51, 101)), "ada": sum(range(1, 51))}
    assert [(row[0], row[1], row[2]) for row in users] == [(u, 50, kwh[u]) for u in ("eve", "ada")]
    assert [row[:4] for row in projects] == [("p1", None, 100, 5050.0)]
    assert scripts[0][:3] == ("train.py", 100, 5050.0)
    assert scripts[0][3] == pytest.approx(7200 / 0.02)
    ((model, count, hours, watts),) = gpus
    assert (model, count, hours) == ("A100", 100, pytest.approx(1.0))
    assert watts == pytest.approx(7200 / (3600 * 0.02))
    assert [(row[0].month, row[1], row[2]) for row in months] == [(1, "c1", 50), (2, "c1", 50)]
    failed, resumed = sum(range(4, 101, 4)), sum(range(10, 101, 10))
    assert shares == [pytest.approx((0.25, failed / 5050, 0.1, resumed / 5050))]


@pytest.mark.parametrize("query", QUERIES)
def test_the_queries_mean_the_same_to_spark(query: str) -> None:
    """By the parser of sqlglot; no Spark is run."""
    sqlglot = pytest.importorskip("sqlglot")
    of_duckdb = sqlglot.parse_one(query, read="duckdb")
    assert sqlglot.parse_one(query, read="spark").sql("spark") == of_duckdb.sql("spark")
