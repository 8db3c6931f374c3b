"""``carbontracker check PATH…``: check records against their schema and their seals."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.exits import FAILED, USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from carbontracker.records.validate import Finding

UNREADABLE = "unreadable"

EXAMPLES = """\
examples:
  carbontracker check run.jsonl
  carbontracker check logs --strict
  carbontracker check --schema > record.schema.json

Exit code: 0 without errors, 1 if a record violates its schema (docs/record.md) or was changed since
it was sealed (`carbontracker seal`), 2 if a record cannot be read. A run without an end, a
truncated last line, and what was appended after a seal are warnings; with --strict they are errors.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of("carbontracker check", "Check records against their schema.", EXAMPLES)
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="record files, or directories with records"
    )
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of a line, and exit"
    )
    parser.add_argument("--strict", action="store_true", help="treat warnings as errors")
    parser.add_argument("--quiet", "-q", action="store_true", help="print errors only")
    return parser


def main(arguments: list[str]) -> int:
    """Print the findings; return the exit code."""
    parser = command_parser()
    given = parser.parse_args(arguments)
    if given.schema:
        from carbontracker.records.json_schema import json_schema

        print(json.dumps(json_schema(), indent=1))
        return 0
    if not given.paths:
        parser.error("give a PATH, or --schema")

    from carbontracker.records.reader import files_in
    from carbontracker.records.validate import ERROR, WARNING
    from carbontracker.report.formatting import MAX_LINE, clean

    levels: Counter[str] = Counter()
    files = [file for path in given.paths for file in files_in(Path(path))]
    for finding in chain.from_iterable(map(_findings, files)):
        levels[finding.level] += 1
        if finding.level == UNREADABLE:
            say(finding)
        elif finding.level == ERROR or not given.quiet:
            print(clean(finding, MAX_LINE))
    errors, warnings = levels[ERROR], levels[WARNING]
    if not given.quiet:
        print(f"{len(files)} record(s): {errors} error(s), {warnings} warning(s)")
    if not files:
        say(f"no records in {', '.join(given.paths)}")
        return USAGE_ERROR
    if levels[UNREADABLE]:
        return USAGE_ERROR
    return FAILED if errors or (given.strict and warnings) else 0


def _findings(file: Path) -> Iterator[Finding]:
    """Yield the findings for a file, also if it cannot be read."""
    from carbontracker.records.seal import check_seal
    from carbontracker.records.validate import Finding, check_file

    try:
        yield from check_file(file)
        yield from check_seal(file)
    except OSError as error:
        yield Finding(file, 0, UNREADABLE, error.strerror or str(error))
