"""Texts for a paper or a model card: the sentence of 2.4.x, LaTeX and Markdown."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

from carbontracker.report import document
from carbontracker.report.formatting import clean, is_known

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from carbontracker.records.run_record import RunRecord

_PAPER = "Anthony, Kanding and Selvan 2020, arXiv:2007.03051"


def sentence(kwh: float, gco2eq: float, equivalents: Mapping[str, float]) -> str:
    """Return what the trainings of a work have used, in one line.

    Args:
        kwh: electricity with PUE, kWh.
        gco2eq: emissions, g.
        equivalents: number by words, such as ``km travelled by car``.
    """
    compared = " or ".join(f"{value:.16f} {words}" for words, value in equivalents.items())
    return (
        f"The training of models in this work is estimated to use {kwh:.16f} kWh of electricity "
        f"contributing to {gco2eq / 1000:.16f} kg of CO2eq. "
        + (f"This is equivalent to {compared}. " if compared else "")
        + f"Measured by carbontracker ({_PAPER})."
    )


def print_sentence(kwh: float, gco2eq: float, equivalents: Mapping[str, float]) -> None:
    """Print it."""
    print(sentence(kwh, gco2eq, equivalents))


# ---- LaTeX ---------------------------------------------------------------------------------

_LATEX_WORDS = {
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
_LATEX_COLUMNS = 4
"""Device, energy, share and mean power: what fits a column of a paper."""


def latex(run: RunRecord) -> bytes:
    """Return a paragraph and a table; they need no LaTeX packages."""
    return "\n".join(_latex_lines(run)).encode() + b"\n"


def latex_escaped(text: str) -> str:
    """Return ``text`` with every character escaped that LaTeX would interpret."""
    return "".join(_LATEX_WORDS.get(one, one) for one in clean(text))


def _latex_lines(run: RunRecord) -> Iterator[str]:
    yield from (f"% {clean(note)}" for note in document.notes(run))
    yield latex_escaped(document.paragraph(run)).replace(
        "(Anthony, Kanding and Selvan, 2020)", r"\cite{anthony2020carbontracker}"
    )
    table = document.device_table(run)
    columns = table.columns[:_LATEX_COLUMNS]
    yield ""
    yield r"\begin{table}"
    yield r"\centering"
    yield rf"\caption{{{latex_escaped(table.caption)}. {latex_escaped(document.ERRORS)}}}"
    yield r"\begin{tabular}{" + "".join("r" if one.kind == "n" else "l" for one in columns) + "}"
    yield r"\hline"
    yield " & ".join(latex_escaped(column.name) for column in columns) + r" \\"
    yield r"\hline"
    for row in table.rows:
        yield " & ".join(map(latex_escaped, row[:_LATEX_COLUMNS])) + r" \\"
    yield r"\hline"
    yield r"\end{tabular}"
    yield r"\end{table}"
    yield ""
    yield from (f"% {line}" for line in document.BIBTEX.splitlines())


# ---- Markdown ------------------------------------------------------------------------------

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!~$&])")


def markdown(run: RunRecord) -> bytes:
    """Return a paragraph and a table, with the metadata block that Hugging Face reads."""
    return "\n".join(_markdown_lines(run)).encode() + b"\n"


def markdown_escaped(text: str) -> str:
    """Return ``text`` with every character escaped that Markdown would interpret."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", clean(text))


def _markdown_lines(run: RunRecord) -> Iterator[str]:
    yield "## Energy and carbon footprint"
    yield ""
    yield from (f"**{markdown_escaped(note)}**\n" for note in document.notes(run))
    yield markdown_escaped(document.paragraph(run))
    yield ""
    table = document.device_table(run)
    yield "| " + " | ".join(markdown_escaped(column.name) for column in table.columns) + " |"
    yield "|" + "|".join("--:" if column.kind == "n" else "---" for column in table.columns) + "|"
    for row in table.rows:
        yield "| " + " | ".join(map(markdown_escaped, row)) + " |"
    if is_known(run.footprint.gco2eq):
        yield ""
        yield "For the head of a model card on Hugging Face (grams of CO2eq):"
        yield ""
        yield from ("```yaml", *_metadata(run), "```")


def _metadata(run: RunRecord) -> Iterator[str]:
    footprint = run.footprint
    computing = [one.name for one in run.devices if one.name and one.kind in ("gpu", "cpu")]
    yield from co2_metadata(
        {
            "emissions": float(f"{footprint.gco2eq:.6g}"),
            "source": f"carbontracker {run.metadata.version}",
            "geographical_location": (footprint.location and footprint.location.name)
            or footprint.intensity.name,
            "hardware_used": hardware_used(Counter(computing)),
        }
    )


def co2_metadata(values: Mapping[str, str | float]) -> Iterator[str]:
    """Yield ``co2_eq_emissions`` as the Hub's model cards have it; JSON texts are YAML as well.

    Args:
        values: ``emissions``, gCO2eq, and texts; an empty one is left out.
    """
    yield "co2_eq_emissions:"
    for name, value in values.items():
        if value != "":
            yield f"  {name}: {_quoted(value) if isinstance(value, str) else f'{value:.6g}'}"


_FORM_FACTOR = re.compile(
    r"[\s-]+(?:SXM\d*|PCIe|HBM\d\w*|\d+\s?GB|CPU @ [\d.]+\s?GHz|\d+-Core Processor)(?=[\s-]|$)"
    r"|\((?:R|TM)\)",
    re.IGNORECASE,
)
"""Words in the name of a device that people leave out."""


def hardware_used(names: Mapping[str, int]) -> str:
    """Return devices as people write them: ``8 x NVIDIA H100, 2 x Intel Xeon Platinum 8480C``.

    Args:
        names: how many devices have each name.
    """
    short: Counter[str] = Counter()
    for name, count in names.items():
        short[" ".join(_FORM_FACTOR.sub("", name).split())] += count
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in short.items())


def _quoted(text: str) -> str:
    return json.dumps(clean(text).replace("`", "'"), ensure_ascii=False)
