"""The services that providers ask, as they are documented, with figures that are a known function.

Each script answers from ``TRUTH`` (or another function of time) in its service's own shape, units
and time zone. Shapes are those of the providers' public documentation and clients.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from carbontracker.intensity.http import Client, Limits
from carbontracker.intensity.providers import provider
from tests.support.intensity_server import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.intensity.base import Provider
    from tests.support.intensity_server import Asked

    Figure = Callable[[datetime], Any]

NOW = datetime(2026, 11, 23, 9, 40, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
KEY = "user-7f3a:secret+/9 c"
"""Looks different in a URL, so that a key is not only looked for as it is."""
LB_PER_MWH = 1 / 0.45359237


def truth(when: datetime) -> Any:
    """Return the intensity of the slot that begins at ``when``, gCO2eq/kWh: a whole number."""
    return 100 + 10 * when.hour + when.minute // 5 + when.day


def steps(start: datetime, end: datetime, step: timedelta) -> list[datetime]:
    """Return the beginnings of the slots that touch ``start`` to ``end``."""
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight + (start - midnight) // step * step
    found = []
    while first < end:
        found.append(first)
        first += step
    return found


def z(when: datetime) -> str:
    """Return the moment as most services write it."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def parse(text: str) -> datetime:
    """Return an ISO 8601 moment, UTC where it says nothing."""
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


# ---- one function a service ------------------------------------------------------------------


def energycharts(asked: Asked, figure: Figure) -> Reply:
    times = steps(parse(asked.query["start"]), parse(asked.query["end"]), timedelta(minutes=15))
    known = NOW - HOUR
    return Reply(
        {
            "unix_seconds": [int(t.timestamp()) for t in times],
            "co2eq": [figure(t) if t < known else None for t in times],
            "co2eq_forecast": [None if t < known else figure(t) for t in times],
            "deprecated": False,
        }
    )


def carbonintensity_gb(asked: Asked, figure: Figure) -> Reply:
    half, parts = timedelta(minutes=30), asked.path.strip("/").split("/")
    regional = parts[0] == "regional"
    span = parts[parts.index("intensity") + 1 :]
    start = parse(span[0]) - timedelta(minutes=1)
    end = start + 48 * HOUR if span[1] == "fw48h" else parse(span[1])
    slots = [
        {
            "from": t.strftime("%Y-%m-%dT%H:%MZ"),
            "to": (t + half).strftime("%Y-%m-%dT%H:%MZ"),
            "intensity": {"forecast": figure(t), "index": "moderate"}
            | ({} if regional else {"actual": figure(t) if t + half <= NOW else None}),
        }
        for t in steps(start, end, half)
    ]
    return Reply({"data": {"regionid": 13, "data": slots} if regional else slots})


def energidataservice(asked: Asked, figure: Figure) -> Reply:
    five = timedelta(minutes=5)
    measured = asked.path.endswith("/CO2Emis")
    start, end = (parse(asked.query[key]) for key in ("start", "end"))
    records = [
        {
            "Minutes5UTC": t.strftime("%Y-%m-%dT%H:%M:%S"),
            "Minutes5DK": (t + HOUR).strftime("%Y-%m-%dT%H:%M:%S"),
            "PriceArea": area,
            "CO2Emission": figure(t),
        }
        for t in steps(start, end, five)
        for area in json.loads(asked.query["filter"])["PriceArea"]
        if (t < NOW - 2 * five) == measured
    ]
    limit = int(asked.query["limit"])
    return Reply({"total": len(records), "dataset": "CO2Emis", "records": records[:limit]})


def odre(asked: Asked, figure: Figure) -> Reply:
    quarter, limit = timedelta(minutes=15), int(asked.query["limit"])
    newest = steps(NOW - 2 * HOUR, NOW - HOUR, quarter)[-1] - int(asked.query["offset"]) * quarter
    rows = [
        {"date_heure": (newest - i * quarter).isoformat(), "taux_co2": figure(newest - i * quarter)}
        for i in range(limit)
    ]
    return Reply({"total_count": 5760, "results": rows})


