"""The published JSON Schema of a record's line: it and ``carbontracker check`` agree."""

from __future__ import annotations

import json
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from carbontracker.cli import main
from carbontracker.records.json_schema import json_schema
from carbontracker.records.validate import ERROR, REQUIRED, check_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ROOT = Path(__file__).parents[1]
RECORDS = sorted((ROOT / "tests" / "data").glob("records*/**/*.jsonl"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def lines() -> Iterator[dict[str, Any]]:
    """Yield the lines of all records that the tests have; the last one may be torn."""
    for path in RECORDS:
        for text in path.read_text().splitlines():
            with suppress(ValueError):
                yield json.loads(text)


SOUND = [line for line in lines() if VALIDATOR.is_valid(line)]


def test_the_published_file_is_that_of_this_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--schema"]) == 0
    printed = capfd.readouterr().out
    assert json.loads(printed) == json.loads((ROOT / "docs" / "record.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(json.loads(printed))


def test_real_lines_are_valid_and_of_many_kinds() -> None:
    assert len(SOUND) > 30
    kinds = {line["event"] for line in SOUND}
    assert {"run_started", "epoch", "series", "prediction", "run_finished"} <= kinds


@given(
    st.sampled_from([line for line in SOUND if line["event"] in REQUIRED]),
    st.data(),
    st.sampled_from([None, -1, 2.5, "x", True, [], {}, "2026-03-01T12:00:00Z"]),
)
def test_it_and_check_agree_on_damage(
    line: dict[str, Any], data: st.DataObject, value: object
) -> None:
    """One field, also of an energy or a footprint, is replaced or removed."""
    damaged = json.loads(json.dumps(line))
    part = damaged
    fields = list(REQUIRED[line["event"]])
    if "energy" in fields and data.draw(st.booleans()):
        part = damaged[data.draw(st.sampled_from(["energy", "footprint"]))]
        fields = ["joules", "coverage"] if "joules" in part else ["kwh", "pue"]
    field = data.draw(st.sampled_from(fields))
    if field in ("schema", "t0", "t_s", "joules") and part is damaged:
        return  # times and several values together: `check` alone judges them
    if data.draw(st.booleans()):
        part[field] = value
    else:
        part.pop(field, None)
    assert VALIDATOR.is_valid(damaged) == (not errors_of(damaged))


def errors_of(line: dict[str, Any]) -> list[str]:
    """Return what `check` has against the fields of a line, whatever comes before it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "record.jsonl")
        path.write_text(json.dumps(line) + "\n")
        found = [one.message for one in check_file(path) if one.level == ERROR]
    order = re.compile(
        "it comes before run_started|index is .* (where .* follows|is open)|of which"
    )
    return [message for message in found if not order.search(message)]
