"""A live provider: right figures when it answers, no harm and a reason when it does not."""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.intensity import Intensity, IntensityUnavailable, provider
from carbontracker.intensity.live import Live
from carbontracker.tracker import CarbonTracker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "k-7f3a-secret"
NOW = datetime(2026, 11, 23, 9, 30, tzinfo=timezone.utc)
GOOD = {
    "zone": "DK",
    "carbonIntensity": 77,
    "datetime": "2026-11-23T09:00:00.000Z",
    "isEstimated": True,
    "estimationMethod": "TIME_SLICER_AVERAGE",
}


class _Service(ThreadingHTTPServer):
    """A service on loopback that gives one answer and remembers what it was asked."""

    daemon_threads = True
    status = 200
    body = b""
    headers: dict[str, str]
    asked: list[tuple[str, str | None]]
    hang = False


class _Handler(BaseHTTPRequestHandler):
    server: _Service

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("auth-token")))
        if self.server.hang:
            time.sleep(30)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@contextmanager
def service(
    answer: Any = None, status: int = 200, headers: dict[str, str] | None = None
) -> Iterator[tuple[_Service, str]]:
    server = _Service(("127.0.0.1", 0), _Handler)
    server.body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    server.status, server.headers, server.asked = status, headers or {}, []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}/v4"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_latest_hour_with_its_provenance() -> None:
    with service(GOOD) as (server, url):
        (figure,) = provider("electricitymaps", api_key=KEY, url=url).between("DK", NOW, NOW)
    assert figure.gco2eq_per_kwh == 77.0
    assert (figure.zone, figure.kind, figure.scope) == ("DK", "estimated", "lifecycle")
    assert figure.start == datetime(2026, 11, 23, 9, tzinfo=timezone.utc)
    path, key = server.asked[0]
    assert key == KEY
    assert KEY not in path
    assert "shouldUseFallbackCallerLookup=false" in path


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"error": 'No recent data for zone "DK"'}, 404),
        ({"error": "Token unauthorized"}, 401),
        ({"error": "No recent data"}, 200),
        ({}, 429),
        ({}, 500),
        (b"<html>", 200),
        (b'{"zone": "DK", "carbonInt', 200),
        (GOOD | {"carbonIntensity": None}, 200),
        (GOOD | {"carbonIntensity": True}, 200),
        (GOOD | {"carbonIntensity": -3}, 200),
        (GOOD | {"carbonIntensity": 9000}, 200),
        (GOOD | {"zone": "SE"}, 200),
        (GOOD | {"datetime": "yesterday"}, 200),
        (GOOD | {"datetime": "2026-11-23T09:00:00"}, 200),
        (GOOD | {"estimationMethod": "SANDBOX_MODE_DATA"}, 200),
        (GOOD | {"_disclaimer": "Sandbox mode: figures are random"}, 200),
        ([1, 2], 200),
        (b" " * 5_000_001, 200),
    ],
)
def test_what_cannot_be_trusted_is_refused(answer: Any, status: int) -> None:
    with service(answer, status) as (_, url):
        asked = provider("electricitymaps", api_key=KEY, url=url)
        with pytest.raises(IntensityUnavailable) as refusal:
            asked.between("DK", NOW, NOW)
    assert KEY not in str(refusal.value)


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with service(GOOD) as (elsewhere, target):  # noqa: SIM117  # the order matters
        with service({}, 302, {"Location": target}) as (_, url):
            asked = provider("electricitymaps", api_key=KEY, url=url)
            with pytest.raises(IntensityUnavailable, match="302"):
                asked.between("DK", NOW, NOW)
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("key", "url"),
    [(KEY + "\n\n" + KEY, "http://127.0.0.1:9/v4"), (KEY, "no address at all"), ("é€", "http://[")],
)
def test_what_cannot_be_sent_is_a_reason_too(key: str, url: str) -> None:
    with pytest.raises(IntensityUnavailable) as refusal:
        provider("electricitymaps", api_key=key, url=url).between("DK", NOW, NOW)
    assert KEY not in str(refusal.value)


