"""``carbontracker --parse DIR``: one sentence for a paper on the old log files of a directory."""

from __future__ import annotations

from carbontracker.cli.exits import FAILED, minding_output, say


def main(log_dir: str) -> int:
    """Print the sentence."""
    return minding_output(lambda: _printed(log_dir))


def _printed(log_dir: str) -> int:
    from carbontracker.exceptions import MismatchedEpochsError, MismatchedLogFilesError
    from carbontracker.parser import print_aggregate

    try:
        print_aggregate(log_dir)
    except BrokenPipeError:
        raise  # of the output, not of a log
    except (OSError, MismatchedEpochsError, MismatchedLogFilesError) as error:
        say(f"{log_dir} cannot be added up: {error}")
        return FAILED
    return 0
