"""``carbontracker top`` in a terminal: what fits, what the keys do, and what it leaves behind."""

from __future__ import annotations

import fcntl
import math
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from carbontracker.carbon.footprint import Footprint
from carbontracker.energy.energy import Energy
from carbontracker.model.device import Device
from carbontracker.model.live_status import LiveStatus
from carbontracker.report.formatting import aligned
from carbontracker.report.live import View
from carbontracker.report.top_screen import TopScreen
from tests.support.programs import TIMEOUT_S, hide_sensors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = {"gpu": "NVIDIA A100-SXM4-80GB", "cpu": "Intel Xeon Gold 6226R CPU @ 2.90GHz"}
SGR = re.compile(r"\x1b\[[0-9;]*m")


def device(name: str, watts: float, joules: float, quality: str = "measured") -> Device:
    kind = name.partition(":")[0]
    energy = Energy(joules, 0.02 * joules, 0.0, quality, 1.0)
    return Device(name, kind, NAMES[kind], "", quality, energy, joules / 1000, watts, 10.0)


def view_of(*devices: Device) -> View:
    joules = math.fsum(one.energy.joules for one in devices)
    total = Energy(joules, 0.02 * joules, 0.0, "measured", 1.0)
    kwh = joules * 1.5 / 3.6e6
    footprint = Footprint.from_dict(
        {"kwh": kwh, "error_kwh": 0.02 * kwh, "gco2eq": 240 * kwh, "pue": 1.5}
        | {"intensity": {"gco2eq_per_kwh": 240.0}}
    )
    status = LiveStatus(60.0, total, footprint, devices, 0.1, final=False)
    return View("this machine", status, {"kwh_per_hour": 0.5, "gco2eq_per_hour": 120.0})


TWO = view_of(device("gpu:0", 250.0, 15_000.0), device("cpu:0", 100.5, 6_030.0))


def drawn(view: View, columns: int, rows: int, screen: TopScreen | None = None) -> list[str]:
    screen = screen or TopScreen(colour=False)
    screen.add(view)
    return screen.lines(view, columns, rows)


def rows_of(lines: list[str], *names: str) -> list[str]:
    return [line for line in lines if line.split(" ")[0] in names]


@pytest.mark.parametrize("count", [0, 1, 2, 11, 70])
@pytest.mark.parametrize(
    ("columns", "rows"), [(80, 24), (40, 24), (200, 60), (80, 8), (20, 5), (10, 3), (1, 1)]
)
def test_every_size_is_filled_and_never_exceeded(columns: int, rows: int, count: int) -> None:
    view = view_of(*(device(f"gpu:{i}", 200.0 + i, 900.0 + i) for i in range(count)))
    for screen in (TopScreen(colour=False), TopScreen(colour=False, ascii_only=True)):
        lines = drawn(view, columns, rows, screen)
        assert len(lines) == rows
        assert max(map(len, lines)) <= columns
        if screen.ascii_only:
            assert "".join(lines).isascii()


def cells(text: str) -> int:
    """Return the columns of a terminal that a text of ASCII or ``WIDE`` takes."""
    return sum(2 if ord(one) > 0x2E80 and one != "\ufffd" else one != "\u0301" for one in text)


WIDE = ("显卡 计算加速器 二号", "\N{ROCKET}" * 9, "e\u0301" * 12, "グラフィックス A100")


@pytest.mark.parametrize("columns", [80, 64, 50, 21, 5])
def test_wide_and_combining_characters_of_names_keep_the_columns(columns: int) -> None:
    devices = [replace(device(f"gpu:{i}", 200.0, 900.0), name=name) for i, name in enumerate(WIDE)]
    view = replace(view_of(*devices), heading="训练" * 30)
    for screen in (TopScreen(colour=False), TopScreen(colour=False, ascii_only=True)):
        lines = drawn(view, columns, 24, screen)
        assert max(map(cells, lines)) <= columns
    wide = drawn(view, 200, 24)
    ends = {cells(line[: line.index("measured")]) for line in wide if line.startswith("gpu:")}
    assert len(ends) == 1
    assert max(map(cells, wide)) <= 200


def test_cells_after_a_wide_name_are_below_each_other() -> None:
    lines = aligned([(name, "10.5") for name in (*WIDE, "plain")], right={1})
    assert len({cells(line) for line in lines}) == 1


