"""Production of accelerators, and water: closed forms, ranges, origins, and added to nothing."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from carbontracker.carbon import embodied_share, water_use
from carbontracker.carbon.embodied import HOURS_PER_YEAR, LIFETIME_YEARS
from carbontracker.cli import main
from carbontracker.data import rows
from tests.support.simulated import Training

if TYPE_CHECKING:
    from pathlib import Path


def test_the_share_is_hours_times_kg_over_the_life() -> None:
    share = embodied_share("NVIDIA H100 80GB HBM3", 8 * 24)
    assert share is not None
    shortest, usual, longest = (years * HOURS_PER_YEAR for years in LIFETIME_YEARS)
    assert share.kg_co2eq == pytest.approx(192 * 164 / usual)
    assert share.low_kg_co2eq == pytest.approx(192 * 164 / longest)
    assert share.high_kg_co2eq == pytest.approx(192 * 164 / shortest)
    whole_life = embodied_share("H100", 3 * HOURS_PER_YEAR, lifetime_years=3)
    assert whole_life is not None
    assert whole_life.kg_co2eq == pytest.approx(164)
    assert whole_life.low_kg_co2eq == whole_life.high_kg_co2eq == whole_life.kg_co2eq


def test_several_figures_of_one_accelerator_are_a_range() -> None:
    share = embodied_share("NVIDIA A100-SXM4-40GB", 1000, lifetime_years=5)
    assert share is not None
    hours = 5 * HOURS_PER_YEAR
    assert [share.low_kg_co2eq * hours, share.kg_co2eq * hours, share.high_kg_co2eq * hours] == [
        pytest.approx(1000 * kg) for kg in (150, 181, 318)
    ]
    assert "ADEME 2026" in share.source


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4090", "", "NVIDIA H1000", "A10"])
def test_an_accelerator_without_a_figure_is_not_known(name: str) -> None:
    assert embodied_share(name, 10) is None
    given = embodied_share(name, 10, kg_co2eq=100, lifetime_years=1)
    assert given is not None
    assert given.kg_co2eq == pytest.approx(1000 / HOURS_PER_YEAR)
    assert given.source == "given by the user"


@pytest.mark.parametrize(
    ("hours", "given"),
    [
        (-1.0, {}),
        (math.nan, {}),
        (1.0, {"kg_co2eq": -1.0}),
        (1.0, {"lifetime_years": 0.0}),
        (1.0, {"lifetime_years": math.inf}),
    ],
)
def test_impossible_arguments_are_refused(hours: float, given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        embodied_share("H100", hours, **given)


def test_every_figure_names_its_source() -> None:
    for row in (*rows("embodied"), *rows("water")):
        assert row["source"]
        assert row["evidence"] in {"seen", "recalled"}


def test_water_is_that_of_the_site_and_of_the_electricity() -> None:
    water = water_use(100.0, 1.2, site=0.5, source=2.0)
    assert water.site_litres == pytest.approx(100 * 0.5)  # per kWh of the machines
    assert water.source_litres == pytest.approx(120 * 2.0)  # per kWh from the grid
    assert water.low_source_litres == water.high_source_litres == water.source_litres
    assert water.site_origin == water.source_origin == "given by the user"


def test_water_has_no_figure_for_a_place_without_one() -> None:
    nowhere = water_use(100.0, 1.2, zone="DK")
    assert not nowhere.known
    here = water_use(100.0, 1.2, zone="US-CA", operator="aws")
    assert here.site_litres == pytest.approx(15)
    assert "Amazon" in here.site_origin
    assert here.low_source_litres == pytest.approx(120 * 3.14)
    assert here.source_litres == here.high_source_litres == pytest.approx(120 * 4.52)
    partly = water_use(100.0, 1.0, source=1.0)
    assert partly.known
    assert math.isnan(partly.site_litres)
    with pytest.raises(ValueError, match="site must be"):
        water_use(1.0, 1.0, site=-1)


def test_a_report_shows_them_on_request_and_adds_them_to_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = str(Training(epochs=2, moments=4).write(tmp_path / "run.jsonl"))
    assert main(["report", record]) == 0
    without = capsys.readouterr().out
    assert "Production" not in without
    assert "Water" not in without
    assert main(["report", record, "--embodied", "5", "--water", "0.2,1.8"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(without)
    beside = shown.removeprefix(without)
    hours = 8 * 2 * 864 / 3600
    assert f"{1000 * 164 * hours / (5 * HOURS_PER_YEAR):.4g} g" in beside
    assert "given by the user" in beside
    assert main(["report", record, "--json", "-"]) == 0
    totals = json.loads(capsys.readouterr().out)
    assert main(["report", record, "--json", str(tmp_path / "totals.json"), "--embodied"]) == 0
    assert "Production of 8 x NVIDIA H100" in capsys.readouterr().out
    assert json.loads((tmp_path / "totals.json").read_text()) == totals
    assert main(["report", record, "--water"]) == 0
    assert "not known, no figure is published here for this place" in capsys.readouterr().out
    assert main(["report", record, "--water", "1,2,3"]) == 2
    assert main(["report", record, "--embodied", "long"]) == 2
    assert "--embodied 'long': give a number" in capsys.readouterr().err
