"""SPDX 3.0.1: an AI package with the energy of its training or fine-tuning, as JSON-LD."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from carbontracker.forms import questions as ask
from carbontracker.forms import statements as say
from carbontracker.forms.form import (
    ASKED,
    CARRIED,
    DERIVED,
    FIXED,
    NOT_CARRIED,
    Field,
    Form,
    Question,
    as_json,
)

if TYPE_CHECKING:
    from carbontracker.forms.form import Answers
    from carbontracker.forms.subject import Subject

_PROPERTIES = {
    "pretraining": "ai_trainingEnergyConsumption",
    "development": "ai_trainingEnergyConsumption",
    "fine-tuning": "ai_finetuningEnergyConsumption",
}
_DOWNLOAD = Question(
    "download_location", "Address to download the model from.", "https://a.example/m"
)
_INFO, _AGENT, _DOCUMENT, _PACKAGE = (f"@graph/{i}" for i in range(4))
_CREATION = "_:creationInfo"


def _id(subject: Subject, what: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, f'spdx {what} ' + ' '.join(subject.runs))}"


def _energy(subject: Subject, answers: Answers) -> dict[str, object] | None:
    name = _PROPERTIES.get(say.stage(subject, answers))
    if name is None or not subject.kwh >= 0:
        return None
    description = {
        "type": "ai_EnergyConsumptionDescription",
        "ai_energyQuantity": say.significant(subject.kwh),
        "ai_energyUnit": "kilowattHour",
    }
    return {"type": "ai_EnergyConsumption", name: [description]}


FORM = Form(
    "Energy consumption of an AI package in SPDX",
    "SPDX 3.0.1 model, AI profile: AIPackage, EnergyConsumption",
    (
        Field("@context", FIXED, lambda *_: "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"),
        Field(f"{_INFO}/type", FIXED, lambda *_: "CreationInfo"),
        Field(f"{_INFO}/@id", FIXED, lambda *_: _CREATION),
        Field(f"{_INFO}/specVersion", FIXED, lambda *_: "3.0.1"),
        Field(
            f"{_INFO}/created",
            DERIVED,
            lambda *_: datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            what="when the form was filled",
        ),
        Field(f"{_INFO}/createdBy", DERIVED, lambda s, _: [_id(s, "agent")]),
        Field(f"{_AGENT}/type", FIXED, lambda *_: "SoftwareAgent", what="the document's creator"),
        Field(f"{_AGENT}/spdxId", DERIVED, lambda s, _: _id(s, "agent")),
        Field(f"{_AGENT}/creationInfo", FIXED, lambda *_: _CREATION),
        Field(f"{_AGENT}/name", CARRIED, lambda s, _: f"carbontracker {', '.join(s.versions)}"),
        Field(f"{_DOCUMENT}/type", FIXED, lambda *_: "SpdxDocument"),
        Field(f"{_DOCUMENT}/spdxId", DERIVED, lambda s, _: _id(s, "document")),
        Field(f"{_DOCUMENT}/creationInfo", FIXED, lambda *_: _CREATION),
        Field(f"{_DOCUMENT}/rootElement", DERIVED, lambda s, _: [_id(s, "package")]),
        Field(f"{_PACKAGE}/type", FIXED, lambda *_: "ai_AIPackage"),
        Field(f"{_PACKAGE}/spdxId", DERIVED, lambda s, _: _id(s, "package")),
        Field(f"{_PACKAGE}/creationInfo", FIXED, lambda *_: _CREATION),
        Field(f"{_PACKAGE}/name", ASKED, None, ask.MODEL_NAME, needed=True),
        Field(f"{_PACKAGE}/software_packageVersion", ASKED, None, ask.MODEL_VERSION),
        Field(f"{_PACKAGE}/software_downloadLocation", ASKED, None, _DOWNLOAD),
        Field(
            f"{_PACKAGE}/ai_energyConsumption",
            CARRIED,
            _energy,
            ask.STAGE,
            needed=True,
            what="of training or fine-tuning, by the record or the answer; of an evaluation: none",
        ),
        Field(
            f"{_PACKAGE}/ai_informationAboutTraining",
            DERIVED,
            lambda s, _: f"{say.boundary(s)} {say.method(s)}",
        ),
        Field("profileConformance", NOT_CARRIED, what="the AI profile asks for more than energy"),
        Field("emissions", NOT_CARRIED, what="SPDX 3.0.1 has no field for them"),
    ),
    render=as_json,
)
