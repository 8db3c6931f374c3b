"""The responsible NLP research checklist of ACL Rolling Review: C1."""

from __future__ import annotations

from carbontracker.forms import questions as ask
from carbontracker.forms import statements as say
from carbontracker.forms.form import ASKED, CARRIED, DERIVED, NOT_CARRIED, Field, Form, as_text

_HEAD = "C1 Parameters, budget and infrastructure"

FORM = Form(
    "ACL responsible NLP research checklist",
    "ACL Rolling Review, responsible NLP research checklist, C1",
    (
        Field(f"{_HEAD}/Number of parameters", ASKED, None, ask.PARAMETERS, needed=True),
        Field(
            f"{_HEAD}/Total computational budget",
            DERIVED,
            lambda s, _: say.gpu_hours(s) or say.hours(s.seconds),
            needed=True,
            what="GPU-hours; hours without a GPU",
        ),
        Field(f"{_HEAD}/Computing infrastructure", CARRIED, lambda s, _: say.compute_hardware(s)),
        Field(f"{_HEAD}/Location", ASKED, lambda s, _: say.place(s), ask.LOCATION),
        Field(f"{_HEAD}/Energy", CARRIED, lambda s, _: say.energy(s)),
        Field(f"{_HEAD}/Emissions", CARRIED, lambda s, _: say.emissions(s)),
        Field(f"{_HEAD}/Boundary", DERIVED, lambda s, _: say.boundary(s)),
        Field(f"{_HEAD}/Method", DERIVED, lambda s, _: say.method(s)),
        Field("C2 to C4", NOT_CARRIED, what="hyperparameters, statistics, packages"),
    ),
    render=as_text,
)
