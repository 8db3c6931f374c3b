"""Finding the place by metadata and address: from real servers on loopback, and without harm."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from carbontracker.carbon.factors import PUE_SOURCE, make_carbon_factors
from carbontracker.location import lookup as lookup_module
from carbontracker.location.location import Location, locate
from carbontracker.location.lookup import (
    LOOKUP_URL,
    Services,
    from_ip_address,
    from_metadata,
    look_up,
    may_look_up,
)
from carbontracker.planning.background import BackgroundLookup
from carbontracker.records.reader import read_run
from carbontracker.report.derived import provenance_of
from carbontracker.tracker import CarbonTracker
from tests.support.programs import hide_sensors, python, read_record
from tests.support.services import Reply, Request, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.services import Server

DMI = {
    "aws": {"sys_vendor": "Amazon EC2\n"},
    "gcp": {"product_name": "Google Compute Engine\n"},
    "azure": {
        "sys_vendor": "Microsoft Corporation\n",
        "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n",
    },
    "oldxen": {"bios_vendor": "Amazon EC2\n"},
}
NOWHERE = "http://127.0.0.1:9"
"""An address without a server."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take longer than half a second to answer."""
    monkeypatch.setattr(lookup_module, "METADATA_S", 60.0)
    monkeypatch.setattr(lookup_module, "LOOKUP_S", 60.0)


def machine(root: Path, dmi: dict[str, str], timezone: str = "Etc/UTC") -> Path:
    folder = root / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    for name, text in dmi.items():
        (folder / name).write_text(text)
    (root / "etc").mkdir()
    (root / "etc/timezone").write_text(f"{timezone}\n")
    return root


def cloud_service(request: Request) -> Reply:
    """Answer as the metadata services of AWS (version 2 only), Google and Azure do."""
    asked = (request.method, request.path.partition("?")[0])
    if asked == ("PUT", "/latest/api/token"):
        lifetime = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds")
        return Reply("AQAEtoken==") if lifetime else Reply(status=400)
    if asked == ("GET", "/latest/meta-data/placement/region"):
        right = request.headers.get("x-aws-ec2-metadata-token") == "AQAEtoken=="
        return Reply("eu-north-1") if right else Reply(status=401)
    if asked == ("GET", "/computeMetadata/v1/instance/zone"):
        if request.headers.get("metadata-flavor") != "Google":
            return Reply(status=403)
        return Reply("projects/12/zones/us-central1-a", headers={"Metadata-Flavor": "Google"})
    if asked == ("GET", "/metadata/instance/compute/location"):
        right = request.headers.get("metadata") == "true"
        return Reply("westeurope") if right else Reply(status=400)
    return Reply(status=404)


def always(reply: Reply) -> Callable[[Request], Reply]:
    return lambda _request: reply


# ---- metadata ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("like", "region", "zone", "grid_zone", "requests"),
    [
        ("aws", "aws:eu-north-1", "SE", "SE-SE3", 2),
        ("oldxen", "aws:eu-north-1", "SE", "SE-SE3", 2),
        ("gcp", "gcp:us-central1", "US-EGRID-MROW", "US-MIDW-MISO", 1),
        ("azure", "azure:westeurope", "NL", "NL", 1),
    ],
)
def test_each_cloud_names_its_region(
    tmp_path: Path, like: str, region: str, zone: str, grid_zone: str, requests: int
) -> None:
    root = machine(tmp_path, DMI[like])
    with serving(cloud_service) as (server, url):
        location = from_metadata({"CARBONTRACKER_ROOT": str(root)}, url)
    assert location is not None
    assert (location.region, location.zone, location.grid_zone) == (region, zone, grid_zone)
    assert location.how == f"{region.partition(':')[0]} metadata"
    assert not location.guess
    assert len(server.asked) == requests


