"""Carbon-intensity figures, their provenance and the offline providers."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.data import rows
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.providers import PROVIDERS, provider
from carbontracker.intensity.providers.constant import Constant
from carbontracker.intensity.providers.table import Table

if TYPE_CHECKING:
    from carbontracker.intensity.base import Intensity

START = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
END = START + timedelta(hours=1)


def figure(zone: str, scope: str = "lifecycle") -> Intensity:
    (only,) = Table(scope).between(zone, START, END)
    return only


def test_a_country_gets_its_own_lifecycle_figure() -> None:
    denmark = figure("DK")
    assert denmark.gco2eq_per_kwh == 114.41
    assert (denmark.zone, denmark.name, denmark.year) == ("DK", "Denmark", 2025)
    assert (denmark.scope, denmark.kind, denmark.signal) == ("lifecycle", "annual", "average")
    assert denmark.source.startswith("Ember")
    assert denmark.licence == "CC BY 4.0"
    assert (denmark.start, denmark.end, denmark.note) == (None, None, "")


def test_scope_is_chosen_once_and_kept() -> None:
    assert figure("DK", "direct").gco2eq_per_kwh == 64
    assert figure("US-CA", "direct").gco2eq_per_kwh == 179.1
    assert figure("CA-QC", "consumption").gco2eq_per_kwh == 2.6
    has = {(row["zone"], row["scope"]) for row in rows("grid_intensity")}
    for scope in ("lifecycle", "direct", "consumption"):
        for zone in sorted({row["zone"] for row in rows("grid_intensity")}):
            if (zone.partition("-")[0], scope) in has or (zone, scope) in has:
                assert figure(zone, scope).scope == scope
            else:
                with pytest.raises(IntensityUnavailable, match=f"no {scope} figure for '{zone}'"):
                    figure(zone, scope)


@pytest.mark.parametrize(
    ("zone", "used", "note"),
    [
        ("US-CA", "US", "no lifecycle figure for US-CA; US stands in"),
        ("US-EGRID-CAMX", "US", "no lifecycle figure for US-EGRID-CAMX; US stands in"),
        ("US-TEX-ERCO", "US", "no lifecycle figure for US-TEX-ERCO; US stands in"),
        ("DK-DK1", "DK", "no lifecycle figure for DK-DK1; DK stands in"),
        ("dk-dk1", "DK", "no lifecycle figure for DK-DK1; DK stands in"),
        ("AD", "ES", "no lifecycle figure for AD; ES stands in (proxy)"),
    ],
)
def test_a_wider_zone_is_a_substitute_with_a_note(zone: str, used: str, note: str) -> None:
    found = figure(zone)
    assert (found.zone, found.note) == (used, note)


def test_an_alias_keeps_the_finest_zone_of_the_scope() -> None:
    assert figure("US-TEX-ERCO", "direct").zone == "US-EGRID-ERCT"


@pytest.mark.parametrize("zone", ["WORLD", "CF", "AQ", "nowhere", ""])
def test_the_world_is_used_only_when_marked(zone: str) -> None:
    found = figure(zone)
    assert (found.zone, found.gco2eq_per_kwh, found.year) == ("WORLD", 458.29, 2025)
    assert "world average, not a local figure" in found.note


def test_no_zone_of_the_table_or_its_aliases_falls_through_to_the_world() -> None:
    known = {row["zone"] for row in rows("grid_intensity")} - {"WORLD"}
    known |= {r["alias"] for r in rows("zone_aliases") if r["kind"] != "name"}
    assert [zone for zone in sorted(known) if figure(zone).zone == "WORLD"] == []


def test_another_scope_is_never_borrowed() -> None:
    with pytest.raises(IntensityUnavailable, match="no direct figure for 'JP'") as caught:
        figure("JP", "direct")
    assert caught.value.reason == str(caught.value)


def test_namibia() -> None:
    assert figure("NA").name == "Namibia"
    assert figure("NA").gco2eq_per_kwh == 48.78


def test_constant_is_the_users_figure_everywhere() -> None:
    for zone in ("DK", "US-CA"):
        (found,) = Constant(33.5, scope="lifecycle").between(zone, START, END)
        assert (found.gco2eq_per_kwh, found.kind, found.scope) == (33.5, "constant", "lifecycle")
        assert found.zone == ""
        assert found.source == "given by the user"
    assert Constant(0).between("DK", START, END)[0].gco2eq_per_kwh == 0


@pytest.mark.parametrize("value", [-1, 2000.1, math.nan, math.inf])
def test_an_impossible_figure_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="0 to 2000 gCO2eq/kWh"):
        Constant(value)


def test_labels_and_slots_are_checked() -> None:
    good = figure("DK")
    with pytest.raises(ValueError, match="'cradle' is not one of"):
        replace(good, scope="cradle")
    with pytest.raises(ValueError, match="'guess' is not one of"):
        replace(good, kind="guess")
    with pytest.raises(ValueError, match="'total' is not one of"):
        replace(good, signal="total")
    with pytest.raises(ValueError, match="aware times"):
        replace(good, start=START.replace(tzinfo=None))
    for year in (1, 9999):  # a day further on there is no date any more
        with pytest.raises(ValueError, match="the years 1900 to 2999"):
            replace(good, start=None, end=END.replace(year=year))
    with pytest.raises(ValueError, match="not after its start"):
        replace(good, start=END, end=START)
    with pytest.raises(FrozenInstanceError):
        good.zone = "SE"  # type: ignore[misc]  # frozen: that is the test


def test_to_dict_is_json_ready() -> None:
    slot = replace(figure("DK"), start=START, end=END)
    loaded = json.loads(json.dumps(slot.to_dict(), allow_nan=False))
    assert loaded["gco2eq_per_kwh"] == 114.41
    assert loaded["start"] == "2026-11-23T12:00:00+00:00"
    assert loaded["signal"] == "average"
    assert figure("DK").to_dict()["end"] is None
    assert pickle.loads(pickle.dumps(slot)) == slot


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_listed_provider_can_be_built(name: str) -> None:
    settings: dict[str, dict[str, Any]] = {
        "constant": {"gco2eq_per_kwh": 10.0},
        "http_json": {"shape": {"url": "http://127.0.0.1/", "value": "v", "time": "t"}},
    }
    key = {"api_key": "key"} if PROVIDERS[name].key else {}
    built = provider(name, **settings.get(name, key))
    assert built.name == name
    if not PROVIDERS[name].live:
        assert built.now("DK") == built.between("DK", START, END)[0]


def test_wrong_provider_or_setting() -> None:
    with pytest.raises(ValueError, match="unknown intensity provider 'oracle': choose from carbon"):
        provider("oracle")
    with pytest.raises(ValueError, match="no scope 'cradle'"):
        provider("table", scope="cradle")
    with pytest.raises(TypeError):
        provider("table", colour="green")
