"""CycloneDX 1.7: a component of the type ``machine-learning-model`` with its energy."""

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

_ACTIVITIES = {
    "pretraining": "training",
    "fine-tuning": "fine-tuning",
    "evaluation": "validation",
    "development": "other",
}
_SUPPLIER = Question("energy_supplier", "Organization that supplied the electricity.", "ACME Power")
_SOURCE = Question(
    "energy_source",
    "What the supplied electricity was made from.",
    "unknown",
    (
        *("coal", "oil", "natural-gas", "nuclear", "wind", "solar", "geothermal", "hydropower"),
        *("biofuel", "unknown", "other"),
    ),
)
_COMPONENT = "components/0"
_ENERGY = f"{_COMPONENT}/modelCard/considerations/environmentalConsiderations/energyConsumptions/0"


def _kwh(subject: Subject) -> dict[str, object] | None:
    if not subject.kwh >= 0:
        return None
    return {"value": say.significant(subject.kwh), "unit": "kWh"}


def _source(_: Subject, answers: Answers) -> object:
    """Return the answer; ``unknown`` of a supplier without one, as the schema has a word for it."""
    return answers.get("energy_source", "unknown") if "energy_supplier" in answers else None


def _provided(subject: Subject, answers: Answers) -> object:
    return _kwh(subject) if "energy_supplier" in answers else None


def _co2(subject: Subject, _: Answers) -> dict[str, object] | None:
    if not subject.gco2eq >= 0:
        return None
    return {"value": say.tonnes(subject.gco2eq), "unit": "tCO2eq"}


def _properties(subject: Subject, _: Answers) -> list[dict[str, str]]:
    facts = {
        "boundary": say.boundary(subject),
        "method": say.method(subject),
        "energy": say.energy(subject),
        "hardware": say.compute_hardware(subject),
        "accelerator-time": say.gpu_hours(subject),
        "runs": ", ".join(subject.runs),
    }
    return [{"name": f"carbontracker:{k}", "value": v} for k, v in facts.items() if v]


FORM = Form(
    "Environmental considerations in a CycloneDX bill of materials",
    "CycloneDX 1.7 JSON schema, modelCard.considerations.environmentalConsiderations",
    (
        Field("$schema", FIXED, lambda *_: "http://cyclonedx.org/schema/bom-1.7.schema.json"),
        Field("bomFormat", FIXED, lambda *_: "CycloneDX", needed=True),
        Field("specVersion", FIXED, lambda *_: "1.7", needed=True),
        Field(
            "serialNumber",
            DERIVED,
            lambda s, _: f"urn:uuid:{uuid5(NAMESPACE_URL, 'cyclonedx ' + ' '.join(s.runs))}",
            what="from the ids of the runs",
        ),
        Field("version", FIXED, lambda *_: 1),
        Field(
            "metadata/timestamp",
            DERIVED,
            lambda *_: datetime.now(timezone.utc).isoformat(timespec="seconds"),
            what="when the form was filled",
        ),
        Field(
            "metadata/tools/components/0",
            CARRIED,
            lambda s, _: {
                "type": "application",
                "name": "carbontracker",
                "version": ", ".join(s.versions),
            },
        ),
        Field(f"{_COMPONENT}/type", FIXED, lambda *_: "machine-learning-model", needed=True),
        Field(f"{_COMPONENT}/name", ASKED, None, ask.MODEL_NAME, needed=True),
        Field(f"{_COMPONENT}/version", ASKED, None, ask.MODEL_VERSION),
        Field(
            f"{_ENERGY}/activity",
            DERIVED,
            lambda s, answers: _ACTIVITIES.get(say.stage(s, answers)),
            ask.STAGE,
            needed=True,
            what="of the record or the answer, in the words of CycloneDX",
        ),
        Field(
            f"{_ENERGY}/energyProviders",
            FIXED,
            lambda *_: [],
            needed=True,
            what="an empty list, which is valid, without a supplier",
        ),
        Field(f"{_ENERGY}/energyProviders/0/organization/name", ASKED, None, _SUPPLIER),
        Field(
            f"{_ENERGY}/energyProviders/0/energySource",
            DERIVED,
            _source,
            _SOURCE,
            what="the answer; `unknown` of a supplier without one",
        ),
        Field(
            f"{_ENERGY}/energyProviders/0/energyProvided",
            FIXED,
            _provided,
            what="the activityEnergyCost, if there is a supplier",
        ),
        Field(f"{_ENERGY}/activityEnergyCost", CARRIED, lambda s, _: _kwh(s), needed=True),
        Field(f"{_ENERGY}/co2CostEquivalent", CARRIED, _co2),
        Field(f"{_ENERGY}/co2CostOffset", NOT_CARRIED, what="offsets change no emission"),
        Field(f"{_ENERGY}/properties", DERIVED, _properties, what="boundary, method, hardware"),
    ),
    render=as_json,
)
