"""``carbontracker --parse DIR``: one sentence for a paper on the old log files of a directory."""

from __future__ import annotations

import sys

UNREADABLE = 1


def main(log_dir: str) -> int:
    """Print the sentence."""
    from carbontracker.exceptions import MismatchedEpochsError, MismatchedLogFilesError
    from carbontracker.parser import print_aggregate

    try:
        print_aggregate(log_dir)
    except (OSError, MismatchedEpochsError, MismatchedLogFilesError) as error:
        print(f"carbontracker: {log_dir} cannot be added up: {error}", file=sys.stderr)
        return UNREADABLE
    return 0