@pytest.mark.parametrize(
    "dmi",
    [{}, {"sys_vendor": "Dell Inc.\n"}, {"sys_vendor": "Microsoft Corporation\n"}, {"x": "y"}],
)
def test_no_request_is_made_outside_a_cloud(tmp_path: Path, dmi: dict[str, str]) -> None:
    root = machine(tmp_path, dmi)
    with serving(cloud_service) as (server, url):
        assert (
            from_metadata({"CARBONTRACKER_ROOT": str(root), "AWS_REGION": "eu-west-1"}, url) is None
        )
    assert server.asked == []


def test_the_environment_of_a_service_is_hint_enough(tmp_path: Path) -> None:
    environ = {"CARBONTRACKER_ROOT": str(tmp_path), "K_SERVICE": "train"}
    with serving(cloud_service) as (_, url):
        location = from_metadata(environ, url)
    assert location is not None
    assert location.region == "gcp:us-central1"


@pytest.mark.parametrize("like", ["aws", "gcp", "azure"])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=401),
        Reply(status=404),
        Reply(status=500),
        Reply("<html>log in</html>"),
        Reply(""),
        Reply(b"\xff\xfe"),
        Reply("moon-west-1", headers={"Metadata-Flavor": "Google"}),
        Reply("x" * 100_000),
        Reply(status=302, headers={"Location": "http://127.0.0.1:9/"}),
    ],
    ids=["401", "404", "500", "html", "empty", "bytes", "unknown", "long", "redirect"],
)
def test_an_answer_without_a_region_is_ignored(tmp_path: Path, like: str, reply: Reply) -> None:
    root = machine(tmp_path, DMI[like])
    with serving(always(reply)) as (_, url):
        assert from_metadata({"CARBONTRACKER_ROOT": str(root)}, url) is None


@pytest.mark.parametrize("like", ["aws", "gcp", "azure"])
def test_a_service_that_does_not_answer_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, like: str
) -> None:
    monkeypatch.setattr(lookup_module, "METADATA_S", 0.5)
    root = machine(tmp_path, DMI[like])
    with serving(always(Reply(hang=True))) as (server, url):
        assert from_metadata({"CARBONTRACKER_ROOT": str(root)}, url) is None
        assert not server.outwaited
    assert len(server.asked) <= 1
    assert from_metadata({"CARBONTRACKER_ROOT": str(root)}, NOWHERE) is None


def test_metadata_requests_use_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    root = machine(tmp_path, DMI["azure"])
    with serving(always(Reply("eastus"))) as (proxy, url), serving(cloud_service) as (_, base):
        monkeypatch.setenv("http_proxy", url)
        location = from_metadata({"CARBONTRACKER_ROOT": str(root)}, base)
    assert location is not None
    assert location.region == "azure:westeurope"
    assert proxy.asked == []


# ---- the address ---------------------------------------------------------------------------

IPINFO = {
    "ip": "203.0.113.7",
    "city": "Aarhus",
    "region": "Central Jutland",
    "country": "DK",
    "loc": "56.1567,10.2108",
    "org": "AS0 Example",
    "postal": "8000",
    "timezone": "Europe/Copenhagen",
}


