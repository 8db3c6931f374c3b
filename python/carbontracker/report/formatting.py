"""Numbers for people: as many digits as the error allows, a unit of fitting size, clean text."""

from __future__ import annotations

import codecs
import math
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

UNKNOWN = "not measured"
DASH = "-"
"""An unknown value in a table or a short line."""
PLUS_MINUS = "±"
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))
_NAMED = {
    "J": _PREFIXES,
    "W": _PREFIXES,
    "s": _PREFIXES[3:],
    "Wh": _PREFIXES,
    # Grams end at tonnes, which have no prefix.
    "g": ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg")),
}
IN_ASCII = str.maketrans({PLUS_MINUS: "+/-", "µ": "u", "…": "..."})
"""What the signs of a report become where a terminal cannot show them."""
ASCII_ERRORS = "carbontracker.ascii"
"""The ``errors`` of a stream: signs that it cannot encode are ``IN_ASCII``, the rest ``?``."""
MAX_TEXT = 4000
"""Characters of a text in any view: commands and names may have hundreds of thousands."""
MAX_LINE = 1000
"""Characters of a line in a terminal."""
MAX_CELL = 200
"""Characters of a cell of a table."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MAX_DIGITS = 6
_DIGITS = 4
"""Significant digits where the error is unknown: more would claim a precision."""


def is_known(value: float) -> bool:
    """Return whether a value is finite: NaN means not measured."""
    return math.isfinite(value)


def quantity(value: float, unit: str, error: float = math.nan) -> str:
    """Return a value with its error in a unit of fitting size, such as ``1.23 ± 0.05 kWh``.

    Args:
        value: in ``unit``; NaN is "not measured".
        unit: ``J``, ``W``, ``Wh``, ``g`` or ``s``.
        error: 95 % half-width in ``unit``; omitted if NaN.
    """
    if not is_known(value):
        return UNKNOWN
    size, name = unit_of(value if value else error, unit)
    return f"{with_error(value / size, error / size)} {name}"


def rounded(value: float, unit: str, error: float = math.nan) -> str:
    """Return a value without its error, to the digit that the error allows: ``0.92 mg``.

    Args:
        value: as for ``quantity``, and so are ``unit`` and ``error``.
    """
    number, sign, rest = quantity(value, unit, error).partition(f" {PLUS_MINUS}")
    return f"{number} {rest.rpartition(' ')[2]}" if sign else number


def ranged(value: float, low: float, high: float, unit: str) -> str:
    """Return a value and its limits in one unit, such as ``118 [57 to 378] MWh``.

    Args:
        value: in ``unit``; NaN is "not measured".
        low: lower limit in ``unit``; NaN if unknown.
        high: upper limit in ``unit``.
        unit: as for ``quantity``, or ``""``.
    """
    near = [abs(limit - value) for limit in (low, high) if limit != value]
    if not (is_known(value) and near and all(map(is_known, near))):
        return quantity(value, unit) if unit else plain(value)
    size, name = unit_of(value or high, unit) if unit else (1.0, "")
    decimals = _decimals(value / size, min(near) / size)
    middle, least, most = (_fixed(one / size, decimals) for one in (value, low, high))
    return f"{middle} [{least} to {most}] {name}".rstrip()


def span(low: float, high: float, unit: str) -> str:
    """Return limits in one unit, to three digits: ``2.85 to 4.19 Wh``."""
    size, name = unit_of(high, unit)
    return f"{plain(low / size, 3)} to {plain(high / size, 3)} {name}"


def unit_of(value: float, unit: str) -> tuple[float, str]:
    """Return the size and the name of the prefixed unit that fits a value."""
    known = _NAMED[unit]
    fitting = (one for one in known if abs(value) >= one[0])
    plain = (1.0, unit if unit == "g" else "")
    size, prefix = plain if not is_known(value) or value == 0 else next(fitting, known[-1])
    return size, prefix if unit == "g" else prefix + unit


def with_error(value: float, error: float) -> str:
    """Return a value and its error: the error to two digits, the value to the same decimal.

    At most six digits of the value are shown, however small its error.
    """
    if not is_known(value):
        return UNKNOWN
    if not is_known(error):
        return plain(value)
    if error <= 0:
        return f"{plain(value)} {PLUS_MINUS} 0"
    decimals = _decimals(value, error)
    least = "" if round(error, decimals) > 0 else "<"  # smaller than the last digit shown
    half = max(error, 10.0**-decimals)
    return f"{_fixed(value, decimals)} {PLUS_MINUS} {least}{_fixed(half, decimals)}"


def _decimals(value: float, error: float) -> int:
    """Return the decimals that show two digits of the error, and at most six of the value."""
    decimals = 1 - math.floor(math.log10(abs(error)))
    if value == 0:
        return decimals
    return min(decimals, _MAX_DIGITS - 1 - math.floor(math.log10(abs(value))))


def plain(value: float, digits: int = _DIGITS) -> str:
    """Return a value to ``digits`` significant digits, with an exponent only if it is tiny."""
    if not is_known(value):
        return UNKNOWN
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}g}" if decimals > 9 else _fixed(value, decimals)


def _fixed(value: float, decimals: int) -> str:
    return f"{round(value, decimals):.{max(0, decimals)}f}"


def compact(value: float, unit: str = "", digits: int = _DIGITS) -> str:
    """Return a value for a table or a short line: ``482 J``, ``1.205 kJ``; a dash if unknown.

    Args:
        value: in ``unit``.
        unit: ``J``, ``W``, ``Wh`` or ``g``, shown with a fitting prefix; else the value is bare.
        digits: significant digits at most; zeros at the end are left out.
    """
    if not is_known(value):
        return DASH
    size, name = unit_of(value, unit) if unit else (1.0, "")
    return f"{value / size:.{digits}g} {name}".rstrip()


def percent(share: float, spec: str = ".3g", unknown: str = "") -> str:
    """Return a share, 0..1, as a percentage: ``12.5 %``; ``spec`` is the format of the number."""
    return f"{100 * share:{spec}} %" if is_known(share) else unknown


def duration(seconds: float) -> str:
    """Return a time such as ``1:02:03 h``, ``4:05 min``, ``6.70 s`` or ``82.5 µs``."""
    if not is_known(seconds):
        return UNKNOWN
    if round(seconds, 1) < 60:
        size, name = unit_of(seconds, "s")
        return f"{plain(seconds / size, 3)} {name}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def clean(text: object, limit: int = MAX_TEXT) -> str:
    """Return text on one line, without characters that control a terminal or break a file.

    Names come from drivers, commands and users. Control and bidirectional characters (categories
    C and Z, except the space) become U+FFFD. Text of more than ``limit`` characters is cut and ends
    in an ellipsis.
    """
    whole = str(text)
    shown = whole if len(whole) <= limit else f"{whole[: limit - 1]}…"
    return "".join(
        " " if one in "\t\n\r" else "\ufffd" if _is_unseen(one) else one for one in shown
    )


def columns_of(text: str) -> int:
    """Return the columns of a terminal that a text takes.

    A wide character, as of Chinese or an emoji, takes two, a combining one none (Unicode UAX #11).
    """
    return len(text) if text.isascii() else sum(map(_columns_of_one, text))


def _columns_of_one(character: str) -> int:
    import unicodedata

    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def cut(text: str, columns: int) -> str:
    """Return as much of the beginning of a text as fits into so many columns."""
    if columns_of(text) <= columns:
        return text
    ends = accumulate(map(_columns_of_one, text))
    return text[: sum(end <= columns for end in ends)]


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """Return a text with the spaces that so many columns lack, before it if ``right``."""
    spaces = " " * (columns - columns_of(text))
    return spaces + text if right else text + spaces


def encodable(text: str, encoding: str | None) -> str:
    """Return text for a stream; what it cannot encode is written in ASCII, or as ``?``."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, ASCII_ERRORS).decode(encoding)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = error.object[error.start : error.end].translate(IN_ASCII)
    return shown.encode("ascii", "replace").decode(), error.end


codecs.register_error(ASCII_ERRORS, _in_ascii)


def csv_text(text: str) -> str:
    """Return text for a CSV cell that a spreadsheet does not read as a formula.

    Only for text: a negative number also begins with a sign.
    """
    return f"'{clean(text)}" if text.startswith(_FORMULA) else clean(text)


def aligned(rows: Sequence[Sequence[str]], right: Collection[int]) -> list[str]:
    """Return one line per row, with the cells of a column padded to one width.

    Args:
        rows: all with the same number of cells, the heading first if there is one.
        right: the indices of right-aligned columns.

    Cells are cleaned: names come from commands and hosts.
    """
    rows = [[clean(cell, MAX_CELL) for cell in row] for row in rows]
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            padded(cell, width, right=i in right)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def number_column(name: str, values: Sequence[float], unit: str) -> list[str]:
    """Return numbers in one unit below their heading, all of one width.

    All have as many decimals: four digits of the largest, at most three decimals.

    Args:
        name: the heading, to which the unit is added.
        values: in ``unit``; NaN is a dash.
        unit: as for ``quantity``, or ``""``.
    """
    largest = max((abs(value) for value in values if is_known(value)), default=0.0)
    size, shown = unit_of(largest, unit) if unit else (1.0, "")
    digits = 3 - math.floor(math.log10(largest / size)) if largest > 0 else 0
    decimals = min(3, max(0, digits))
    head = f"{name} {shown}".strip()
    cells = [f"{one / size:.{decimals}f}" if is_known(one) else DASH for one in values]
    width = max(map(len, (head, *cells)))
    return [cell.rjust(width) for cell in (head, *cells)]


def _is_unseen(character: str) -> bool:
    import unicodedata  # a library: a repr must not need one where memory is short

    category = unicodedata.category(character)
    return category in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
