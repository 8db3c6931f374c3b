"""Views of results for people: the only package that formats figures."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from carbontracker.records.run_record import RunRecord


class Format(NamedTuple):
    """A file that a run can be written to."""

    renderer: str
    """``module:function`` below this package; the function is ``(run) -> bytes``."""
    what: str
    """For the help."""
    joiner: str = ""
    """If set, an existing file is extended: ``(before: bytes, new: bytes) -> bytes``."""


FORMATS = {
    "html": Format("html:render", "one page that opens offline"),
    "pdf": Format("pdf:render", "the same for print; needs reportlab"),
    "csv": Format("tabular:epochs_csv", "one row per epoch"),
    "json": Format("tabular:totals_json", "all totals in one object"),
    "codecarbon": Format(
        "tabular:codecarbon_csv",
        "one row in the columns of CodeCarbon's emissions.csv",
        "tabular:codecarbon_joined",
    ),
    "parquet": Format("tabular:epochs_parquet", "one row per epoch; needs pyarrow"),
    "trace": Format("trace:render", "power over time for Perfetto"),
    "latex": Format("paper:latex", "a paragraph and a table for a paper"),
    "markdown": Format("paper:markdown", "a paragraph and a table for a model card"),
}
"""Every file format by the name of its option: a new one is a function and a line here."""


def rendered(name: str, run: RunRecord, before: bytes = b"") -> bytes:
    """Return the content of a file.

    Args:
        name: a key of ``FORMATS``.
        run: the run.
        before: the content that the file has already.

    Raises:
        MissingExtra: a package is not installed.
        ValueError: ``before`` is not a file of this format.
    """
    chosen = FORMATS[name]
    content: bytes = _function(chosen.renderer)(run)
    if chosen.joiner and before:
        joined: bytes = _function(chosen.joiner)(before, content)
        return joined
    return content


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def write(name: str, run: RunRecord, out: Path) -> None:
    """Write a file; an existing one is replaced only after the new one is complete.

    Raises:
        MissingExtra: a package is not installed.
        ValueError: the file is a record, or is to be extended and has another format.
        OSError: it cannot be written.
    """
    from carbontracker.records.output import check_output, write_output

    check_output(out)
    before = out.read_bytes() if out.is_file() and FORMATS[name].joiner else b""
    write_output(out, rendered(name, run, before))
