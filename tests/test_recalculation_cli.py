"""``carbontracker report`` with other carbon figures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from carbontracker.constants import JOULES_PER_KWH
from carbontracker.tracker import CarbonTracker

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Return the record of a short training in Denmark."""
    tracker = CarbonTracker(
        *(2, 0),
        sim_cpu="A",
        sim_cpu_tdp=100.0,
        components="cpu",
        log_dir=tmp_path,
        location="DK",
        pue=1.5,
        verbose=0,
    )
    for _ in tracker.epochs():
        pass
    (path,) = tmp_path.glob("*.jsonl")
    return path


def shown(capsys: pytest.CaptureFixture[str], record: Path, *prices: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["report", str(record), "--json", "-", *prices]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_same_energy_with_the_requested_factors(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shown(capsys, record)
    joules = before["energy"]["joules"]
    assert before["footprint"]["kwh"] == pytest.approx(1.5 * joules / JOULES_PER_KWH)

    fixed = shown(capsys, record, "--intensity", "100", "--pue", "1")
    assert fixed["energy"]["joules"] == joules
    assert fixed["footprint"]["kwh"] == pytest.approx(joules / JOULES_PER_KWH)
    assert fixed["footprint"]["gco2eq"] == pytest.approx(100 * joules / JOULES_PER_KWH)

    sweden = shown(capsys, record, "--location", "SE")["footprint"]
    assert sweden["intensity"]["zone"] == "SE"
    assert sweden["kwh"] == pytest.approx(before["footprint"]["kwh"])
    assert sweden["gco2eq"] == pytest.approx(sweden["kwh"] * sweden["intensity"]["gco2eq_per_kwh"])

    direct = shown(capsys, record, "--scope", "direct")["footprint"]
    assert direct["intensity"]["scope"] == "direct"
    assert direct["intensity"]["zone"] == "DK"


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (["--pue", "0.5"], "pue"),
        (["--intensity", "nobody"], "nobody"),
        (["--intensity", "-1"], "carbon intensity"),
        (["--location", "Denmrk"], "Denmark"),
        (["--scope", "wide"], "wide"),
    ],
)
def test_an_impossible_factor_is_refused(
    record: Path, capsys: pytest.CaptureFixture[str], prices: list[str], words: str
) -> None:
    capsys.readouterr()
    assert main(["report", str(record), *prices]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
