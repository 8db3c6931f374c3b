"""BoAmps: the report of Boavizta on the energy of a task of machine learning."""

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

_TIME = "%Y-%m-%d %H:%M:%S"
_STAGES = {
    "pretraining": "training",
    "fine-tuning": "finetuning",
    "evaluation": "inference",
    "development": "training",
}
_LICENCE = Question("report_licence", "Licence under which you share the report.", "CC BY 4.0")
_STATUS = Question(
    "report_status", "Status of the report.", "draft", ("draft", "final", "corrective", "other")
)
_CONFIDENTIALITY = Question(
    "confidentiality",
    "Confidentiality of the report.",
    "public",
    ("public", "internal", "confidential", "secret"),
)
_FAMILY = Question("task_family", "Family of the task.", "text classification")
_ALGORITHM = Question("algorithm", "Name of the algorithm or the architecture.", "transformers")
_TRAINING_TYPE = Question("learning", "Kind of learning.", "supervisedLearning")
_DATA = Question(
    "data_type",
    "Kind of data that the task read.",
    "text",
    (
        *("tabular", "audio", "boolean", "image", "video", "object", "text", "token", "word"),
        "other",
    ),
)
_ITEMS = Question("data_quantity", "Number of items that the task read.", 1.0e9)
_INFRA = Question(
    "infrastructure",
    "Kind of infrastructure.",
    "onPremise",
    ("publicCloud", "privateCloud", "onPremise", "other"),
)
_COUNTRY = Question("country", "Country in which the machines stand.", "France")
_KINDS = {"gpu": "gpu", "cpu": "cpu", "dram": "ram"}


def _components(subject: Subject, _: Answers) -> list[dict[str, object]] | None:
    found: list[dict[str, object]] = []
    for kind, names in subject.hardware.items():
        if kind in _KINDS:
            found += [
                {"componentName": name, "componentType": _KINDS[kind], "nbComponent": count}
                for name, count in names.items()
            ]
    return found or None


def _tracking(subject: Subject, kind: str) -> str:
    return ", ".join(dict.fromkeys(source for source, _ in subject.sensors.get(kind, ())))


def _framework(subject: Subject, part: int) -> str:
    """Return name or version of the first framework that the program had loaded."""
    known = [
        one for one in subject.software.items() if one[0] in ("torch", "tensorflow", "jax", "keras")
    ]
    return known[0][part] if known else ""