def test_country_and_region_are_kept_for_a_week_and_nothing_else(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "whereabouts.json"
    with serving(always(Reply(json.dumps(IPINFO)))) as (server, url):
        first = from_ip_address(url, cache, now_s=1000.0)
        again = from_ip_address(url, cache, now_s=1000.0 + 6.9 * 86_400)
        assert len(server.asked) == 1
        assert from_ip_address(url, cache, now_s=1000.0 + 7.1 * 86_400) == first
        assert len(server.asked) == 2
    host = url.removeprefix("http://")
    assert first == again == Location("DK", "Denmark", f"IP address ({host})")
    kept = json.loads(cache.read_text())
    assert set(kept) == {"country", "region", "url", "time"}
    assert "203.0.113.7" not in cache.read_text()
    assert cache.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


@pytest.mark.parametrize(
    ("answer", "zone"),
    [
        ({"country": "US", "region": "Michigan"}, "US-MI"),
        ({"country": "US", "region": "Georgia"}, "US-GA"),
        ({"country": "GE", "region": "Tbilisi"}, "GE"),
        ({"country": "CA", "region": "Quebec"}, "CA-QC"),
        ({"country_code": "se", "region": None}, "SE"),
        ({"country": "CF"}, "WORLD"),
        ({"country": "ZZ"}, "WORLD"),
    ],
)
def test_zones_of_answers(answer: dict[str, str | None], zone: str) -> None:
    with serving(always(Reply(json.dumps(answer)))) as (_, url):
        location = from_ip_address(url, None)
    assert location is not None
    assert location.zone == zone
    assert not location.guess
    assert (zone == "WORLD") == location.note.startswith("world average")


@pytest.mark.parametrize(
    "reply",
    [
        Reply("{}"),
        Reply("[]"),
        Reply("null"),
        Reply('{"country": 7}'),
        Reply('{"country": "Denmark"}'),
        Reply('{"country": "D'),
        Reply("<html>"),
        Reply(status=429, headers={"Retry-After": "3600"}),
        Reply(status=302, headers={"Location": "http://127.0.0.1:9/"}),
        Reply('{"country": "DK"}' + " " * 100_000),
        Reply('{"country": "\u017f\u017f"}'),  # in capitals that is South Sudan
    ],
)
def test_an_answer_without_a_country_is_ignored_and_not_cached(
    tmp_path: Path, reply: Reply
) -> None:
    with serving(always(reply)) as (_, url):
        assert from_ip_address(url, tmp_path / "kept.json") is None
    assert not (tmp_path / "kept.json").exists()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"time": "x"}', '{"time": 1e12, "url": ""}', "[" * 100_000),
        '{"time": 1%s, "url": ""}' % ("0" * 400),
    ],
)
def test_a_damaged_cache_is_asked_again(tmp_path: Path, text: str) -> None:
    cache = tmp_path / "kept.json"
    cache.write_text(text)
    with serving(always(Reply('{"country": "DK"}'))) as (server, url):
        assert from_ip_address(url, cache) is not None
    assert len(server.asked) == 1


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with serving(always(Reply('{"country": "DK"}'))) as (_, url):
        assert from_ip_address(url, tmp_path / "file" / "kept.json") is not None


def test_a_look_up_without_tls_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"CARBONTRACKER_LOOKUP_URL": "http://ip.example/json"}
    assert Services.from_environment(environ).lookup_url == LOOKUP_URL
    assert "not an https URL" in caplog.text
    assert LOOKUP_URL.startswith("https://")


# ---- who is asked, and when ----------------------------------------------------------------


def surroundings(root: Path, server_url: str, **more: str) -> dict[str, str]:
    return {
        "CARBONTRACKER_ROOT": str(root),
        "CARBONTRACKER_METADATA_URL": server_url,
        "CARBONTRACKER_LOOKUP_URL": f"{server_url}/json",
        **more,
    }


def everything(request: Request) -> Reply:
    return Reply(json.dumps(IPINFO)) if request.path == "/json" else cloud_service(request)


def test_a_clouds_word_goes_before_the_address(tmp_path: Path) -> None:
    root = machine(tmp_path, DMI["aws"])
    with serving(everything) as (server, url):
        environ = surroundings(root, url)
        location = look_up(locate(None, environ), environ)
    assert location is not None
    assert location.region == "aws:eu-north-1"
    assert "/json" not in [request.path for request in server.asked]


def test_the_address_is_requested_only_without_a_known_time_zone(tmp_path: Path) -> None:
    with serving(everything) as (server, url):
        environ = surroundings(machine(tmp_path, {}, "Europe/Tallinn"), url)
        assert look_up(locate(None, environ), environ) is None
        assert server.asked == []
        (tmp_path / "etc/timezone").write_text("UTC\n")
        location = look_up(locate(None, environ), environ)
    assert location is not None
    assert location.zone == "DK"
    assert [request.path for request in server.asked] == ["/json"]


