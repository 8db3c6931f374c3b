"""The paper checklist of NeurIPS: the question on compute resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.forms import statements as say
from carbontracker.forms.form import ASKED, CARRIED, DERIVED, Field, Form, Question, as_text
from carbontracker.report.formatting import plain

if TYPE_CHECKING:
    from carbontracker.forms.subject import Subject

_SECTION = Question("paper_section", "Section of the paper that has these figures.", "Appendix B")
_PRELIMINARY = Question(
    "preliminary_compute",
    "Compute of preliminary and failed experiments that are not in these runs.",
    "about 200 GPU-hours on the same machine",
)
_HEAD = "Experiments compute resources"


def _memory(subject: Subject) -> str:
    return f"{plain(subject.memory_bytes / 1e9, 3)} GB" if subject.memory_bytes > 0 else ""


FORM = Form(
    "NeurIPS paper checklist",
    "NeurIPS paper checklist, experiments compute resources",
    (
        Field(f"{_HEAD}/Answer", ASKED, None, _SECTION, what="the section that has the figures"),
        Field(f"{_HEAD}/Type of compute workers", CARRIED, lambda s, _: say.compute_hardware(s)),
        Field(f"{_HEAD}/Processors", CARRIED, lambda s, _: say.hardware(s, "cpu")),
        Field(f"{_HEAD}/Memory", CARRIED, lambda s, _: _memory(s)),
        Field(f"{_HEAD}/Time of execution", CARRIED, lambda s, _: say.hours(s.seconds)),
        Field(
            f"{_HEAD}/Total compute",
            DERIVED,
            lambda s, _: say.gpu_hours(s) or say.hours(s.seconds),
            what="of all runs that are declared",
        ),
        Field(f"{_HEAD}/Runs", CARRIED, lambda s, _: say.runs(s), what="failed ones included"),
        Field(f"{_HEAD}/Preliminary and failed experiments", ASKED, None, _PRELIMINARY),
        Field(f"{_HEAD}/Energy", CARRIED, lambda s, _: say.energy(s)),
        Field(f"{_HEAD}/Emissions", CARRIED, lambda s, _: say.emissions(s)),
        Field(f"{_HEAD}/Boundary", DERIVED, lambda s, _: say.boundary(s)),
        Field(f"{_HEAD}/Method", DERIVED, lambda s, _: say.method(s)),
    ),
    render=as_text,
)
