"""``carbontracker --report LOG --output PDF``: a report of an old log file, as PDF or page."""

from __future__ import annotations

from pathlib import Path

from carbontracker.cli.exits import USAGE_ERROR, run_with_output, say


def main(log: str, output: str) -> int:
    """Write the report."""
    return run_with_output(lambda: _write(log, Path(output)))


def _write(log: str, output: Path) -> int:
    from carbontracker.exceptions import MissingExtra
    from carbontracker.legacy.log_record import run_of_log
    from carbontracker.records.output import check_output
    from carbontracker.report import FORMATS, write

    name = output.suffix[1:].lower()
    try:
        check_output(output, (Path(log),))
        write(name if name in FORMATS else "pdf", run_of_log(log), output)
    except FileNotFoundError as error:
        say(f"no such file: {error.filename}")
        return USAGE_ERROR
    except (MissingExtra, OSError, ValueError) as error:
        say(error)
        return USAGE_ERROR
    print(f"Report generated: {output}")
    return 0
