"""The tables: complete, consistent, credited and plausible."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import carbontracker.data
from carbontracker import constants
from carbontracker.data import WORLD, rows

DATA = Path(carbontracker.data.__file__).parent
GRID = rows("grid_intensity")
ZONES = {row["zone"] for row in GRID}

TABLES = {
    "cloud_regions": (260, ("provider", "region")),
    "cpu_cores": (
        257,
        ("vendor", "family", "first_model", "last_model", "first_stepping", "seller", "name"),
    ),
    "cpu_tdp": (5206, ("match_key",)),
    "embodied": (5, ("accelerator", "kg_co2eq")),
    "equivalents": (52, ("key",)),
    "fuel_factors": (27, ("fuel",)),
    "gpu_tdp": (226, ("match_key",)),
    "grid_intensity": (376, ("zone", "scope")),
    "pue": (85, ("scope", "year")),
    "sources": (31, ("id",)),
    "timezone_zones": (499, ("timezone",)),
    "water": (5, ("place", "kind", "litres_per_kwh")),
    "zone_aliases": (190, ("alias",)),
}


def test_every_table_is_listed_here() -> None:
    assert {path.stem for path in DATA.glob("*.csv")} == set(TABLES)


@pytest.mark.parametrize(("table", "count", "key"), [(t, n, k) for t, (n, k) in TABLES.items()])
def test_size_unique_keys_and_order(table: str, count: int, key: tuple[str, ...]) -> None:
    keys = [tuple(row[column] for column in key) for row in rows(table)]
    assert len(keys) == count
    assert [k for k, n in Counter(keys).items() if n > 1] == []
    assert keys == sorted(keys)


@pytest.mark.parametrize("table", TABLES)
def test_rows_are_whole(table: str) -> None:
    assert all(None not in row and None not in row.values() for row in rows(table))


@pytest.mark.parametrize("path", sorted(DATA.glob("*.*")), ids=lambda path: path.name)
def test_files_are_utf8_with_unix_lines_and_name_no_machine_path(path: Path) -> None:
    if path.suffix in {".csv", ".md", ".py"}:
        text = path.read_bytes().decode("utf-8")
        assert "\r" not in text
        assert text.endswith("\n")
        assert not re.search(r"(^|[\s,\"'(])/(work|home|tmp|root|Users)/", text)


def test_grid_rows_carry_year_scope_source_and_licence() -> None:
    for row in GRID:
        assert 2009 <= int(row["year"]) <= 2026, row
        assert row["scope"] in {"lifecycle", "direct", "consumption"}, row
        assert row["source"], row
        assert row["licence"], row
        assert row["name"], row
        assert 2 <= float(row["gco2eq_per_kwh"]) < 1400, row


def test_grid_zones() -> None:
    assert len(ZONES) == 344
    assert Counter(row["scope"] for row in GRID) == {
        "lifecycle": 215,
        "direct": 117,
        "consumption": 44,
    }
    countries = {row["zone"] for row in GRID if row["scope"] == "lifecycle"}
    assert {zone.partition("-")[0] for zone in ZONES} == countries
    assert {"US-DC", "US-EGRID-CAMX", "CA-QC", "AU-NSW", "CN-ZJ", "EU", WORLD} <= ZONES


def test_namibia_is_not_a_missing_value() -> None:
    (namibia,) = [row for row in GRID if row["zone"] == "NA"]
    assert namibia["name"] == "Namibia"
    assert float(namibia["gco2eq_per_kwh"]) == 48.78


def test_estonia_is_much_dirtier_than_sweden() -> None:
    lifecycle = {r["zone"]: float(r["gco2eq_per_kwh"]) for r in GRID if r["scope"] == "lifecycle"}
    assert 5 < lifecycle["EE"] / lifecycle["SE"] < 30
    assert lifecycle["SE"] < lifecycle["DK"] < lifecycle["EU"] < lifecycle[WORLD] < lifecycle["PL"]


def test_every_alias_leads_to_a_zone_and_hides_no_zone() -> None:
    for row in rows("zone_aliases"):
        assert row["zone"] in ZONES, row
        assert row["alias"] not in ZONES, row
        assert row["kind"] in {"name", "proxy", "subzone"}, row


def test_every_time_zone_leads_to_a_zone_or_states_that_it_has_no_zone() -> None:
    none = [row for row in rows("timezone_zones") if not row["zone"]]
    assert len(none) == 27
    assert {row["basis"] for row in none} == {"none"}
    for row in rows("timezone_zones"):
        assert row["zone"] in ZONES or row in none, row
        assert re.fullmatch("[A-Z]{2}", row["country"]), row
    assert not {"UTC", "Etc/UTC", "GMT"} & {row["timezone"] for row in rows("timezone_zones")}


@pytest.mark.parametrize("table", ["cpu_cores", "cpu_tdp"])
def test_cpu_tables_can_be_read_by_splitting_at_commas(table: str) -> None:
    lines = (DATA / f"{table}.csv").read_text(encoding="ascii").splitlines()
    commas = lines[0].count(",")
    assert all(line.count(",") == commas and '"' not in line for line in lines)
    assert all(line.partition(",")[0] for line in lines)


def test_cpu_rows_are_plausible_and_sourced() -> None:
    sources = {row["id"]: row for row in rows("sources")}
    assert all(row["source"] and row["licence"] for row in sources.values())
    named = {each for row in rows("gpu_tdp") for each in row["source"].split(";")}
    named |= {row["source"] for row in rows("cpu_cores")}
    assert {row["source"] for row in rows("cpu_tdp")} | named == set(sources)
    for row in rows("cpu_tdp"):
        assert re.fullmatch("[a-z0-9+]+", row["match_key"]), row
        assert 1 <= float(row["tdp_watts"]) <= 500, row
        # What a processor draws for long may be twice or thrice of what cooling is designed for.
        assert (
            row["max_watts"] == "" or 0.9 <= float(row["max_watts"]) / float(row["tdp_watts"]) < 5
        )
        assert row["cores"] == "" or 1 <= int(row["cores"]) <= 288, row
        assert row["launch_year"] == "" or 2000 <= int(row["launch_year"]) <= 2026, row
        assert row["evidence"] in {"vendor", "secondary", "recalled", "estimate"}, row


CPU_CODES = {"kernel", "lscpu", "seen", "recalled", "range", "name"}


def test_rows_of_cores_are_plausible_and_their_codes_sourced() -> None:
    words = Counter[str]()
    for row in rows("cpu_cores"):
        idle, full = float(row["idle_watts"]), float(row["full_watts"])
        assert 0.02 <= idle < full <= 20, row
        assert 2 <= full / idle <= 70, row
        assert row["threads_per_core"] in {"1", "2", "4", "8"}, row
        assert row["code"] in CPU_CODES, row
        assert row["evidence"] in {"secondary", "derived", "estimate"}, row
        assert bool(row["first_model"]) == (row["vendor"] not in {"name", "brand"}), row
        assert (row["code"] == "name") == (not row["first_model"]), row
        if row["first_model"]:
            assert int(row["first_model"], 0) <= int(row["last_model"], 0), row
        else:
            assert row["words"], row
        assert row["seller"] == row["seller"].lower(), row
        words.update(word for word in row["words"].split(";") if word)
        assert all(re.fullmatch(r"[a-z0-9+?]+", word) for word in row["words"].split(";") if word)
    assert [word for word, count in words.items() if count > 1] == []


def test_watts_of_a_thread_are_the_cloud_providers() -> None:
    known = {row["name"]: (row["idle_watts"], row["full_watts"]) for row in rows("cpu_cores")}
    assert known["EPYC Rome (Zen 2)"] == ("0.47", "1.69")
    assert known["Cascade Lake"] == ("0.64", "3.97")
    assert known["Broadwell server"] == ("0.71", "3.69")


def test_a_desktop_may_draw_more_than_its_tdp() -> None:
    limits = {row["match_key"]: row["max_watts"] for row in rows("cpu_tdp")}
    assert limits["intelcorei912900k"] == "241"
    assert limits["amdryzen95950x"] == "142"  # 1.35 x 105 W
    assert limits["amdryzen97950x"] == "230"
    assert limits["amdryzenthreadripperpro3995wx"] == ""


def test_known_processors() -> None:
    watts = {row["match_key"]: float(row["tdp_watts"]) for row in rows("cpu_tdp")}
    assert watts["intelxeongold6226r"] == 150
    assert watts["intelxeonplatinum8480+"] == 350
    assert watts["amdepyc9654"] == 360


def test_gpu_rows_are_plausible_and_sourced() -> None:
    for row in rows("gpu_tdp"):
        assert re.fullmatch("[a-z0-9]+", row["match_key"]), row
        assert 5 <= float(row["tdp_watts"]) <= 23_000, row
        assert row["idle_watts"] == "" or 5 <= float(row["idle_watts"]) < float(row["tdp_watts"])
        # No board does more than 5e12 operations a second and watt, nor a training chip less than
        # one for a thousand times that.
        for column in ("fp32_tflops", "fp16_tflops"):
            assert row[column] == "" or 0.005 < float(row[column]) / float(row["tdp_watts"]) < 5, (
                row
            )
        assert 2010 <= int(row["launch_year"]) <= 2026, row
        assert row["evidence"] in {"secondary", "recalled", "estimate"}, row
        assert row["model"], row
        assert row["vendor"], row
        assert row["device_names"], row


def test_a_short_name_of_an_accelerator_stands_for_one() -> None:
    aliases = [each for row in rows("gpu_tdp") for each in row["aliases"].split(";") if each]
    assert len(aliases) == len(set(aliases))
    (row,) = [row for row in rows("gpu_tdp") if "V100" in row["aliases"].split(";")]
    figures = row["model"], row["tdp_watts"], row["fp16_tflops"]
    assert figures == ("Tesla V100S PCIe", "250", "130")  # those of the GPT-3 estimate


def test_equivalents_have_a_figure_year_and_source() -> None:
    for row in rows("equivalents"):
        figures = [float(row[c]) for c in ("gco2eq_per_unit", "kwh_per_unit") if row[c]]
        assert figures, row
        assert min(figures) > 0, row
        assert 2009 <= int(row["year"]) <= 2026, row
        assert row["source"], row


def test_pue_rows_are_ratios_of_at_least_one() -> None:
    for row in rows("pue"):
        assert 1 <= float(row["value"]) <= 2.5, row
        assert row["source"], row


def test_cloud_regions_are_of_ten_providers_and_lead_to_zones() -> None:
    regions = rows("cloud_regions")
    assert len({row["provider"] for row in regions}) == 10
    for row in regions:
        assert row["zone"] in ZONES, row
        assert row["grid_zone"].partition("-")[0] == row["zone"].partition("-")[0], row
        assert row["name"], row
        assert row["source"], row
        assert row["licence"] in {"Apache-2.0", "facts"}, row
        assert row["evidence"] in {"seen", "recalled"}, row


def test_cloud_figures_are_plausible_dated_and_in_agreement_with_the_pue_table() -> None:
    known = {(row["scope"], row["year"]): row["value"] for row in rows("pue")}
    figures = Counter[str]()
    for row in rows("cloud_regions"):
        if row["pue"]:
            figures["pue"] += 1
            assert 1.0 < float(row["pue"]) < 2.0, row
            assert known[f"{row['provider']}:{row['region']}", row["pue_year"]] == row["pue"]
        if row["gco2eq_per_kwh"]:
            figures[row["provider"]] += 1
            assert 5 <= float(row["gco2eq_per_kwh"]) <= 1000, row
            assert (row["scope"], row["year"]) == ("direct", "2025"), row
        assert bool(row["pue"]) == bool(row["pue_year"]), row
        assert bool(row["gco2eq_per_kwh"]) == bool(row["scope"]) == bool(row["year"]), row
    assert figures == {"pue": 47, "gcp": 47}


def test_cloud_credits() -> None:
    text = " ".join((DATA / "CREDITS.md").read_text(encoding="utf-8").split())
    for credit in ("region-carbon-info", "botocore", "real-time-cloud", "Apache License"):
        assert credit in text


def test_every_source_of_a_row_of_cores_has_its_line_of_credits() -> None:
    lines = (DATA / "CREDITS.md").read_text(encoding="utf-8").splitlines()
    credited = [line for line in lines if line.startswith("| `cpu_cores.csv`, source ")]
    for source in {row["source"] for row in rows("cpu_cores")}:
        assert sum(f"source `{source}`" in line for line in credited) == 1, source
    derived = {row["source"] for row in rows("cpu_cores") if row["evidence"] == "derived"}
    named = [line for line in credited if "`derived`" in line]
    assert len(named) == len(derived)
    assert all(any(f"source `{source}`" in line for line in named) for source in derived)


def test_constants_equal_their_rows() -> None:
    world = {r["year"]: float(r["value"]) for r in rows("pue") if r["scope"] == "world_average"}
    for year in range(2020, 2024):
        assert getattr(constants, f"PUE_{year}") == world[str(year)]
    (row,) = [row for row in GRID if row["zone"] == WORLD]
    assert float(row["gco2eq_per_kwh"]) == constants.WORLD_AVG_CARBON_INTENSITY
    assert int(row["year"]) == constants.WORLD_AVG_CARBON_INTENSITY_YEAR
    assert constants.JOULES_PER_KWH == 3_600_000


@pytest.mark.parametrize("credit", sorted({row["licence"] for row in GRID}))
def test_every_grid_licence_is_credited(credit: str) -> None:
    said = {
        "CC BY 4.0": "CC BY 4.0",
        "OGL v3.0": "Open Government Licence v3.0",
        "Open Government Licence - Canada": "Open Government Licence \u2013 Canada",
        "US public domain": "US public domain",
        "government statistics; facts": "published facts",
    }
    text = " ".join((DATA / "CREDITS.md").read_text(encoding="utf-8").split())
    assert said[credit] in text
    assert "Copyright (c) 2023 Code Carbon NGO" in text
    assert (DATA / "LICENSE-Apache-2.0.txt").is_file()


USE = """
from datetime import datetime, timezone
import sys
import carbontracker.constants, carbontracker.data
import carbontracker.carbon.equivalents, carbontracker.carbon.footprint
import carbontracker.location.location, carbontracker.intensity
import carbontracker.intensity.providers.constant, carbontracker.intensity.providers.table
at_import = set(sys.modules)
now = datetime.now(timezone.utc)
place = carbontracker.location.location.locate(None, {"TZ": "Europe/Copenhagen"})
figures = carbontracker.intensity.provider("table").between(place.zone, now, now)
carbontracker.carbon.footprint.footprint([(3.6e6, figures[0])], 1.58).equivalents
print(*sorted(at_import & {"csv", "difflib", "pathlib", "json", "logging"}))
print(*sorted(set(sys.modules) & {"socket", "ssl", "urllib", "http", "requests", "numpy"}))
"""


def test_no_network_module_no_numpy_and_little_at_import() -> None:
    # -I -S: nothing but the interpreter's own modules is loaded before ours.
    package = str(DATA.parent.parent)
    code = f"import sys; sys.path.insert(0, {package!r})\n{USE}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout == "\n\n"
