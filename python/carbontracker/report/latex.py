"""Paragraph and table for a paper; needs no packages of LaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.report import sections
from carbontracker.report.formatting import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.records.recorded import RunRecord

_WORDS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "µ": r"\textmu{}",
    **{one: "\\" + one for one in "&%$#_{}"},
}
_COLUMNS = 4
"""Device, energy, share and mean power: what fits a column of a paper."""


def render(run: RunRecord) -> bytes:
    """Return the text."""
    return "\n".join(_lines(run)).encode() + b"\n"


def escaped(text: str) -> str:
    """Return text of any origin so that LaTeX sets it as it is."""
    return "".join(_WORDS.get(one, one) for one in clean(text))


def _lines(run: RunRecord) -> Iterator[str]:
    yield from (f"% {clean(note)}" for note in sections.notes(run))
    yield escaped(sections.paragraph(run)).replace(
        "(Anthony, Kanding and Selvan, 2020)", r"\cite{anthony2020carbontracker}"
    )
    table = sections.device_table(run)
    columns = table.columns[:_COLUMNS]
    yield ""
    yield r"\begin{table}"
    yield r"\centering"
    yield rf"\caption{{{escaped(table.caption)}. {escaped(sections.ERRORS)}}}"
    yield r"\begin{tabular}{" + "".join("r" if one.kind == "n" else "l" for one in columns) + "}"
    yield r"\hline"
    yield " & ".join(escaped(column.name) for column in columns) + r" \\"
    yield r"\hline"
    for row in table.rows:
        yield " & ".join(map(escaped, row[:_COLUMNS])) + r" \\"
    yield r"\hline"
    yield r"\end{tabular}"
    yield r"\end{table}"
    yield ""
    yield from (f"% {line}" for line in sections.BIBTEX.splitlines())
