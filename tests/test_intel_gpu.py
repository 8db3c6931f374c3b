"""Intel graphics cards: which of a card's energy counters counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fakehost import Counter, cpuinfo, fake_host, proc_stat, running_powercap
from tests.support.sensing import PCI, counted, joules, pci_card, pci_device, sensing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.fakehost import Value

ARC = "0000:03:00.0"
XE: dict[str, Value] = {
    "name": "xe",
    "energy1_label": "card",
    "energy2_label": "pkg",
    "power1_max": 190_000_000,
}


def tree_of(
    hwmon: Mapping[str, Value], *, driver: str = "xe", status: str = "active", cards: int = 1
) -> dict[str, Value]:
    """Return a machine with like cards."""
    tree: dict[str, Value] = {
        "proc/cpuinfo": cpuinfo("Testium One"),
        "proc/stat": proc_stat(4, 1_000, 9_000),
    }
    for card in range(cards):
        address = f"0000:{3 + card:02x}:00.0"
        tree |= pci_card(
            address,
            "0xe20b",
            dict(hwmon),
            vendor="0x8086",
            driver=driver,
            card=card,
            status=status,
        )
    return tree


def counter(root: Path, name: str, watts: float, start_j: float) -> Counter:
    """Return one of the card's counters that moves."""
    path = root / PCI / ARC / "hwmon/hwmon3" / name
    return Counter(path, f"constant:{watts}", start_uj=round(start_j * 1e6), range_uj=2**62)


@pytest.mark.parametrize(
    ("files", "owner", "part"),
    [
        # The whole card is below its package: the two counters began apart.
        ({"energy1_input": (42, 11_031), "energy2_input": (30, 19_014)}, "card", "pkg"),
        # On some kernels that of the card is 0 for ever.
        ({"energy1_input": (0, 0), "energy2_input": (30, 29_524)}, "pkg", None),
        # Or it stands still at some value.
        ({"energy1_input": (0, 77), "energy2_input": (30, 29_524)}, "pkg", None),
        ({"energy2_input": (30, 25_637)}, "pkg", None),
        ({"energy1_input": (42, 11_031)}, "card", None),
    ],
)
def test_the_counter_that_moves_counts(
    tmp_path: Path, files: dict[str, tuple[float, float]], owner: str, part: str | None
) -> None:
    root = fake_host(tmp_path, tree_of(XE))
    moving = [counter(root, name, watts, start) for name, (watts, start) in files.items()]
    with running_powercap(tmp_path, moving, punctual=True) as running, sensing(root) as session:
        gpus = [one for one in session.entries if one.kind == "gpu"]
        assert [one.id for one in gpus] == ["gpu:0"] + ([f"gpu:0/{part}"] if part else [])
        assert gpus[0].quality == "measured"
        assert f"({owner})" in gpus[0].detail
        assert all(one.part_of == "gpu:0" and not one.counted for one in gpus[1:])
        energy, start_ns, end_ns = joules(session, 3.0)
        place = list(files).index({"card": "energy1_input", "pkg": "energy2_input"}[owner])
        assert energy["gpu:0"] == pytest.approx(running.truth(place, start_ns, end_ns), rel=0.005)
        # Readings closer than 50 ms give no new information.
        (rate,) = [one for name, one in session.rates_hz().items() if name == "gpu:0"]
        assert rate <= 21


def test_i915_shows_one_counter_without_a_name(tmp_path: Path) -> None:
    tree = tree_of(
        {"name": "i915", "energy1_input": 25_637_161_804, "power1_rated_max": 75_000_000},
        driver="i915",
    )
    part = f"{PCI}/{ARC}/hwmon/hwmon2"
    tree |= {f"{part}/name": "i915_gt0", f"{part}/energy1_input": 5_000_000}
    with sensing(fake_host(tmp_path, tree)) as session:
        (gpu,) = [one for one in session.entries if one.kind == "gpu"]
        assert (gpu.id, gpu.counted, gpu.limit_watts) == ("gpu:0", True, 75)
        assert gpu.detail == "i915 energy1_input"


def test_counters_at_0_are_no_energy(tmp_path: Path) -> None:
    tree = tree_of(XE | {"energy1_input": 0, "energy2_input": 0})
    with sensing(fake_host(tmp_path, tree)) as session:
        assert not counted(session) & {"gpu:0"}
        (card,) = [one for one in session.missing if one.device]
        assert "stays at 0" in card.reason
        assert card.limit_watts == 190


def test_a_sleeping_card_is_not_read(tmp_path: Path) -> None:
    tree = tree_of(XE | {"energy1_input": 5_000_000}, status="suspended")
    with sensing(fake_host(tmp_path, tree)) as session:
        (card,) = [one for one in session.missing if one.device]
        assert "would wake it" in card.reason


def test_graphics_of_the_processor_are_a_part_of_it(tmp_path: Path) -> None:
    tree = tree_of({}) | pci_device("0000:00:02.0", "0x8086", "0xa780", "0x030000")
    with sensing(fake_host(tmp_path, tree)) as session:
        assert any("part of the processor" in one.reason for one in session.missing)
        (card,) = [one for one in session.missing if one.device]
        assert card.device == "gpu:card0"
        assert card.remedy.startswith("Linux 6.2 (i915), 6.8 (xe) or newer")


@pytest.mark.parametrize(
    ("mask", "tiles", "hierarchy", "kept"),
    [
        (None, 1, None, "012"),
        ("", 1, None, "012"),
        ("0,2", 1, None, "02"),
        ("1.0", 1, None, "1"),
        ("7", 1, None, ""),
        ("3", 2, None, "1"),  # the second tile of the second card
        ("1", 2, "COMPOSITE", "1"),
    ],
)
def test_the_mask_of_level_zero(
    tmp_path: Path, mask: str | None, tiles: int, hierarchy: str | None, kept: str
) -> None:
    tree = tree_of(XE | {"energy1_input": 5_000_000}, cards=3)
    for card in range(3):
        for tile in range(tiles):
            tree[f"{PCI}/0000:{3 + card:02x}:00.0/tile{tile}/"] = ""
    settings = {"ZE_AFFINITY_MASK": mask, "ZE_FLAT_DEVICE_HIERARCHY": hierarchy}
    elsewhere = tuple((name, text) for name, text in settings.items() if text is not None)
    with sensing(fake_host(tmp_path, tree), visible_elsewhere=elsewhere) as session:
        assert counted(session) - {"cpu:0", "dram:0"} == {f"gpu:{digit}" for digit in kept}