def test_a_column_has_one_unit_and_aligned_decimals() -> None:
    view = view_of(
        device("gpu:0", 1250.0, 15e6), device("gpu:1", 9.4, 2e3), device("cpu:0", math.nan, 0.0)
    )
    lines = drawn(view, 100, 24)
    heading = next(line for line in lines if line.startswith("device"))
    assert re.split(r"\s{2,}", heading)[:2] == ["device", "power kW"]
    assert "energy MJ" in heading
    rows = rows_of(lines, "device", "gpu:0", "gpu:1", "cpu:0", "total")
    end = len("device  power kW")
    assert [row[8:end].strip() for row in rows[1:]] == ["1.250", "0.009", "-", "1.259"]
    points = {row[:end].find(".") for row in rows[1:3]}
    assert len(points) == 1


def test_bars_go_to_the_highest_power_so_far() -> None:
    screen = TopScreen(colour=False)
    bars = [row.count("█") for row in rows_of(drawn(TWO, 120, 24, screen), "gpu:0", "cpu:0")]
    assert bars[0] == 2.5 * bars[1] or bars[1] == int(bars[0] * 100.5 / 250.0)
    half = view_of(device("gpu:0", 125.0, 15_000.0), device("cpu:0", 100.5, 6_030.0))
    after = [row.count("█") for row in rows_of(drawn(half, 120, 24, screen), "gpu:0", "cpu:0")]
    assert after == [bars[0] // 2, bars[1]]


def test_names_are_whole_where_there_is_room() -> None:
    name = NAMES["cpu"]
    assert name in "\n".join(drawn(TWO, 100, 24))
    narrow = "\n".join(drawn(TWO, 80, 24))
    assert name not in narrow
    assert "Intel Xeon Gold 62" in narrow
    assert "…" in narrow
    assert "NVIDIA" not in "\n".join(drawn(TWO, 40, 24))


def test_colours_are_optional_and_names_cannot_paint() -> None:
    evil = view_of(replace(device("gpu:0", 250.0, 15e3), name="\x1b[31mred\x1b]0;owned\x07"))
    plain = drawn(evil, 100, 24)
    assert "\x1b" not in "".join(plain)
    coloured = drawn(evil, 100, 24, TopScreen(colour=True))
    assert [SGR.sub("", line) for line in coloured] == plain
    assert "\x1b[32m█" in "".join(coloured)


def test_keys_sort_scroll_change_the_unit_and_help() -> None:
    view = view_of(*(device(f"gpu:{i}", 100.0 + i, 9000.0 - i) for i in range(30)))
    screen = TopScreen(colour=False)

    def shown() -> list[str]:
        lines = screen.lines(view, 80, 12)
        return [line.split(" ")[0] for line in lines if line.startswith("gpu:")]

    screen.add(view)
    assert shown()[0] == "gpu:0"
    assert "energy kJ" in "\n".join(screen.lines(view, 80, 12))
    assert screen.press("u")
    assert "energy Wh" in "\n".join(screen.lines(view, 80, 12))
    assert screen.press("s")
    assert shown()[:2] == ["gpu:29", "gpu:28"]
    for _ in range(100):
        assert screen.press("down")
    assert shown()[-1] == "gpu:0"
    assert screen.press("up")
    assert shown()[-1] == "gpu:1"
    assert screen.press("?")
    assert "scroll the devices" in "\n".join(screen.lines(view, 80, 24))
    assert not screen.press("q")


def test_watt_hours_are_joules_by_3600() -> None:
    screen = TopScreen(colour=False, energy_unit="Wh")
    (row,) = rows_of(drawn(TWO, 80, 24, screen), "total")
    assert "5.842" in row  # 21,030 J


# ---- in a terminal -------------------------------------------------------------------------

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
TOP = """\
from carbontracker.cli import main
sys.exit(main(["top", "--interval", "0.1", *sys.argv[1:]]))
"""


class Terminal:
    """The other side of a terminal in which a program runs."""

    def __init__(self, outer: int, inner: int, process: subprocess.Popen[bytes]) -> None:
        self._outer = outer
        self._inner = inner
        self.process = process
        self.text = ""

    def size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self) -> list[object]:
        modes: list[object] = termios.tcgetattr(self._inner)
        return modes

    def press(self, keys: str) -> None:
        os.write(self._outer, keys.encode())

    def wait(self, text: str, since: int = 0) -> int:
        """Read until a text appears after a position; return the position behind it."""
        end = time.monotonic() + TIMEOUT_S
        while text not in self.text[since:]:
            assert time.monotonic() < end, self.text[since:]
            if not self.read():
                raise AssertionError(f"{text!r} is not in {self.text[since:]!r}")
        return self.text.index(text, since) + len(text)

    def read(self) -> bool:
        """Read what there is; return False if the program has ended and there is no more."""
        if not select.select([self._outer], [], [], 0.1)[0]:
            return self.process.poll() is None
        self.text += os.read(self._outer, 65_536).decode()
        return True

    def end(self) -> int:
        """Wait for the end of the program; return its exit code."""
        while self.read():
            pass
        return self.process.wait(TIMEOUT_S)

    @property
    def frames(self) -> list[list[str]]:
        """Return the lines of each picture that was drawn."""
        parts = re.findall(r"\x1b\[H(.*?)\x1b\[J", self.text, re.DOTALL)
        texts = (re.sub(r"\x1b\[K|\r", "", SGR.sub("", part)) for part in parts)
        return [text.split("\n") for text in texts]


