"""``carbontracker when`` and ``where``: the commands, on recorded forecasts and the tables."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.carbon.factors import make_carbon_factors
from carbontracker.carbon.footprint import footprint
from carbontracker.cli import main
from carbontracker.intensity.base import Intensity
from carbontracker.location.location import locate
from carbontracker.planning.background import Advice, first_and_best_start
from carbontracker.planning.regions import here, options
from carbontracker.report.planning import chart
from carbontracker.report.sentences import advice_line

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 11, 23, 9, tzinfo=timezone.utc)
EXAMPLE = Path(__file__).parents[1] / "examples" / "forecast.json"


def slots(*figures: float, minutes: int = 60, start: datetime = NOW) -> list[Intensity]:
    step = timedelta(minutes=minutes)
    return [
        Intensity(
            gco2eq_per_kwh=figure,
            zone="DK-DK1",
            name="Western Denmark",
            year=None,
            scope="direct",
            kind="forecast",
            source="test",
            start=start + i * step,
            end=start + (i + 1) * step,
        )
        for i, figure in enumerate(figures)
    ]


def kept(path: Path, given: Sequence[Intensity]) -> str:
    path.write_text(json.dumps({"slots": [slot.to_dict() for slot in given]}))
    return str(path)


def when(*arguments: str) -> int:
    return main(["when", "--now", "2026-11-23T09:00Z", *arguments])


# ---- when ----------------------------------------------------------------------------------


def test_the_best_start_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = kept(tmp_path / "f.json", slots(300, 100, 200, 400))
    assert when("--hours", "2", "--kwh", "12", "--forecast", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"]["start"] == "2026-11-23T10:00:00+00:00"
    assert found["best"]["gco2eq_per_kwh"] == pytest.approx(150)
    assert found["best"]["gco2eq"] == pytest.approx(1800)
    assert found["first"]["gco2eq_per_kwh"] == pytest.approx(200)
    assert found["saved_share"] == pytest.approx(0.25)
    assert len(found["slots"]) == 4


def test_a_forecast_that_was_kept_gives_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--hours", "1.5", "--json", "--forecast")
    path = kept(tmp_path / "f.json", slots(300, 100, 200, 400, 50, 60, minutes=30))
    assert when(*arguments, path) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(first))
    assert when(*arguments, "-") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(first)


@pytest.mark.parametrize(
    ("within", "start_hours"),
    [("48h", 40.0), ("24h", 17.0), ("1d", 17.0), ("6h", 0.0), ("390m", 0.0), ("2d", 40.0)],
)
def test_the_run_has_ended_within(
    within: str, start_hours: float, capsys: pytest.CaptureFixture[str]
) -> None:
    assert when("--hours", "6", "--within", within, "--forecast", str(EXAMPLE), "--json") == 0
    assert json.loads(capsys.readouterr().out)["best"]["t_s"] == start_hours * 3600


def test_the_text_states_when_and_how_much_with_a_chart(capsys: pytest.CaptureFixture[str]) -> None:
    assert when("--hours", "6", "--kwh", "12", "--forecast", str(EXAMPLE)) == 0
    text = capsys.readouterr().out
    assert "in 40.0 h" in text
    assert "Saves        50 %, 0.762 kg" in text
    assert text.count("▲") == 6


def test_now_may_be_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert when("--hours", "2", "--forecast", kept(tmp_path / "f.json", slots(10, 20, 30))) == 0
    assert "Saves        nothing: no later start is better" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "it ends in the past"),
        (slots(1, 2, start=NOW - timedelta(days=1)), "it ends in the past"),
        (slots(1, 2), "it covers the next 2.0 h, but not 3 h without a gap"),
        (
            [*slots(1, 2), *slots(3, 4, start=NOW + timedelta(hours=3))],
            "it covers the next 5.0 h, but not 3 h without a gap",
        ),
    ],
)
def test_without_a_forecast_exit_code_3_and_the_reason(
    given: list[Intensity], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept(tmp_path / "f.json", given)
    assert when("--hours", "3", "--forecast", path) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"carbontracker: no forecast available: {reason}\n"
    assert when("--hours", "3", "--forecast", path, "--json") == 3
    assert json.loads(capsys.readouterr().out) == {"best": None, "reason": reason}


def test_a_place_without_a_provider_has_no_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["when", "--hours", "3", "--location", "DK"]) == 3
    assert "no forecast available: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        *("", "7", "{}", "[7]", '[{"start": 1}]', '[{"start": "x", "end": "y"}]', "[{}]"),
        "[" * 100_000,
    ],
)
def test_a_file_that_is_not_a_forecast(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.json"
    path.write_text(content)
    assert when("--hours", "3", "--forecast", str(path)) == 2
    assert capsys.readouterr().err.startswith(f"carbontracker: {path} does not contain ")
    assert when("--hours", "3", "--forecast", str(tmp_path / "none")) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--hours", "0"],
        ["--hours", "nan"],
        ["--hours", "1000"],
        ["--hours", "6", "--within", "5h"],
        ["--hours", "6", "--within", "soon"],
        ["--hours", "6", "--kwh", "-1"],
        ["--hours", "6", "--now", "2026-11-23T09:00"],
        ["--hours", "6", "--now", "yesterday"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["when", *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", [["when", "--hours", "2"], ["where"]])
def test_a_wrong_location_is_refused_with_the_nearest(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--location", "Danmark"]) == 2
    assert "did you mean Denmark (DK)?" in capsys.readouterr().err


def test_without_a_figure_for_now_the_first_start_is_compared_with() -> None:
    both = first_and_best_start(
        slots(300, 100, start=NOW + timedelta(hours=1)), NOW, 1, timedelta(hours=9)
    )
    assert both is not None
    first, best = both
    assert (first.t_s, best.t_s) == (3600, 7200)


def test_the_chart_draws_heights_and_marks_the_window() -> None:
    drawn = chart([80, 40, float("nan"), 10], (1, 2), NOW, plain=True).splitlines()
    assert [line[7:] for line in drawn[:8]] == ["#", "#", "#", "#", "##", "##", "##", "## #"]
    assert [line[:5].strip() for line in drawn[:8]] == ["80", "", "60", "", "40", "", "20", ""]
    assert drawn[8:] == ["    0 +----", "        ^", "       09"]
    assert chart([80] * 99, (90, 96), NOW, plain=True).splitlines()[9] == ""  # out of the picture
    eighths = chart([80, 5, 0], (0, 1), NOW, plain=False).splitlines()
    assert eighths[7][7:] == "█▄"


# ---- where ---------------------------------------------------------------------------------


def where(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["where", "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_regions_by_intensity_times_pue(capsys: pytest.CaptureFixture[str]) -> None:
    found = where(capsys, "--location", "DK", "--pue", "1.2", "--kwh", "12", "--provider", "aws")
    regions = found["regions"]
    assert len(regions) == 10
    products = [one["gco2eq_per_kwh"] * one["pue"] for one in regions]
    assert products == sorted(products)
    assert regions[0]["key"] == "aws:eu-north-1"
    ours = found["here"]
    assert (ours["key"], ours["pue"]) == ("DK", 1.2)
    assert ours["gco2eq"] == pytest.approx(12 * ours["gco2eq_per_kwh"])
    # 12 kWh with a PUE of 1.2 are 10 kWh of the machine.
    assert regions[0]["gco2eq"] == pytest.approx(10 * products[0])
    assert regions[0]["saved_share"] == pytest.approx(1 - regions[0]["gco2eq"] / ours["gco2eq"])


def test_here_may_be_a_region_itself(capsys: pytest.CaptureFixture[str]) -> None:
    found = where(capsys, "--location", "aws:eu-north-1", "--provider", "aws", "--top", "1")
    assert found["here"] == found["regions"][0]
    assert found["here"]["saved_share"] == 0


@pytest.mark.parametrize("scope", ["lifecycle", "direct"])
def test_only_one_scope_and_the_world_average_replaces_no_region(scope: str) -> None:
    found = options(scope=scope)
    assert {one.scope for one in found} == {scope}
    assert "WORLD" not in {one.zone for one in found}
    assert len(found) > 100
    assert len({one.key for one in found}) == len(found)


def test_direct_figures_tell_american_grids_apart_and_are_the_providers_own() -> None:
    by_key = {one.key: one for one in options(scope="direct")}
    assert by_key["aws:us-east-1"].zone == "US-EGRID-SRVC"
    assert by_key["gcp:us-east1"].gco2eq_per_kwh == 579.44
    assert {one.zone for one in options("aws") if one.key.startswith("aws:us-")} == {"US"}


def test_a_place_without_a_figure_of_the_scope_is_compared_with_nothing() -> None:
    assert here(make_carbon_factors("KE"), "direct") is None


def test_the_table_shows_the_figures_age_and_averages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["where", "--top", "3", "--location", "US-CA"]) == 0
    text = capsys.readouterr().out
    assert "2025 (" in text
    assert "~" in text
    assert "* figure of the whole country" in text
    assert "Here is California, by argument" in text


def test_an_unknown_location_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(tmp_path))
    monkeypatch.delenv("TZ", raising=False)
    assert main(["where", "--top", "3"]) == 0
    assert "Here is unknown, so the world average stands in" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--provider", "nimbus"], ["--top", "0"], ["--kwh", "0"], ["--scope", "all"]]
)
def test_wrong_arguments_of_where(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["where", *arguments])
    assert stopped.value.code == 2
    capsys.readouterr()


def test_an_impossible_pue(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["where", "--pue", "0.5"]) == 2
    assert "pue must be" in capsys.readouterr().err


# ---- the line after a prediction -----------------------------------------------------------


def test_the_line_of_advice() -> None:
    location = locate("DK", {})
    (figure,) = slots(100)
    cost = footprint([(3.6e6, figure)], 1.0, location=location)
    region = options("aws")[0]
    both = Advice(NOW, NOW + timedelta(hours=7), 0.23, region, 0.9)
    line = advice_line(both, cost, location)
    assert "(in 7.0 h) would save 23 % (23 g); Stockholm (aws:eu-north-1) would save 90 %" in line
    assert "(90 g), by 2025 figures." in line
    nan = float("nan")
    nothing = Advice(NOW, None, nan, region, nan)
    assert advice_line(nothing, cost, location) == "Advice: no greener hour or region is known."
    lost = advice_line(both, cost, locate(None, {}, "/nonexistent"))
    assert "against the world average, as the location is unknown, 90 %" in lost
    unmeasured = footprint([(nan, figure)], 1.0, location=location)
    assert "would save 23 %;" in advice_line(both, unmeasured, location)
