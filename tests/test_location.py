"""Finding the place without the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carbontracker.data import rows
from carbontracker.location import VARIABLE, Place, UnknownLocation, _index, locate, resolve

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
        ("qqqq", r"give a country, an ISO 3166 code such as DK or US-CA, or WORLD"),
        ("", "unknown location ''"),
        ("-", "unknown location '-'"),
        ("CF", "no figure for CF; give WORLD"),
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
    assert locate("Denmark", environ, tmp_path) == Place("DK", "Denmark", "argument")


def test_then_the_environment(tmp_path: Path) -> None:
    environ = {VARIABLE: "SE", "TZ": "Europe/Tallinn"}
    assert locate(None, environ, tmp_path) == Place("SE", "Sweden", VARIABLE)


def test_a_wrong_environment_value_is_the_world_and_says_so(tmp_path: Path) -> None:
    place = locate(None, {VARIABLE: "Danmark", "TZ": "Europe/Tallinn"}, tmp_path)
    assert (place.zone, place.name, place.how) == ("WORLD", "World", "unknown")
    assert place.note == (
        "world average used: CARBONTRACKER_LOCATION: "
        "unknown location 'Danmark'; did you mean Denmark (DK)?"
    )


@pytest.mark.parametrize(
    "value",
    ["Europe/Copenhagen", ":Europe/Copenhagen", "/usr/share/zoneinfo/posix/Europe/Copenhagen"],
)
def test_then_tz(tmp_path: Path, value: str) -> None:
    root = machine(tmp_path, timezone="Europe/Paris\n")
    assert locate(None, {"TZ": value, VARIABLE: " "}, root) == Place(
        "DK", "Denmark", "time zone Europe/Copenhagen"
    )


def test_then_etc_timezone(tmp_path: Path) -> None:
    root = machine(tmp_path, "Europe/Paris\n", "/usr/share/zoneinfo/Europe/Berlin")
    place = locate(None, {"TZ": "UTC"}, root)
    assert (place.zone, place.how) == ("FR", "time zone Europe/Paris")


@pytest.mark.parametrize(
    "link",
    [
        "../usr/share/zoneinfo/Africa/Windhoek",
        "/var/db/timezone/zoneinfo/Africa/Windhoek",
    ],
)
def test_then_the_localtime_link(tmp_path: Path, link: str) -> None:
    place = locate(None, {}, machine(tmp_path, "Etc/UTC\n", link))
    assert place == Place("NA", "Namibia", "time zone Africa/Windhoek")


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
    place = locate(None, {"TZ": "UTC"}, machine(tmp_path, timezone, "/usr/share/zoneinfo/Etc/UTC"))
    assert (place.zone, place.how) == ("WORLD", "unknown")
    assert place.note == (
        "world average used: location unknown; name it with location= or CARBONTRACKER_LOCATION"
    )


def test_a_machine_without_etc_or_with_a_copied_localtime(tmp_path: Path) -> None:
    assert locate(None, {}, tmp_path / "nothing").how == "unknown"
    root = machine(tmp_path)
    (root / "etc/localtime").write_bytes(b"TZif2")
    assert locate(None, {}, root).how == "unknown"


def test_a_country_without_a_figure_is_the_world_and_says_so(tmp_path: Path) -> None:
    place = locate(None, {"TZ": "Africa/Bangui"}, tmp_path)
    assert (place.zone, place.how) == ("WORLD", "time zone Africa/Bangui")
    assert place.note == "world average used: no figure for CF"


def test_every_time_zone_gives_a_place_and_the_world_is_always_marked(tmp_path: Path) -> None:
    for row in rows("timezone_zones"):
        place = locate(None, {"TZ": row["timezone"]}, tmp_path)
        assert place.how == f"time zone {row['timezone']}"
        assert place.zone in ZONES
        assert place.name
        assert (place.zone == "WORLD") == place.note.startswith("world average")
