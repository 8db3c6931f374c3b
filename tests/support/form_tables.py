"""The tables of ``docs/forms.md``, from the forms: ``python -m tests.support.form_tables``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.forms import FORMS, form_named
from carbontracker.forms.form import ASKED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.forms.form import Field


def tables() -> Iterator[str]:
    """Yield the lines of the tables of all forms."""
    for name in FORMS:
        form = form_named(name)
        yield f"### `{name}`"
        yield ""
        yield f"{form.title}. Fields: {form.source}."
        yield ""
        yield "| field | value | answer | remarks |"
        yield "| --- | --- | --- | --- |"
        yield from map(_row, form.fields)
        yield ""


def _row(one: Field) -> str:
    origin = "carried or asked" if one.origin == ASKED and one.value else one.origin
    question = f"`{one.question.name}`" if one.question else ""
    remarks = "; ".join(filter(None, ("needed" if one.needed else "", one.what)))
    path = one.path.replace("modelCard/considerations/environmentalConsiderations", "...")
    return f"| {path} | {origin} | {question} | {remarks} |"


if __name__ == "__main__":
    print("\n".join(tables()))
