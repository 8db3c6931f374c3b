"""Forms that people must fill: model cards, bills of materials, checklists, declarations.

A new form is a module with ``FORM`` and a line in ``FORMS``; see ``docs/forms.md``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from carbontracker.forms.form import Answers, Form, Question
    from carbontracker.forms.subject import Subject

FORMS = {
    "ai-act": "EU AI Act, Annex XI section 1(2)(d) and (e): compute, time and energy (text)",
    "hf": "Hugging Face model card: co2_eq_emissions and environmental impact (Markdown)",
    "cyclonedx": "CycloneDX 1.7 bill of materials: environmentalConsiderations (JSON)",
    "spdx": "SPDX 3.0.1: energy consumption of an AI package (JSON-LD)",
    "boamps": "BoAmps report of Boavizta (JSON)",
    "sci": "Software Carbon Intensity, ISO/IEC 21031: E, I, M, R (JSON)",
    "neurips": "NeurIPS paper checklist: experiments compute resources (text)",
    "acl": "ACL responsible NLP checklist, C1 (text)",
    "ghg": "GHG Protocol, Scope 2: location-based and market-based (text)",
}
"""Every form by its name: what it is, for lists. Its module has the name with ``_`` for ``-``."""


class Declaration(NamedTuple):
    """A filled form."""

    form: str
    text: str
    """The document."""
    values: dict[str, Any]
    """By path."""
    origins: dict[str, str]
    """By path: ``carried``, ``derived``, ``asked`` or ``fixed``."""
    still_to_declare: list[str]
    """Names of questions without an answer."""
    missing: list[str]
    """What the form needs and does not have; without it the document is not valid."""
    notes: list[str]
    """One line for each of these, and for what to know of the runs."""


def form_named(name: str) -> Form:
    """Return a form.

    Raises:
        ValueError: no form has this name; the message has the nearest.
    """
    if name not in FORMS:
        from difflib import get_close_matches

        near = get_close_matches(name.lower(), FORMS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FORMS)}"
        raise ValueError(f"no form is called {name!r}; {hint}")
    form: Form = import_module(f"{__name__}.{name.replace('-', '_')}").FORM
    return form


def all_questions() -> dict[str, Question]:
    """Return the questions of all forms by name."""
    return {
        key: question for name in FORMS for key, (question, _) in form_named(name).questions.items()
    }


def declared(name: str, subject: Subject, answers: Answers) -> Declaration:
    """Return a form with all that the record has and the user has answered.

    Args:
        name: of the form.
        subject: what it is about.
        answers: by the names of questions.

    Raises:
        ValueError: no form has this name.
    """
    from carbontracker.forms.form import open_lines

    form = form_named(name)
    filled = form.fill(subject, answers)
    return Declaration(
        name,
        form.render(form, filled),
        dict(filled.values),
        dict(filled.origins),
        [question.name for question, _ in filled.open],
        filled.missing,
        [*subject.notes, *subject.advice, *open_lines(filled)],
    )
