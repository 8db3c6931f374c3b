"""``carbontracker seal RUN``: makes later changes of a record and its labels visible."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  carbontracker seal 3f2a9c01
  carbontracker seal logs/run.jsonl --with answers.toml --with ai-act.json
  carbontracker check logs/run.jsonl                       # verifies the seal, too
  ssh-keygen -Y sign -f ~/.ssh/id_ed25519 -n carbontracker logs/run.seal.json

The seal is a chain of SHA-256 digests over the record, its labels and the files given with --with,
in RECORD.seal.json. Labels may still be added: `carbontracker check` lists them as "after the
seal". A seal shows a change only to people who have the seal, or its signature, from before.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker seal", "Make later changes of a record and its labels visible.", EXAMPLES
    )
    parser.add_argument("run", metavar="RUN", help="a record, or the beginning of a run's id")
    parser.add_argument(
        "--with",
        dest="declared",
        action="append",
        default=[],
        metavar="FILE",
        help="a file with declared values, such as the answers for a form; may be repeated",
    )
    return parser


def main(arguments: list[str]) -> int:
    """Write the seal, and print where."""
    given = command_parser().parse_args(arguments)

    from carbontracker.exceptions import NoSuchRun
    from carbontracker.records.reader import read_runs
    from carbontracker.records.seal import seal

    try:
        runs = list(read_runs(given.run, series=False, epochs=False))
        paths = {run.path for run in runs}
        if len(paths) != 1:
            say(f"{given.run} has {len(paths)} records: name one")
            return USAGE_ERROR
        if any(run.running for run in runs):
            say(f"{given.run} still runs: seal it when it has ended")
            return USAGE_ERROR
        (path,) = paths
        print(seal(path, [Path(one) for one in given.declared]))
    except (NoSuchRun, OSError) as error:
        say(error)
        return USAGE_ERROR
    return 0
