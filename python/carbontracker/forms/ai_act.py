"""EU AI Act (Regulation (EU) 2024/1689), Annex XI section 1 point 2, (d) and (e)."""

from __future__ import annotations

from carbontracker.forms import questions as ask
from carbontracker.forms import statements as say
from carbontracker.forms.form import ASKED, CARRIED, DERIVED, NOT_CARRIED, Field, Form, as_text

_MODEL, _D, _E = "Model", "2(d) Computational resources", "2(e) Energy consumption"

FORM = Form(
    "Energy and compute for the technical documentation of a general-purpose AI model",
    "Regulation (EU) 2024/1689, Annex XI, section 1, point 2, (d) and (e)",
    (
        Field(f"{_MODEL}/Name", ASKED, None, ask.MODEL_NAME, needed=True),
        Field(f"{_MODEL}/Provider", ASKED, None, ask.ORGANIZATION, needed=True),
        Field(
            f"{_MODEL}/Stages that are included",
            ASKED,
            lambda s, _: ", ".join(s.stages),
            ask.STAGE,
            needed=True,
        ),
        Field(
            f"{_D}/Floating-point operations",
            ASKED,
            lambda s, _: say.count(s.work.flops),
            ask.TRAINING_FLOPS,
            needed=True,
            what="carried if all trainings counted them",
        ),
        Field(
            f"{_D}/Tokens",
            ASKED,
            lambda s, _: say.count(s.work.tokens),
            ask.TRAINING_TOKENS,
            what="carried if all trainings counted them",
        ),
        Field(f"{_D}/Hardware", CARRIED, lambda s, _: say.compute_hardware(s)),
        Field(f"{_D}/Training time", CARRIED, lambda s, _: say.hours(s.seconds), needed=True),
        Field(f"{_D}/Accelerator time", DERIVED, lambda s, _: say.gpu_hours(s) or "no GPU"),
        Field(
            f"{_D}/Period",
            CARRIED,
            lambda s, _: f"{s.began:%Y-%m-%d %H:%M} to {s.ended:%Y-%m-%d %H:%M} UTC",
        ),
        Field(f"{_D}/Epochs", CARRIED, lambda s, _: str(s.epochs) if s.epochs else ""),
        Field(f"{_E}/Energy", CARRIED, lambda s, _: say.energy(s), needed=True),
        Field(f"{_E}/Known or estimated", DERIVED, lambda s, _: say.known_or_estimated(s)),
        Field(f"{_E}/Boundary", DERIVED, lambda s, _: say.boundary(s)),
        Field(f"{_E}/Method", DERIVED, lambda s, _: say.method(s)),
        Field(f"{_E}/Energy of inference", NOT_CARRIED, what="only trainings are measured"),
        Field(
            "2(a) to (c) and point 1",
            NOT_CARRIED,
            what="architecture, data, tasks, licence: not about energy",
        ),
    ),
    render=as_text,
)
