"""The text of old log files (carbontracker 1.1 to 2.4.7, and what is written beside a record).

A log is a list of entries: each begins with a time stamp and may have several lines.
``docs/old-logs.md`` describes the formats.
"""

from __future__ import annotations

import codecs
import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_STAMP = re.compile(r"^[ \t]*\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?Z? - ", re.MULTILINE)
_BEGINNINGS = tuple(
    re.compile(rf"^(?:{_STAMP.pattern[1:]})?(?:CarbonTracker: )?{words}", re.MULTILINE)
    for words in ("carbontracker version ", "The following components were found")
)
"""First lines of a tracker: in standard logs the first pattern if it occurs, else the second."""
_DOTS = str.maketrans({"\N{ONE DOT LEADER}": ".", "\N{SINGLE LOW-9 QUOTATION MARK}": ","})
"""Dots and commas in device names as this version writes them: upstream's parser would end a name
there."""
_VERSION = re.compile(r"carbontracker version (\d+(?:\.\w+)*)")
_PUE = re.compile(r"PUE coefficient of (\d+(?:\.\d+)?)")
_COMPONENTS = re.compile(
    r"(?:CarbonTracker: )?The following components were found: (.*)", re.DOTALL
)
_COMPONENT = re.compile(
    r"(\w+) with device\(s\) (.*?)\.(?=\s+\w+ with device\(s\)|\s*$)", re.DOTALL
)
_POWER = re.compile(r"Average power usage \(W\) for (\w+): (.*)", re.DOTALL)
_DURATION = re.compile(r"^[ \t]*Duration: (\S+)", re.MULTILINE)
"""On a line of its own, or below the number of its epoch."""
_INTENSITY = re.compile(r"Average carbon intensity during training was\s+(\S+) gCO2(?:eq)?/kWh")
_BLOCK = re.compile(
    r"(?P<kind>Actual|Predicted) consumption(?: for (?P<epochs>-?\d+(?:\.\d+)?) epoch\(s\))?:"
    r"[ \t]*\r?\n\s*Time:\s*(?P<time>\S+)[ \t]*(?=\r?\n|$)"
    r"(?:\r?\n\s*Energy:\s*(?P<energy>.*?) *kWh[ \t]*(?=\r?\n|$))?"
    r"(?:\r?\n\s*CO2eq:\s*(?P<co2eq>.*?) *g[ \t]*(?=\r?\n|$))?"
    r"(?:\r?\n\s*This is equivalent to:(?P<equivalents>(?:\r?\n[ \t]+\S+[ \t]+\S[^\r\n]*)*))?"
)
"""An unknown value has no line."""
_TIME = re.compile(r"(-?)(\d+):(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_DAYS = re.compile(r"(-?\d+) days?, (.*)")

_REPRS = re.compile(r"\b(?:np|numpy)\.|\b(?:float|int|uint)\d+\b|\barray\b|\bdtype\s*=\s*\S+")
"""What numpy writes around the numbers of its arrays."""
_FIGURE = re.compile(
    r"(?<![\w.])(?:None|nan|[-+]?inf|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\w)"
)

INTERRUPTED = "Training was interrupted"


STANDARD = "carbontracker.log"
OUTPUT = "carbontracker_output.log"
"""How the names of log files end."""
AVERAGING = ((2, 0), (2, 4, 7))
"""First and last version in which the power of a component's devices was averaged, not added."""


@dataclass(frozen=True)
class Block:
    """A block of the console: a prediction or a measurement."""

    actual: bool
    epochs: int | None
    """None where the command line left the count out."""
    seconds: float
    kwh: float
    """With PUE; NaN where the block has no number."""
    gco2eq: float
    equivalents: dict[str, float] | None
    """None without the line above them."""


def entries(text: str) -> list[str]:
    """Return the stripped text after each time stamp, up to the next one."""
    starts = list(_STAMP.finditer(text))
    if not starts:
        return []
    ends = [*(start.start() for start in starts[1:]), len(text)]
    return [text[start.end() : end].strip() for start, end in zip(starts, ends, strict=True)]


def decode(data: bytes) -> str:
    """Return the text of a log file, with ``\\n`` at the ends of its lines.

    Logs from a Windows shell are UTF-16, with or without a byte order mark. In others, device names
    are in the encoding of the machine.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None:
        encoding = "utf-8"
        # ASCII in UTF-16: every other byte is zero.
        low, high = data[:_LOOKED_AT:2].count(0), data[1:_LOOKED_AT:2].count(0)
        if max(low, high) > len(data[:_LOOKED_AT]) // 8:
            encoding = "utf-16-le" if high > low else "utf-16-be"
    text = data.decode(encoding, "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT = 4096


def sections(text: str) -> list[str]:
    """Return the text of each tracker, the file's own tracker first.

    Up to 1.2.5 a tracker also writes into the files of the earlier ones of its process. If it began
    in the same second or minute, it writes every line twice into one file.
    """
    starts = [found.start() for found in _STAMP.finditer(text)]
    pieces = [text[a:b] for a, b in pairwise([0, *starts, len(text)])]
    text = "".join(piece for before, piece in pairwise(["", *pieces]) if piece != before)
    begin = next((one for one in _BEGINNINGS if one.search(text)), _BEGINNINGS[0])
    later = [found.start() for found in begin.finditer(text)][1:]
    return [text[a:b] for a, b in pairwise([0, *later, len(text)])]


def version_of(text: str) -> tuple[int, ...] | None:
    """Return the version that a standard log names, as numbers; None if it has no version."""
    found = _VERSION.search(text)
    if found is None:
        return None
    return tuple(int(part) for part in found[1].split(".") if part.isdecimal())


def pue_of(text: str) -> float:
    """Return the PUE that a standard log states; NaN if missing."""
    found = _PUE.search(text)
    return float(found[1]) if found else math.nan


def mean_intensity_of(text: str) -> float:
    """Return the mean intensity that a standard log states, gCO2eq/kWh; NaN if missing."""
    found = _INTENSITY.search(text)
    return figure(found[1]) if found else math.nan


def devices_of(text: str) -> dict[str, list[str]]:
    """Return the devices of each component, in lower case, as a standard log lists them.

    A name may contain dots (``E5-2680 v4 @ 2.40GHz``): it ends at the next component or at the end
    of the line.
    """
    devices: dict[str, list[str]] = {}
    for entry in entries(text):
        found = _COMPONENTS.match(entry)
        for component, names in _COMPONENT.findall(found[1]) if found else ():
            here = devices.setdefault(component.lower(), [])
            listed = [name.strip().translate(_DOTS) for name in names.split(",")]
            here += [name for name in listed if name] if not here else []
    return devices


def powers_of(text: str) -> dict[str, list[list[float]]]:
    """Return, by component and epoch, the watts of the lines; None and nan are NaN.

    Versions up to 1.2.5 wrote a numpy vector with one entry per device, on one or more lines.
    """
    powers: dict[str, list[list[float]]] = {}
    for entry in entries(text):
        found = _POWER.match(entry)
        if found:
            powers.setdefault(found[1].lower(), []).append(figures(found[2]) or [math.nan])
    return powers


def durations_of(text: str) -> list[float]:
    """Return the duration of each epoch, s; NaN where it is not a time."""
    found = [_DURATION.search(entry) for entry in entries(text)]
    seconds = [seconds_of(match[1]) for match in found if match]
    return [math.nan if value is None else value for value in seconds]


def blocks_of(text: str) -> Iterator[Block]:
    """Yield the blocks of an output log in order."""
    for found in _BLOCK.finditer(text):
        seconds, shown = seconds_of(found["time"]), found["equivalents"]
        yield Block(
            actual=found["kind"] == "Actual",
            epochs=_count(found["epochs"]),
            seconds=math.nan if seconds is None else seconds,
            kwh=figure(found["energy"] or ""),
            gco2eq=figure(found["co2eq"] or ""),
            equivalents=None if shown is None else equivalents_of(shown.splitlines()),
        )


def _count(text: str | None) -> int | None:
    """Return a count that may be written as ``2.5``; None without one, or if it is not finite."""
    number = math.nan if text is None else float(text)
    return int(number) if math.isfinite(number) else None


def equivalents_of(lines: list[str]) -> dict[str, float]:
    """Return numbers by description, of lines such as ``0.005 km travelled by car``."""
    found = {}
    for line in lines:
        value, _, words = line.strip().partition(" ")
        if words and figures(value):  # "not measured km travelled by car" has no number
            found[words.strip()] = figure(value)
    return found


def figure(text: str) -> float:
    """Return ``text`` as a number; NaN if it is not one number."""
    values = figures(text)
    return values[0] if len(values) == 1 else math.nan


def figures(text: str) -> list[float]:
    """Return all numbers in ``text``, also in numpy's notations; None is NaN."""
    bare = _REPRS.sub(" ", text)
    return [math.nan if word == "None" else float(word) for word in _FIGURE.findall(bare)]


def seconds_of(text: str) -> float | None:
    """Return the seconds of ``H:MM:SS`` or ``H:MM:SS.ss``, with a sign; None if it is neither."""
    days = _DAYS.fullmatch(text.strip())
    found = _TIME.fullmatch(days[2] if days else text.strip())
    if found is None:
        return None
    sign, hours, minutes, seconds = found.groups()
    value = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return (86_400 * int(days[1]) if days else 0) + (-value if sign else value)


def averaged_counts(text: str) -> dict[str, int]:
    """Return by component how many devices were averaged to one figure, if several."""
    version = version_of(text)
    if version is None or not AVERAGING[0] <= version <= AVERAGING[1]:
        return {}
    separate = {name for name, rows in powers_of(text).items() if any(len(row) > 1 for row in rows)}
    return {
        name: len(names)
        for name, names in devices_of(text).items()
        if len(names) > 1 and name not in separate
    }


def averaged_factor(text: str) -> float:
    """Return the ratio of the true energy to that of a standard log; 1 if unknown."""
    counts = averaged_counts(text)
    durations = durations_of(text)
    written = true = 0.0
    for name, rows in powers_of(text).items() if counts else ():
        joules = [sum(row) * seconds for row, seconds in zip(rows, durations, strict=False)]
        known = math.fsum(one for one in joules if not math.isnan(one))
        written += known
        true += known * counts.get(name, 1)
    if written > 0:
        return true / written
    return float(next(iter(counts.values()))) if len(counts) == 1 else 1.0
