"""Live carbon intensity in a training: right figures when they come, no harm when they do not."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import carbontracker
from carbontracker.carbon.factors import make_carbon_factors
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.base import Intensity
from carbontracker.intensity.cache import Cache
from carbontracker.intensity.live_provider import LiveProvider
from carbontracker.intensity.providers import provider
from carbontracker.intensity.selection import parse_setting, table_fallback
from carbontracker.tracker import CarbonTracker
from tests.support.intensity_server import Asked, Reply, refused, serving
from tests.support.intensity_services import KEY, quick

if TYPE_CHECKING:
    from collections.abc import Callable


NOW = datetime(2026, 11, 23, 9, 40, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
SIMULATED: dict[str, Any] = {"sim_cpu": "x", "sim_cpu_tdp": 100, "location": "DK"}


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.005)


def hours(now: datetime, count: int, grams: float = 77, first: int = 0) -> list[dict[str, Any]]:
    """Return rows of Electricity Maps: ``count`` hours, of which the last contains ``now``."""
    top = now.replace(minute=0, second=0, microsecond=0)
    return [
        {
            "zone": "DK",
            "carbonIntensity": grams,
            "datetime": (top - (count - 1 - i) * HOUR).isoformat(),
            "isEstimated": i == count - 1,
        }
        for i in range(first, count)
    ]


def electricity_maps(asked: Asked) -> Reply:
    """Answer as the service does, at the time it really is."""
    now = datetime.now(timezone.utc)
    if asked.path.endswith("/forecast"):
        return Reply({"zone": "DK", "forecast": hours(now + 24 * HOUR, 25, 99)})
    return Reply({"zone": "DK", "history": hours(now, 24)})


class Own:
    """A provider of the user's own, that returns what the test gives it."""

    name = "own"
    scope = "lifecycle"
    every_s = 900.0

    def __init__(self, *answers: list[Intensity] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def slot(hour: int, grams: float, **more: Any) -> Intensity:
    start = NOW.replace(hour=hour, minute=0)
    labels = {"scope": "lifecycle", "kind": "measured"} | more
    return Intensity(grams, "DK", "DK", None, **labels, start=start, end=start + HOUR)


def live_of(own: Any, times: list[datetime], cache: Cache | None = None) -> LiveProvider:
    return LiveProvider(
        own, "DK", table_fallback("DK", "lifecycle"), cache=cache, clock=lambda: times[0]
    )


def test_of_64_processes_one_asks_in_each_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own provider and cache, as in a process of its own; the clock is virtual."""
    times = [datetime.now(timezone.utc)]
    folder = tmp_path / "cache"

    def seconds() -> float:
        return times[0].timestamp()

    with serving(electricity_maps) as server:
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", server.url)
        processes = [
            LiveProvider(
                provider("electricitymaps", api_key=KEY),
                "DK",
                None,
                cache=Cache(folder, wall=seconds),
                clock=lambda: times[0],
            )
            for _ in range(64)
        ]
        for slot_number in range(1, 4):
            threads = [threading.Thread(target=one.refresh) for one in processes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            asked = [one.path.rpartition("/")[2] for one in server.asked]
            assert asked.count("history") == slot_number
            times[0] += timedelta(seconds=3601)


# ---- the thread that asks -------------------------------------------------------------------


def test_hours_are_revised_when_they_are_requested_again() -> None:
    times = [NOW]
    own = Own([slot(8, 100), slot(9, 200, kind="estimated")], [slot(8, 110), slot(9, 190)])
    live = live_of(own, times)
    assert live.refresh() == 900.0
    assert [s.gco2eq_per_kwh for s in live.between("DK", NOW - HOUR, NOW)] == [100, 200]
    times[0] += timedelta(seconds=600)
    assert live.refresh() == 300.0  # what is fresh enough is not asked for again
    assert own.asked == 1
    times[0] += timedelta(seconds=300)
    live.refresh()
    revised = live.between("DK", NOW - HOUR, NOW)
    assert [(s.gco2eq_per_kwh, s.kind) for s in revised] == [(110, "measured"), (190, "measured")]
    assert revised[0].fetched_at == times[0]


def test_the_end_of_a_run_requests_revised_hours_but_not_within_a_minute() -> None:
    times = [NOW]
    own = Own([slot(9, 200)])
    live = live_of(own, times)
    live.refresh()
    times[0] += timedelta(seconds=59)
    live.refresh(60.0)
    assert own.asked == 1
    times[0] += timedelta(seconds=2)
    live.refresh(60.0)
    assert own.asked == 2


def test_final_hours_do_not_change() -> None:
    times = [NOW]
    live = live_of(Own([slot(9, 200)], [slot(9, 190)]), times)
    live.refresh()
    snapshot = live.snapshot()
    times[0] += HOUR / 2
    live.refresh()
    assert live.between("DK", NOW, NOW)[0].gco2eq_per_kwh == 190
    assert snapshot.between("DK", NOW, NOW)[0].gco2eq_per_kwh == 200
    assert snapshot.now("DK").gco2eq_per_kwh == 200


def test_a_failure_keeps_the_figures_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = [NOW]
    own = Own([slot(9, 200)], IntensityUnavailable("it is down"))
    live = live_of(own, times)
    live.refresh()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            times[0] += HOUR
            assert 1.0 <= live.refresh() <= 20.0
    assert [r.getMessage() for r in caplog.records] == ["carbontracker: it is down"]
    held = live.now("DK")
    assert (held.gco2eq_per_kwh, held.kind) == (200, "estimated")
    times[0] += 48 * HOUR
    table = live.now("DK")
    assert (table.gco2eq_per_kwh, table.kind) == (114.41, "annual")
    assert table.note == "it is down: annual figure of the table"


def test_before_the_first_answer_the_table_is_used() -> None:
    live = live_of(Own([slot(9, 200)]), [NOW])
    figure = live.now("DK")
    assert (figure.gco2eq_per_kwh, figure.start) == (114.41, None)
    assert figure.note == "own has not answered yet: annual figure of the table"


@pytest.mark.parametrize("status", [401, 403, 410])
def test_a_refusal_ends_only_the_refused_kind_of_request(status: int) -> None:
    times = [NOW]
    own = Own(IntensityUnavailable("no", status))
    live = live_of(own, times)
    for _ in range(4):
        live.refresh()
        times[0] += 3 * HOUR
    assert own.asked == 1


def test_a_forecast_that_the_key_does_not_cover_leaves_the_rest(tmp_path: Path) -> None:
    def script(asked: Asked) -> Reply:
        if asked.path.endswith("/forecast"):
            return Reply({"error": "Endpoint not available"}, 403)
        return Reply({"zone": "DK", "history": hours(NOW, 24)})

    with serving(script) as server:
        times = [NOW]
        em = provider("electricitymaps", api_key=KEY, url=server.url, clock=lambda: times[0])
        live = live_of(em, times)
        for _ in range(3):
            live.refresh()
            times[0] += HOUR / 2
        assert live.now("DK").gco2eq_per_kwh == 77
        paths = [asked.path.rpartition("/")[2] for asked in server.asked]
        assert (paths.count("forecast"), paths.count("history")) == (1, 3)
        with pytest.raises(IntensityUnavailable, match="Endpoint not available"):
            live.forecast("DK", NOW, NOW + HOUR)


@pytest.mark.parametrize("error", [IntensityUnavailable("down"), IntensityUnavailable("x", 503)])
def test_pauses_double_up_to_the_interval_and_start_again_after_an_answer(error: Exception) -> None:
    times = [NOW]
    own = Own(*[error] * 12, [slot(9, 200)], error)
    own.every_s = 300.0
    live = live_of(own, times)
    pauses = []
    for number in range(1, 13):
        pauses.append(live.refresh())
        assert own.asked == number
        live.refresh()
        assert own.asked == number  # within the pause it is not asked
        times[0] += timedelta(seconds=pauses[-1] + 0.001)
    longest = [min(5.0 * 2**n, 300.0) for n in range(12)]
    for pause, most in zip(pauses, longest, strict=True):
        assert most / 2 <= pause <= most
    assert live.refresh() == 300.0
    assert live.now("DK").gco2eq_per_kwh == 200
    times[0] += HOUR
    assert live.refresh() <= 5.0


def test_a_retry_after_holds_for_all_questions_to_the_service() -> None:
    times = [NOW]

    def script(asked: Asked) -> Reply:
        if asked.path.endswith("/forecast"):
            return Reply({"zone": "DK", "forecast": hours(NOW + 24 * HOUR, 25, 99)})
        return Reply(b"", 429, {"Retry-After": "3000"})

    with serving(script) as server:
        em = provider("electricitymaps", api_key=KEY, url=server.url, clock=lambda: times[0])
        live = live_of(em, times)
        live.refresh()
        first = len(server.asked)
        for _ in range(4):
            times[0] += timedelta(seconds=700)
            live.refresh()
        assert len(server.asked) == first
        with pytest.raises(IntensityUnavailable, match="answered 429"):
            live.forecast("DK", NOW, NOW + HOUR)
        times[0] += timedelta(seconds=201)
        live.refresh()
        assert len(server.asked) > first


def test_an_absurd_retry_after_is_a_day() -> None:
    times = [NOW]
    own = Own(IntensityUnavailable("busy", 503, retry_after_s=1e12), [slot(9, 200)])
    live = live_of(own, times)
    for hours_later, asked in ((0, 1), (23, 1), (2, 2)):
        times[0] += hours_later * HOUR
        live.refresh()
        assert own.asked == asked


def test_a_clock_that_is_set_back_ends_a_pause() -> None:
    times = [NOW]
    own = Own(IntensityUnavailable("down"))
    live = live_of(own, times)
    live.refresh()
    times[0] -= 24 * HOUR
    live.refresh()
    assert own.asked == 2


def test_the_generator_of_a_training_is_left_alone() -> None:
    random.seed(7)
    before = random.getstate()
    live_of(Own(IntensityUnavailable("down")), [NOW]).refresh()
    assert random.getstate() == before


def test_an_old_answer_on_disk_stands_in_for_a_service_that_is_down(tmp_path: Path) -> None:
    with serving(Reply({"zone": "DK", "history": hours(NOW, 24)})) as server:
        url = server.url
        times = [NOW]
        settings: dict[str, Any] = {"url": url, "clock": lambda: times[0], "client": quick()}
        em = provider("electricitymaps", api_key=KEY, **settings)
        live_of(em, times).refresh()
    times[0] += 5 * HOUR
    later = live_of(em, times)
    later.refresh()
    figure = later.now("DK")
    assert (figure.gco2eq_per_kwh, figure.kind) == (77, "estimated")
    assert figure.note == "held from 2026-11-23 09:00 UTC"


def test_the_next_provider_is_asked_only_with_the_same_scope_and_signal() -> None:
    down = Own(IntensityUnavailable("down"))
    direct, alike = Own([slot(9, 1, scope="direct")]), Own([slot(9, 222)])
    direct.scope = "direct"
    live = live_of([down, direct, alike], [NOW])
    live.refresh()
    assert live.now("DK").gco2eq_per_kwh == 222
    assert (down.asked, direct.asked, alike.asked) == (1, 0, 1)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (KeyError("x"), "own: KeyError: 'x'"),
        (["no figure"], "own: AttributeError"),
        ([slot(9, 1, scope="direct")], "give it scope = 'direct'"),
        ([slot(9, 1, signal="marginal")], "give it scope = 'lifecycle' and signal = 'marginal'"),
    ],
)
def test_any_exception_of_a_users_provider_becomes_a_reason(answer: Any, told: str) -> None:
    live = live_of(Own(answer), [NOW])
    live.refresh()
    assert told in live.now("DK").note


def test_closing_does_not_wait_for_a_request_under_way() -> None:
    asked, answer = threading.Event(), threading.Event()

    class Slow(Own):
        def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
            asked.set()
            answer.wait(30)
            return super().between(zone, start, end)

    live = live_of(Slow([slot(9, 1)]), [NOW])
    live.start()
    live.start()
    assert asked.wait(10)
    live.close()
    assert not answer.is_set()
    answer.set()


# ---- what is asked for -----------------------------------------------------------------------


def test_words_for_an_intensity() -> None:
    assert parse_setting(" 449.06 ") == 449.06
    assert parse_setting("Auto") == "auto"
    assert parse_setting("ElectricityMaps:US-CAL-CISO") == "electricitymaps:US-CAL-CISO"
    for wrong in ("", "oracle", "constant", "auto mobile"):
        with pytest.raises(ValueError, match="must be a number of gCO2eq/kWh, auto, or one of"):
            parse_setting(wrong)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("GB", "carbonintensity_gb"),
        ("DK", "energidataservice"),
        ("FR", "odre"),
        ("DE", "energycharts"),
    ],
)
def test_auto_takes_the_nearest_service_that_needs_no_key(location: str, name: str) -> None:
    factors = make_carbon_factors(location, intensity="auto")
    assert factors.live is not None
    assert factors.live[1] == name


def test_auto_prefers_a_key_and_chooses_nothing_where_no_service_covers_the_zone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert make_carbon_factors("US", intensity="auto").live is None
    monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_KEY", KEY)
    monkeypatch.setenv("CARBONTRACKER_WATTTIME_KEY", KEY)
    for location in ("US", "DK"):
        live = make_carbon_factors(location, intensity="auto").live
        assert live is not None
        assert live[1] == "electricitymaps"
    # A key alone causes no request.
    assert make_carbon_factors("DK").live is None


def test_auto_keeps_to_where_a_key_is_good_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(location: str) -> list[str]:
        provider_ = make_carbon_factors(location, intensity="auto").provider
        return [one.provider.name for one in getattr(provider_, "_providers", [])]

    for name in ("EIA930", "ENTSOE"):
        monkeypatch.setenv(f"CARBONTRACKER_{name}_KEY", KEY)
    assert asked("US") == ["eia930"]
    assert asked("JP") == []
    # Those of another scope than the first are left out.
    assert asked("DE") == ["energycharts"]
    monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_KEY", KEY)
    assert asked("US") == ["electricitymaps", "eia930"]
    assert asked("DE") == ["electricitymaps", "entsoe"]
    assert asked("JP") == ["electricitymaps"]


@pytest.mark.parametrize(
    ("location", "why"),
    [("JP", "every provider for JP needs an API key"), ("WORLD", "the location is unknown")],
)
def test_a_message_states_that_no_provider_is_asked(
    location: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        make_carbon_factors(location, intensity="auto")
    assert why in caplog.text


def test_requests_are_made_only_on_request_and_never_offline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert make_carbon_factors("DK").live is None
    assert make_carbon_factors("DK", intensity="table").live is None
    assert make_carbon_factors("DK", intensity=100.0).live is None
    assert make_carbon_factors("WORLD", intensity="auto").live is None
    monkeypatch.setenv("CARBONTRACKER_INTENSITY", "auto")
    assert make_carbon_factors("DK").live is not None
    assert make_carbon_factors("DK", intensity=100.0).live is None
    for word in ("0", "False", "no", "off", ""):
        monkeypatch.setenv("CARBONTRACKER_OFFLINE", word)
        assert make_carbon_factors("DK").live is not None
    for word in ("1", "true", "yes", "y", "2", "offline"):  # any word but a no
        monkeypatch.setenv("CARBONTRACKER_OFFLINE", word)
        assert make_carbon_factors("DK").live is None
        assert make_carbon_factors("DK", intensity=Own([slot(9, 1)])).live is None  # type: ignore[arg-type]
        with pytest.raises(IntensityUnavailable, match="CARBONTRACKER_OFFLINE=1"):
            make_carbon_factors("DK").forecast(NOW, NOW + HOUR)


@pytest.mark.parametrize("word", ["oracle", "-3", "electricitymaps", "nan", "http_json"])
def test_a_wrong_word_in_the_environment_is_a_warning_and_as_argument_an_error(
    word: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make_carbon_factors("DK", intensity=word)
    monkeypatch.setenv("CARBONTRACKER_INTENSITY", word)
    with caplog.at_level(logging.WARNING):
        factors = make_carbon_factors("DK")
    assert factors.intensities(NOW, NOW)[0].gco2eq_per_kwh == 114.41
    assert "CARBONTRACKER_INTENSITY" in caplog.text


def test_objects_that_are_not_providers_are_refused() -> None:
    with pytest.raises(ValueError, match="not dict"):
        make_carbon_factors("DK", intensity={})  # type: ignore[arg-type]


def test_a_marginal_provider_is_used_for_advice_and_not_for_footprints() -> None:
    own = Own([slot(9, 500, signal="marginal")])
    own.signal = "marginal"  # type: ignore[attr-defined]
    factors = make_carbon_factors("DK", intensity=own)  # type: ignore[arg-type]
    assert factors.live is None
    assert factors.intensities(NOW, NOW)[0].kind == "annual"
    assert factors.advice_provider is not None
    with pytest.raises(IntensityUnavailable, match="own has no forecast"):
        factors.forecast(NOW, NOW + HOUR)
    watttime = make_carbon_factors("DK", intensity="watttime", api_keys={"watttime": KEY})
    assert (watttime.live, watttime.advice_provider is None) == (None, False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "no forecast for US: every provider for this zone needs an API key"),
        (
            {"intensity": "auto"},
            "no forecast for US: every provider for this zone needs an API key",
        ),
        ({"location": "WORLD"}, "the location is unknown"),
        ({"intensity": 100.0}, "a fixed figure has no forecast"),
        ({"intensity": "table"}, "annual figures only"),
        ({"location": "FR", "intensity": "odre"}, "éCO2mix has no forecast"),
    ],
)
def test_why_there_is_no_forecast(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(IntensityUnavailable, match=told):
        make_carbon_factors(**{"location": "US"} | arguments).forecast(NOW, NOW + HOUR)


def test_advice_uses_the_forecast_of_any_provider_that_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def maps(asked: Asked) -> Reply:
        return Reply({"error": "Endpoint not available"}, 403)

    now = datetime.now(timezone.utc)
    top = int(now.timestamp()) // 3600 * 3600

    def charts(asked: Asked) -> Reply:
        stamps = [top + 900 * i for i in range(96)]
        foreseen = [float(i) for i in range(96)]
        return Reply({"unix_seconds": stamps, "co2eq": [None] * 96, "co2eq_forecast": foreseen})

    with serving(maps) as first, serving(charts) as second:
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", first.url)
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_KEY", KEY)
        monkeypatch.setenv("CARBONTRACKER_ENERGYCHARTS_URL", second.url)
        for _ in range(2):  # the second time from the cache, the refusal as well
            start = datetime.fromtimestamp(top + 7200, tz=timezone.utc)
            slots = make_carbon_factors("DE").forecast(start + HOUR / 8, start + HOUR)
            assert [s.gco2eq_per_kwh for s in slots] == [8, 9, 10, 11, 12]
            assert {s.provider for s in slots} == {"energycharts"}
            assert (len(first.asked), len(second.asked)) == (1, 1)


def test_a_location_found_later_is_requested_from_then_on() -> None:
    factors = make_carbon_factors("WORLD", intensity="auto")
    assert factors.live is None
    denmark = make_carbon_factors("DK").location
    moved = factors.at(denmark, {})
    assert (moved.location, moved.pue) == (denmark, factors.pue)
    assert moved.live is not None
    assert KEY not in repr(make_carbon_factors("DK", api_keys={"electricitymaps": KEY}))


def test_a_zone_of_the_providers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _: Reply({"zone": "DK-DK1", "history": []})) as server:
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", server.url)
        factors = make_carbon_factors(
            "DK", intensity="electricitymaps:DK-DK1", api_keys={"ElectricityMaps": KEY}
        )
        with pytest.raises(IntensityUnavailable):
            factors.forecast(NOW, NOW + HOUR)
    assert server.asked[0].query["zone"] == "DK-DK1"


def test_a_figure_without_a_stated_scope_is_never_called_lifecycle() -> None:
    stand_in = table_fallback("DK", "unknown")
    assert stand_in is not None
    assert (stand_in.gco2eq_per_kwh, stand_in.scope) == (114.41, "unknown")
    assert "scope is not stated" in stand_in.note
    assert table_fallback("JP", "direct") is None


# ---- in a training ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["keys", "method", "name", "environment"])
def test_live_figures_in_console_record_and_result(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"ElectricityMaps": KEY}
    with serving(electricity_maps) as server:
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", server.url)
        if how == "environment":
            monkeypatch.setenv("CARBONTRACKER_INTENSITY", "electricitymaps")
            monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_KEY", KEY)
        tracker = CarbonTracker(
            1,
            **SIMULATED,
            log_dir=tmp_path,
            api_keys=keys if how in ("keys", "name") else None,
            intensity="electricitymaps" if how == "name" else None,
        )
        if how == "method":
            tracker.set_api_keys(keys)
        tracker.epoch_start()
        assert tracker._training.run is not None
        factors = tracker._training.run.factors
        until(lambda: factors.intensities(NOW, datetime.now(timezone.utc))[-1].kind != "annual")
        tracker.epoch_end()
    assert tracker.result is not None
    footprint = tracker.result.footprint
    assert footprint.intensity.gco2eq_per_kwh == 77.0
    assert footprint.intensity.provider == "electricitymaps"
    shown = capsys.readouterr()
    assert "Using intensity provider: Electricity Maps API ('electricitymaps')." in shown.out
    assert "intensity by Electricity Maps for DK (lifecycle): 100 % estimated" in shown.out
    written = "".join(path.read_text() for path in tmp_path.glob("*.*"))
    (record,) = tmp_path.glob("*.jsonl")
    events = [json.loads(line) for line in record.read_text().splitlines()]
    (finished,) = [event for event in events if event["event"] == "run_finished"]
    told = finished["footprint"]
    assert told["slots"][0]["gco2eq_per_kwh"] == 77.0
    assert sum(s["joules"] for s in told["slots"]) == pytest.approx(finished["energy"]["joules"])
    assert sum(told["shares"].values()) == pytest.approx(1)
    cached = "".join(
        p.name + p.read_text() for p in Path(os.environ["CARBONTRACKER_CACHE_DIR"]).iterdir()
    )
    assert KEY not in written + shown.out + shown.err + cached


BROKEN = {
    "garbage": Reply(b"\x00\xff<html>" + KEY.encode()),
    "an error": Reply({"error": f"bad key {KEY}"}, 401),
    "far too much": Reply(b" " * 6_000_000),
    "another zone": Reply({"zone": "SE", "history": hours(NOW, 24)}),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN)
def test_a_service_that_answers_nonsense_changes_nothing(
    reply: Reply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(reply) as server, caplog.at_level(logging.DEBUG):
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", server.url)
        tracker = CarbonTracker(
            1, **SIMULATED, log_dir=tmp_path, api_keys={"electricitymaps": KEY}, verbose=0
        )
        tracker.epoch_start()
        assert tracker._training.run is not None
        factors = tracker._training.run.factors
        until(lambda: "not answered" not in factors.intensities(NOW, NOW)[0].note)
        tracker.epoch_end()
    assert tracker.result is not None
    figure = tracker.result.footprint.intensity
    assert (figure.gco2eq_per_kwh, figure.kind) == (114.41, "annual")
    assert figure.note.endswith(": annual figure of the table")
    written = "".join(path.read_text() for path in tmp_path.glob("*.*"))
    assert KEY not in written + caplog.text


@pytest.mark.parametrize("where", ["before the head", "before the body"])
def test_a_service_that_hangs_holds_nothing_up(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    reply = Reply({}, until=never) if where == "before the head" else Reply({}, body_until=never)
    with serving(reply) as server:
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", server.url)
        tracker = CarbonTracker(1, **SIMULATED, api_keys={"electricitymaps": KEY}, verbose=0)
        tracker.epoch_start()
        until(lambda: server.asked)
        tracker.epoch_end()
        # It is over and reported while the one request there ever was still waits for its answer.
        assert tracker.result is not None
        assert len(server.asked) == 1
        never.set()
    assert "has not answered yet" in tracker.result.footprint.intensity.note


def test_an_unreachable_service_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONTRACKER_ENERGIDATASERVICE_URL", refused())
    tracker = CarbonTracker(1, **SIMULATED, intensity="auto", verbose=0)
    tracker.epoch_start()
    tracker.epoch_end()
    assert tracker.result is not None
    figure = tracker.result.footprint.intensity
    # The provider's figures are direct ones: so is the table's that stands in.
    assert (figure.gco2eq_per_kwh, figure.scope) == (64, "direct")


def test_offline_makes_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(electricity_maps) as server:
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", server.url)
        monkeypatch.setenv("CARBONTRACKER_OFFLINE", "1")
        before = {t for t in threading.enumerate() if t.name == "carbontracker-live"}
        tracker = CarbonTracker(1, **SIMULATED, api_keys={"electricitymaps": KEY}, verbose=0)
        assert {t for t in threading.enumerate() if t.name == "carbontracker-live"} <= before
        tracker.epoch_start()
        tracker.epoch_end()
    assert server.asked == []
    assert tracker.result is not None
    assert tracker.result.footprint.intensity.gco2eq_per_kwh == 114.41


def test_a_provider_of_ones_own_in_tracker_and_window() -> None:
    now = datetime.now(timezone.utc)
    figure = Intensity(
        33, "DK", "DK", None, "lifecycle", "measured", start=now - HOUR, end=now + HOUR
    )
    own = Own([figure])
    tracker = CarbonTracker(1, **SIMULATED, intensity=own, verbose=0)  # type: ignore[arg-type]
    tracker.epoch_start()
    until(lambda: own.asked)
    tracker.epoch_end()
    window = carbontracker.measure(intensity=own, location="DK")  # type: ignore[arg-type]
    with window:
        until(lambda: own.asked > 1)
    until(lambda: window.footprint.intensity.gco2eq_per_kwh == 33)
    # The same provider again is not asked again for each window.
    for _ in range(5):
        with carbontracker.measure(intensity=own, location="DK"):  # type: ignore[arg-type]
            pass
    assert own.asked == 2


NO_SOCKET = """
import os, sys, time

def watch(event, arguments):
    if event.startswith("socket."):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(3)  # from whichever thread

sys.addaudithook(watch)
import carbontracker
from carbontracker import CarbonTracker, measure
import carbontracker.intensity.live_provider, carbontracker.intensity.http
import carbontracker.records.recalculation
from carbontracker.intensity.providers import PROVIDERS, provider

settings = {"constant": {"gco2eq_per_kwh": 1.0}, "http_json": {"shape": {
    "url": "http://127.0.0.1/", "value": "v", "time": "t"}}}
for name, listed in PROVIDERS.items():
    provider(name, **settings.get(name, {"api_key": "a:b"} if listed.key else {}))
tracker = CarbonTracker(1, sim_cpu="x", sim_cpu_tdp=10, verbose=0, **ARGUMENTS)
tracker.epoch_start(); tracker.epoch_end()
with measure() as window:
    pass
time.sleep(WAIT_S)
assert window.footprint.intensity.kind == "annual", window.footprint
print("none")
"""


@pytest.mark.parametrize("case", ["by default", "offline", "wanted"])
def test_no_socket_at_import_at_construction_or_offline(case: str) -> None:
    environment = dict(os.environ) | {"CARBONTRACKER_LOCATION": "DK"}
    arguments: dict[str, Any] = {}
    if case != "by default":
        environment |= {"CARBONTRACKER_INTENSITY": "auto"}
    if case == "offline":
        environment |= {"CARBONTRACKER_OFFLINE": "1"}
        arguments = {"api_keys": {"electricitymaps": "k"}}
    package = str(Path(carbontracker.__file__).parents[1])  # installed or not
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (package, environment.get("PYTHONPATH")))
    )
    environment["CARBONTRACKER_ENERGIDATASERVICE_URL"] = "http://127.0.0.1:9"
    wait_s = 60.0 if case == "wanted" else 0.0
    code = f"ARGUMENTS, WAIT_S = {arguments!r}, {wait_s}\n{NO_SOCKET}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    if case == "wanted":  # the watch can see one
        assert (done.returncode, "socket." in done.stderr) == (3, True)
    else:
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("none\n")


# ---- at the command line ---------------------------------------------------------------------


def command(*words: str) -> subprocess.CompletedProcess[str]:
    package = str(Path(carbontracker.__file__).parents[1])  # installed or not
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (package, environment.get("PYTHONPATH")))
    )
    simulated = ["--sim-cpu", "x", "--sim-cpu-tdp", "100", "--location", "DK"]
    return subprocess.run(
        [sys.executable, "-m", "carbontracker", *simulated, *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    ("word", "told"),
    [("oracle", "must be a number of gCO2eq/kWh, auto, or one of"), ("entsoe", "needs a key")],
)
def test_a_wrong_intensity_is_an_error_before_anything_starts(word: str, told: str) -> None:
    done = command("--intensity", word, "--", "echo", "started")
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_a_command_states_why_there_are_no_live_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONTRACKER_ENERGIDATASERVICE_URL", refused())
    done = command("--intensity", "auto", "--", "true")
    assert done.returncode == 0
    assert "no live intensity, because " in done.stderr
    assert "no live intensity" not in command("--", "true").stderr


def test_a_command_with_live_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(electricity_maps) as server:
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", server.url)
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_KEY", KEY)
        done = command("--intensity", "electricitymaps", "--json", "-", "-q", "--", "sleep", "0.5")
    told = json.loads(done.stdout)
    assert (told["gco2eq"] / told["kwh"], done.returncode) == (pytest.approx(77), 0)
    assert told["slots"][0]["provider"] == "electricitymaps"
    assert KEY not in done.stdout + done.stderr
