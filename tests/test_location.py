"""Finding the place without the network."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from carbontracker.carbon.factors import PUE_SOURCE, make_carbon_factors
from carbontracker.constants import PUE_2023
from carbontracker.data import rows
from carbontracker.exceptions import UnknownLocation
from carbontracker.intensity.providers import provider
from carbontracker.location.location import CONFIG, VARIABLE, Location, _index, locate, resolve

if TYPE_CHECKING:
    from pathlib import Path

ZONES = {row["zone"] for row in rows("grid_intensity")}


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("DK", "DK"),
        ("dk", "DK"),
        (" Denmark ", "DK"),
        ("NA", "NA"),
        ("Namibia", "NA"),
        ("UK", "GB"),
        ("usa", "US"),
        ("us-ca", "US-CA"),
        ("California", "US-CA"),
        ("DK-DK1", "DK"),
        ("DK-DK9", "DK"),
        ("CA-NL-LB", "CA-NL"),
        ("US-TEX-ERCO", "US-EGRID-ERCT"),
        ("AD", "ES"),
        ("Türkiye", "TR"),
        ("turkiye", "TR"),
        ("Turkey", "TR"),
        ("Cote d'Ivoire", "CI"),
        ("Vietnam", "VN"),
        ("european union", "EU"),
        ("world", "WORLD"),
        ("global", "WORLD"),
        ("eu-north-1", "SE"),
        ("EU-WEST-1", "IE"),
        ("alibaba:eu-west-1", "GB"),
        ("amazon:eu-north-1", "SE"),
        ("google:us-central1", "US-EGRID-MROW"),
        ("us-central1-a", "US-EGRID-MROW"),
        ("eu-north-1b", "SE"),
        ("westeurope", "NL"),
        ("scaleway:fr-par", "FR"),
    ],
)
def test_resolve(text: str, zone: str) -> None:
    assert resolve(text) == zone


def test_every_zone_name_and_alias_resolves() -> None:
    for row in rows("grid_intensity"):
        assert resolve(row["zone"]) == row["zone"]
        assert resolve(row["zone"].lower()) == row["zone"]
        if row["name"] != "Georgia":
            assert resolve(row["name"]) == row["zone"]
    for row in rows("zone_aliases"):
        assert resolve(row["alias"]) == row["zone"]


def test_only_georgia_has_two_meanings() -> None:
    assert [name for name, zones in _index().items() if len(zones) > 1] == ["georgia"]
    with pytest.raises(UnknownLocation, match="'Georgia' may be GE or US-GA: give the code"):
        resolve("Georgia")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Danmark", r"unknown location 'Danmark'; did you mean Denmark \(DK\)"),
        ("Untied States", r"United States \(US\)"),
        ("Estonai", r"Estonia \(EE\)"),
        ("qqqq", r"give a country, an ISO 3166 code such as DK or US-CA, a cloud region"),
        ("", "unknown location ''"),
        ("-", "unknown location '-'"),
        ("CF", "no figure for CF; give WORLD"),
        ("eu-west-9", "did you mean aws:eu-west-3 or aws:eu-west-2 or aws:eu-west-1"),
        ("aws:eu-nort-1", "did you mean aws:eu-north-1"),
        ("nocloud:eu-north-1", "did you mean aws:eu-north-1"),
        ("westeurop", "did you mean azure:westeurope"),
    ],
)
def test_an_unknown_place_is_refused_with_help(text: str, hint: str) -> None:
    with pytest.raises(UnknownLocation, match=hint):
        resolve(text)
    with pytest.raises(ValueError, match=hint):
        locate(text, {})


def machine(root: Path, timezone: str | None = None, localtime: str | None = None) -> Path:
    (root / "etc").mkdir()
    if timezone is not None:
        (root / "etc/timezone").write_text(timezone)
    if localtime is not None:
        (root / "etc/localtime").symlink_to(localtime)
    return root


def test_the_argument_wins(tmp_path: Path) -> None:
    environ = {VARIABLE: "SE", "TZ": "Europe/Tallinn"}
    assert locate("Denmark", environ, tmp_path) == Location("DK", "Denmark", "argument")


def test_then_the_environment(tmp_path: Path) -> None:
    environ = {VARIABLE: "SE", "TZ": "Europe/Tallinn"}
    assert locate(None, environ, tmp_path) == Location("SE", "Sweden", VARIABLE)


def test_a_wrong_environment_value_means_the_world_average_with_a_note(tmp_path: Path) -> None:
    location = locate(None, {VARIABLE: "Danmark", "TZ": "Europe/Tallinn"}, tmp_path)
    assert (location.zone, location.name, location.how) == ("WORLD", "World", "unknown")
    assert location.note == (
        "world average used: CARBONTRACKER_LOCATION: "
        "unknown location 'Danmark'; did you mean Denmark (DK)?"
    )


@pytest.mark.parametrize(
    "value",
    ["Europe/Copenhagen", ":Europe/Copenhagen", "/usr/share/zoneinfo/posix/Europe/Copenhagen"],
)
def test_then_tz(tmp_path: Path, value: str) -> None:
    root = machine(tmp_path, timezone="Europe/Paris\n")
    assert locate(None, {"TZ": value, VARIABLE: " "}, root) == Location(
        "DK", "Denmark", "time zone Europe/Copenhagen"
    )


def test_then_etc_timezone(tmp_path: Path) -> None:
    root = machine(tmp_path, "Europe/Paris\n", "/usr/share/zoneinfo/Europe/Berlin")
    location = locate(None, {"TZ": "UTC"}, root)
    assert (location.zone, location.how) == ("FR", "time zone Europe/Paris")


@pytest.mark.parametrize(
    "link",
    [
        "../usr/share/zoneinfo/Africa/Windhoek",
        "/var/db/timezone/zoneinfo/Africa/Windhoek",
    ],
)
def test_then_the_localtime_link(tmp_path: Path, link: str) -> None:
    location = locate(None, {}, machine(tmp_path, "Etc/UTC\n", link))
    assert location == Location("NA", "Namibia", "time zone Africa/Windhoek")


def test_a_time_zone_is_not_followed_to_another_country(tmp_path: Path) -> None:
    zoneinfo = tmp_path / "usr/share/zoneinfo/Europe"
    zoneinfo.mkdir(parents=True)
    (zoneinfo / "Berlin").write_bytes(b"TZif2")
    (zoneinfo / "Copenhagen").symlink_to("Berlin")
    root = machine(tmp_path, localtime=str(zoneinfo / "Copenhagen"))
    assert locate(None, {}, root).zone == "DK"


def test_a_stand_in_is_named(tmp_path: Path) -> None:
    note = "no figure for AD; ES stands in (proxy)"
    assert locate("AD", {}).note == note
    assert locate(None, {"TZ": "Europe/Andorra"}, tmp_path).note == note
    assert locate("DK-DK1", {}).note == "no figure for DK-DK1; DK stands in (contains it)"
    assert locate("DK-DK9", {}).note == "no figure for DK-DK9; DK stands in (contains it)"
    assert locate("UK", {}).note == ""


@pytest.mark.parametrize("timezone", [None, "", "Etc/UTC\n", "CET-1CEST\n", "\0\n"])
def test_otherwise_the_world_with_a_note(tmp_path: Path, timezone: str | None) -> None:
    location = locate(
        None, {"TZ": "UTC"}, machine(tmp_path, timezone, "/usr/share/zoneinfo/Etc/UTC")
    )
    assert (location.zone, location.how) == ("WORLD", "unknown")
    assert location.note == (
        "world average used: location unknown; set it with location= or CARBONTRACKER_LOCATION"
    )


def test_a_machine_without_etc_or_with_a_copied_localtime(tmp_path: Path) -> None:
    assert locate(None, {}, tmp_path / "nothing").how == "unknown"
    root = machine(tmp_path)
    (root / "etc/localtime").write_bytes(b"TZif2")
    assert locate(None, {}, root).how == "unknown"


def test_a_country_without_a_figure_means_the_world_average_with_a_note(tmp_path: Path) -> None:
    location = locate(None, {"TZ": "Africa/Bangui"}, tmp_path)
    assert (location.zone, location.how) == ("WORLD", "time zone Africa/Bangui")
    assert location.note == "world average used: no figure for CF"


def test_every_time_zone_gives_a_place_and_the_world_is_always_marked(tmp_path: Path) -> None:
    for row in rows("timezone_zones"):
        location = locate(None, {"TZ": row["timezone"]}, tmp_path)
        assert location.how == f"time zone {row['timezone']}"
        assert location.zone in ZONES
        assert location.name
        assert (location.zone == "WORLD") == location.note.startswith("world average")


@pytest.mark.parametrize(
    ("text", "zone", "grid_zone"),
    [
        ("DK", "DK", "DK"),
        ("Denmark", "DK", "DK"),
        ("UK", "GB", "GB"),
        ("DK-DK1", "DK", "DK-DK1"),
        ("dk-dk9", "DK", "DK-DK9"),
        ("US-CAL-CISO", "US-CA", "US-CAL-CISO"),
        ("AD", "ES", "AD"),
        ("aws:eu-north-1", "SE", "SE-SE3"),
        ("gcp:us-west2", "US-EGRID-CAMX", "US-CAL-LDWP"),
    ],
)
def test_the_finer_zone_is_kept_for_live_services(text: str, zone: str, grid_zone: str) -> None:
    location = locate(text, {})
    assert (location.zone, location.grid_zone) == (zone, grid_zone)


def test_a_region_names_itself_and_its_cloud(tmp_path: Path) -> None:
    location = locate("eu-west-1", {})
    assert location == Location(
        "IE",
        "Dublin (aws eu-west-1)",
        "argument",
        "eu-west-1 is taken as aws:eu-west-1, not alibaba:eu-west-1 (London)",
        "IE",
        "aws:eu-west-1",
    )
    assert locate("aws:eu-west-1", {}).note == ""
    now = datetime.now(timezone.utc)
    (figure,) = provider("table").between(locate("us-east-1", {}).zone, now, now)
    assert (figure.zone, figure.scope) == ("US", "lifecycle")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_then_the_users_file_then_the_sites(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "user"), "TZ": "Europe/Tallinn"}
    site, user = tmp_path / "etc" / CONFIG, tmp_path / "user" / CONFIG
    write(site, "[carbontracker]\nlocation = FI\n")
    assert locate(None, environ, tmp_path) == Location("FI", "Finland", str(site))
    write(user, "[carbontracker]\nlocation = DK-DK2\n")
    assert locate(None, environ, tmp_path).grid_zone == "DK-DK2"
    at_home = {"HOME": str(tmp_path / "home")}
    write(tmp_path / "home" / ".config" / CONFIG, "[carbontracker]\nlocation = NO\n")
    assert locate(None, at_home, tmp_path).zone == "NO"
    assert locate(None, environ | {VARIABLE: "SE"}, tmp_path).zone == "SE"
    assert locate("IS", environ, tmp_path).zone == "IS"


def test_a_wrong_location_in_a_file_means_the_world_average_with_a_note(tmp_path: Path) -> None:
    site = tmp_path / "etc" / CONFIG
    write(site, "[carbontracker]\nlocation = Danmark\n")
    location = locate(None, {"TZ": "Europe/Tallinn"}, tmp_path)
    assert (location.zone, location.how, location.guess) == ("WORLD", "unknown", False)
    assert location.note.startswith(f"world average used: {site}: unknown location 'Danmark'")


@pytest.mark.parametrize(
    "text", ["", "location = DK", "[carbontracker]\n", "[other]\nlocation=DK\n", "\0[", "[a\n]]="]
)
def test_a_file_without_a_location_is_ignored(tmp_path: Path, text: str) -> None:
    write(tmp_path / "etc" / CONFIG, text)
    assert locate(None, {"TZ": "Europe/Tallinn"}, tmp_path).zone == "EE"


@pytest.mark.parametrize(
    ("environ", "region"),
    [
        ({"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "AWS_REGION": "eu-north-1"}, "aws:eu-north-1"),
        ({"SM_CURRENT_HOST": "algo-1", "AWS_DEFAULT_REGION": "us-west-2"}, "aws:us-west-2"),
        ({"AWS_REGION": "eu-north-1"}, ""),  # as well a laptop's
        ({"SM_CURRENT_HOST": "algo-1", "AWS_REGION": "moon-1"}, ""),
    ],
)
def test_then_a_clouds_own_environment(
    tmp_path: Path, environ: dict[str, str], region: str
) -> None:
    location = locate(None, environ | {"TZ": "Europe/Tallinn"}, tmp_path)
    assert location.region == region
    assert location.guess is (not region)
    assert (location.how == "AWS_REGION") is bool(region)


def test_the_root_is_the_measured_machines(tmp_path: Path) -> None:
    root = machine(tmp_path, "Europe/Paris\n")
    assert locate(None, {"CARBONTRACKER_ROOT": str(root)}).zone == "FR"


@pytest.mark.parametrize(
    ("location", "pue", "how"),
    [
        ("aws:eu-north-1", 1.10, "aws:eu-north-1, 2024"),
        ("azure:eastus", 1.14, "azure:eastus, 2023"),
        ("gcp:europe-west3", 1.09, "average of gcp, the region has no figure of its own"),
        ("ovh:gra", 1.26, "average of ovh, the region has no figure of its own"),
        ("hetzner:fsn1", PUE_2023, PUE_SOURCE),
        ("SE", PUE_2023, PUE_SOURCE),
    ],
)
def test_a_regions_pue(location: str, pue: float, how: str) -> None:
    factors = make_carbon_factors(location)
    assert factors.pue == pue
    assert factors.pue_source.endswith(how)
    assert make_carbon_factors(location, 1.2).pue == 1.2


def test_a_stated_pue_goes_before_the_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONTRACKER_PUE", "1.25")
    assert make_carbon_factors("aws:eu-north-1").pue == 1.25
