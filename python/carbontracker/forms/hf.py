"""The model card of Hugging Face: ``co2_eq_emissions``, and the section on the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.forms import questions as ask
from carbontracker.forms import statements as say
from carbontracker.forms.form import ASKED, CARRIED, DERIVED, NOT_CARRIED, Field, Filled, Form
from carbontracker.report.paper import co2_metadata, markdown_escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK, _SECTION = "co2_eq_emissions", "Environmental Impact"


def _render(_form: Form, filled: Filled) -> str:
    return "\n".join(_lines(filled))


def _lines(filled: Filled) -> Iterator[str]:
    block = {
        path.partition("/")[2]: value
        for path, value in filled.values.items()
        if path.startswith(_BLOCK)
    }
    yield from ("---", *co2_metadata(block), "---", "", f"## {_SECTION}", "")
    for path, value in filled.values.items():
        if path.startswith(_SECTION):
            yield f"- **{path.partition('/')[2]}:** {markdown_escaped(str(value))}"


FORM = Form(
    "Environmental impact of a model on Hugging Face",
    "Hugging Face Hub documentation, Displaying carbon emissions for your model; the template of "
    "huggingface_hub",
    (
        Field(
            f"{_BLOCK}/emissions",
            CARRIED,
            lambda s, _: say.significant(s.gco2eq),
            needed=True,
            what="grams",
        ),
        Field(f"{_BLOCK}/source", CARRIED, lambda s, _: f"carbontracker {', '.join(s.versions)}"),
        Field(
            f"{_BLOCK}/training_type",
            DERIVED,
            lambda s, a: say.stage(s, a).replace("pretraining", "pre-training"),
            ask.STAGE,
            what="of the record or the answer",
        ),
        Field(
            f"{_BLOCK}/geographical_location",
            ASKED,
            lambda s, _: say.place(s),
            ask.LOCATION,
            what="carried if it was stated; that of a time zone is not",
        ),
        Field(f"{_BLOCK}/hardware_used", CARRIED, lambda s, _: say.compute_hardware(s)),
        Field(f"{_SECTION}/Hardware Type", CARRIED, lambda s, _: say.compute_hardware(s)),
        Field(
            f"{_SECTION}/Hours used",
            DERIVED,
            lambda s, _: " = ".join(filter(None, (say.hours(s.seconds), say.gpu_hours(s)))),
        ),
        Field(
            f"{_SECTION}/Cloud Provider",
            ASKED,
            lambda s, _: say.cloud(s, 0),
            ask.CLOUD_PROVIDER,
            what="carried if the region is known",
        ),
        Field(
            f"{_SECTION}/Compute Region",
            ASKED,
            lambda s, _: say.cloud(s, 1),
            ask.CLOUD_REGION,
            what="carried if it is known",
        ),
        Field(f"{_SECTION}/Energy", CARRIED, lambda s, _: say.energy(s)),
        Field(f"{_SECTION}/Carbon Emitted", CARRIED, lambda s, _: say.emissions(s)),
        Field(f"{_SECTION}/Boundary", DERIVED, lambda s, _: say.boundary(s)),
        Field(f"{_SECTION}/Method", DERIVED, lambda s, _: say.method(s)),
        Field(
            "other metadata of the card",
            NOT_CARRIED,
            what="licence, datasets, language: not about energy",
        ),
    ),
    render=_render,
)
