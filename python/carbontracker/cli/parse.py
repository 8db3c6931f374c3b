"""``carbontracker --parse DIR``: one sentence for a paper on the runs of a directory.

Log files of 2.x and records count, each training once, as in ``carbontracker aggregate``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.exits import FAILED, run_with_output, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbontracker.parser import LogTotal
    from carbontracker.records.aggregate import Total
    from carbontracker.records.run_record import RunRecord


def main(log_dir: str) -> int:
    """Print the sentence."""
    return run_with_output(lambda: _print_total(log_dir))


def _print_total(log_dir: str) -> int:
    from carbontracker.exceptions import MismatchedEpochsError, MismatchedLogFilesError, NoSuchRun
    from carbontracker.records.aggregate import UNKNOWN

    try:
        total, logs = totals_of([log_dir], below=False)
    except BrokenPipeError:
        raise  # the output is closed; the logs are readable
    except NoSuchRun:
        say(f"no such directory: {log_dir}")
        return FAILED
    except (OSError, MismatchedEpochsError, MismatchedLogFilesError) as error:
        say(f"{log_dir} cannot be added up: {error}")
        return FAILED
    if total.runs or logs.trainings:
        for note in print_totals(total, logs):
            say(note)
        from carbontracker.report.formatting import quantity

        count = total.jobs + logs.trainings
        kwh = total.kwh if total.runs else logs.written.kwh
        say(f"{count} training(s) in {log_dir}, {quantity(1000 * kwh, 'Wh')} in all")
        return 0
    unknown = logs.unknown + total.left_out.get(UNKNOWN, 0)
    content = f"{unknown} training(s) without energy" if unknown else "no log file of carbontracker"
    say(
        f"{log_dir} contains {content}, so the total is unknown. Log files end in "
        "carbontracker.log and carbontracker_output.log, console output in .out, .log, .txt or .err"
    )
    return FAILED


def totals_of(paths: Sequence[str | None], *, below: bool) -> tuple[Total, LogTotal]:
    """Return the total of all records, and that of the log files without a record.

    Args:
        paths: directories, records or ids of runs; None is the default directory.
        below: include the directories below them.

    Raises:
        NoSuchRun: there is neither such a file nor such a run.
        MismatchedLogFilesError, MismatchedEpochsError: see ``parse_all_logs``.
        OSError: a file cannot be read.
    """
    from carbontracker.parser import LogTotal, Recorded, add_logs
    from carbontracker.records.aggregate import add_runs
    from carbontracker.records.reader import read_runs

    recorded: dict[str, Recorded] = {}

    def runs() -> Iterator[RunRecord]:
        for path in paths:
            for run in read_runs(path, series=False, epochs=False):
                if below or run.path.parent == Path(str(path)):
                    if run.complete or run.id not in recorded:  # else a copy
                        about = Recorded(run.metadata.pid, run.started, run.footprint.kwh)
                        recorded[run.id] = about
                    yield run

    total, logs = add_runs(runs()), LogTotal()
    found = [_directories(Path(path), below=below) for path in paths if path is not None]
    for directory in {one.resolve(): one for each in found for one in each}.values():
        logs.add(add_logs(directory, list(recorded.values())))
    return total, logs


def _directories(path: Path, *, below: bool) -> Iterator[Path]:
    """Yield a directory, and those below it that have log files."""
    from carbontracker.legacy.log_text import STANDARD

    if path.is_dir():
        yield path
        if below:
            names = {one.parent for one in path.rglob(f"*{STANDARD}") if one.is_file()}
            yield from sorted(names - {path})


def print_totals(total: Total, logs: LogTotal) -> list[str]:
    """Print the sentence on a total, and return the notes on it."""
    from carbontracker.parser import print_total
    from carbontracker.report.terminal import total_lines

    if logs.trainings and not total.runs:
        print_total(logs)
        return []
    written = logs.written
    total.add_logged(logs.trainings, written.kwh, written.gco2eq)
    sentence, *notes = total_lines(total)
    print(sentence)
    return notes
