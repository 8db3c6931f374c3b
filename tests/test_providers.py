"""Every provider by one contract, and what each service has of its own."""

from __future__ import annotations

import json
import logging
import math
import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontracker.data import rows
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity import http
from carbontracker.intensity.base import Intensity
from carbontracker.intensity.http import Client, Limits
from carbontracker.intensity.providers import PROVIDERS, provider
from carbontracker.intensity.providers.eia930 import FUELS as EIA_FUELS
from carbontracker.intensity.providers.entsoe import AREAS
from carbontracker.intensity.providers.entsoe import FUELS as ENTSOE_FUELS
from carbontracker.intensity.providers.generation_mix import Mix, factor, intensities
from tests.support.intensity_server import Asked, Reply, refused, serving
from tests.support.intensity_services import (
    CASES,
    HOUR,
    KEY,
    NOW,
    Case,
    parse,
    patient,
    quick,
    steps,
    truth,
    z,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.intensity.base import Provider
    from tests.support.intensity_server import Server

BY_NAME = {case.name: case for case in CASES}
SECRETS = [KEY, "secret+/9 c", "secret%2B%2F9%20c", "secret+/9%20c", "dXNlci03ZjNh", "tok-1"]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def asking(case: Case, server: Server, **more: Any) -> Provider:
    return case.build(server.url, more.pop("client", quick()), more.pop("clock", lambda: NOW))


def answering(case: Case, figure: Callable[[datetime], Any] = truth) -> Callable[[Asked], Reply]:
    return lambda asked: case.service(asked, figure)


def check(case: Case, slots: list[Intensity], start: datetime, end: datetime) -> None:
    assert slots
    for slot in slots:
        assert slot.start is not None
        assert slot.end is not None
        assert slot.end - slot.start == case.step
        assert slot.end > start
        assert slot.start <= end
        assert slot.gco2eq_per_kwh == pytest.approx(truth(slot.start), rel=1e-12)
        assert (slot.scope, slot.signal, slot.provider) == (case.scope, case.signal, case.name)
        assert slot.source
        assert slot.licence
        assert slot.start.utcoffset() == timedelta(0)
    assert [s.start for s in slots] == sorted({s.start for s in slots})  # type: ignore[type-var]


# ---- the contract ----------------------------------------------------------------------------


def test_every_live_provider_is_a_case() -> None:
    assert {name for name, listed in PROVIDERS.items() if listed.live} == set(BY_NAME)
    assert {name for name, listed in PROVIDERS.items() if listed.key} <= {
        case.name for case in CASES if case.key
    }


@every_case
def test_now_a_series_and_a_forecast(case: Case) -> None:
    with serving(answering(case)) as server:
        asked = asking(case, server)
        newest = asked.now(case.zone)
        check(case, [newest], NOW - 4 * HOUR, NOW)

        start = NOW - 5 * HOUR
        past = asked.between(case.zone, start, NOW)
        check(case, past, start, NOW)
        assert {slot.kind for slot in past} <= {"measured", "estimated", "forecast"}
        assert len(past) >= 2
        assert all(a.end == b.start for a, b in pairwise(past))

        if case.ahead:
            ahead = asked.forecast(case.zone, NOW, NOW + 6 * HOUR)
            check(case, ahead, NOW, NOW + 6 * HOUR)
            assert {slot.kind for slot in ahead} == {"forecast"}
            assert ahead[-1].end is not None
            assert ahead[-1].end >= NOW + 6 * HOUR
        else:
            with pytest.raises(IntensityUnavailable, match="has no forecast"):
                asked.forecast(case.zone, NOW, NOW + 6 * HOUR)


@every_case
def test_a_week_back_is_asked_in_pieces_and_joined(case: Case) -> None:
    start = NOW - timedelta(days=16 if case.name != "odre" else 4)
    with serving(answering(case)) as server:
        past = asking(case, server, client=patient()).between(case.zone, start, NOW)
    check(case, past, start, NOW)
    assert past[0].start is not None
    assert past[0].start <= start
    assert all(a.end == b.start for a, b in pairwise(past))


BAD_VALUES: list[Any] = [None, "dirty", KEY, True, math.nan, 1e9, -3, [1], {"a": 1}]


@every_case
@pytest.mark.parametrize("value", BAD_VALUES, ids=repr)
def test_values_that_are_not_figures_are_ignored(
    case: Case, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    if value in (1e9, -3) and case.name in ("eia930", "entsoe"):
        pytest.skip("a mix has another unit, and what is negative in it is pumping")
    with serving(answering(case, lambda _: value)) as server:
        asked = asking(case, server)
        with caplog.at_level(logging.WARNING), pytest.raises(IntensityUnavailable):
            asked.between(case.zone, NOW - 3 * HOUR, NOW)
        with pytest.raises(IntensityUnavailable):
            asked.now(case.zone)
    assert len(caplog.records) <= 1  # logged once
    if case.key:
        assert KEY not in caplog.text


def _wrong(server_says: Reply) -> Callable[[Asked], Reply]:
    # The login of WattTime answers, so that the error meets the question itself.
    return lambda asked: Reply({"token": "tok-1"}) if asked.path == "/login" else server_says


REFUSALS = {
    "401": Reply({"error": f"bad token {KEY}"}, 401),
    "403": Reply({"message": f"not in your plan, {KEY}"}, 403),
    "404": Reply({"error": 'No recent data for zone "DK"'}, 404),
    "410": Reply({"detail": "gone for good"}, 410),
    "429 for ten minutes": Reply({}, 429, {"Retry-After": "600"}),
    "429 until a date": Reply({}, 429, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}),
    "500": Reply(b"", 500),
    "an error with 200": Reply({"error": f"No recent data {KEY}"}),
    "an error object with 200": Reply({"error": {"code": "400 Bad Request", "message": "no"}}),
    "an empty body": Reply(b""),
    "truncated": Reply(b'{"data": [{"from": "2026-1'),
    "cut short": Reply(b'{"data": []}', cut=True),
    "HTML": Reply(b"<html><body>Down for maintenance</body></html>"),
    "6 MB": Reply(b" " * 6_000_000),
    "a list": Reply([1, 2]),
    "a number": Reply(7),
    "a string": Reply("figures"),
    "null": Reply(None),
    "an empty object": Reply({}),
    "nested beyond reason": Reply(b"[" * 100_000),
    "not UTF-8": Reply(b"\xff\xfe\x00"),
}


@every_case
@pytest.mark.parametrize("reply", REFUSALS.values(), ids=REFUSALS)
def test_an_error_is_a_reason_without_a_secret(
    case: Case, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(_wrong(reply)) as server, caplog.at_level(logging.DEBUG):
        asked = asking(case, server)
        for ask in (
            lambda: asked.now(case.zone),
            lambda: asked.between(case.zone, NOW - HOUR, NOW),
            lambda: asked.forecast(case.zone, NOW, NOW + HOUR),
        ):
            with pytest.raises(IntensityUnavailable) as refusal:
                ask()
            told = f"{refusal.value!r} {refusal.value.reason} {refusal.value.__cause__} {asked!r}"
            if case.key:  # else it is the service's own word
                assert [secret for secret in SECRETS if secret in told + caplog.text] == []
            assert refusal.value.reason


@every_case
def test_an_answer_without_figures(case: Case) -> None:
    with serving(Reply(case.empty)) as server:
        asked = asking(case, server)
        with pytest.raises(IntensityUnavailable):
            asked.now(case.zone)
        with pytest.raises(IntensityUnavailable):
            asked.between(case.zone, NOW - HOUR, NOW)


@every_case
def test_an_unreachable_service(case: Case) -> None:
    asked = case.build(refused(), quick(), lambda: NOW)
    with pytest.raises(IntensityUnavailable, match=r"127\.0\.0\.1:\d+ cannot be reached"):
        asked.between(case.zone, NOW - HOUR, NOW)


@every_case
def test_a_body_that_does_not_come(case: Case) -> None:
    never = threading.Event()
    with serving(_wrong(Reply(case.empty, body_until=never))) as server:
        # However busy the machine: there is no answer, for so long or for longer.
        asked = asking(case, server, client=Client(Limits(connect_s=5.0, read_s=0.3, total_s=15.0)))
        with pytest.raises(IntensityUnavailable, match="does not answer"):
            asked.between(case.zone, NOW - HOUR, NOW)
        never.set()


@every_case
def test_a_redirect_elsewhere_takes_no_key_along(case: Case) -> None:
    with serving(answering(case)) as elsewhere:

        def script(asked: Asked) -> Reply:
            if asked.path == "/login":
                return Reply({"token": "tok-1"})
            return Reply({}, 302, {"Location": f"{elsewhere.url}{asked.path}"})

        with serving(script) as server, suppress(IntensityUnavailable):
            # Without the query most have no answer there.
            asking(case, server).between(case.zone, NOW - HOUR, NOW)
    for asked in elsewhere.asked:
        sent = json.dumps([asked.path, asked.query, asked.headers])
        assert [secret for secret in SECRETS if secret in sent] == []


@every_case
@pytest.mark.parametrize("zone", ["", "WORLD", "nowhere at all", "../../etc", "ZZ"])
def test_a_place_that_the_service_does_not_know(case: Case, zone: str) -> None:
    def script(asked: Asked) -> Reply:
        return Reply({"token": "tok-1"}) if asked.path == "/login" else Reply({}, 404)

    with serving(script) as server, pytest.raises(IntensityUnavailable):
        asking(case, server).between(zone, NOW - HOUR, NOW)


@every_case
def test_keys_from_the_environment(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if not PROVIDERS[case.name].key:
        pytest.skip("takes none")
    with pytest.raises(ValueError, match=f"CARBONTRACKER_{case.name.upper()}_KEY"):
        provider(case.name)
    with serving(answering(case)) as server:
        monkeypatch.setenv(f"CARBONTRACKER_{case.name.upper()}_KEY", KEY + "\n")
        monkeypatch.setenv(f"CARBONTRACKER_{case.name.upper()}_URL", server.url + "/")
        asked = provider(case.name, clock=lambda: NOW, client=quick())
        check(case, asked.between(case.zone, NOW - 3 * HOUR, NOW), NOW - 3 * HOUR, NOW)
    assert KEY not in repr(asked)


# ---- Electricity Maps ------------------------------------------------------------------------

EM = BY_NAME["electricitymaps"]


def em_row(**more: Any) -> dict[str, Any]:
    return {"zone": "DE", "carbonIntensity": 302, "datetime": z(NOW - HOUR)} | more


@pytest.mark.parametrize(
    "answer",
    [
        em_row(estimationMethod="SANDBOX_MODE_DATA"),
        em_row(_disclaimer="This is SANDBOX MODE: figures are random"),
        em_row(zone="SE"),
        em_row(datetime="yesterday"),
        em_row(datetime="2026-11-23T09:00:00"),
        em_row(datetime=None),
    ],
)
def test_invented_and_other_peoples_figures_are_refused(answer: dict[str, Any]) -> None:
    for body in (answer, {"zone": answer["zone"], "history": [answer], "forecast": [answer]}):
        with serving(Reply(body)) as server:
            asked = asking(EM, server)
            for ask in (asked.now, lambda zone, asked=asked: asked.between(zone, NOW - HOUR, NOW)):
                with pytest.raises(IntensityUnavailable):
                    ask("DE")


def test_a_sandbox_mark_on_the_whole_answer_counts() -> None:
    body = {"zone": "DE", "_disclaimer": "Sandbox mode", "history": [em_row()]}
    with serving(Reply(body)) as server, pytest.raises(IntensityUnavailable, match="sandbox"):
        asking(EM, server).between("DE", NOW - HOUR, NOW)


@pytest.mark.parametrize(
    ("zone", "sent"),
    [
        ("DE", {"zone": "DE"}),
        ("55.7,12.6", {"lat": "55.7", "lon": "12.6"}),
        (
            "GCP:Europe-West1",
            {"dataCenterProvider": "gcp", "dataCenterRegion": "europe-west1"},
        ),
    ],
)
def test_a_place_is_named_in_one_way_and_never_guessed(zone: str, sent: dict[str, str]) -> None:
    with serving(answering(EM)) as server:
        asked = asking(EM, server)
        asked.now(zone)
        asked.between(zone, NOW - HOUR, NOW)
        asked.between(zone, NOW - 30 * HOUR, NOW)
        asked.forecast(zone, NOW, NOW + 30 * HOUR)
    assert [one.path.rpartition("/")[2] for one in server.asked] == [
        *("latest", "history", "past-range", "forecast")
    ]
    places = {"zone", "lat", "lon", "dataCenterProvider", "dataCenterRegion"}
    for one in server.asked:
        assert {key: one.query[key] for key in places & set(one.query)} == sent
        assert one.query["shouldUseFallbackCallerLookup"] == "false"
        assert one.query["emissionFactorType"] == "lifecycle"
        assert one.headers["auth-token"] == KEY
        assert one.headers["user-agent"].startswith("carbontracker/")
        assert KEY not in str(one.query)
    assert server.asked[-1].query["horizonHours"] == "48"


def test_the_scope_is_requested_and_stated() -> None:
    with serving(answering(EM)) as server:
        given_: dict[str, Any] = {"url": server.url, "client": quick(), "clock": lambda: NOW}
        asked = provider("electricitymaps", api_key=KEY, scope="direct", **given_)
        assert asked.now("DE").scope == "direct"
    assert server.asked[0].query["emissionFactorType"] == "direct"
    with pytest.raises(ValueError, match="lifecycle or direct"):
        provider("electricitymaps", api_key=KEY, scope="consumption")


# ---- WattTime --------------------------------------------------------------------------------

WT = BY_NAME["watttime"]


def test_pounds_per_megawatt_hour() -> None:
    point = {"point_time": "2026-11-23T09:40:00+00:00", "value": 1000.0}
    answer = {"token": "t", "data": [point], "meta": {"units": "lbs_co2_per_mwh"}}
    with serving(Reply(answer)) as server:
        figure = asking(WT, server).now("CAISO_NORTH")
    assert figure.gco2eq_per_kwh == pytest.approx(453.59237, rel=1e-15)
    assert figure.signal == "marginal"


def test_other_units_are_refused() -> None:
    point = {"point_time": "2026-11-23T09:40:00+00:00", "value": 50.0}
    answer = {"token": "t", "data": [point], "meta": {"units": "percentile"}}
    with serving(Reply(answer)) as server, pytest.raises(IntensityUnavailable, match="percentile"):
        asking(WT, server).now("CAISO_NORTH")


def test_one_login_serves_for_half_an_hour_and_a_refusal_is_met_by_one_more() -> None:
    tokens: Iterator[int] = iter(range(1, 9))
    valid = [""]
    times = [NOW]

    def script(asked: Asked) -> Reply:
        if asked.path == "/login":
            valid[0] = f"tok-{next(tokens)}"
            return Reply({"token": valid[0]})
        if asked.headers["authorization"] != f"Bearer {valid[0]}":
            return Reply({}, 401)
        point = {"point_time": z(NOW), "value": 1.0}
        return Reply({"data": [point], "meta": {}})

    with serving(script) as server:
        asked = asking(WT, server, clock=lambda: times[0])
        for _ in range(3):
            asked.now("CAISO_NORTH")
        assert valid == ["tok-1"]
        times[0] += timedelta(minutes=30)
        asked.now("CAISO_NORTH")
        assert valid == ["tok-2"]
        valid[0] = "withdrawn"
        asked.now("CAISO_NORTH")
        assert valid == ["tok-3"]
    with serving(_wrong(Reply({}, 401))) as server:
        with pytest.raises(IntensityUnavailable, match="401"):
            asking(WT, server).now("CAISO_NORTH")
        assert [one.path for one in server.asked] == ["/login", "/v3/forecast"] * 2
    with serving(_wrong(Reply({}, 403))) as server:
        with pytest.raises(IntensityUnavailable, match="403"):
            asking(WT, server).now("CAISO_NORTH")
        assert [one.path for one in server.asked] == ["/login", "/v3/forecast"]


def test_a_region_is_found_once_by_coordinates() -> None:
    with serving(answering(WT)) as server:
        asked = asking(WT, server)
        assert asked.now("37.77,-122.42").zone == "CAISO_NORTH"
        asked.now("37.77,-122.42")
    assert [one.path for one in server.asked].count("/v3/region-from-loc") == 1


def test_the_names_of_the_official_client_work_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTTIME_USER", "me")
    monkeypatch.setenv("WATTTIME_PASSWORD", "pass")
    with serving(answering(WT)) as server:
        provider("watttime", url=server.url, client=quick(), clock=lambda: NOW).now("CAISO_NORTH")
    assert server.asked[0].headers["authorization"] == "Basic bWU6cGFzcw=="


# ---- Great Britain ---------------------------------------------------------------------------

GB = BY_NAME["carbonintensity_gb"]


def test_slots_are_snapped_so_that_addresses_repeat() -> None:
    with serving(answering(GB)) as server:
        asking(GB, server).forecast("GB", NOW, NOW + HOUR)
        asking(GB, server).forecast("GB", NOW + timedelta(minutes=19), NOW + HOUR)
    assert [one.path for one in server.asked] == ["/intensity/2026-11-23T09:31Z/fw48h"] * 2


def test_hours_not_measured_yet_come_from_the_forecast() -> None:
    with serving(answering(GB)) as server:
        past = asking(GB, server).between("GB", NOW - HOUR, NOW)
    assert [slot.kind for slot in past] == ["measured", "measured", "forecast"]


@pytest.mark.parametrize(
    ("zone", "end"),
    [("GB-13", "/regionid/13"), ("GB-SCT", "/regionid/16"), ("gb-sw1", "/postcode/SW1")],
)
@pytest.mark.parametrize("wrapped", [list, dict])
def test_regions_wrapped_either_way(zone: str, end: str, wrapped: type) -> None:
    def script(asked: Asked) -> Reply:
        body = GB.service(asked, truth).body
        return Reply(body if wrapped is dict else {"data": [body["data"]]})

    with serving(script) as server:
        past = asking(GB, server).between(zone, NOW - HOUR, NOW)
        ahead = asking(GB, server).forecast(zone, NOW, NOW + 47.5 * HOUR)
    check(GB, past, NOW - HOUR, NOW)
    assert {slot.kind for slot in past} == {"estimated"}
    assert len(ahead) == 96
    assert all(one.path.endswith(end) for one in server.asked)


@pytest.mark.parametrize("zone", ["GB-0", "GB-18", "GB-NIR", "GB-SW1A 1AA", "DE"])
def test_places_outside_great_britain(zone: str) -> None:
    unknown = pytest.raises(IntensityUnavailable, match="covers Great Britain")
    with serving(answering(GB)) as server, unknown:
        asking(GB, server).between(zone, NOW - HOUR, NOW)
    assert server.asked == []


# ---- Denmark ---------------------------------------------------------------------------------

DK = BY_NAME["energidataservice"]


def test_the_country_is_the_mean_of_its_halves_and_never_one_of_them() -> None:
    def script(asked: Asked) -> Reply:
        body = DK.service(asked, truth).body
        for row in body["records"]:
            row["CO2Emission"] += 50 if row["PriceArea"] == "DK2" else 0
        body["records"] = body["records"][:-1]  # the newest of DK2 is not there yet
        return Reply(body)

    with serving(script) as server:
        past = asking(DK, server).between("DK", NOW - HOUR, NOW)
    for slot in past:
        assert slot.start is not None
        assert slot.gco2eq_per_kwh == truth(slot.start) + 25
        assert slot.note == "mean of DK1 and DK2"
    assert past[-1].start == NOW - timedelta(minutes=20)
    assert server.asked[0].query["timezone"] == "UTC"


@pytest.mark.parametrize("night", ["2026-10-25", "2027-03-28"])
@pytest.mark.parametrize("understood", [True, False], ids=["timezone heeded", "timezone ignored"])
def test_the_nights_on_which_clocks_change(night: str, understood: bool) -> None:
    start = datetime.fromisoformat(f"{night}T00:00:00+00:00")
    five = timedelta(minutes=5)

    def script(asked: Asked) -> Reply:
        offset = timedelta(0) if understood else 2 * HOUR
        first, last = (
            datetime.fromisoformat(asked.query[key]).replace(tzinfo=timezone.utc) - offset
            for key in ("start", "end")
        )
        records = []
        while first < last:
            stamp = first.strftime("%Y-%m-%dT%H:%M:%S")
            records.append({"Minutes5UTC": stamp, "PriceArea": "DK1", "CO2Emission": truth(first)})
            first += five
        return Reply({"records": records[: int(asked.query["limit"])]})

    with serving(script) as server:
        past = asking(DK, server).between("DK-DK1", start, start + 4 * HOUR - five)
    assert len(past) == 48
    check(DK, past, start, start + 4 * HOUR)


# ---- Energy-Charts ---------------------------------------------------------------------------

EC = BY_NAME["energycharts"]
T0 = int((NOW - 2 * HOUR).timestamp()) // 900 * 900


def columns(measured: list[Any], foreseen: list[Any], times: int = 0) -> Reply:
    count = times or len(measured)
    stamps = [T0 + 900 * i for i in range(count)]
    return Reply({"unix_seconds": stamps, "co2eq": measured, "co2eq_forecast": foreseen})


def test_nulls_complement_each_other_and_both_may_be_set_or_null() -> None:
    reply = columns([100.5, None, 102, None], [None, None, 202, 203])
    with serving(reply) as server:
        asked = asking(EC, server)
        past = asked.between("DE", NOW - 2 * HOUR, NOW)
        ahead = asked.forecast("DE", NOW - 2 * HOUR, NOW)
    assert [s.gco2eq_per_kwh for s in past] == [100.5, 102]
    assert [s.gco2eq_per_kwh for s in ahead] == [202, 203]
    assert ahead[-1].end is not None
    assert ahead[-1].end.timestamp() == T0 + 4 * 900  # the last slot is as long as the one before


def test_without_a_recent_measurement_the_forecast_of_now_stands() -> None:
    values = [None] * 12
    with serving(columns(values, [100 + i for i in range(12)])) as server:
        figure = asking(EC, server).now("DE")
    assert figure.kind == "forecast"
    assert figure.start is not None
    assert figure.start <= NOW < figure.start + timedelta(minutes=15)


@pytest.mark.parametrize("reply", [columns([1, 2], [1]), columns([1, 2], [1, 2], 3)])
def test_columns_of_unequal_length_are_refused(reply: Reply) -> None:
    with serving(reply) as server, pytest.raises(IntensityUnavailable, match="unknown format"):
        asking(EC, server).between("DE", NOW - 2 * HOUR, NOW)


def test_a_zone_in_a_country_gets_the_country_with_a_note() -> None:
    with serving(answering(EC)) as server:
        (first, *_) = asking(EC, server).between("DK-DK1", NOW - 3 * HOUR, NOW)
    assert server.asked[0].query["country"] == "dk"
    assert (first.zone, first.note) == ("DK", "of the whole of DK")


def test_a_deprecated_request_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    body = columns([100.0] * 8, [None] * 8).body | {"deprecated": True}
    with serving(Reply(body)) as server, caplog.at_level(logging.WARNING):
        asked = asking(EC, server)
        for _ in range(3):
            asked.between("DE", NOW - 2 * HOUR, NOW)
    assert [record.getMessage() for record in caplog.records] == [
        "carbontracker: Energy-Charts calls this request deprecated"
    ]


# ---- France ----------------------------------------------------------------------------------

FR = BY_NAME["odre"]


def test_texts_nulls_and_both_envelopes() -> None:
    fields = [
        {"date_heure": "2026-11-23T09:30:00+00:00", "taux_co2": None},
        {"date_heure": "2026-11-23T09:15:00+00:00", "taux_co2": "21"},
        {"date_heure": "2026-11-23T09:00:00+00:00", "taux_co2": 20},
    ]
    for body in ({"results": fields}, {"records": [{"fields": field} for field in fields]}):
        with serving(Reply(body)) as server:
            past = asking(FR, server).between("FR", NOW - HOUR, NOW)
        assert [slot.gco2eq_per_kwh for slot in past] == [20, 21]
        assert server.asked[0].query["where"] == "taux_co2 is not null"


# ---- mixes -----------------------------------------------------------------------------------


def mix(hour: int, **output: float) -> Mix:
    start = NOW.replace(minute=0) + hour * HOUR
    return Mix(start, start + HOUR, output)


def test_a_mix_by_hand() -> None:
    ((_, grams),) = intensities([mix(0, coal=100, wind=300, nuclear=-5)], "lifecycle")
    assert grams == pytest.approx((100 * 820 + 300 * 11) / 400, rel=1e-15)
    ((_, grams),) = intensities([mix(0, coal=100, wind=300)], "direct")
    assert grams == pytest.approx(190, rel=1e-15)


def test_storage_is_as_dirty_as_the_day_before() -> None:
    found = intensities(
        [mix(0, coal=100), mix(1, wind=100), mix(2, coal=50, storage=50)], "lifecycle"
    )
    assert found[2][1] == pytest.approx((50 * 820 + 50 * (820 + 11) / 2) / 100, rel=1e-15)


def test_an_unknown_mix_is_left_out() -> None:
    kept = mix(0, gas=80, unknown=20)
    assert [m for m, _ in intensities([kept], "lifecycle")] == [kept]
    assert intensities([mix(0, gas=79, unknown=21)], "lifecycle") == []
    assert intensities([mix(0, storage=10)], "lifecycle") == []
    assert intensities([mix(0, gas=-1)], "lifecycle") == []
    # Less than half of the usual output: stations are missing from the answer.
    day = [mix(hour, gas=100) for hour in range(5)]
    assert len(intensities([*day, mix(5, gas=49)], "lifecycle")) == 5
    assert len(intensities([*day, mix(5, gas=51)], "lifecycle")) == 6


def test_every_fuel_of_the_services_is_in_the_table() -> None:
    for fuel in {*ENTSOE_FUELS.values(), *EIA_FUELS.values()} - {"storage"}:
        assert factor(fuel, "lifecycle") >= factor(fuel, "direct") >= 0
    for row in rows("fuel_factors"):
        assert row["source"], row
        assert row["evidence"] in {"seen", "recalled", "estimate"}, row


def test_every_area_code_ends_in_its_check_character() -> None:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-"
    for zone, code in AREAS.items():
        total = sum((16 - i) * alphabet.index(c) for i, c in enumerate(code[:15]))
        assert alphabet[36 - (total - 1) % 37] == code[15], zone


@pytest.mark.parametrize(
    ("zone", "respondent"), [("US", "US48"), ("PJM", "PJM"), ("US-CAL-CISO", "CISO")]
)
def test_balancing_authorities(zone: str, respondent: str) -> None:
    with serving(answering(BY_NAME["eia930"])) as server:
        asking(BY_NAME["eia930"], server).between(zone, NOW - 5 * HOUR, NOW)
    assert server.asked[0].query["facets[respondent][]"] == respondent


@pytest.mark.parametrize("zone", ["US-CA", "US-EGRID-CAMX", "DK", "WORLD", "GB-13"])
def test_an_unknown_balancing_authority(zone: str) -> None:
    unknown = pytest.raises(IntensityUnavailable, match="balancing authorities")
    with serving(answering(BY_NAME["eia930"])) as server, unknown:
        asking(BY_NAME["eia930"], server).between(zone, NOW - 5 * HOUR, NOW)
    assert server.asked == []


def test_a_curve_that_leaves_out_what_repeats() -> None:
    start = NOW.replace(minute=0) - 4 * HOUR

    def series(kind: str, points: dict[int, int], domain: str = "inBiddingZone_Domain.mRID") -> str:
        told = "".join(
            f"<Point><position>{i}</position><quantity>{v}</quantity></Point>"
            for i, v in points.items()
        )
        span = f"<start>{start:%Y-%m-%dT%H:%MZ}</start><end>{start + HOUR:%Y-%m-%dT%H:%MZ}</end>"
        return (
            f"<TimeSeries><{domain}>x</{domain}><curveType>A03</curveType><MktPSRType>"
            f"<psrType>{kind}</psrType></MktPSRType><Period><timeInterval>{span}</timeInterval>"
            f"<resolution>PT15M</resolution>{told}</Period></TimeSeries>"
        )

    pumping = series("B10", {1: 999}, "outBiddingZone_Domain.mRID")
    body = f"<G>{series('B05', {1: 100, 3: 300})}{series('B19', {1: 100})}{pumping}</G>"
    with serving(Reply(body.encode())) as server:
        past = asking(BY_NAME["entsoe"], server).between("DK", start, start + HOUR)
    dirty = [(c * 820 + 100 * 11) / (c + 100) for c in (100, 100, 300, 300)]
    assert [slot.gco2eq_per_kwh for slot in past[:4]] == pytest.approx(dirty, rel=1e-14)
    assert "imports are not counted" in past[0].note


def test_a_document_with_entities_is_not_read() -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>'
    with (
        serving(Reply(bomb)) as server,
        pytest.raises(IntensityUnavailable, match="unknown format"),
    ):
        asking(BY_NAME["entsoe"], server).between("DK", NOW - HOUR, NOW)


# ---- a service of one's own ------------------------------------------------------------------

PLAIN = {"url": "http://127.0.0.1/x", "value": "v", "time": "t"}


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ({}, "no 'time' and no 'url' and no 'value'"),
        (PLAIN | {"colour": 1}, "an unknown 'colour'"),
        (PLAIN | {"scope": "cradle"}, "'cradle' is not one of"),
        (PLAIN | {"signal": "total"}, "'total' is not one of"),
        (PLAIN | {"multiplier": -1}, "positive"),
        (PLAIN | {"slot_s": 0}, "positive"),
        (PLAIN | {"url": 5}, "url must be text, not int"),
        (PLAIN | {"value": 0}, "value must be text, not int"),
        (PLAIN | {"headers": None}, "headers must be an object, not NoneType"),
        (PLAIN | {"headers": {"a": 5}}, r"headers\['a'\] must be text, not int"),
    ],
)
def test_a_configuration_that_cannot_be(shape: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        provider("http_json", shape=shape)


def test_a_configuration_in_the_environment_as_text_and_as_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    with pytest.raises(ValueError, match="CARBONTRACKER_HTTP_JSON"):
        provider("http_json")
    point = {"t": int(NOW.timestamp()) - 60, "v": "87"}
    with serving(Reply(point)) as server:
        text = json.dumps(PLAIN | {"url": server.url + "/{zone}/{lat}"})
        (tmp_path / "shape.json").write_text(text)
        for given in (text, str(tmp_path / "shape.json")):
            monkeypatch.setenv("CARBONTRACKER_HTTP_JSON", given)
            asked = provider("http_json", clock=lambda: NOW)
            assert asked.now("DK/../x").gco2eq_per_kwh == 87
    assert {one.path for one in server.asked} == {"/DK%2F..%2Fx/DK%2F..%2Fx"}
    for wrong in ("{", "[1]", str(tmp_path / "missing")):
        monkeypatch.setenv("CARBONTRACKER_HTTP_JSON", wrong)
        with pytest.raises(ValueError, match="CARBONTRACKER_HTTP_JSON"):
            provider("http_json")


@pytest.mark.parametrize("status", [200, 401, 500])
def test_a_key_in_the_configuration_appears_in_no_message(status: int) -> None:
    more = {"headers": {"Authorization": f"Bearer {KEY}"}}
    said = {"error": f"{KEY} in ?q={quote(KEY, safe='')} is not known"}
    with serving(Reply(said, status)) as server:
        shape = PLAIN | more | {"url": f"{server.url}/x?area=DK&q={quote(KEY, safe='')}"}
        asked = provider("http_json", shape=shape, client=quick())
        with pytest.raises(IntensityUnavailable, match=r"\*\*\* in \?q=\*\*\*") as caught:
            asked.between("DK", NOW - HOUR, NOW)
    assert KEY not in str(caught.value)
    assert KEY in server.asked[0].headers["authorization"]


# ---- anything at all -------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def spots(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything in a document; of a long list only the first two."""
    yield path
    if isinstance(document, dict):
        for key, inner in document.items():
            yield from spots(inner, (*path, key))
    if isinstance(document, list):
        for index, inner in enumerate(document[:2]):
            yield from spots(inner, (*path, index))


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of the document with one thing in it replaced."""
    if not path:
        return value
    copy = list(document) if isinstance(document, list) else dict(document)
    copy[path[0]] = put(document[path[0]], path[1:], value)
    return copy


class Canned:
    """In the place of a client: the service's own answer, spoilt in one spot."""

    def __init__(self, case: Case, spoil: Callable[[bytes], bytes]) -> None:
        self.case, self.spoil = case, spoil

    def fetch(self, url: str, headers: dict[str, str] | None, *, secrets: Any) -> http.Reply:
        parts = urlsplit(url)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in (headers or {}).items()}
        body = self.case.service(Asked(parts.path, query, headers), truth).encoded
        return http.Reply(body if parts.path == "/login" else self.spoil(body), {})


@every_case
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_answer_that_is_wrong_in_one_spot_gives_figures_or_a_reason(
    case: Case, data: st.DataObject
) -> None:
    def spoil(body: bytes) -> bytes:
        if case.name == "entsoe":
            at = data.draw(st.integers(0, len(body) - 1))
            return body[:at] + data.draw(st.binary(max_size=4)) + body[at + 1 :]
        document = json.loads(body)
        spot = data.draw(st.sampled_from(list(spots(document))))
        return json.dumps(put(document, spot, data.draw(ANYTHING))).encode()

    asked = case.build("http://grid.example", Canned(case, spoil), lambda: NOW)  # type: ignore[arg-type]
    for method, span in (
        (asked.between, (NOW - 3 * HOUR, NOW)),
        (asked.forecast, (NOW, NOW + HOUR)),
    ):
        with suppress(IntensityUnavailable):
            assert all(isinstance(slot, Intensity) for slot in method(case.zone, *span))
    with suppress(IntensityUnavailable):
        assert isinstance(asked.now(case.zone), Intensity)


# ---- as the documentation has it -------------------------------------------------------------


def test_the_example_of_the_documentation_is_a_provider() -> None:
    text = (Path(__file__).parents[1] / "docs" / "adding-a-provider.md").read_text("utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    space: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "adding-a-provider.md", "exec"), space)

    def service(asked: Asked, figure: Callable[[datetime], Any]) -> Reply:
        start = parse(asked.query["from"])
        hours = steps(start, parse(asked.query["to"]), HOUR)
        return Reply([{"hour": t.isoformat(), "g": figure(t)} for t in hours])

    case = Case("example", service, "AT", "direct", HOUR, ahead=False)
    with serving(answering(case)) as server:
        built = space["ExampleGrid"](url=server.url, client=quick(), clock=lambda: NOW)
        check(case, built.between("AT", NOW - 3 * HOUR, NOW), NOW - 3 * HOUR, NOW)
        check(case, [built.now("AT")], NOW - HOUR, NOW)
    for reply in REFUSALS.values():
        with serving(reply) as server, pytest.raises(IntensityUnavailable):
            space["ExampleGrid"](url=server.url, client=quick()).between("AT", NOW - HOUR, NOW)


# ---- the real ones ---------------------------------------------------------------------------


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("energycharts", "DE"),
        ("carbonintensity_gb", "GB"),
        ("carbonintensity_gb", "GB-13"),
        ("energidataservice", "DK"),
        ("odre", "FR"),
    ],
)
def test_the_live_service(name: str, zone: str) -> None:
    asked = provider(name)
    figure = asked.now(zone)
    assert 0 <= figure.gco2eq_per_kwh <= 1500
    assert figure.start is not None
    assert abs(datetime.now(timezone.utc) - figure.start) < timedelta(hours=6)
    if getattr(asked, "has_forecast", False):
        now = datetime.now(timezone.utc)
        assert asked.forecast(zone, now, now + 3 * HOUR)


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("electricitymaps", "DE"),
        ("watttime", "CAISO_NORTH"),
        ("eia930", "PJM"),
        ("entsoe", "DE"),
    ],
)
def test_the_live_service_with_a_key(name: str, zone: str, request: pytest.FixtureRequest) -> None:
    import os

    # The environment of the tests hides the user's variables: the key goes by another name.
    key = os.environ.get(f"TEST_{name.upper()}_KEY", "")
    if not key:
        pytest.skip(f"needs TEST_{name.upper()}_KEY")
    now = datetime.now(timezone.utc)
    assert provider(name, api_key=key).between(zone, now - 24 * HOUR, now)
