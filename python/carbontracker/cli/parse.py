"""``carbontracker --parse DIR``: one sentence for a paper on the 2.x log files of a directory."""

from __future__ import annotations

from carbontracker.cli.exits import FAILED, run_with_output, say


def main(log_dir: str) -> int:
    """Print the sentence."""
    return run_with_output(lambda: _print_total(log_dir))


def _print_total(log_dir: str) -> int:
    from carbontracker.exceptions import MismatchedEpochsError, MismatchedLogFilesError
    from carbontracker.parser import add_logs, print_total

    try:
        total = add_logs(log_dir)
        if total.trainings:
            print_total(total)
            say(f"{total.trainings} training(s) in {log_dir}, {total.written.kwh:.6g} kWh in all")
            return 0
        return _print_total_of_records(log_dir, total.unknown)
    except BrokenPipeError:
        raise  # the output is closed; the logs are readable
    except (OSError, MismatchedEpochsError, MismatchedLogFilesError) as error:
        say(f"{log_dir} cannot be added up: {error}")
        return FAILED


def _print_total_of_records(log_dir: str, unknown: int) -> int:
    """Print the sentence on the records of a directory, because its log files contain no energy."""
    from carbontracker.records.aggregate import add_runs
    from carbontracker.records.reader import read_runs
    from carbontracker.report.terminal import total_lines

    total = add_runs(read_runs(log_dir, series=False, epochs=False))
    if total.runs:
        sentence, *notes = total_lines(total)
        print(sentence)
        for note in ("no log file contains an energy, so this is the total of the records", *notes):
            say(note)
        return 0
    content = f"{unknown} training(s) without energy" if unknown else "no log file of carbontracker"
    say(
        f"{log_dir} contains {content}, so the total is unknown. Log files end in "
        "carbontracker.log and carbontracker_output.log, console output in .out, .log, .txt or .err"
    )
    return FAILED
