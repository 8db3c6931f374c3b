"""The schema of a BoAmps report, rebuilt here from the documented fields.

No package ships Boavizta's schemas. Names, types, words and what is required are those of
``model/*_schema.json`` of Boavizta/BoAmps in 2026 (CC BY 4.0); ``measure`` is that of its
documentation. Other fields are an error here, so that a wrong name is seen.
"""

from __future__ import annotations

from typing import Any

TEXT: Any = {"type": "string"}
NUMBER: Any = {"type": "number", "minimum": 0}
WHOLE: Any = {"type": "integer"}


def words(*given: str) -> dict[str, Any]:
    """Return the schema of one of some words."""
    return {"enum": list(given)}


def some(required: str = "", **fields: Any) -> dict[str, Any]:
    """Return the schema of an object; ``required`` has names with spaces between."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


def many(item: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list that is not empty."""
    return {"type": "array", "minItems": 1, "items": item}


SCHEMA = some(
    "task measures infrastructure",
    header=some(
        "reportDatetime",
        **dict.fromkeys(("licensing", "formatVersion", "formatVersionSpecificationUri"), TEXT),
        reportId=TEXT,
        reportDatetime={"type": "string", "pattern": r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$"},
        reportStatus=words("draft", "final", "corrective", "other"),
        publisher=some(
            "confidentialityLevel",
            **dict.fromkeys(("name", "division", "projectName", "publicKey"), TEXT),
            confidentialityLevel=words("public", "internal", "confidential", "secret"),
        ),
    ),
    task=some(
        "taskStage taskFamily algorithms dataset",
        **dict.fromkeys(("taskStage", "taskFamily", "taskDescription"), TEXT),
        nbRequest=NUMBER,
        algorithms=many(
            some(
                "",
                **dict.fromkeys(("trainingType", "algorithmType", "algorithmName"), TEXT),
                **dict.fromkeys(("framework", "frameworkVersion", "optimizer"), TEXT),
                **dict.fromkeys(("parametersNumber", "layersNumber", "epochsNumber"), NUMBER),
            )
        ),
        dataset=many(
            some(
                "dataUsage dataType",
                dataUsage=words("input", "output"),
                dataType=words(
                    *("tabular", "audio", "boolean", "image", "video", "object", "text"),
                    *("token", "word", "other"),
                ),
                dataQuantity=NUMBER,
            )
        ),
    ),
    measures=many(
        some(
            "measurementMethod powerConsumption",
            **dict.fromkeys(("measurementMethod", "manufacturer", "version"), TEXT),
            **dict.fromkeys(("cpuTrackingMode", "gpuTrackingMode", "measurementDateTime"), TEXT),
            **dict.fromkeys(("powerConsumption", "measurementDuration"), NUMBER),
        )
    ),
    system=some("os", os=TEXT, distribution=TEXT, distributionVersion=TEXT),
    software=some("language", language=TEXT, version=TEXT),
    infrastructure=some(
        "infraType components",
        infraType=words("publicCloud", "privateCloud", "onPremise", "other"),
        **dict.fromkeys(("cloudProvider", "cloudInstance", "cloudService"), TEXT),
        components=many(
            some(
                "componentType nbComponent",
                **dict.fromkeys(("componentName", "componentType", "manufacturer"), TEXT),
                nbComponent=WHOLE,
                memorySize=WHOLE,
                share={"type": "number", "minimum": 0, "maximum": 1},
            )
        ),
    ),
    environment=some(
        "country",
        **dict.fromkeys(("country", "location"), TEXT),
        powerSourceCarbonIntensity=NUMBER,
    ),
    quality=words("high", "medium", "low"),
)
