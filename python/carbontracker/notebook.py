"""The cell magic ``%%carbontracker``: what a cell of a notebook costs, live and at its end.

``%load_ext carbontracker`` loads it.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import threading
from typing import Any

from carbontracker.exceptions import CarbonTrackerError
from carbontracker.guard import PROGRESS, nothing, optional, start_thread
from carbontracker.model.measurement import Measurement
from carbontracker.report.notebook import cell_html, cell_text
from carbontracker.training.window import Window, measure

RENEWED_S = 1.0
MAX_WAIT_S = 0.5
"""For the last readings after the cell."""


class _OptionError(CarbonTrackerError):
    """An option of the magic is not valid."""


class _Options(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """Raise instead of ending the kernel."""
        raise _OptionError(f"{message}. {self.format_usage().strip()}")


def load_ipython_extension(shell: Any) -> None:
    """Give the magic to an IPython shell: ``%load_ext carbontracker`` calls this."""
    shell.register_magic_function(
        lambda line, cell: measured_cell(shell, line, cell), "cell", "carbontracker"
    )


def measured_cell(shell: Any, line: str, cell: str) -> Any:
    """Run a cell, show what it costs, and return the value of its last expression.

    Args:
        shell: the IPython shell.
        line: options, see ``%%carbontracker --help``.
        cell: code.

    Raises:
        UsageError: an option is not valid, or the cell has ``await``.
        Exception: that of the cell, after its card is shown.
    """
    from IPython.core.error import UsageError

    from carbontracker.intensity.selection import parse_setting

    try:
        options = _parser().parse_args(_words(line))
        window = measure(
            options.name,
            location=options.location,
            pue=options.pue,
            intensity=None if options.intensity is None else parse_setting(options.intensity),
        )
    except SystemExit:  # --help has printed it
        return None
    except (_OptionError, ValueError) as error:
        raise UsageError(f"%%carbontracker: {error}") from error
    pieces = _compiled(shell, cell)
    if any(piece.co_flags & inspect.CO_COROUTINE for piece in pieces if piece is not None):
        message = "a cell with `await` needs `with carbontracker.measure(): ...` instead"
        raise UsageError(f"%%carbontracker: {message}")
    with _Card(window, quiet=options.quiet), window:
        return _run(shell, *pieces)


def _words(line: str) -> list[str]:
    import shlex

    try:
        return shlex.split(line)
    except ValueError as error:
        raise _OptionError(str(error)) from error


def _parser() -> _Options:
    parser = _Options("%%carbontracker", description="Measure a cell and show what it costs.")
    parser.add_argument("--name", default="cell", help="of the measurement")
    parser.add_argument("--location", help="country, ISO code, zone or region")
    parser.add_argument("--pue", type=float, help="power usage effectiveness")
    parser.add_argument("--intensity", help="your own gCO2eq/kWh, or a live provider")
    parser.add_argument("--quiet", "-q", action="store_true", help="no live line, only the card")
    return parser


def _compiled(shell: Any, cell: str) -> tuple[Any, Any]:
    """Return the code of a cell: its statements, and the expression whose value it shows, or None.

    That is the last one, unless a semicolon follows it.
    """
    source = shell.transform_cell(cell)
    parsed = shell.compile.ast_parse(source)
    silent = _ends_in_semicolon(source, parsed)
    tree = shell.transform_ast(parsed)
    name = shell.compile.cache(source, shell.execution_count, raw_code=cell)
    shown = tree.body and isinstance(tree.body[-1], ast.Expr) and not silent
    last = tree.body.pop() if shown else None

    def compiled(node: ast.AST, mode: str) -> Any:
        # With the flags of the notebook: its imports from __future__.
        flags = shell.compile.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return compile(node, name, mode, flags=flags, dont_inherit=True)  # type: ignore[call-overload]

    value = None if last is None else compiled(ast.Expression(last.value), "eval")
    return compiled(tree, "exec"), value


def _ends_in_semicolon(source: str, parsed: ast.Module) -> bool:
    if not parsed.body:
        return False
    last = parsed.body[-1]
    line = re.split(r"\r\n?|\n", source)[(last.end_lineno or 1) - 1]
    return line.encode()[last.end_col_offset :].lstrip().startswith(b";")


def _run(shell: Any, statements: Any, value: Any) -> Any:
    exec(statements, shell.user_ns)
    return None if value is None else eval(value, shell.user_ns)


class _Card:
    """What is shown below the cell: a line that is renewed, and in its place the result."""

    def __init__(self, window: Window, *, quiet: bool) -> None:
        self._window = window
        self._quiet = quiet
        self._display: Any = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        """Show the line, if this is a notebook."""
        from carbontracker.report.progress import notebook_display

        self._display = optional(PROGRESS, notebook_display, nothing)
        if self._display is not None and not self._quiet:
            self._thread = start_thread(PROGRESS, self._renew, "carbontracker-cell")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Show the result, and the exception that ended the cell."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=RENEWED_S)
        self._window.wait(MAX_WAIT_S)
        ended_with = kind.__name__ if kind is not None else ""
        optional(PROGRESS, lambda: self._show_result(ended_with), nothing)

    def _show_result(self, ended_with: str) -> None:
        measured = self._measured()
        text = cell_text(self._window.name, measured)
        data = {
            "text/plain": text,
            "text/html": cell_html(self._window.name, measured, ended_with),
        }
        if self._display is not None:
            self._display.update(data, raw=True)
        else:
            from IPython.display import display

            display(data, raw=True)

    def _measured(self) -> Measurement:
        window = self._window
        return Measurement(window.seconds, window.energy, window.footprint, final=window.final)

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_S):
            text = cell_text(self._window.name, self._measured())
            self._display.update({"text/plain": text}, raw=True)
