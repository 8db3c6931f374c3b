"""``carbontracker label RUN --project NAME``: says later what a run was for, or how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLES = """\
examples:
  carbontracker label 3f2a9c01 --project tiny-lm --stage pretraining
  carbontracker label 3f2a9c01 77b0d1e2 --outcome superseded --note "wrong learning rate"
  carbontracker label logs/run.jsonl --parent 3f2a9c01
  carbontracker label 3f2a9c01 --project ""          # takes the project of the label back
  carbontracker label 3f2a9c01                       # shows what is said of it

The record is not changed: labels are lines of RECORD.labels.jsonl beside it. All commands read them
with the record. Of a directory, all runs below it are labelled.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of("carbontracker label", "Say later what a run was for.", EXAMPLES)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="records, directories or ids")
    parser.add_argument("--project", metavar="NAME", help="what it contributes to")
    parser.add_argument("--stage", metavar="NAME", help="pretraining, development, ...")
    parser.add_argument("--parent", metavar="RUN", help="the run whose checkpoint it started from")
    parser.add_argument(
        "--outcome", metavar="WORD", help="finished, failed, budget, killed or superseded"
    )
    parser.add_argument("--note", metavar="TEXT", help="a remark")
    return parser


def main(arguments: list[str]) -> int:
    """Append the labels, or show them."""
    given = command_parser().parse_args(arguments)

    from carbontracker.exceptions import NoSuchRun
    from carbontracker.records.labels import NAMES, add_label, check_label
    from carbontracker.records.reader import read_runs
    from carbontracker.report.formatting import MAX_LINE, clean

    values = {name: found for name in NAMES if (found := getattr(given, name)) is not None}
    try:
        check_label(values)
        if values.get("parent"):
            values["parent"] = _parent(values["parent"], given.runs)
        found = []
        for path in given.runs:
            before = len(found)
            found += read_runs(path, series=False, epochs=False)
            if len(found) == before:
                raise NoSuchRun(f"{path} has no record of a run")
            if len({run.id for run in found[before:]}) > 1 and not Path(path).exists():
                raise ValueError(f"{path} is the beginning of several ids: give more of the one")
        for run in found:
            if values.get("parent") == run.id:
                raise ValueError(f"run {run.id} cannot continue itself: name another parent")
        for run in found:
            if values:
                add_label(run.path, run.id, values)
                continue
            about = run.metadata
            said = {"project": about.project, "stage": about.stage, "parent": about.parent}
            said |= {"outcome": run.outcome, "note": run.labels.get("note", "")}
            words = ", ".join(f"{name}: {text}" for name, text in said.items() if text)
            print(clean(f"{run.id} {words}", MAX_LINE))
    except (NoSuchRun, OSError, ValueError) as error:
        say(error)
        return USAGE_ERROR
    return 0


def _parent(name: str, beside: Sequence[str]) -> str:
    """Return the id of a run: of one beside the records, else as everywhere.

    Raises:
        NoSuchRun, OSError: there is none, or it cannot be read.
    """
    from carbontracker.records.reader import read_run, read_runs

    for path in map(Path, beside if len(name) >= 4 and not Path(name).exists() else ()):
        folder = path.parent if path.is_file() else path
        runs = read_runs(folder, series=False, epochs=False) if folder.is_dir() else ()
        for run in runs:
            if run.id.startswith(name):
                return run.id
    return read_run(name).id
