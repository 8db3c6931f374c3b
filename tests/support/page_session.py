"""Runs the blocks of a page in one directory, and compares what they print with what it shows."""

from __future__ import annotations

import configparser
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING

from tests.support.snippets import ROOT, installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.snippets import Block

TIMEOUT_S = 100
"""Of one block."""

_NUMBER = re.compile(r"(?<![\w.])[-+~±]?(?:[0-9a-f]{16}|\d[\d.,:]*(?:e[-+]?\d+)?)(?![\d])")
_DRAWN = re.compile(r"[▁▂▃▄▅▆▇█┤│─└▲][▁▂▃▄▅▆▇█┤│─└▲ ]*")
_DRIVER = """
import json, sys, traceback
answers = open(int(sys.argv[1]), "w")
names = {"__name__": "__main__"}
for line in sys.stdin:
    page, text = json.loads(line)
    try:
        exec(compile(text, page, "exec"), names)
        error = ""
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps(error), file=answers, flush=True)
"""


class PageSession:
    """A directory and an environment in which the blocks of one page run.

    Args:
        directory: where they run.
        environment: of all programs.
        before: Python that is executed before the first block of Python.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str], before: str = "") -> None:
        self._directory = directory
        self._environment = dict(environment)
        self._before = before
        self._output = directory.with_name(directory.name + "-output.txt")
        self._python: _Python | None = None

    def __enter__(self) -> PageSession:
        """Start nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the page's Python."""
        if self._python is not None:
            self._python.close()

    def run(self, block: Block) -> str:
        """Run a block; return what went wrong, or an empty text."""
        treat = {
            "python": self._run_python,
            "bash": self._run_bash,
            "console": self._run_console,
            "cpp": self._compile,
            "json": _parse_json,
            "yaml": _parse_yaml,
            "ini": _parse_ini,
        }
        try:
            return treat[block.language](block)
        except (subprocess.TimeoutExpired, TimeoutError):
            return f"not done after {TIMEOUT_S} s"

    def _run_python(self, block: Block) -> str:
        if self._python is None:
            self._python = _Python(self._directory, self._environment, self._output)
            error = self._python.execute("before the page", self._before)
            if error:
                return error
        return self._python.execute(block.page, "\n" * block.line + block.text)

    def _run_bash(self, block: Block) -> str:
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", block.text],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return f"exit code {done.returncode}\n{done.stdout}" if done.returncode else ""

    def _run_console(self, block: Block) -> str:
        found = []
        for command, expected in exchanges(block.text):
            code, printed = on_a_terminal(command, self._directory, self._environment)
            if code:
                found.append(f"$ {command}\nexit code {code}\n{printed}")
            elif "output" not in block.marks:
                found.append(difference(expected, printed, exact="exact" in block.marks))
        return "\n".join(filter(None, found))

    def _compile(self, block: Block) -> str:
        compiler = os.environ.get("CXX", "c++")
        if shutil.which(compiler) is None:
            return ""
        source = self._directory / "snippet.cpp"
        source.write_text(block.text)
        flags = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
        done = subprocess.run(
            [compiler, *flags, f"-I{ROOT / 'cpp' / 'src'}", str(source)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.stderr


class _Python:
    """A Python process that executes texts, one after the other, with the same names."""

    def __init__(self, directory: Path, environment: Mapping[str, str], output: Path) -> None:
        reading, writing = os.pipe()
        with output.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _DRIVER, str(writing)],
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                pass_fds=(writing,),
                text=True,
            )
        os.close(writing)
        self._answers: IO[str] = os.fdopen(reading)
        self._output = output

    def execute(self, page: str, text: str) -> str:
        """Execute a text; return the traceback of its error, or an empty text."""
        assert self._process.stdin is not None
        print(json.dumps([page, text]), file=self._process.stdin, flush=True)
        if not select.select([self._answers], [], [], TIMEOUT_S)[0]:
            self._process.kill()
            raise TimeoutError
        answer = self._answers.readline()
        return str(json.loads(answer)) if answer else f"ended: {self._output.read_text()}"

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._answers.close()
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def exchanges(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console session, and what it shows below the command."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        while command.endswith("\\"):
            more, _, shown = shown.partition("\n")
            command += f"\n{more}"
        yield command, shown


def on_a_terminal(command: str, directory: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a command of bash as a person does; return its exit code, and what it printed.

    Raises:
        TimeoutError: it did not end.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=directory,
        env=dict(environment),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    deadline = time.monotonic() + TIMEOUT_S
    printed = b""
    try:
        while True:
            if not select.select([ours], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            try:
                more = os.read(ours, 1 << 16)
            except OSError:  # how Linux says that the other end is closed
                more = b""
            if not more:
                return process.wait(TIMEOUT_S), printed.decode(errors="replace")
            printed += more
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def difference(expected: str, printed: str, *, exact: bool = False) -> str:
    """Return the first line that a page shows and that was not printed after the line before it.

    Numbers and spaces are not compared unless `exact`. A line `...` stands for any lines, and
    `...` inside a line for any text.
    """
    actual = [_plain(line, exact=exact) for line in printed.splitlines()]
    start = 0
    for line in filter(str.strip, expected.splitlines()):
        if line.strip() == "...":
            continue
        parts = (re.escape(part) for part in _plain(line, exact=exact).split("..."))
        pattern = re.compile(".*".join(parts))
        found = (i for i in range(start, len(actual)) if pattern.fullmatch(actual[i]))
        position = next(found, None)
        if position is None:
            return f"not printed: {line}\nprinted:\n{printed}"
        start = position + 1
    return ""


def _plain(line: str, *, exact: bool) -> str:
    """Return a line as it is compared."""
    if exact:
        return line.rstrip()
    return " ".join(_NUMBER.sub("#", _DRAWN.sub("~", line)).split())


def _parse_json(block: Block) -> str:
    try:
        json.loads(block.text)
    except ValueError as error:
        return str(error)
    return ""


def _parse_ini(block: Block) -> str:
    try:
        configparser.ConfigParser().read_string(block.text)
    except configparser.Error as error:
        return str(error)
    return ""


def _parse_yaml(block: Block) -> str:
    if not installed("yaml"):
        return ""
    import yaml

    try:
        list(yaml.safe_load_all(block.text))
    except yaml.YAMLError as error:
        return str(error)
    return ""
