"""Views of results for people. Only this package formats."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from carbontracker.records.recorded import RunRecord


class Format(NamedTuple):
    """A file that a run can be written to."""

    module: str
    """Has ``render(run) -> bytes``; if ``joins``, also ``joined(before, new) -> bytes``."""
    what: str
    """For the help."""
    joins: bool = False
    """A file that is there already gets a row more instead of being replaced."""


FORMATS = {
    "html": Format("carbontracker.report.html", "one page that opens offline"),
    "pdf": Format("carbontracker.report.pdf", "the same for print; needs carbontracker[pdf]"),
    "csv": Format("carbontracker.report.epochs", "a row an epoch"),
    "json": Format("carbontracker.report.summary", "all totals in one object"),
    "codecarbon": Format(
        "carbontracker.report.codecarbon",
        "a row in the columns of CodeCarbon's emissions.csv",
        True,
    ),
    "parquet": Format(
        "carbontracker.report.parquet", "a row an epoch; needs carbontracker[parquet]"
    ),
    "trace": Format("carbontracker.report.trace", "power over time for Perfetto"),
    "latex": Format("carbontracker.report.latex", "paragraph and table for a paper"),
    "markdown": Format("carbontracker.report.markdown", "paragraph and table for a model card"),
}
"""Every file by the name of its option: a new one is a module and a line here."""


def rendered(name: str, run: RunRecord, before: bytes = b"") -> bytes:
    """Return the content of a file.

    Args:
        name: of ``FORMATS``.
        run: the run.
        before: what the file holds already.

    Raises:
        MissingExtra: a package is needed that is not there.
        ValueError: ``before`` is something else than such a file.
    """
    module = import_module(FORMATS[name].module)
    content: bytes = module.render(run)
    if FORMATS[name].joins and before:
        joined: bytes = module.joined(before, content)
        return joined
    return content


def write(name: str, run: RunRecord, out: Path) -> None:
    """Write a file; one that is there is only replaced by a whole one.

    Raises:
        MissingExtra: a package is needed that is not there.
        ValueError: the file is there, is to be added to, and is something else.
        OSError: it cannot be written.
    """
    regular = out.is_file() or not out.exists()
    before = out.read_bytes() if regular and out.exists() and FORMATS[name].joins else b""
    content = rendered(name, run, before)
    if not regular:
        out.write_bytes(content)
        return
    beside = out.with_name(f".{out.name}.part")
    try:
        beside.write_bytes(content)
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
