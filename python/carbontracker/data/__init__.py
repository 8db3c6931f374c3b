"""The offline tables, read when first asked for and kept for the life of the process."""

from __future__ import annotations

from functools import cache

WORLD = "WORLD"
"""The zone of the world average, the last and always marked resort."""


@cache
def rows(table: str) -> tuple[dict[str, str], ...]:
    """Return the rows of ``<table>.csv`` beside this file, every cell as text.

    Cells stay text so that Namibia's ``NA`` survives and an empty cell stays distinguishable
    from a zero. The rows are shared between callers: read them, do not change them.

    Raises:
        FileNotFoundError: there is no such table.
    """
    import csv
    import os

    path = os.path.join(os.path.dirname(__file__), f"{table}.csv")
    with open(path, encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))