def test_nobody_there() -> None:
    asked = provider("electricitymaps", api_key=KEY, url="http://127.0.0.1:9/v4")
    with pytest.raises(IntensityUnavailable, match=r"127\.0\.0\.1:9"):
        asked.between("DK", NOW, NOW)


class _Scripted:
    """A provider that gives the next figure of a list each time."""

    name = "scripted"

    def __init__(self, figures: list[float | None]) -> None:
        self.figures = figures
        self.asked = threading.Event()

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        value = self.figures.pop(0) if self.figures else None
        if not self.figures:
            self.asked.set()
        if value is None:
            raise IntensityUnavailable("scripted: no more")
        return [Intensity(value, zone, zone, None, "lifecycle", "measured", start=None, end=None)]


def test_each_figure_holds_until_the_next_arrives() -> None:
    scripted = _Scripted([100.0, 300.0])
    begin = datetime.now(timezone.utc)
    live = Live(scripted, "DK", provider("table"), every_s=0.05)
    assert scripted.asked.wait(10)
    deadline = time.monotonic() + 10
    while len(live.between("DK", begin, begin + timedelta(hours=1))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    live.close()
    first, second = live.between("DK", begin, begin + timedelta(hours=1))
    assert (first.gco2eq_per_kwh, second.gco2eq_per_kwh) == (100.0, 300.0)
    assert first.start is None
    assert first.end == second.start
    assert second.end is None


def test_without_an_answer_the_table_stands_in_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scripted = _Scripted([None])
    with caplog.at_level(logging.WARNING):
        live = Live(scripted, "DK", provider("table"), every_s=60)
        assert scripted.asked.wait(10)
        deadline = time.monotonic() + 10
        while "scripted: no more" not in live.between("DK", NOW, NOW)[0].note:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    live.close()
    assert live.between("DK", NOW, NOW)[0].gco2eq_per_kwh == 114.41


@pytest.mark.parametrize("how", ["argument", "method"])
def test_keys_work_both_ways(
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys = {"ElectricityMaps": KEY}
    with service(GOOD) as (server, url):
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", url)
        tracker = CarbonTracker(
            1,
            sim_cpu="x",
            sim_cpu_tdp=100,
            location="DK",
            log_dir=tmp_path,
            api_keys=keys if how == "argument" else None,
        )
        if how == "method":
            tracker.set_api_keys(keys)
        tracker.epoch_start()
        deadline = time.monotonic() + 10
        while not server.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # for the answer to be read
        tracker.epoch_end()
    assert tracker.result is not None
    assert tracker.result.footprint.intensity.gco2eq_per_kwh == 77.0
    shown = capsys.readouterr()
    assert "Using intensity provider: Electricity Maps API ('electricitymaps')." in shown.out
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert '"gco2eq_per_kwh":77.0' in written
    assert KEY not in written + shown.out + shown.err


def test_offline_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(GOOD) as (server, url):
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", url)
        monkeypatch.setenv("CARBONTRACKER_OFFLINE", "1")
        tracker = CarbonTracker(
            1, sim_cpu="x", sim_cpu_tdp=100, location="DK", api_keys={"electricitymaps": KEY}
        )
        tracker.epoch_start()
        time.sleep(0.1)
        tracker.epoch_end()
    assert server.asked == []
    assert tracker.result is not None
    assert tracker.result.footprint.intensity.gco2eq_per_kwh == 114.41


def test_a_service_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(GOOD) as (server, url):
        server.hang = True
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", url)
        tracker = CarbonTracker(
            1, sim_cpu="x", sim_cpu_tdp=100, location="DK", api_keys={"electricitymaps": KEY}
        )
        tracker.epoch_start()
        tracker.epoch_end()  # would take 30 s if it waited
        assert not [t for t in threading.enumerate() if t.name == "carbontracker-collect"]
    assert tracker.result is not None
    assert "has not answered yet" in tracker.result.footprint.intensity.note
