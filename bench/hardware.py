"""The pretended hardware of the benches: a driver library and moving counters, in memory.

Sensor models are written in the words of `tests/support/fake_nvml_device.h`. Words which that
header does not know (yet) are left out, so that a model is as true as the double allows.
"""

from __future__ import annotations

import os
import struct
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench.common import BUILD
from tests.support.build import SOURCES, build
from tests.support.fakehost import (
    Counter,
    FakeNvml,
    Gpu,
    RunningPowercap,
    energy_key,
    fake_host,
    fake_nvml,
    powercap_tree,
    running_powercap,
)
from tests.support.running import CALL_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DOUBLES = BUILD / "c-doubles"

# How each kind of sensor behaves: window and refresh period of power, and of the counter, ms.
MODELS: dict[str, dict[str, object]] = {
    "V100": {
        "name": "Tesla V100",
        "arch": 5,
        "period_ms": 20,
        "average_ms": 10,
        "fields": False,
        "counter_period_ms": 20,
    },
    "A100": {
        "name": "NVIDIA A100",
        "arch": 7,
        "period_ms": 100,
        "average_ms": 25,
        "instant_ms": 25,
        "counter_period_ms": 100,
        "counter_phase_ms": 37,
        "jitter_ms": 0.3,
    },
    "H100": {
        "name": "NVIDIA H100",
        "arch": 9,
        "period_ms": 100,
        "average_ms": 1000,
        "instant_ms": 25,
        "counter_period_ms": 100,
        "counter_phase_ms": 61,
        "jitter_ms": 0.3,
        "samples": True,
    },
    # Maxwell: power follows as through a low pass. With the fields of newer drivers, because Zeus
    # reads old boards by those.
    "old": {
        "name": "GeForce GTX 980",
        "arch": 3,
        "period_ms": 100,
        "log": 159,
        "energy": False,
        "jitter_ms": 1.0,
    },
}


def known_word(word: str) -> bool:
    """Return whether the double understands a word of a board's line."""
    header = (SOURCES / "fake_nvml_device.h").read_text(encoding="utf-8")
    return f'"{word}"' in header


def board(model: str, power: str, **words: object) -> Gpu:
    """Return a board with the sensors of `model`, in words that the double understands."""
    pairs = {**MODELS[model], "power": power, "limit_w": 700, **words}
    always = ("name", "power", "uuid")
    known = {key: value for key, value in pairs.items() if key in always or known_word(key)}
    return cast("Gpu", known)


def left_out_words() -> list[str]:
    """Return the words of the models that the double does not understand."""
    words = {word for model in MODELS.values() for word in model} - {"name"}
    return sorted(word for word in words if not known_word(word))


@dataclass(frozen=True)
class Zone:
    """A moving RAPL counter: its place in sysfs, its load, and how often it ticks."""

    zone: str
    power: str
    period_us: int = 1000


@dataclass(frozen=True)
class Machine:
    """A pretended machine while its sensors run."""

    folder: Path
    root: Path
    epoch_ns: int
    driver: FakeNvml
    powercap: RunningPowercap | None
    zones: Sequence[Zone]

    def environment(self, name: str, **more: str) -> dict[str, str]:
        """Return the variables of a process that lives on it, with call counters of its own."""
        calls = self.folder / f"calls-{name}"
        if not calls.exists():
            calls.write_bytes(bytes(8 * (16 + 4 * 32)))
        return {
            **self.driver.environment,
            "FAKE_NVML_CALLS": str(calls),
            "CARBONTRACKER_NVML": str(self.driver.library),
            "CARBONTRACKER_ROOT": str(self.root),
            "CARBONTRACKER_DIR": str(self.folder / "records"),
            "CARBONTRACKER_RECORD": "0",
            "CARBONTRACKER_LOCATION": "DK",
            "BENCH_ROOT": str(self.root),
            "HOME": str(self.folder),
            **more,
        }

    def calls(self, name: str) -> dict[str, int]:
        """Return how often the process `name` has called each kind of NVML function."""
        data = (self.folder / f"calls-{name}").read_bytes()
        return dict(zip(CALL_NAMES, struct.unpack_from(f"={len(CALL_NAMES)}Q", data), strict=True))

    def energy_files(self) -> list[str]:
        """Return the paths of the counters."""
        return [str(self.root / energy_key(zone.zone)) for zone in self.zones]

    def truth(self, device: str, start_ns: int, end_ns: int) -> float:
        """Return the joules drawn by `gpu:0` or a zone such as `intel-rapl:0`."""
        if device.startswith("gpu:"):
            return self.driver.truth(int(device[4:]), start_ns, end_ns)
        assert self.powercap is not None
        index = [zone.zone for zone in self.zones].index(device)
        return self.powercap.truth(index, start_ns, end_ns)


def rapl_zones(files: int, period_us: int = 1000) -> list[Zone]:
    """Return so many moving counters: packages, and from two files on half of them DRAM."""
    packages = max(1, files // 2)
    names = [f"intel-rapl:{number}" for number in range(packages)]
    if files > 1:
        names += [f"intel-rapl:{number}:0" for number in range(packages)]
    return [Zone(name, f"constant:{50 + 7 * i}", period_us) for i, name in enumerate(names[:files])]


@contextmanager
def machine(
    gpus: Sequence[Gpu], zones: Sequence[Zone], *, start_in_s: float = 0.0, **options: Any
) -> Iterator[Machine]:
    """Run a machine with these boards and counters in a folder that lies in memory."""
    build(DOUBLES)
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent)))
        root = fake_host(folder, _tree(zones))
        epoch_ns = time.monotonic_ns() + round(start_in_s * 1e9)
        shared: Mapping[str, Any] = {"epoch_ns": epoch_ns, "cache": DOUBLES}
        driver = stack.enter_context(fake_nvml(folder, gpus, **shared, **options))
        powercap = None
        if zones:
            moving = [_counter(root, place, zone) for place, zone in enumerate(zones)]
            powercap = stack.enter_context(
                running_powercap(folder, moving, punctual=True, **shared)
            )
        yield Machine(folder, root, epoch_ns, driver, powercap, zones)


def _tree(zones: Sequence[Zone]) -> dict[str, Any]:
    if not zones:
        return {"sys/class/": ""}
    packages = 1 + max(int(zone.zone.split(":")[1]) for zone in zones)
    dram = any(zone.zone.count(":") == 2 for zone in zones)
    return powercap_tree(packages, children=("dram",) if dram else (), psys=False, mmio=False)


def _counter(root: Path, place: int, zone: Zone) -> Counter:
    # Each starts elsewhere: tools that look for mirrored counters must not find any.
    start_uj = 1_000_000_000 * (place + 1)
    path = root / energy_key(zone.zone)
    return Counter(path, zone.power, start_uj=start_uj, period_us=zone.period_us)
