"""AMD GPUs through the management library, in containers that have no files of the driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.build import build_amd_smi
from tests.support.fakehost import fake_host
from tests.support.sensing import counted, joules, machine, pci_card, sensing

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fakehost import Value

TIMEOUT_S = 60
NOT_AVAILABLE = ("65535", "4294967295")


@pytest.fixture
def container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """A machine with /dev/kfd alone, and ROCm of the ABI that the test asks for (26)."""
    rocm = build_amd_smi(tmp_path / "rocm", getattr(request, "param", 26))
    monkeypatch.setenv("ROCM_PATH", str(rocm))
    show(tmp_path, monkeypatch)
    return fake_host(tmp_path, machine({"dev/kfd": ""}))


def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    """Set what the library shows."""
    path = tmp_path / "amd_smi"
    path.write_text(" ".join(f"{name}={value}" for name, value in values.items()))
    monkeypatch.setenv("FAKE_AMD_SMI", str(path))


@pytest.mark.parametrize("container", [24, 25, 26], indirect=True)
def test_the_counter_owns_where_power_confirms_it(
    container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(tmp_path, monkeypatch, gpus=2)
    with sensing(container) as session:
        cards = {one.id: one for one in session.entries if one.source == "amd_smi"}
        assert {"gpu:0", "gpu:1"} <= counted(session)
        assert {one.quality for one in cards.values() if one.counted} == {"measured"}
        assert cards["gpu:0/power"].standby_for == "gpu:0"
        energy, start_ns, end_ns = joules(session, 2.0)
        seconds = (end_ns - start_ns) / 1e9
        for name in ("gpu:0", "gpu:1"):
            assert energy[name] == pytest.approx(140 * seconds, rel=0.005)
        assert not [one for one in session.missing if one.device]


def test_the_resolution_is_the_one_that_the_library_states(
    container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(tmp_path, monkeypatch, watts=300, resolution_nj=1_000_000, unit_nj=1_000_000)
    with sensing(container) as session:
        energy, start_ns, end_ns = joules(session, 2.0)
    assert energy["gpu:0"] == pytest.approx(300 * (end_ns - start_ns) / 1e9, rel=0.005)


@pytest.mark.parametrize("unit_nj", [1_000_000, 10**12], ids=["another unit", "stands still"])
def test_a_counter_that_power_denies_owns_nothing(
    container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit_nj: int
) -> None:
    show(tmp_path, monkeypatch, unit_nj=unit_nj)
    with sensing(container) as session:
        (card,) = [one for one in session.entries if one.source == "amd_smi"]
        assert (card.id, card.quality, card.counted) == ("gpu:0", "integrated", True)
        assert "energy counter does not agree" in card.detail
        energy, start_ns, end_ns = joules(session, 2.0)
    assert energy["gpu:0"] == pytest.approx(140 * (end_ns - start_ns) / 1e9, rel=0.005)


@pytest.mark.parametrize("word", NOT_AVAILABLE)
def test_the_average_is_used_where_there_is_no_present_power(
    container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    show(tmp_path, monkeypatch, watts=word, average=95)
    with sensing(container) as session:
        energy, start_ns, end_ns = joules(session, 2.0)
    assert energy["gpu:0"] == pytest.approx(95 * (end_ns - start_ns) / 1e9, rel=0.005)


def missing(root: Path) -> list[tuple[str, str]]:
    """Return the devices that are not read, and why."""
    with sensing(root) as session:
        assert not [one for one in session.entries if one.source == "amd_smi" and one.read]
        return [(one.device, one.reason) for one in session.missing if one.source == "amd_smi"]


@pytest.mark.parametrize("container", [23, 27], indirect=True)
def test_a_structure_that_is_not_known_is_not_read(container: Path) -> None:
    ((device, reason),) = missing(container)
    assert device == "gpu:0"
    assert "shows no power of 0000:41:00.0 that is known" in reason


def test_a_library_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCM_PATH", str(tmp_path / "nothing"))
    ((device, reason),) = missing(fake_host(tmp_path, machine({"dev/kfd": ""})))
    assert device == "gpu:kfd"
    assert "libamd_smi.so not found" in reason


def test_a_library_that_refuses_is_named(
    container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(tmp_path, monkeypatch, refused=2)
    ((device, reason),) = missing(container)
    assert device == "gpu:kfd"
    assert "amdsmi_init: status 2" in reason


def test_it_is_not_asked_where_sysfs_shows_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCM_PATH", str(tmp_path / "nothing"))
    hwmon: dict[str, Value] = {"power1_average": 36_000_000}
    tree = machine({"dev/kfd": ""}, pci_card("0000:03:00.0", "0x73bf", hwmon))
    root = fake_host(tmp_path, tree)
    assert missing(root) == []
    with sensing(root) as session:
        assert [one.source for one in session.entries if one.id == "gpu:0"] == ["amdgpu"]


def test_the_variables_of_rocm_select(
    container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(tmp_path, monkeypatch, gpus=4)
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "1,3")
    variables = (("ROCR_VISIBLE_DEVICES", "1,3"), ("HIP_VISIBLE_DEVICES", "1"))
    with sensing(container, visible_elsewhere=variables) as session:
        cards = [one.name for one in session.entries if one.source == "amd_smi" and one.counted]
    assert cards == ["AMD GPU 0000:44:00.0"]


FORK = """
import json, os, sys
from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release

def look():
    session = acquire(Config(root=sys.argv[1], nvml_library="/nonexistent"))
    found = [one.reason for one in session.missing if one.source == "amd_smi"]
    read = [one.id for one in session.entries if one.source == "amd_smi" and one.read]
    release(session)
    return found, read

parent = look()
receive, send = os.pipe()
if os.fork() == 0:
    os.write(send, json.dumps(look()).encode())
    os._exit(0)
os.wait()
print(json.dumps([parent, json.loads(os.read(receive, 4096))]))
"""


def test_a_forked_child_does_not_call_the_library_of_its_parent(container: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(container)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (parent_reasons, parent_read), (child_reasons, child_read) = json.loads(done.stdout)
    assert (parent_reasons, parent_read) == ([], ["gpu:0", "gpu:0/power"])
    assert child_read == []
    assert "in use when this process was forked" in child_reasons[0]