def electricitymaps(asked: Asked, figure: Figure) -> Reply:
    zone = asked.query.get("zone", "DK-DK1")
    what = asked.path.rpartition("/")[2]

    def row(t: datetime) -> dict[str, Any]:
        return {
            "zone": zone,
            "carbonIntensity": figure(t),
            "datetime": z(t),
            "updatedAt": z(NOW),
            "emissionFactorType": asked.query["emissionFactorType"],
            "isEstimated": t >= NOW - HOUR,
            "estimationMethod": "TIME_SLICER_AVERAGE" if t >= NOW - HOUR else None,
        }

    if what == "latest":
        return Reply(row(steps(NOW, NOW + HOUR, HOUR)[0]))
    if what == "history":
        return Reply({"zone": zone, "history": [row(t) for t in steps(NOW - 23 * HOUR, NOW, HOUR)]})
    if what == "past-range":
        start, end = (parse(asked.query[key]) for key in ("start", "end"))
        assert end - start <= 241 * HOUR
        return Reply({"zone": zone, "data": [row(t) for t in steps(start, min(end, NOW), HOUR)]})
    ahead = steps(NOW, NOW + int(asked.query["horizonHours"]) * HOUR, HOUR)
    points = [{"carbonIntensity": figure(t), "datetime": z(t)} for t in ahead]
    return Reply({"zone": zone, "forecast": points, "updatedAt": z(NOW)})


def watttime(asked: Asked, figure: Figure) -> Reply:
    if asked.path == "/login":
        return Reply({"token": "tok-1"})
    if asked.headers.get("authorization") != "Bearer tok-1":
        return Reply({"error": "Unauthorized"}, 401)
    if asked.path == "/v3/region-from-loc":
        return Reply({"region": "CAISO_NORTH", "signal_type": "co2_moer"})
    if asked.path == "/v3/forecast":
        start, end = NOW, NOW + int(asked.query["horizon_hours"]) * HOUR
    else:
        start, end = parse(asked.query["start"]), parse(asked.query["end"])
    values = [(t, figure(t)) for t in steps(start, end, timedelta(minutes=5))]
    data = [
        {"point_time": t.isoformat(), "value": v * LB_PER_MWH if type(v) in (int, float) else v}
        for t, v in values
    ]
    meta = {"units": "lbs_co2_per_mwh", "data_point_period_seconds": 300, "warnings": []}
    return Reply({"data": data, "meta": meta})


def mixed(grams: Any) -> tuple[Any, Any]:
    """Return MW of coal and of wind whose mean is ``grams``; of what is no number, twice that."""
    if isinstance(grams, bool) or not isinstance(grams, (int, float)):
        return grams, grams
    return 1000 * (grams - 11) / (820 - 11), 1000 * (820 - grams) / (820 - 11)


def eia930(asked: Asked, figure: Figure) -> Reply:
    start, end = (parse(asked.query[key] + ":00") for key in ("start", "end"))
    rows = [
        {
            "period": (t + HOUR).strftime("%Y-%m-%dT%H"),
            "respondent": asked.query["facets[respondent][]"],
            "fueltype": fuel,
            "value": str(value) if type(value) is float else value,
            "value-units": "megawatthours",
        }
        for t in reversed(steps(start - HOUR, min(end, NOW - HOUR), HOUR))
        for fuel, value in zip(("COL", "WND"), mixed(figure(t)), strict=True)
    ]
    return Reply({"response": {"total": len(rows), "data": rows}, "apiVersion": "2.0.3"})


def entsoe(asked: Asked, figure: Figure) -> Reply:
    start, end = (
        datetime.strptime(asked.query[key], "%Y%m%d%H%M").replace(tzinfo=timezone.utc)
        for key in ("periodStart", "periodEnd")
    )
    end = min(end, NOW.replace(minute=0) - HOUR)
    series = ""
    for kind, which in (("B05", 0), ("B19", 1)):
        points = "".join(
            f"<Point><position>{i}</position><quantity>{mixed(figure(t))[which]}</quantity></Point>"
            for i, t in enumerate(steps(start, end, HOUR), 1)
        )
        series += (
            "<TimeSeries><inBiddingZone_Domain.mRID>10YDK-1--------W</inBiddingZone_Domain.mRID>"
            f"<curveType>A01</curveType><MktPSRType><psrType>{kind}</psrType></MktPSRType><Period>"
            f"<timeInterval><start>{start:%Y-%m-%dT%H:%MZ}</start><end>{end:%Y-%m-%dT%H:%MZ}</end>"
            f"</timeInterval><resolution>PT60M</resolution>{points}</Period></TimeSeries>"
        )
    space = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
    return Reply(f'<GL_MarketDocument xmlns="{space}">{series}</GL_MarketDocument>'.encode())


