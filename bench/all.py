"""Runs every bench, quick by default, and shows all ratios in one table at the end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from bench.common import RATIO_HEAD, ROOT, Report, arguments_parser, rows_from_json, table

BENCHES = (
    *("core", "import_time", "probing", "memory", "latency", "steps", "cost", "per_second"),
    *("jitter", "overhead", "accuracy", "prediction", "records", "reports", "trace", "scrape"),
)


def main() -> None:
    """Run the benches one after the other; one that fails does not stop the others."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--full", action="store_true", help="the long form of each (an hour)")
    parser.add_argument("--only", nargs="*", choices=BENCHES, default=list(BENCHES))
    arguments = parser.parse_args()
    quick = not arguments.full
    report = Report("all", "All ratios", quick)
    failed, lines = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            print(f"\n## {name}\n", flush=True)
            rows = Path(folder) / f"{name}.json"
            options = ["--quick"] * quick + ["--json", str(rows)]
            options += ["--results", str(arguments.results)]
            command = [sys.executable, "-m", f"bench.{name}", *options]
            if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
                failed.append(name)
            if rows.exists():
                found = rows_from_json(rows.read_text())
                lines += [[name, *row.cells()] for row in found]
    print("\n## all ratios\n")
    report.say(table(["bench", *RATIO_HEAD], lines))
    if failed:
        report.say(f"Failed: {', '.join(failed)}.")
    report.finish(arguments)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
