"""``carbontracker check PATH…``: whether records are as they should be."""

from __future__ import annotations

import argparse
from pathlib import Path

from carbontracker.cli.exits import FAILED, USAGE_ERROR, say

EXAMPLES = """\
examples:
  carbontracker check run.jsonl
  carbontracker check logs --strict

Exit code: 0 if all is well, 1 if a record breaks its schema (docs/record.md), 2 if one cannot be
read. A run without an end or a torn last line is a warning, and with --strict an error.
"""


def main(arguments: list[str]) -> int:
    """Print what is wrong."""
    parser = argparse.ArgumentParser(
        prog="carbontracker check",
        description="Check records against their schema.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, or directories of them")
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument("--quiet", "-q", action="store_true", help="print errors only")
    given = parser.parse_args(arguments)

    from carbontracker.records.checking import ERROR, check_file
    from carbontracker.records.reading import files_in

    files = errors = warnings = 0
    try:
        for path in map(Path, given.paths):
            for file in files_in(path):
                files += 1
                for finding in check_file(file):
                    is_error = finding.level == ERROR
                    errors, warnings = errors + is_error, warnings + (not is_error)
                    if is_error or not given.quiet:
                        print(finding)
    except OSError as error:
        say(f"{error.filename}: {error.strerror}")
        return USAGE_ERROR
    if not given.quiet:
        print(f"{files} record(s): {errors} error(s), {warnings} warning(s)")
    if not files:
        say(f"no records in {', '.join(given.paths)}")
        return USAGE_ERROR
    return FAILED if errors or (given.strict and warnings) else 0