FORM = Form(
    "Energy report in the format BoAmps",
    "Boavizta BoAmps, model/*_schema.json as of 2026, CC BY 4.0",
    (
        Field("header/licensing", ASKED, None, _LICENCE),
        Field("header/formatVersion", NOT_CARRIED, what="the schemas do not state their version"),
        Field(
            "header/formatVersionSpecificationUri",
            FIXED,
            lambda *_: "https://github.com/Boavizta/BoAmps/tree/main/model",
        ),
        Field(
            "header/reportId",
            DERIVED,
            lambda s, _: str(uuid5(NAMESPACE_URL, "boamps " + " ".join(s.runs))),
            what="from the ids of the runs",
        ),
        Field(
            "header/reportDatetime",
            DERIVED,
            lambda *_: datetime.now(timezone.utc).strftime(_TIME),
            what="when the form was filled, UTC",
        ),
        Field("header/reportStatus", ASKED, None, _STATUS),
        Field("header/publisher/name", ASKED, None, ask.ORGANIZATION),
        Field("header/publisher/confidentialityLevel", ASKED, None, _CONFIDENTIALITY, needed=True),
        Field("header/publisher/division, publicKey", NOT_CARRIED, what="not about energy"),
        Field(
            "task/taskStage",
            DERIVED,
            lambda s, answers: _STAGES.get(say.stage(s, answers)),
            ask.STAGE,
            needed=True,
            what="of the record or the answer, in the words of BoAmps",
        ),
        Field("task/taskFamily", ASKED, None, _FAMILY, needed=True),
        Field("task/algorithms/0/algorithmName", ASKED, None, _ALGORITHM, needed=True),
        Field("task/algorithms/0/trainingType", ASKED, None, _TRAINING_TYPE),
        Field(
            "task/algorithms/0/parametersNumber",
            DERIVED,
            lambda _, answers: answers["parameters"] / 1e9 if "parameters" in answers else None,
            ask.PARAMETERS,
            what="the answer in billions",
        ),
        Field("task/algorithms/0/framework", CARRIED, lambda s, _: _framework(s, 0)),
        Field("task/algorithms/0/frameworkVersion", CARRIED, lambda s, _: _framework(s, 1)),
        Field("task/algorithms/0/epochsNumber", CARRIED, lambda s, _: s.epochs or None),
        Field("task/algorithms: other fields", NOT_CARRIED, what="not about energy"),
        Field(
            "task/dataset/0/dataUsage",
            DERIVED,
            lambda _, answers: "input" if "data_type" in answers else None,
            _DATA,
            needed=True,
        ),
        Field("task/dataset/0/dataType", ASKED, None, _DATA, needed=True),
        Field("task/dataset/0/dataQuantity", ASKED, None, _ITEMS),
        Field("task/dataset: other fields", NOT_CARRIED, what="not about energy"),
        Field(
            "task/nbRequest, measuredAccuracy, estimatedAccuracy",
            NOT_CARRIED,
            what="not about the energy of a training",
        ),
        Field(
            "task/taskDescription",
            DERIVED,
            lambda s, _: f"{say.boundary(s)} {say.method(s)}",
            what="boundary and method in words",
        ),
        Field("measures/0/measurementMethod", FIXED, lambda *_: "carbontracker", needed=True),
        Field("measures/0/version", CARRIED, lambda s, _: ", ".join(s.versions)),
        Field("measures/0/cpuTrackingMode", CARRIED, lambda s, _: _tracking(s, "cpu") or None),
        Field("measures/0/gpuTrackingMode", CARRIED, lambda s, _: _tracking(s, "gpu") or None),
        Field(
            "measures/0/powerConsumption",
            CARRIED,
            lambda s, _: say.significant(s.machine_kwh),
            needed=True,
            what="energy of the machine, kWh, without PUE",
        ),
        Field("measures/0/measurementDuration", CARRIED, lambda s, _: say.significant(s.seconds)),
        Field("measures/0/measurementDateTime", CARRIED, lambda s, _: f"{s.began:{_TIME}}"),
        Field(
            "measures/0: utilisation and calibration",
            NOT_CARRIED,
            what="energy is read from sensors, not computed from utilisation",
        ),
        Field("system/os", CARRIED, lambda s, _: say.first_word(s.system)),
        Field("system/distribution", NOT_CARRIED, what="not in the record"),
        Field("software/language", FIXED, lambda *_: "python"),
        Field("software/version", CARRIED, lambda s, _: s.python),
        Field("infrastructure/infraType", ASKED, None, _INFRA, needed=True),
        Field(
            "infrastructure/cloudProvider",
            ASKED,
            lambda s, _: say.cloud(s, 0),
            ask.CLOUD_PROVIDER,
            what="carried if the region is known",
        ),
        Field("infrastructure/cloudInstance, cloudService", NOT_CARRIED, what="not in the record"),
        Field("infrastructure/components", CARRIED, _components, needed=True),
        Field(
            "environment/country",
            ASKED,
            lambda s, _: say.country(s),
            _COUNTRY,
            what="carried if the location was stated",
        ),
        Field("environment/location", ASKED, lambda s, _: say.place(s), ask.LOCATION),
        Field(
            "environment/latitude, longitude, powerSource", NOT_CARRIED, what="not in the record"
        ),
        Field(
            "environment/powerSourceCarbonIntensity",
            CARRIED,
            lambda s, _: say.significant(s.gco2eq_per_kwh) if s.location else None,
        ),
        Field(
            "quality",
            DERIVED,
            lambda s, _: say.quality(s),
            what="from the error: high to 10 %, medium to 25 %, low to 50 %, else left out",
        ),
        Field("$hash", NOT_CARRIED, what="a signature of the publisher"),
    ),
    render=as_json,
)
