"""``carbontracker declare RUN --form NAME``: fill a form from a run, or from several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of
from carbontracker.cli.recalculation_options import add_recalculation_options, recalculated

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from carbontracker.forms import Declaration
    from carbontracker.forms.subject import Subject
    from carbontracker.records.run_record import RunRecord

EXAMPLES = """\
examples:
  carbontracker declare                                    all forms
  carbontracker declare 5e1f --form hf
  carbontracker declare 5e1f --form boamps --write-answers answers.toml
  carbontracker declare 5e1f --form boamps --answers answers.toml -o boamps.json
  carbontracker declare tiny-lm --form ai-act              all runs of a project
  carbontracker declare tiny-lm --form cyclonedx --stage pretraining
  carbontracker declare logs --form neurips                all runs below a directory
  carbontracker declare 5e1f --form ghg --scope direct      emissions computed again
  carbontracker declare 5e1f --form cyclonedx --json

RUN is a record, the first characters of a run's id, a project, or a directory. Of a project and a
directory, all runs are declared as one, failed ones included; what several runs measured at one
time counts once.

A form has what the record has, and what follows from it. What only you know is asked for by name:
it comes from --answers, or is left out and listed on standard error as still to declare. Nothing is
guessed. Exit code: 0, or 2 if the run, the form or an answer is wrong.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker declare",
        "Fill a form: a model card, a bill of materials, a checklist, or a declaration.",
        EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN", nargs="?", help="record, id, project or directory")
    parser.add_argument("--form", metavar="NAME", help="the form; without it, all are listed")
    parser.add_argument(
        "--records",
        action="append",
        metavar="DIR",
        help="where the runs of a project are; may be repeated (default: the default directory)",
    )
    parser.add_argument("--stage", metavar="NAME", help="only the runs of this stage of a project")
    parser.add_argument("--answers", metavar="FILE", help="TOML file with what only you know")
    parser.add_argument(
        "--write-answers", metavar="FILE", help="write a file with the questions of the form"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the form to a file")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object: the form, the origin of each value, what is still to declare",
    )
    add_recalculation_options(parser)
    return parser


def main(arguments: list[str]) -> int:
    """Print or write the form."""
    given = command_parser().parse_args(arguments)

    from carbontracker.exceptions import IntensityUnavailable, MissingExtra, NoSuchRun

    try:
        if given.form is None:
            return _list(given)
        return _declare(given)
    except (NoSuchRun, MissingExtra, IntensityUnavailable, ValueError) as error:
        say(error)
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else error)
    return USAGE_ERROR


def _list(given: argparse.Namespace) -> int:
    from carbontracker.forms import FORMS

    if given.run is not None or given.answers or given.write_answers or given.output:
        say(f"--form is missing: one of {', '.join(FORMS)}")
        return USAGE_ERROR
    if given.json:
        print(json.dumps(FORMS, indent=2))
        return 0
    width = max(map(len, FORMS))
    print("\n".join(f"{name:<{width}}  {what}" for name, what in FORMS.items()))
    return 0


def _declare(given: argparse.Namespace) -> int:
    """Fill the form, or write the file of its questions.

    Raises:
        NoSuchRun: there is no such run.
        ValueError: the form or an answer is wrong.
        MissingExtra: answers cannot be parsed.
        OSError: a file cannot be read or written.
    """
    from carbontracker.forms import all_questions, declared, form_named
    from carbontracker.forms.answers import read_answers, template

    form = form_named(given.form)
    answers: dict[str, Any] = {}
    if given.answers:
        answers = read_answers(Path(given.answers), all_questions())
    if given.write_answers:
        text = template(given.form, form.questions, answers)
        with Path(given.write_answers).open("x", encoding="utf-8") as file:
            file.write(text)
        if given.run is None:
            return 0
    if given.run is None:
        say("which run? Give a record, a directory or the id of a run")
        return USAGE_ERROR
    declaration = declared(given.form, _subject(given), answers)
    _write(given, declaration)
    for note in declaration.notes:
        say(note)
    return 0


def _subject(given: argparse.Namespace) -> Subject:
    """Return a run, or all runs of a project or below a directory as one.

    Raises:
        NoSuchRun, OSError: there is none, or it cannot be read.
        ValueError, IntensityUnavailable: emissions cannot be computed again.
    """
    from carbontracker.exceptions import NoSuchRun
    from carbontracker.forms.subject import subject_of

    runs, name, beside = _runs(given.run, given.records or [None])
    if given.stage is not None:
        stages = dict.fromkeys(run.metadata.stage or "(none)" for run in runs)
        beside += [run for run in runs if run.metadata.stage != given.stage]
        runs = [run for run in runs if run.metadata.stage == given.stage]
        if not runs:
            raise NoSuchRun(f"no run is of the stage {given.stage!r}; there is {', '.join(stages)}")
    return subject_of([recalculated(run, given) for run in runs], name, beside)


def _runs(name: str, paths: Sequence[str | None]) -> tuple[list[RunRecord], str, list[RunRecord]]:
    """Return the runs of a directory or a project, its name, and the runs of other projects; or a
    run that is called so.

    Raises:
        NoSuchRun, OSError: there is none, or it cannot be read.
    """
    from carbontracker.exceptions import NoSuchRun
    from carbontracker.records.reader import read_all, read_run, read_runs

    path = Path(name)
    if path.is_dir():
        found = list(read_runs(path, series=False, epochs=False))
        if not found:
            raise NoSuchRun(f"{path} has no record of a run")
        return found, path.resolve().name, []
    try:
        return [read_run(name)], "", []
    except NoSuchRun as error:
        everything = list(read_all(paths))
        found = [run for run in everything if run.metadata.project == name]
        if path.exists() or not found:
            raise NoSuchRun(f"{error}, or the name of a project") from None
        return found, name, [run for run in everything if run.metadata.project != name]


def _write(given: argparse.Namespace, declaration: Declaration) -> None:
    from carbontracker.json_values import jsonable

    text = declaration.text
    if given.json:
        whole = jsonable(declaration._asdict() | {"text": text})
        text = json.dumps(whole, indent=2, ensure_ascii=False)
    if given.output:
        from carbontracker.records.output import write_output

        read = (Path(given.answers),) if given.answers else ()
        write_output(Path(given.output), f"{text}\n".encode(), read)
    else:
        print(text)
