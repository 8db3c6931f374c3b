"""The table of a fleet: ``python -m bench.fleet [JOBS]``.

Exports made jobs to Parquet and runs the queries of ``docs/fleet.md`` in DuckDB, each beside a loop
in Python over the same rows as lines of JSON, which sums the energy by user.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.records.fleet import COLUMNS, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

JOBS = 100_000
DAYS, USERS, PROJECTS, CLUSTERS = 365, 200, 50, 3
MODELS = ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H200", None)
BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)
REPEATS = 5


def rows(jobs: int) -> Iterator[dict[str, Any]]:
    """Yield made jobs."""
    for i in range(jobs):
        started = BEGAN + timedelta(days=i % DAYS, seconds=i % 86400)
        kwh, hours = 0.1 + (i * 7919 % 1000) / 10, (i * 104729 % 480) / 10
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {
            "job": f"{i:016x}",
            "user_name": f"user{i * 31 % USERS}",
            "project": f"project{i * 17 % PROJECTS}",
            "stage": "pretraining" if i % 3 else "fine-tuning",
            "script": "train.py" if i % 5 else "evaluate.py",
            "started": started,
            "seconds": hours * 3600,
            "attempts": 1 + (i % 20 == 0),
            "runs": 8,
            "nodes": 1,
            "outcome": "failed" if i % 9 == 0 else "finished",
            "resumed": i % 20 == 0,
            "joules": kwh * 3.6e6 / 1.2,
            "kwh": kwh,
            "gco2eq": 300 * kwh,
            "gpu_model": MODELS[i % len(MODELS)],
            "gpus": 8,
            "gpu_joules": kwh * 2e6,
            "gpu_hours": 8 * hours,
            "date": f"{started:%Y-%m-%d}",
            "cluster": f"cluster{i % CLUSTERS}",
        }
        yield row


def by_user(file: Path) -> dict[str, float]:
    """Return kWh by user, by a loop over lines of JSON."""
    found: dict[str, float] = {}
    with file.open() as lines:
        for line in lines:
            row = json.loads(line)
            found[row["user_name"]] = found.get(row["user_name"], 0.0) + row["kwh"]
    return found


def best_s(call: Any) -> float:
    """Return the shortest of several times, s."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Print the table."""
    import duckdb

    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    page = (Path(__file__).parents[1] / "docs" / "fleet.md").read_text()
    queries = re.findall(r"(?:\n([^\n]+):\n\n)```sql\n(.*?)```", page, re.DOTALL)
    with tempfile.TemporaryDirectory() as folder:
        fleet, lines = Path(folder) / "fleet", Path(folder) / "jobs.jsonl"
        made = list(rows(jobs))
        lines.write_text("".join(json.dumps(row, default=str) + "\n" for row in made))
        began = time.perf_counter()
        write_parquet(made, fleet)
        export_s = time.perf_counter() - began
        sizes = [one.stat().st_size for one in fleet.rglob("*.parquet")]
        loop_s = best_s(lambda: by_user(lines))
        connection = duckdb.connect()
        source = f"read_parquet('{fleet}/*/*/*.parquet', hive_partitioning = true)"
        connection.execute(f"CREATE VIEW jobs AS SELECT * FROM {source}")
        (total,) = connection.execute("SELECT SUM(kwh) FROM jobs").fetchone() or (0.0,)
        assert abs(total - sum(by_user(lines).values())) < 1e-6 * total
        print(
            f"{jobs} jobs, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB Parquet, "
            f"{lines.stat().st_size / 1e6:.1f} MB JSON; export {export_s:.2f} s.\n"
        )
        print("| query | s | of the loop in Python |\n| --- | ---: | ---: |")
        print(f"| a loop over lines of JSON, by user | {loop_s:.3f} | 1 |")
        for name, query in queries:
            took_s = best_s(lambda text=query: connection.execute(text).fetchall())
            print(f"| {name} | {took_s:.3f} | {took_s / loop_s:.2f} |")


if __name__ == "__main__":
    main()