@pytest.mark.parametrize(
    ("environ", "may"),
    [
        ({}, True),
        ({"CARBONTRACKER_OFFLINE": "1"}, False),
        ({"CARBONTRACKER_OFFLINE": "y"}, False),
        ({"CARBONTRACKER_OFFLINE": "0"}, True),
        ({"CARBONTRACKER_LOCATE": "never"}, False),
        ({"CARBONTRACKER_LOCATION": "DK"}, False),
        ({"CARBONTRACKER_LOCATION": "Danmark"}, False),
        ({"TZ": "Europe/Copenhagen"}, True),
        ({"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "AWS_REGION": "eu-west-1"}, False),
    ],
)
def test_which_requests_are_allowed(tmp_path: Path, environ: dict[str, str], may: bool) -> None:
    guess = locate(None, environ, tmp_path)
    assert may_look_up(guess, "auto", environ) is may
    assert not may_look_up(guess, "never", environ)


def make_lookup(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> BackgroundLookup:
    monkeypatch.delenv("CARBONTRACKER_LOCATE")
    monkeypatch.delenv("TZ", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return BackgroundLookup(make_carbon_factors())


def test_a_found_region_recalculates_with_its_pue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = machine(tmp_path / "root", DMI["aws"], "Europe/Tallinn")
    with serving(everything) as (_, url):
        lookup = make_lookup(surroundings(root, url), monkeypatch)
        before = make_carbon_factors()
        assert (before.location.zone, before.pue_source) == ("EE", PUE_SOURCE)
        assert lookup.updated_factors(before) is None
        lookup.start(before)
        lookup.wait(30)
    after = lookup.updated_factors(before)
    assert after is not None
    assert (after.location.zone, after.pue, after.pue_source) == ("SE", 1.1, "aws:eu-north-1, 2024")
    assert lookup.updated_factors(after) is None
    given = make_carbon_factors(pue=1.3).at(after.location, {})
    assert (given.location.zone, given.pue, given.pue_source) == ("SE", 1.3, "given")
    assert lookup.updated_factors(make_carbon_factors("DK")) is None


def test_last_weeks_look_up_is_known_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = machine(tmp_path / "root", {})
    with serving(everything) as (server, url):
        first = make_lookup(surroundings(root, url), monkeypatch)
        first.start(make_carbon_factors())
        first.wait(30)
        second = BackgroundLookup(make_carbon_factors())
        known = second.updated_factors(make_carbon_factors())
        second.start(make_carbon_factors())
        assert len(server.asked) == 1
    assert known is not None
    assert known.location.zone == "DK"


# ---- the tracker ---------------------------------------------------------------------------


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.delenv("CARBONTRACKER_LOCATE")
    monkeypatch.delenv("TZ", raising=False)


def train(**arguments: object) -> CarbonTracker:
    cpu = {"sim_cpu": "A", "sim_cpu_tdp": 100.0, "components": "cpu", "verbose": 0}
    return CarbonTracker(epochs=2, **{**cpu, **arguments})  # type: ignore[arg-type]


def until_asked(server: Server, tracker: CarbonTracker) -> None:
    assert tracker._training._lookup is not None
    tracker._training._lookup.wait(30)
    assert server.asked


@pytest.mark.usefixtures("_bare")
def test_an_answer_that_comes_late_reprices_the_whole_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(everything) as (server, url):
        monkeypatch.setenv("CARBONTRACKER_LOOKUP_URL", f"{url}/json")
        tracker = train(verbose=1)
        assert server.asked == []  # not before the first epoch
        tracker.epoch_start()
        until_asked(server, tracker)
        tracker.epoch_end()
        tracker.epoch_start()
        tracker.epoch_end()
    assert tracker.result is not None
    used = tracker.result.footprint
    assert used.intensity.zone == "DK"
    assert used.gco2eq == pytest.approx(used.kwh * used.intensity.gco2eq_per_kwh)
    events = read_record(tmp_path / "records")
    started = events[0]["pricing"]["location"]
    (located,) = [event for event in events if event["event"] == "located"]
    assert (started["zone"], located["pricing"]["location"]["zone"]) == ("WORLD", "DK")
    assert "Location by IP address" in capsys.readouterr().out


@pytest.mark.usefixtures("_bare")
@pytest.mark.parametrize("killed", [False, True])
def test_a_report_names_the_pue_that_was_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """A cloud's region has a PUE of its own, which comes with the place."""
    root = machine(tmp_path, DMI["aws"])
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(root))
    with serving(everything) as (server, url):
        monkeypatch.setenv("CARBONTRACKER_METADATA_URL", url)
        tracker = train(log_dir=tmp_path / "logs")
        tracker.epoch_start()
        until_asked(server, tracker)
        tracker.epoch_end()
        tracker.stop()
    (path,) = (tmp_path / "logs").glob("*.jsonl")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    (located,) = [event for event in events if event["event"] == "located"]
    assert located["pue_source"] != events[0]["pue_source"]
    if killed:
        path.write_text("".join(json.dumps(one) + "\n" for one in events if one != events[-1]))
    run = read_run(path)
    assert run.complete != killed
    assert run.footprint.pue == located["pricing"]["pue"]
    assert run.metadata.pue_source == located["pue_source"]
    provenance = dict(provenance_of(run))
    assert provenance["PUE"] == f"{run.footprint.pue:g} ({located['pue_source']})"


@pytest.mark.usefixtures("_bare")
def test_a_service_that_hangs_does_not_delay_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(always(Reply(hang=True))) as (_, url):
        monkeypatch.setenv("CARBONTRACKER_LOOKUP_URL", f"{url}/json")
        tracker = train()
        for _ in range(2):
            tracker.epoch_start()
            tracker.epoch_end()
        assert tracker.result is not None
        assert tracker.result.footprint.intensity.zone == "WORLD"
    assert tracker._training._lookup is not None
    tracker._training._lookup.wait(30)  # the server has gone, and so does the thread


@pytest.mark.usefixtures("_bare")
@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        ({}, {"CARBONTRACKER_OFFLINE": "1"}),
        ({"advise": True}, {"CARBONTRACKER_OFFLINE": "1"}),
        ({"locate": "never"}, {}),
        ({}, {"CARBONTRACKER_LOCATE": "never"}),
        ({"location": "DK"}, {}),
        ({}, {"CARBONTRACKER_LOCATION": "SE"}),
    ],
)
def test_no_socket_when_lookups_are_disabled(
    arguments: dict[str, object],
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    tracker = train(**arguments)
    for _ in range(2):
        tracker.epoch_start()
        tracker.epoch_end()
    assert tracker.result is not None


def test_a_tracker_loads_no_network_before_it_asks() -> None:
    done = python(
        "import sys, carbontracker.tracker\n"
        "print(*sorted({'socket', 'ssl', 'http.client', 'urllib.request'} & set(sys.modules)))"
    )
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.usefixtures("_bare")
def test_construction_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    tracker = train(advise=True)
    assert tracker._training._lookup is None
    tracker.stop()


@pytest.mark.usefixtures("_bare")
def test_advice_without_a_forecast_names_a_region(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tracker = train(advise=True, location="PL", locate="never", verbose=1)
    tracker.epoch_start()
    time.sleep(0.05)
    tracker.epoch_end()
    tracker.stop()
    said = capsys.readouterr()
    assert said.err == ""
    (line,) = [one for one in said.out.splitlines() if "Advice" in one]
    assert line.startswith("CarbonTracker: Advice: Oslo (azure:norwayeast) would save 96 %")
    (advice,) = [event for event in read_record(tmp_path / "records") if event["event"] == "advice"]
    assert advice["region"]["key"] == "azure:norwayeast"
    assert advice["start"] is None
    assert os.environ["CARBONTRACKER_DIR"] == str(tmp_path / "records")
