"""Sensors that run: RAPL counters kept up to date by a process, and a loadable NVIDIA driver.

Both play closed-form waves on CLOCK_MONOTONIC, so `truth` is exact for any interval.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from tests.support.build import NVML_SONAME, build_nvml, build_powercap
from tests.support.waveforms import Wave, as_wave

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# The full 32-bit range at 61.035 and 15.3 uJ per count, the way drivers round it.
RANGE_UJ = 262_143_328_850
DRAM_RANGE_UJ = 65_712_999_613

# ---- running counters ----------------------------------------------------------------------


def _cache(tmp_path: Path, cache: Path | None) -> Path:
    """Return where compiled doubles are kept: beside pytest's per-test directories by default."""
    return cache if cache is not None else tmp_path.parent / "c-doubles"


def _words(pairs: Mapping[str, object]) -> str:
    return " ".join(f"{key}={_word(value)}" for key, value in pairs.items() if value is not None)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


@dataclass(frozen=True)
class Counter:
    """One `energy_uj` file that moves. The path is absolute; unit as in `fake_powercap.c`.

    With `offset` it is 8 bytes within a binary file, and with `watts` a power in microwatts.
    """

    path: Path
    wave: Wave | str
    range_uj: int = RANGE_UJ
    start_uj: int = 0
    unit_uj: float = 61.035
    period_us: int = 1000
    reset_at_s: float | None = None
    offset: int | None = None
    watts: int | None = None

    @property
    def modulus_uj(self) -> float:
        """Return the energy after which the counter shows the same value again."""
        unit_nj = round(self.unit_uj * 1000)
        highest = ((self.range_uj + 1) * 1000 - 1) // unit_nj
        return (highest + 1) * unit_nj / 1000


@dataclass(frozen=True)
class RunningPowercap:
    """Counters that a child process keeps up to date."""

    epoch_ns: int
    counters: Sequence[Counter]
    process: subprocess.Popen[str]

    def truth(self, i: int, t0_ns: int, t1_ns: int) -> float:
        """Return the true joules of counter `i` between two CLOCK_MONOTONIC times."""
        return _truth(self.counters[i].wave, self.epoch_ns, t0_ns, t1_ns)


def _truth(wave: Wave | str, epoch_ns: int, t0_ns: int, t1_ns: int) -> float:
    return as_wave(wave).joules((t0_ns - epoch_ns) / 1e9, (t1_ns - epoch_ns) / 1e9)


@contextmanager
def running_powercap(
    tmp_path: Path,
    counters: Sequence[Counter],
    *,
    epoch_ns: int | None = None,
    cache: Path | None = None,
    punctual: bool = False,
) -> Iterator[RunningPowercap]:
    """Play `counters` until the block ends; every file holds a value when it begins.

    `punctual`: before all other processes where the system allows it, as hardware does.
    """
    program = build_powercap(_cache(tmp_path, cache))
    epoch = time.monotonic_ns() if epoch_ns is None else epoch_ns
    spec = tmp_path / "fake_powercap.spec"
    spec.write_text("".join(_counter_line(counter, epoch) for counter in counters))
    process = subprocess.Popen(
        [program, spec, *["punctual"] * punctual],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"fake_powercap did not start from {spec}")
            yield RunningPowercap(epoch, counters, process)
        finally:
            process.stdin.close()


def _counter_line(counter: Counter, epoch_ns: int) -> str:
    pairs = vars(counter) | {"wave": as_wave(counter.wave), "epoch_ns": epoch_ns}
    return _words(pairs) + "\n"


# ---- NVIDIA driver -------------------------------------------------------------------------


class Gpu(TypedDict, total=False):
    """One board; the meaning of each key stands in `fake_nvml_device.h`."""

    uuid: str
    name: str
    power: Wave | str
    module: Wave | str
    period_ms: float
    phase_ms: float
    counter_period_ms: float
    counter_phase_ms: float
    jitter_ms: float
    missed: float
    average_ms: float
    instant_ms: float
    log: float
    latency_us: float
    energy: bool
    usage: bool
    fields: bool
    energy_type: int
    power_type: int
    stamp_calls: bool
    start_j: float | str
    gain: float
    power_gain: float
    power_offset_w: float
    counter_duty: bool
    module_counter: bool
    gpu_scope: bool
    samples: bool
    sample_period_ms: float
    sample_depth: int
    sample_disorder: bool
    sample_zeros: int
    sample_repeats: bool
    reset_at_s: float
    stuck_at_s: float
    limits: bool
    limit_w: float
    min_w: float
    max_w: float
    arch: int
    persistence: int
    util: int
    virtual: int
    mig: int
    mig_first: int
    pids: str
    gpids: str
    pid_race: int
    fail: str | Sequence[str]
    fail_power: str | Sequence[str]
    fail_energy: str | Sequence[str]
    fail_fields: str | Sequence[str]
    fail_open: str | Sequence[str]
    fail_samples: str | Sequence[str]
    fail_energy_field: str | Sequence[str]
    fail_average: str | Sequence[str]
    fail_instant: str | Sequence[str]
    slow: str | Sequence[str]
    bogus_w: str | Sequence[str]
    stamp_skew_ms: str | Sequence[str]