@contextmanager
def terminal(
    program: str, *arguments: str, size: tuple[int, int] = (80, 24), **variables: str
) -> Iterator[Terminal]:
    """Run a Python program in a terminal of its own, which also sends it Ctrl-C."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    name = os.ttyname(inner)
    environment = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **variables}
    environment.pop("COLUMNS", None)
    # The first terminal that the leader of a session opens controls it.
    here = f'exec "$@" <{name} >{name} 2>&1'
    python = (sys.executable, "-c", f"import sys\n{program}")
    with subprocess.Popen(
        ["sh", "-c", here, "sh", *python, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield Terminal(outer, inner, process)
        finally:
            process.kill()
            os.close(outer)
            os.close(inner)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 24), (132, 50)])
def test_it_fills_the_terminal_and_q_gives_it_back(columns: int, rows: int) -> None:
    with terminal(TOP, size=(columns, rows)) as here:
        before = here.modes()
        here.wait("this machine")
        assert here.modes() != before  # keys come one by one
        here.wait("total")
        here.press("?")
        here.wait("scroll the devices")
        here.press("q")
        assert here.end() == 0
        assert here.modes() == before
    assert here.text.startswith(ENTER)
    _, left, last = here.text.rpartition(LEAVE)
    assert left
    assert last.startswith("carbontracker: this machine, ")  # the figures stay
    assert "\x1b" not in last
    for frame in here.frames:
        assert len(frame) == rows
        assert max(map(len, frame)) <= columns


@pytest.mark.usefixtures("bare")
def test_it_follows_the_size_of_the_terminal() -> None:
    with terminal(TOP, size=(80, 24)) as here:
        here.wait("this machine")
        here.size(50, 10)
        while not (here.frames and len(here.frames[-1]) == 10):
            assert here.read()
        here.press("q")
        assert here.end() == 0
    assert max(map(len, here.frames[-1])) <= 50


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("how", "code"), [("\x03", 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_whatever_ends_it_the_terminal_is_as_before(how: str | int, code: int) -> None:
    with terminal(TOP) as here:
        before = here.modes()
        here.wait("this machine")
        if isinstance(how, str):
            here.press(how)
        else:
            here.process.send_signal(how)
        assert here.end() == code
        assert here.modes() == before
    assert here.text.count(ENTER) == here.text.count(LEAVE) == 1
    assert "Traceback" not in here.text


def test_an_error_is_shown_after_the_terminal_is_given_back() -> None:
    program = (
        "from carbontracker.cli.full_screen import FullScreen\n"
        "with FullScreen(sys.stdout) as screen:\n    raise RuntimeError('broken view')"
    )
    with terminal(program) as here:
        before = here.modes()
        assert here.end() == 1
        assert here.modes() == before
    assert "broken view" in here.text.partition(LEAVE)[2]


@pytest.mark.usefixtures("bare")
def test_ctrl_z_gives_the_terminal_back_until_the_program_continues() -> None:
    with terminal(TOP) as here:
        before = here.modes()
        here.wait("this machine")
        here.process.send_signal(signal.SIGTSTP)
        _, status = os.waitpid(here.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert here.modes() == before
        there = here.wait(LEAVE)
        here.process.send_signal(signal.SIGCONT)
        here.wait("this machine", here.wait(ENTER, there))
        here.press("q")
        assert here.end() == 0
        assert here.modes() == before


@pytest.mark.usefixtures("bare")
def test_keys_that_come_together_all_count() -> None:
    """As a held key does over ssh."""
    with terminal(TOP) as here:
        here.wait("sort: device")
        here.press("s\x1b[B\x1b[B\x1b[1;5A\x1bOAsu")
        here.wait("unit: Wh", here.wait("sort: energy"))
        here.press("s\x1b[Bq")
        assert here.end() == 0
    assert here.text.count(LEAVE) == 1


@pytest.mark.usefixtures("bare")
def test_no_color_and_dumb_terminals() -> None:
    with terminal(TOP, "--seconds", "0.3", NO_COLOR="1") as here:
        assert here.end() == 0
    assert here.frames
    assert not SGR.search(here.text)
    for name in ("dumb", "", "unknown"):
        with terminal(TOP, "--seconds", "0.3", TERM=name) as here:
            assert here.end() == 0
        assert "\x1b" not in here.text
        assert "carbontracker: this machine" in here.text
