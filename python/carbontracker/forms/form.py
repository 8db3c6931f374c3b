"""What a form is: fields, where the value of each comes from, and questions to the user."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.json_values import jsonable
from carbontracker.report.formatting import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from carbontracker.forms.subject import Subject

    Answers = Mapping[str, Any]
    Value = Callable[[Subject, Answers], object]

CARRIED, DERIVED, ASKED, FIXED, NOT_CARRIED = ORIGINS = (
    "carried",
    "derived",
    "asked",
    "fixed",
    "not carried",
)
"""Where a value comes from. ``carried``: the record has it. ``derived``: computed from the record.
``asked``: only the user knows it. ``fixed``: the same in every document of the form. ``not
carried``: the form has the field, and it is never filled; ``Field.what`` says why."""


class Question(NamedTuple):
    """Something that only the user knows."""

    name: str
    """Its key in the file of answers; one key means the same in all forms."""
    what: str
    example: str | float
    """Its type is that of the answer."""
    choices: tuple[str, ...] = ()
    divides: bool = False
    """Whether the answer is a divisor, which is above 0."""


@dataclass(frozen=True)
class Field:
    """One field of a form.

    A field with a value and a question takes the answer, if there is one, else the value.
    """

    path: str
    """Place in the document: keys, and indices of lists, with ``/`` between. Of a text: heading and
    label."""
    origin: str
    """One of ``ORIGINS``."""
    value: Value | None = None
    question: Question | None = None
    needed: bool = False
    """The form is not valid without it."""
    what: str = ""
    """Explanation for the table of ``docs/forms.md``."""


@dataclass(frozen=True)
class Filled:
    """A form with the values of one subject."""

    values: Mapping[str, Any]
    """By path."""
    origins: Mapping[str, str]
    """By path, ``ASKED`` of each that an answer gave."""
    open: tuple[tuple[Question, bool], ...]
    """Questions without an answer, and whether the form needs it."""
    unknown: tuple[tuple[str, bool], ...]
    """Paths of what the record does not have, and whether the form needs it."""
    replaced: tuple[tuple[str, object], ...] = ()
    """Paths at which an answer stands for another value of the record, and that value."""

    def nested(self) -> Any:
        """Return the values as objects and lists."""
        return _nested({tuple(path.split("/")): value for path, value in self.values.items()})

    @property
    def missing(self) -> list[str]:
        """Return what the form needs and does not have: names of questions, and paths."""
        names = [question.name for question, needed in self.open if needed]
        return names + [path for path, needed in self.unknown if needed]


@dataclass(frozen=True)
class Form:
    """A form: its fields, and how it is written."""

    title: str
    source: str
    """The document that defines the fields."""
    fields: tuple[Field, ...]
    render: Callable[[Form, Filled], str] = field(kw_only=True)
    """``as_json``, ``as_text``, or a function of its own."""

    @property
    def questions(self) -> dict[str, tuple[Question, bool]]:
        """Return the questions by name, and whether the form needs an answer."""
        found: dict[str, tuple[Question, bool]] = {}
        for one in self.fields:
            if one.question is not None:
                needed = found.get(one.question.name, (one.question, False))[1]
                found[one.question.name] = one.question, needed or one.needed
        return found

    def fill(self, subject: Subject, answers: Answers) -> Filled:
        """Return the form with all that is known.

        Args:
            subject: what the form is about.
            answers: by the names of questions.
        """
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        unanswered: dict[str, tuple[Question, bool]] = {}
        unknown = []
        replaced = []
        for one in self.fields:
            question = one.question
            if question is not None and question.name in answers and one.origin == ASKED:
                values[one.path], origins[one.path] = answers[question.name], ASKED
                recorded = None if one.value is None else one.value(subject, {})
                if is_known(recorded) and recorded != answers[question.name]:
                    replaced.append((one.path, recorded))
                continue
            value = None if one.value is None else one.value(subject, answers)
            if is_known(value):
                # What an answer could give, and the record has.
                origins[one.path] = CARRIED if one.origin == ASKED else one.origin
                if question is not None and answers.get(question.name) == value:
                    origins[one.path] = ASKED
                values[one.path] = value
            elif question is not None and question.name not in answers:
                needed = unanswered.get(question.name, (question, False))[1]
                unanswered[question.name] = question, needed or one.needed
            elif one.origin in (CARRIED, DERIVED):
                unknown.append((one.path, one.needed))
        return Filled(values, origins, tuple(unanswered.values()), tuple(unknown), tuple(replaced))


def is_known(value: object) -> bool:
    """Return whether a value can stand in a form: not None, NaN or an empty text."""
    return (
        value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))
    )


def _nested(values: Mapping[tuple[str, ...], Any]) -> Any:
    """Return values by path as objects and lists; what is within a value replaces it."""
    if len(values) == 1 and () in values:
        return values[()]
    parts: dict[str, dict[tuple[str, ...], Any]] = {}
    for (first, *rest), value in ((path, one) for path, one in values.items() if path):
        parts.setdefault(first, {})[tuple(rest)] = value
    whole = {name: _nested(part) for name, part in parts.items()}
    return list(whole.values()) if all(name.isdigit() for name in whole) else whole


def as_json(_form: Form, filled: Filled) -> str:
    """Return the document as JSON."""
    return json.dumps(jsonable(filled.nested()), indent=2, ensure_ascii=False, allow_nan=False)


def as_text(form: Form, filled: Filled) -> str:
    """Return the document as Markdown: headings with lines of label and value."""
    return "\n".join(_text_lines(form, filled))


def _text_lines(form: Form, filled: Filled) -> Iterator[str]:
    yield f"# {form.title}"
    heading = ""
    for one in form.fields:
        text = _shown(one, filled)
        if text is None:
            continue
        head, _, label = one.path.partition("/")
        if head != heading:
            yield from ("", f"## {head}", "")
            heading = head
        yield f"- {label}: {text}"
    yield ""
    yield f"Fields: {form.source}."


def _shown(one: Field, filled: Filled) -> str | None:
    if one.path in filled.values:
        return clean(filled.values[one.path])
    if one.question is not None:
        return f"[still to declare: {one.question.name}]"
    return "[not known]" if one.origin in (CARRIED, DERIVED) else None


def open_lines(filled: Filled) -> list[str]:
    """Return one line for each thing that is still to declare, and for what is not known."""
    lines = []
    for question, needed in filled.open:
        choices = f" ({', '.join(question.choices)})" if question.choices else ""
        must = "; the form needs it" if needed else ""
        lines.append(f"still to declare: {question.name}: {question.what}{choices}{must}")
    for path, value in filled.replaced:
        lines.append(f"{path}: your answer stands for {clean(value)!r} of the record")
    for path, needed in filled.unknown:
        must = "; the form needs it" if needed else ""
        lines.append(f"not known from the record: {path}{must}")
    return lines
