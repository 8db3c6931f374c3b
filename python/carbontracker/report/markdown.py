"""Paragraph and table for a model card, with the block that Hugging Face reads."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

from carbontracker.report import derived, sections
from carbontracker.report.formatting import clean, is_known

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.records.recorded import RunRecord

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!~$&])")


def render(run: RunRecord) -> bytes:
    """Return the text."""
    return "\n".join(_lines(run)).encode() + b"\n"


def escaped(text: str) -> str:
    """Return text of any origin so that Markdown shows it as it is."""
    return _SPECIAL.sub(r"\\\1", clean(text))


def _lines(run: RunRecord) -> Iterator[str]:
    yield "## Energy and carbon footprint"
    yield ""
    yield from (f"**{escaped(note)}**\n" for note in sections.notes(run))
    yield escaped(sections.paragraph(run))
    yield ""
    table = sections.device_table(run)
    yield "| " + " | ".join(escaped(column.name) for column in table.columns) + " |"
    yield "|" + "|".join("--:" if column.kind == "n" else "---" for column in table.columns) + "|"
    for row in table.rows:
        yield "| " + " | ".join(map(escaped, row)) + " |"
    if is_known(run.footprint.gco2eq):
        yield ""
        yield "For the head of a model card on Hugging Face (grams of CO2eq):"
        yield ""
        yield from ("```yaml", *_metadata(run), "```")


def _metadata(run: RunRecord) -> Iterator[str]:
    """Yield ``co2_eq_emissions`` as the Hub's model cards have it; JSON texts are YAML as well."""
    footprint = run.footprint
    hardware = Counter(one.name for one in derived.devices_of(run) if one.name)
    place = footprint.location.get("name") or footprint.intensity.get("name")
    yield "co2_eq_emissions:"
    yield f"  emissions: {footprint.gco2eq:.6g}"
    yield f"  source: {_quoted(f'carbontracker {run.origin.version}')}"
    if place:
        yield f"  geographical_location: {_quoted(str(place))}"
    used = ", ".join(f"{count} x {name}" if count > 1 else name for name, count in hardware.items())
    if used:
        yield f"  hardware_used: {_quoted(used)}"


def _quoted(text: str) -> str:
    return json.dumps(clean(text).replace("`", "'"), ensure_ascii=False)
