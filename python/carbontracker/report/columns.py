"""Columns of text, for every table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.report.formatting import MAX_CELL, clean

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], right: Collection[int]) -> list[str]:
    """Return one line a row, its cells as wide as the widest of their column.

    Args:
        rows: of equally many cells, the heading first if there is one.
        right: the columns, from 0, that are flush right.

    Names come from commands and hosts: what would steer a terminal does not get there.
    """
    rows = [[clean(cell, MAX_CELL) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
