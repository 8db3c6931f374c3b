"""Records that earlier versions wrote read the same: every total, epoch, prediction and price.

``data/records-2026-11-30`` has records of commit 0522c84 and, in ``expected.json``, what that
commit reported of them and of the older ones in ``data/records``. Names and paths of the machine
are replaced.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from carbontracker.cli import main

RECORDS = Path(__file__).parent / "data" / "records-2026-11-30"
EXPECTED: dict[str, dict[str, Any]] = json.loads((RECORDS / "expected.json").read_text())
OTHER_PRICES = "report --json --intensity 123 --pue 1.1"


def report(capsys: pytest.CaptureFixture[str], record: str, *options: str) -> str:
    assert main(["report", record, *options]) == 0
    return capsys.readouterr().out


def differences(before: object, after: object, where: str = "") -> list[str]:
    """Return where two values differ; numbers may do so by rounding, and there may be more keys."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = before.keys() - after.keys()
        found = [f"{where}/{key} is missing" for key in sorted(keys)]
        for key in before.keys() & after.keys():
            found += differences(before[key], after[key], f"{where}/{key}")
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = zip(before, after, strict=True)
        return [d for i, (a, b) in enumerate(pairs) for d in differences(a, b, f"{where}/{i}")]
    if isinstance(before, float) and isinstance(after, float):
        same = math.isclose(before, after, rel_tol=1e-12)
        return [] if same else [f"{where}: {before!r} became {after!r}"]
    return [] if before == after else [f"{where}: {before!r} became {after!r}"]


def number_or_text(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def cells(lines: list[str]) -> list[list[float | str]]:
    """Return the cells of CSV, numbers as numbers."""
    return [list(map(number_or_text, row)) for row in csv.reader(lines)]


@pytest.mark.parametrize("record", EXPECTED)
def test_totals_epochs_and_predictions_are_as_before(
    record: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(RECORDS)
    before = EXPECTED[record]
    assert (
        differences(before["report --json"], json.loads(report(capsys, record, "--json", "-")))
        == []
    )
    for form in ("csv", "codecarbon"):
        lines = report(capsys, record, f"--{form}", "-").splitlines()
        found = differences(cells(before[f"report --{form}"]), cells(lines))
        assert found == []


@pytest.mark.parametrize("record", [name for name, one in EXPECTED.items() if one[OTHER_PRICES]])
def test_recalculated_figures_are_as_before(
    record: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(RECORDS)
    prices = ("--intensity", "123", "--pue", "1.1")
    now = json.loads(report(capsys, record, *prices, "--json", "-"))
    assert differences(EXPECTED[record][OTHER_PRICES], now) == []