# Refresh and averaging as they are on cards of each kind, for `Gpu(**CARDS["a100"], power=...)`.
CARDS: dict[str, Gpu] = {
    "k80": Gpu(name="Tesla K80", arch=2, period_ms=100, log=222, energy=False, fields=False),
    "v100": Gpu(name="Tesla V100-SXM2-32GB", arch=5, period_ms=20, average_ms=10, instant_ms=10),
    "t4": Gpu(name="Tesla T4", arch=6, period_ms=100, average_ms=100, instant_ms=100),
    "a100": Gpu(name="NVIDIA A100-SXM4-80GB", arch=7, period_ms=100, average_ms=25, instant_ms=25),
    "rtx3090": Gpu(
        name="NVIDIA GeForce RTX 3090", arch=7, period_ms=100, average_ms=1000, instant_ms=100
    ),
    "h100": Gpu(
        name="NVIDIA H100 80GB HBM3", arch=9, period_ms=100, average_ms=1000, instant_ms=25
    ),
}

CALL_NAMES = (
    "all",
    "power",
    "energy",
    "fields",
    "init",
    "shutdown",
    "open",
    "processes",
    "utilisation",
    "other",
    "refused",
    "most_at_once",
    "samples",
)


@dataclass(frozen=True)
class FakeNvml:
    """A driver library ready to be loaded; give `environment` to the process that loads it."""

    library: Path
    epoch_ns: int
    devices: Sequence[Gpu]
    environment: dict[str, str]

    def uuid(self, i: int) -> str:
        """Return the UUID of board `i`."""
        return self.devices[i]["uuid"]

    def mig_uuid(self, i: int, slot: int) -> str:
        """Return the UUID of the MIG instance in `slot` of board `i`."""
        return f"MIG-0{slot}{self.uuid(i)[6:]}"

    def truth(self, i: int, t0_ns: int, t1_ns: int) -> float:
        """Return the true joules of board `i` between two CLOCK_MONOTONIC times.

        Faults of the sensor (gain, reset, stuck, bogus) do not change the truth.
        """
        return _truth(self.devices[i]["power"], self.epoch_ns, t0_ns, t1_ns)

    def module_truth(self, i: int, t0_ns: int, t1_ns: int) -> float:
        """Return the same for the whole module of a superchip."""
        return _truth(self.devices[i]["module"], self.epoch_ns, t0_ns, t1_ns)

    def calls(self, board: int | None = None) -> dict[str, int]:
        """Return how often each kind of function was called: in total, or on one board."""
        data = Path(self.environment["FAKE_NVML_CALLS"]).read_bytes()
        if board is None:
            return dict(zip(CALL_NAMES, struct.unpack_from("=13Q", data), strict=True))
        per_board = struct.unpack_from("=4Q", data, 8 * (16 + 4 * board))
        return dict(zip(CALL_NAMES[:4], per_board, strict=True))


@dataclass(frozen=True)
class Driver:
    """What belongs to the driver and not to one board. Times are in seconds from the epoch."""

    version: str = "550.54.15"
    nvml: str = "12.550.54.15"
    init_error: int = 0
    init_us: float = 0
    serial: bool = False
    reload_at_s: float | None = None
    reload_takes_s: float | None = None
    without: Sequence[str] = ()


@contextmanager
def fake_nvml(
    tmp_path: Path,
    devices: Sequence[Gpu],
    *,
    driver: Driver | None = None,
    epoch_ns: int | None = None,
    cache: Path | None = None,
) -> Iterator[FakeNvml]:
    """Prepare a fake `libnvidia-ml.so.1` with these boards.

    The library is copied, so that two of them loaded by path into one process are two, each
    with its own state. A board without `uuid` or `power` gets one.
    """
    driver = driver or Driver()
    epoch = time.monotonic_ns() if epoch_ns is None else epoch_ns
    directory = tmp_path / "nvml"
    directory.mkdir(parents=True)
    library = directory / NVML_SONAME
    shutil.copy(build_nvml(_cache(tmp_path, cache), driver.without), library)
    boards = [_complete(gpu, number) for number, gpu in enumerate(devices)]
    spec, calls = directory / "spec", directory / "calls"
    lines = [_driver_line(driver, epoch), *(_device_line(board) for board in boards)]
    spec.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    calls.write_bytes(bytes(8 * (16 + 4 * 32)))
    environment = {
        "FAKE_NVML_SPEC": str(spec),
        "FAKE_NVML_CALLS": str(calls),
        "LD_LIBRARY_PATH": str(directory),
    }
    yield FakeNvml(library, epoch, boards, environment)


def _complete(gpu: Gpu, number: int) -> Gpu:
    standard = Gpu(uuid=f"GPU-4e81d9a0-0000-4000-8000-{number:012x}", power="constant:100")
    return {**standard, **gpu}


def _driver_line(driver: Driver, epoch_ns: int) -> str:
    pairs = {
        "epoch_ns": epoch_ns,
        "driver": driver.version,
        "nvml": driver.nvml,
        "init_error": driver.init_error,
        "init_us": driver.init_us,
        "serial": driver.serial,
        "reload_at_s": driver.reload_at_s,
        "reload_takes_s": driver.reload_takes_s,
    }
    return "global " + _words(pairs) + "\n"


def _device_line(gpu: Gpu) -> str:
    words = [
        f"{key}={_word(one).replace(' ', '_')}"
        for key, value in gpu.items()
        for one in (value if isinstance(value, list | tuple) else [value])
    ]
    return " ".join(words) + "\n"
