"""From a live service on loopback to ``when``, ``advise=True`` and a price that comes late."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from carbontracker.cli import main
from carbontracker.cli.retry import retried
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.records.reader import read_run
from carbontracker.report.document import sections
from carbontracker.tracker import CarbonTracker
from tests.support.programs import hide_sensors, read_record
from tests.support.services import Reply, Request, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.services import Server

CHEAP_FROM, CHEAP_UNTIL = timedelta(hours=20), timedelta(hours=26)
"""After the full hour in which the test runs: 50 instead of 200 gCO2eq/kWh."""
HOUR = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)


def danish(request: Request) -> Reply:
    """Answer as Energi Data Service: naive UTC, five minutes, two areas."""
    if request.path.startswith("/json"):
        return Reply('{"country": "DK", "region": "Central Jutland"}')
    dataset = urlsplit(request.path).path.rpartition("/")[2]
    begin, count = (HOUR, 12 * 48) if dataset == "CO2EmisProg" else (HOUR - timedelta(days=1), 288)
    records = []
    for i in range(count + 12):
        moment = begin + timedelta(minutes=5 * i)
        cheap = CHEAP_FROM <= moment - HOUR < CHEAP_UNTIL
        records += [
            {
                "Minutes5UTC": moment.strftime("%Y-%m-%dT%H:%M:%S"),
                "PriceArea": area,
                "CO2Emission": 50.0 if cheap else 200.0,
            }
            for area in ("DK1", "DK2")
        ]
    return Reply(json.dumps({"total": len(records), "dataset": dataset, "records": records}))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.delenv("TZ", raising=False)
    with serving(danish) as (server, url):
        monkeypatch.setenv("CARBONTRACKER_ENERGIDATASERVICE_URL", url)
        monkeypatch.setenv("CARBONTRACKER_LOOKUP_URL", f"{url}/json")
        yield server


def test_when_requests_the_finer_zone(service: Server, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--hours", "6", "--intensity", "energidataservice", "--json"]
    assert main(["when", *arguments, "--location", "DK-DK1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert datetime.fromisoformat(found["best"]["start"]) == HOUR + CHEAP_FROM
    assert found["best"]["gco2eq_per_kwh"] == pytest.approx(50)
    assert found["saved_share"] == pytest.approx(0.75)
    assert {slot["zone"] for slot in found["slots"]} == {"DK-DK1"}
    areas = [parse_qs(urlsplit(request.path).query)["filter"] for request in service.asked]
    assert areas
    assert all("DK1" in area[0] and "DK2" not in area[0] for area in areas)


@pytest.mark.parametrize(
    ("status", "asked_s", "pauses"),
    [
        (503, None, [5.0, 10.0]),
        (429, 4.0, [5.0, 10.0]),
        (502, 7.0, []),
        (503, 60.0, []),
        (404, None, []),
        (None, None, []),
    ],
)
def test_a_command_requests_a_busy_service_up_to_three_times(
    status: int | None, asked_s: float | None, pauses: list[float]
) -> None:
    waited: list[float] = []
    asked: list[int] = []

    def ask(fails: int) -> str:
        asked.append(len(waited))
        if len(asked) <= fails:
            raise IntensityUnavailable("busy", status, asked_s)
        return "answer"

    if pauses:
        assert retried(lambda: ask(fails=2), waited.append) == "answer"
        assert (asked, waited) == ([0, 1, 2], pauses)
        asked.clear()
        waited.clear()
    with pytest.raises(IntensityUnavailable):
        retried(lambda: ask(fails=9), waited.append)
    assert (len(asked), waited) == (len(pauses) + 1, pauses)


@pytest.mark.parametrize(("failures", "code"), [(0, 0), (1, 0), (2, 0), (3, 3)])
def test_when_survives_a_service_that_is_busy_for_a_moment(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    code: int,
) -> None:
    requests: list[Request] = []

    def answer(request: Request) -> Reply:
        if "CO2EmisProg" not in request.path:
            return Reply(status=404)  # of the other provider of Denmark, which has no figures here
        requests.append(request)
        return Reply(status=503) if len(requests) <= failures else danish(request)

    monkeypatch.setattr("carbontracker.cli.retry.PAUSES_S", (0.0, 0.0))
    with serving(answer) as (_, url):
        monkeypatch.setenv("CARBONTRACKER_ENERGIDATASERVICE_URL", url)
        monkeypatch.setenv("CARBONTRACKER_ENERGYCHARTS_URL", url)
        assert main(["when", "--hours", "6", "--location", "DK-DK1", "--json"]) == code
    assert len(requests) == min(failures, 2) + 1
    shown = capsys.readouterr()
    assert (json.loads(shown.out)["best"] is None) == (code != 0)
    assert shown.err.count("next request in") == min(failures, 2)


def test_when_the_service_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBONTRACKER_OFFLINE", "1")
    assert main(["when", "--hours", "6", "--location", "DK"]) == 3
    assert "CARBONTRACKER_OFFLINE" in capsys.readouterr().err


def test_advice_and_live_intensity_for_a_location_that_is_found_late(
    service: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("CARBONTRACKER_LOCATE")
    tracker = CarbonTracker(
        epochs=1, sim_cpu="A", sim_cpu_tdp=100.0, components="cpu", advise=True, intensity="auto"
    )
    assert service.asked == []
    tracker.epoch_start()
    assert tracker._training._lookup is not None
    tracker._training._lookup.wait(30)
    found = tracker._training._lookup.found
    assert found is not None
    while found.zero_footprint().intensity.kind == "annual":  # asked since the place is known
        time.sleep(0.01)
    tracker.epoch_end()
    assert tracker.result is not None
    used = tracker.result.footprint.intensity
    assert used.scope == "direct"
    assert used.gco2eq_per_kwh == pytest.approx(200)
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "Advice" in one]
    assert " would save 75 %" in line
    events = {event["event"]: event for event in read_record(tmp_path / "records")}
    assert events["run_started"]["pricing"]["location"]["zone"] == "WORLD"
    assert events["located"]["pricing"]["location"]["zone"] == "DK"
    assert events["advice"]["start_saves"] == pytest.approx(0.75)
    run = read_run(tmp_path / "records")
    (part,) = [part for part in sections(run) if part.name == "emissions"]
    start = events["advice"]["start"]
    first = f"Advice: a start at {start} would have saved 75 % of the emissions."
    assert next(line for line in part.lines if line.startswith("Advice")) == first
