"""What the user knows and the record does not: a file of answers, read and prepared."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

from carbontracker.extras import optional_module

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from carbontracker.forms.form import Question

    Questions = Mapping[str, tuple[Question, bool]]


def read_answers(file: Path, known: Mapping[str, Question]) -> dict[str, Any]:
    """Return the answers in a TOML file.

    Args:
        file: it has one line ``name = value`` for each answer.
        known: the questions of all forms by name, so that one file serves them all.

    Raises:
        ValueError: it is not a file or not TOML, or an answer has an unknown name, another type
            than the example of its question, is no number that can be, or not one of the choices.
        MissingExtra: Python before 3.11 has no parser, and tomli is not installed.
        OSError: it cannot be read.
    """
    toml: Any = optional_module("tomllib" if sys.version_info >= (3, 11) else "tomli", "declare")
    if file.exists() and not file.is_file():  # a pipe would be waited for
        raise ValueError(f"{file} is not a file: write the answers to one")
    try:
        given: dict[str, Any] = toml.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{file} is not a file of answers: its lists are too deep") from None
    except ValueError as error:  # also of text that is not UTF-8
        raise ValueError(f"{file} is not valid TOML: {error}") from None
    for name, value in given.items():
        _check(file, name, value, known)
    return given


def _check(file: Path, name: str, value: object, known: Mapping[str, Question]) -> None:
    from difflib import get_close_matches

    question = known.get(name)
    if question is None:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{file}: no form asks for {name!r}{hint}")
    if isinstance(question.example, str):
        fits, kind = isinstance(value, str) and value.strip() != "", "a text"
    else:
        fits, kind = _is_answer(value), "a number of at least 0"
        if question.divides:
            fits, kind = fits and value != 0, "a number above 0"
    if not fits:
        raise ValueError(f"{file}: {name} must be {kind}, such as {question.example!r}")
    if question.choices and value not in question.choices:
        choices = ", ".join(question.choices)
        raise ValueError(f"{file}: {name} must be one of {choices}, not {value!r}")


def _is_answer(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def template(form: str, questions: Questions, answers: Mapping[str, Any]) -> str:
    """Return a TOML file with all questions of a form; those without an answer are comments.

    Args:
        form: its name.
        questions: of the form, and whether it needs them.
        answers: that are known already.
    """
    return "\n".join(_template_lines(form, questions, answers)) + "\n"


def _template_lines(form: str, questions: Questions, answers: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Answers for: carbontracker declare RUN --form {form} --answers THIS_FILE"
    yield "# Remove the # of each line that you can answer, and replace the example."
    yield "# What has no answer is left out of the form, and listed as still to declare."
    for name, (question, needed) in questions.items():
        yield ""
        yield f"# {question.what}" + (" (the form needs it)" if needed else "")
        if question.choices:
            yield f"# One of: {', '.join(question.choices)}"
        mark = "" if name in answers else "# "
        value = answers.get(name, question.example)
        yield f"{mark}{name} = {json.dumps(value, ensure_ascii=False)}"
