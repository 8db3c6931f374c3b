"""Meters of the whole machine: a management controller, batteries; and the packages of an EPYC."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker import CarbonTracker
from carbontracker.energy import sensors
from carbontracker.records.reader import read_run
from carbontracker.report.derived import provenance_of
from carbontracker.report.sentences import sensors_table
from tests.support.build import build_devices
from tests.support.fakehost import Link, Value, cpuinfo, fake_host, powercap_tree
from tests.support.sensing import acpi_meter, counted, joules, machine, sensing

if TYPE_CHECKING:
    from pathlib import Path

    from carbontracker.energy.session import Session

REFUSED = 13


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_devices(tmp_path_factory.getbasetemp() / "c-doubles"))


def power_of(session: Session, name: str, since_ns: int) -> list[float]:
    """Return the watts of a channel that is not added."""
    index = [one.id for one in session.entries].index(name)
    return list(session.power(index, since_ns, session.mark().t_ns)[1])


def reason(session: Session, source: str) -> str:
    return next((one.reason for one in session.missing if one.source == source), "")


# ---- DCMI ----


TROUBLES = ("", "stale=1", "event=1", "stale=1 event=1")


def test_a_controller_is_the_node_and_never_added(tmp_path: Path, devices: str) -> None:
    tree = machine(acpi_meter(3, "Grace Power Socket 0", 292.5))
    roots = [
        fake_host(tmp_path / str(place), tree | {"dev/ipmi0": f"watts=412 {trouble}"})
        for place, trouble in enumerate(TROUBLES)
    ]
    began_ns = time.monotonic_ns()
    with ExitStack() as stack:
        sessions = [stack.enter_context(sensing(root, perf_library=devices)) for root in roots]
        time.sleep(3.0)
        for root, session in zip(roots, sessions, strict=True):
            (node,) = [one for one in session.entries if one.source == "dcmi"]
            assert (node.id, node.kind, node.counted) == ("node:dcmi", "node", False)
            assert counted(session) == {"cpu:0"}
            shown = power_of(session, "node:dcmi", began_ns)
            assert shown
            assert shown == [pytest.approx(412.0, abs=0.01)] * len(shown)
            # At most once a second, also at marks.
            seconds = (session.mark().t_ns - began_ns) / 1e9
            assert (root / "dev/ipmi0.calls").stat().st_size <= seconds / 0.9 + 3


WHY_NOT = (
    ("watts=412 code=193", "no power reading (DCMI)"),
    ("watts=412 code=212", "does not allow"),
    ("watts=412 code=192", "no power reading now"),
    ("watts=412 state=0", "switched off"),
    ("watts=0", "is 0 W"),
    ("watts=412 silent=1", "does not answer within 2 s"),
    (f"watts=412 refused={REFUSED}", "permission denied"),
)


def test_why_a_controller_is_not_read(tmp_path: Path, devices: str) -> None:
    with ExitStack() as stack:
        sessions = []
        for place, (answer, _) in enumerate(WHY_NOT):
            root = fake_host(tmp_path / str(place), machine() | {"dev/ipmi0": answer})
            sessions.append(stack.enter_context(sensing(root, perf_library=devices)))
        time.sleep(2.0)  # the silent one is waited for
        for session, (_, why) in zip(sessions, WHY_NOT, strict=True):
            for _ in range(50):
                if "no answer for" not in reason(session, "dcmi"):
                    break
                time.sleep(0.1)
            assert why in reason(session, "dcmi")
            assert not [one for one in session.entries if one.source == "dcmi"]


def test_a_file_that_is_no_device_is_not_asked(tmp_path: Path) -> None:
    root = fake_host(tmp_path, machine() | {"dev/ipmi0": "watts=412", "dev/hsmp": "socket0=1"})
    with sensing(root) as session:
        assert "ENODEV" in reason(session, "dcmi")
        assert "ENODEV" in reason(session, "hsmp")


def test_an_answer_that_fails_later_is_a_gap(tmp_path: Path, devices: str) -> None:
    root = fake_host(tmp_path, machine() | {"dev/ipmi0": "watts=412"})
    with sensing(root, perf_library=devices) as session:
        (root / "dev/ipmi0").write_text("watts=412 state=0\n")
        time.sleep(1.5)
        since_ns = time.monotonic_ns()
        time.sleep(1.5)
        assert power_of(session, "node:dcmi", since_ns) == []


# ---- batteries ----


def battery(name: str, status: str, **files: Value) -> dict[str, Value]:
    folder = f"sys/class/power_supply/{name}"
    inside: dict[str, Value] = {"type": "Battery", "status": status, **files}
    return {f"{folder}/{key}": value for key, value in inside.items()}


MAINS: dict[str, Value] = {"sys/class/power_supply/AC/type": "Mains"}
MOUSE = battery("hid-1", "Discharging", power_now=900_000, scope="Device")


BATTERIES = (
    ([battery("BAT0", "Discharging", power_now=8_400_000, scope="System"), MOUSE, MAINS], 8.4),
    ([battery("macsmc", "Discharging", power_now=-11_250_000)], 11.25),
    (
        [battery("BAT0", "Discharging", current_now=1_500_000, voltage_now=12_000_000)],
        18.0,
    ),
    (
        [
            battery("BAT0", "Discharging", power_now=6_000_000),
            battery("BAT1", "Discharging", power_now=2_500_000),
        ],
        8.5,
    ),
    (
        [
            battery("BAT0", "Discharging", power_now=6_000_000),
            battery("BAT1", "Not charging", power_now=0),
        ],
        6.0,
    ),
    ([battery("BAT0", "Charging", power_now=30_000_000)], None),
    ([battery("BAT0", "Full", power_now=0)], None),
    (
        [
            battery("BAT0", "Discharging", power_now=6_000_000),
            battery("BAT1", "Charging", power_now=9_000_000),
        ],
        None,
    ),
)


def test_a_battery_without_power_leaves_the_machine_unknown(tmp_path: Path) -> None:
    began_ns = time.monotonic_ns()
    known = battery("BAT0", "Discharging", power_now=10_000_000)
    empty = battery("BAT1", "Unknown", present=0)
    with ExitStack() as stack:
        unknown, whole = (
            stack.enter_context(sensing(fake_host(tmp_path / name, machine(known, other))))
            for name, other in (("two", battery("BAT1", "Discharging")), ("bay", empty))
        )
        time.sleep(3.0)
        assert power_of(unknown, "node:battery", began_ns) == []
        assert "shows no power" in reason(unknown, "battery")
        shown = power_of(whole, "node:battery", began_ns)
        assert shown == [pytest.approx(10.0)] * len(shown)


def test_a_battery_is_the_node_while_it_discharges(tmp_path: Path) -> None:
    began_ns = time.monotonic_ns()
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(sensing(fake_host(tmp_path / str(place), machine(*batteries))))
            for place, (batteries, _) in enumerate(BATTERIES)
        ]
        time.sleep(3.0)
        for session, (_, watts) in zip(sessions, BATTERIES, strict=True):
            (node,) = [one for one in session.entries if one.kind == "node"]
            assert (node.id, node.counted) == ("node:battery", False)
            shown = power_of(session, "node:battery", began_ns)
            assert shown == [pytest.approx(watts)] * len(shown)
            assert bool(shown) == (watts is not None)


def test_the_battery_of_a_mouse_is_not_the_machine(tmp_path: Path) -> None:
    with sensing(fake_host(tmp_path, machine(MOUSE, MAINS))) as session:
        assert not [one for one in session.entries if one.source == "battery"]


# ---- HSMP ----


def test_users_read_an_epyc_where_rapl_is_closed(tmp_path: Path, devices: str) -> None:
    root = fake_host(tmp_path, machine() | {"dev/hsmp": "socket0=182500 socket1=175250"})
    with sensing(root, perf_library=devices) as session:
        assert {"cpu:0", "cpu:1"} <= counted(session)
        energy, start_ns, end_ns = joules(session, 2.0)
        seconds = (end_ns - start_ns) / 1e9
        assert energy["cpu:0"] == pytest.approx(182.5 * seconds, rel=0.005)
        assert energy["cpu:1"] == pytest.approx(175.25 * seconds, rel=0.005)


def test_beside_rapl_it_is_a_second_opinion(tmp_path: Path, devices: str) -> None:
    tree = machine() | powercap_tree(2, children=(), psys=False, mmio=False)
    root = fake_host(tmp_path, tree | {"dev/hsmp": "socket0=182500 socket1=175250"})
    with sensing(root, perf_library=devices) as session:
        second = {one.id: one for one in session.entries if one.source == "hsmp"}
        assert {one.standby_for for one in second.values()} == {"cpu:0", "cpu:1"}
        assert not any(one.counted for one in second.values())


EPYC = {"model_name": "AMD EPYC 7763 64-Core Processor", "codes": (25, 1, 1)}
ZONES = powercap_tree(1, children=(), psys=False, mmio=False)


@pytest.mark.parametrize(
    ("processor", "tree", "named"),
    [
        (EPYC, {}, True),
        (EPYC, ZONES, False),  # root reads RAPL
        (EPYC | {"flags": "fpu hypervisor"}, {}, False),
        ({"model_name": "AMD EPYC 7742 64-Core Processor", "codes": (23, 49, 0)}, {}, False),
        ({"model_name": "AMD Ryzen 9 7950X", "codes": (25, 97, 2)}, {}, False),
    ],
    ids=["EPYC", "with RAPL", "virtual", "Zen 2", "Ryzen"],
)
def test_the_port_is_named_as_the_remedy_on_an_epyc_without_rapl(
    tmp_path: Path, processor: dict[str, Any], tree: dict[str, Value], named: bool
) -> None:
    files = machine() | tree | {"proc/cpuinfo": cpuinfo(**processor)}
    with sensing(fake_host(tmp_path, files)) as session:
        remedies = [one.remedy for one in session.missing if one.source == "hsmp"]
    assert [one.startswith("sudo modprobe amd_hsmp") for one in remedies] == [True] * named


# ---- what the components explain ----


@pytest.fixture
def node_of_412_watts(tmp_path: Path, devices: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    tree = machine(acpi_meter(3, "Grace Power Socket 0", 292.5))
    root = fake_host(tmp_path, tree | {"dev/ipmi0": "watts=412", "proc/self": Link("1")})
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(root))
    monkeypatch.setenv("CARBONTRACKER_NVML", "/nonexistent")
    monkeypatch.setenv("CARBONTRACKER_PERF", devices)
    return root


EXPLAINED = "The components explain 71% of the 412 W of node:dcmi."


@pytest.mark.usefixtures("node_of_412_watts")
def test_the_listing_states_what_the_components_explain() -> None:
    assert EXPLAINED in sensors_table(sensors.sensors(2.5))


@pytest.mark.usefixtures("node_of_412_watts")
def test_result_record_and_report_state_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = CarbonTracker(epochs=1, log_dir=tmp_path / "logs", location="DK", locate="never")
    tracker.epoch_start()
    session = tracker._training.run.session  # type: ignore[union-attr]
    joules(session, 2.5)
    tracker.epoch_end()
    result = tracker.result
    assert result is not None
    assert result.node_watts == {"node:dcmi": pytest.approx(412.0, abs=0.01)}
    assert result.energy.joules == pytest.approx(292.5 * result.seconds, rel=0.01)
    assert EXPLAINED in capsys.readouterr().out
    (record,) = (tmp_path / "logs").glob("*.jsonl")
    run = read_run(record)
    assert run.result.node_watts == result.node_watts
    assert dict(provenance_of(run))["Whole machine"] == EXPLAINED