def http_json(asked: Asked, figure: Figure) -> Reply:
    ahead = asked.path == "/ahead"
    start, end = (parse(asked.query[key]) for key in ("from", "to"))
    rows = [
        {"at": t.isoformat(), "co2": {"kg": v / 1000 if type(v) in (int, float) else v}}
        for t in steps(start, end if ahead else min(end, NOW), HOUR)
        for v in [figure(t)]
    ]
    return Reply({"result": {"rows": rows}})


# ---- the table of cases ----------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A provider, its service and what is to be expected of it."""

    name: str
    service: Callable[[Asked, Figure], Reply]
    zone: str
    scope: str
    step: timedelta
    signal: str = "average"
    key: bool = False
    """Whether it takes one."""
    ahead: bool = True
    """Whether it has a forecast."""
    empty: Any = field(default_factory=dict)
    """An answer of the right shape without a single figure."""

    def build(self, url: str, client: Client, clock: Callable[[], datetime]) -> Provider:
        """Return the provider, pointed at ``url``."""
        settings: dict[str, Any] = {"client": client, "clock": clock}
        if self.name == "http_json":
            span = "from={start}&to={end}&zone={zone}"
            settings["shape"] = {
                "url": f"{url}/past?{span}",
                "forecast_url": f"{url}/ahead?{span}",
                "headers": {"x-api-key": "{key}"},
                "rows": "result.rows",
                "value": "co2.kg",
                "time": "at",
                "multiplier": 1000.0,
                "scope": "direct",
            }
        else:
            settings["url"] = url
        if self.key:
            settings["api_key"] = KEY
        return provider(self.name, **settings)


_QUARTER, _HALF, _FIVE = (timedelta(minutes=m) for m in (15, 30, 5))
_NOTHING: dict[str, list[float]] = {"unix_seconds": [], "co2eq": [], "co2eq_forecast": []}

CASES = [
    Case("energycharts", energycharts, "DE", "unknown", _QUARTER, empty=_NOTHING),
    Case("carbonintensity_gb", carbonintensity_gb, "GB", "direct", _HALF, empty={"data": []}),
    Case("energidataservice", energidataservice, "DK-DK1", "direct", _FIVE, empty={"records": []}),
    Case("odre", odre, "FR", "direct", _QUARTER, ahead=False, empty={"results": []}),
    Case(
        "electricitymaps",
        electricitymaps,
        "DK-DK1",
        "lifecycle",
        HOUR,
        key=True,
        empty={"zone": "DK-DK1", "history": [], "data": [], "forecast": []},
    ),
    Case(
        "watttime",
        watttime,
        "CAISO_NORTH",
        "direct",
        _FIVE,
        signal="marginal",
        key=True,
        empty={"token": "tok-1", "data": [], "meta": {}},
    ),
    Case(
        "eia930",
        eia930,
        "US-CAL-CISO",
        "lifecycle",
        HOUR,
        key=True,
        ahead=False,
        empty={"response": {"data": []}},
    ),
    Case(
        "entsoe",
        entsoe,
        "DK-DK1",
        "lifecycle",
        HOUR,
        key=True,
        ahead=False,
        empty=b"<Acknowledgement_MarketDocument><Reason><code>999</code></Reason>"
        b"</Acknowledgement_MarketDocument>",
    ),
    Case("http_json", http_json, "DK", "direct", HOUR, key=True, empty={"result": {"rows": []}}),
]


def patient() -> Client:
    """Return a client that a busy machine does not time out."""
    return Client(Limits(10.0, 10.0, 60.0))


def quick() -> Client:
    """Return a client that gives up before a test does, and not because the machine is busy."""
    return Client(Limits(connect_s=5.0, read_s=4.0, total_s=15.0))
