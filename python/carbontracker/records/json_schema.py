"""The schema of a line of a record as JSON Schema, from the tables that ``validate`` uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carbontracker.records import validate
from carbontracker.records.writer import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbontracker.records.validate import Test

_TYPES: dict[Test, dict[str, Any]] = {
    validate.is_number: {"type": "number"},
    validate.is_amount: {"type": ["number", "null"], "minimum": 0},
    validate.is_share: {"type": ["number", "null"], "minimum": -1e-9, "maximum": 1 + 1e-9},
    validate.is_count: {"type": "integer", "minimum": 0},
    validate.is_text: {"type": "string"},
    validate.is_time: {"type": "string", "format": "date-time"},
    validate.is_dict: {"type": "object"},
    validate.is_list: {"type": "array"},
    validate.is_flag: {"type": "boolean"},
}


def json_schema() -> dict[str, Any]:
    """Return the schema of one line, JSON Schema draft 2020-12.

    It does not hold what several lines say together, such as the order of the events, nor that the
    energy over time increases: ``carbontracker check`` knows both.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"One line of a record of Carbontracker, schema {SCHEMA}",
        "description": "Events and fields that are not named here are allowed.",
        "type": "object",
        "required": ["event", "run_id"],
        "properties": {
            "event": _TYPES[validate.is_text],
            "run_id": _TYPES[validate.is_text],
            "time": _TYPES[validate.is_time],
        },
        "allOf": [
            {
                "if": {"properties": {"event": {"enum": list(validate.WITHOUT_TIME)}}},
                "else": {"required": ["time"]},
            },
            *(_event(name, fields) for name, fields in validate.REQUIRED.items()),
        ],
        "$defs": {
            "energy": _object(validate.ENERGY, validate.NEWER_ENERGY, ("by_device", "by_kind")),
            "footprint": _object(validate.FOOTPRINT),
            "work": _object({}, validate.WORK),
        },
    }


def _event(name: str, fields: Mapping[str, Test]) -> dict[str, Any]:
    known = {**fields, **validate.OPTIONAL.get(name, {})}
    properties: dict[str, Any] = {field: _TYPES[test] for field, test in known.items()}
    for field, part in (
        ("energy", "energy"),
        ("between_epochs", "energy"),
        ("footprint", "footprint"),
        ("work", "work"),
    ):
        if field in known or (field == "between_epochs" and name == "run_finished"):
            properties[field] = {"$ref": f"#/$defs/{part}"}
    return {
        "if": {"properties": {"event": {"const": name}}, "required": ["event"]},
        "then": {"required": list(fields), "properties": properties},
    }


def _object(
    fields: Mapping[str, Test],
    optional: Mapping[str, Test] | None = None,
    groups: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return the schema of an object; a group has the same fields for each of its names."""
    properties: dict[str, Any] = {
        field: _TYPES[test] for field, test in {**fields, **(optional or {})}.items()
    }
    whole = {"type": "object", "required": list(fields), "properties": properties}
    if not groups:
        return whole
    parts = {"type": "object", "additionalProperties": whole}
    return {**whole, "properties": {**properties, **dict.fromkeys(groups, parts)}}
