"""The test doubles themselves: what they say is true must be true."""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import build, fakehost, waveforms
from tests.support.fakehost import CARDS, Counter, Driver, FakeNvml, Gpu, fake_nvml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.waveforms import Wave

WATTS = st.floats(0, 1000, allow_subnormal=False)
PERIODS = st.floats(0.01, 100)
TIMES = st.floats(-1, 100_000)
PARTS = st.floats(0, 1)
PULSE = (WATTS, WATTS, PERIODS, PARTS)


WAVES: st.SearchStrategy[Wave] = st.one_of(
    st.builds(waveforms.Constant, WATTS),
    st.builds(waveforms.Square, *PULSE),
    st.builds(lambda i, k, p, part: waveforms.Burst(i, k, p, part * p), *PULSE),
    st.builds(lambda m, a, p: waveforms.Sine(m, a * m, p), WATTS, PARTS, PERIODS),
    st.builds(waveforms.Ramp, WATTS, WATTS, PERIODS),
    st.builds(waveforms.Step, WATTS, WATTS, PERIODS),
    st.builds(waveforms.Random, WATTS, WATTS, PERIODS, st.integers(0, 2**32 - 1)),
)

# ---- waves ---------------------------------------------------------------------------------

C_WAVE = """
#include "waveform.h"
int parses(const char *text) { struct wave w; return wave_parse(&w, text) == 0; }
double watts(const char *text, double t)
{ struct wave w; return wave_parse(&w, text) == 0 ? wave_watts(&w, t) : -1.0; }
double joules(const char *text, double t)
{ struct wave w; return wave_parse(&w, text) == 0 ? wave_joules(&w, t) : -1.0; }
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the C doubles are compiled, once for all tests here."""
    return tmp_path_factory.getbasetemp() / "c-doubles"


@pytest.fixture(scope="session")
def c_wave(cache: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(build.build_shared(cache, "wave", C_WAVE)))
    for function in (library.watts, library.joules):
        function.argtypes = [ctypes.c_char_p, ctypes.c_double]
        function.restype = ctypes.c_double
    return library


@given(wave=WAVES, t=TIMES)
def test_both_languages_draw_the_same_wave(c_wave: ctypes.CDLL, wave: Wave, t: float) -> None:
    text = str(wave).encode()
    assert c_wave.watts(text, t) == pytest.approx(wave.watts(t), rel=1e-12, abs=1e-9)
    assert c_wave.joules(text, t) == pytest.approx(wave.joules(0, t), rel=1e-12, abs=1e-9)


@given(wave=WAVES)
def test_text_form_keeps_every_bit(wave: Wave) -> None:
    assert waveforms.parse(str(wave)) == wave


@given(wave=WAVES, start=st.floats(0, 300), length=st.floats(0.01, 10))
def test_energy_is_the_integral_of_power(wave: Wave, start: float, length: float) -> None:
    length = min(length, 4 * getattr(wave, "period_s", getattr(wave, "dwell_s", math.inf)))
    steps = 2000
    width = length / steps
    power = [wave.watts(start + (i + 0.5) * width) for i in range(steps)]
    # Four periods hold at most ten jumps, and the midpoint rule misplaces each by half a step.
    # No wave exceeds the sum of its first two numbers; a sampled peak could miss a sliver.
    slack = 10 * sum(astuple(wave)[:2]) * width + 1e-9
    assert wave.joules(start, start + length) == pytest.approx(
        math.fsum(power) * width, rel=1e-4, abs=slack
    )


@given(wave=WAVES, times=st.tuples(TIMES, TIMES, TIMES))
def test_energy_adds_up_and_never_falls(wave: Wave, times: tuple[float, float, float]) -> None:
    a, b, c = sorted(times)
    assert wave.joules(a, b) + wave.joules(b, c) == pytest.approx(wave.joules(a, c), abs=1e-6)
    assert wave.joules(a, b) >= -1e-6


@pytest.mark.parametrize(
    ("text", "t", "watts", "joules"),
    [
        ("constant:100", 2.0, 100, 200),
        ("square:50,300,1,0.5", 0.25, 300, 75),
        ("square:50,300,1,0.5", 1.75, 50, 162.5 + 187.5 - 12.5),
        ("sine:100,50,4", 1.0, 150, 100 + 100 / math.pi),
        ("ramp:0,100,10", 5.0, 50, 125),
        ("ramp:0,100,10", 20.0, 100, 1500),
        ("step:10,90,3", 3.0, 90, 30),
        ("step:10,90,3", 4.0, 90, 120),
        ("burst:20,220,10,1", 10.5, 220, 400 + 110),
        # Two steps of half a second hold 100 + 300 W between them, whatever each has.
        ("random:100,300,0.5,7", 4.0, waveforms.parse("random:100,300,0.5,7").watts(4.2), 800),
        ("random:100,100,0.5,7", 0.7, 100, 70),
    ],
)
def test_known_values(text: str, t: float, watts: float, joules: float) -> None:
    wave = waveforms.parse(text)
    assert wave.watts(t) == pytest.approx(watts)
    assert wave.joules(0, t) == pytest.approx(joules)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "constant",
        "constant:",
        "constant:x",
        "constant:nan",
        "constant:-1",
        "constant:1,2",
        "flat:1",
        "sine:10,20,1",
        "square:1,2,0,0.5",
        "square:1,2,1,1.5",
        "burst:1,2,1,2",
        "random:1,2,0,1",
        "random:1,2,1,0.5",
        "ramp:1,2,0",
        "step:1,2",
    ],
)
def test_nonsense_is_refused_by_both(c_wave: ctypes.CDLL, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        waveforms.parse(text)
    assert not c_wave.parses(text.encode())


def test_header_is_cplusplus_too(tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    source = tmp_path / "wave.cpp"
    source.write_text('#include "waveform.h"\ndouble f(wave w) { return wave_joules(&w, 1.0); }\n')
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{build.SOURCES}"]
    subprocess.run(["c++", *flags, str(source)], check=True)


def test_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -x")
    with pytest.raises(build.NoCompilerError, match="no-such-compiler"):
        build.build(tmp_path)


# ---- NVIDIA driver, read with NVIDIA's own Python binding ----------------------------------

PRELUDE = """
import json, os, time
import pynvml as n
def code(f, *a):
    try: f(*a)
    except n.NVMLError as e: return e.value
    return 0
def timed(f, h):
    t0 = time.monotonic_ns(); v = f(h); return [t0, v, time.monotonic_ns()]
def out(x): print(json.dumps(x))
if START:
    n.nvmlInit()
    h = n.nvmlDeviceGetHandleByIndex(0)
"""


def ask(driver: FakeNvml, script: str, *, start: bool = True) -> Any:
    """Run `script` in a process that finds the fake by name; return what it gave to `out`."""
    pytest.importorskip("pynvml")
    text = PRELUDE.replace("START", str(start)) + script
    environment = {**os.environ, **driver.environment}
    result = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


READ_COUNTER = """
rows = []
for _ in range(40):
    rows.append(timed(n.nvmlDeviceGetTotalEnergyConsumption, h))
    time.sleep(0.003)
out(rows)
"""


@pytest.mark.parametrize(
    "wave",
    ["constant:100", "square:50,700,0.05,0.3", "sine:300,250,0.08", "ramp:0,500,0.2"],
)
def test_counter_follows_the_closed_form(tmp_path: Path, cache: Path, wave: str) -> None:
    with fake_nvml(tmp_path, [Gpu(power=wave)], cache=cache) as driver:
        for before, value, after in ask(driver, READ_COUNTER):
            low = driver.truth(0, driver.epoch_ns, before) * 1000
            high = driver.truth(0, driver.epoch_ns, after) * 1000
            assert math.floor(low) - 1e-3 <= value <= high + 1e-3


def test_counter_moves_in_steps_of_its_period_and_phase(tmp_path: Path, cache: Path) -> None:
    board = Gpu(power="constant:200", period_ms=20, phase_ms=7)
    with fake_nvml(tmp_path, [board], cache=cache) as driver:
        for before, value, after in ask(driver, READ_COUNTER):
            published = driver.epoch_ns + round(value / 200 * 1e6)
            assert before - 20e6 - 1e4 <= published <= after
            assert (published - driver.epoch_ns) % 20_000_000 == pytest.approx(7e6, abs=1e4)


def test_start_keeps_every_millijoule_of_a_big_counter(tmp_path: Path, cache: Path) -> None:
    start = "9223372036854.775"  # 2^63 µJ: in mJ more digits than a double holds
    board = Gpu(power="constant:0", start_j=start)
    with fake_nvml(tmp_path, [board], cache=cache) as driver:
        assert ask(driver, "out(n.nvmlDeviceGetTotalEnergyConsumption(h))") == 9223372036854775


def test_reset_and_gain_and_stuck(tmp_path: Path, cache: Path) -> None:
    reset = Gpu(power="constant:100", start_j=5000, reset_at_s=10)
    double = Gpu(power="constant:100", gain=2)
    stuck = Gpu(power="constant:100", stuck_at_s=4)
    epoch = time.monotonic_ns() - 20_000_000_000
    script = """
e = n.nvmlDeviceGetTotalEnergyConsumption
hs = [n.nvmlDeviceGetHandleByIndex(i) for i in range(3)]
out([timed(e, h) for h in hs])
"""
    with fake_nvml(tmp_path, [reset, double, stuck], epoch_ns=epoch, cache=cache) as driver:
        rows = ask(driver, script)
    for row, scale, offset in zip(rows, (1, 2), (-1000, 0), strict=False):
        low, high = ((row[i] - epoch) / 1e9 * 100 * scale + offset for i in (0, 2))
        assert low - 0.01 <= row[1] / 1000 <= high
    assert rows[2][1] == 400_000


def test_power_is_momentary_or_a_mean(tmp_path: Path, cache: Path) -> None:
    wave = "step:100,500,10"
    boards = [Gpu(power=wave), Gpu(power=wave, average_ms=1000), Gpu(power=wave, usage=False)]
    epoch = time.monotonic_ns() - 10_200_000_000
    script = """
hs = [n.nvmlDeviceGetHandleByIndex(i) for i in range(3)]
r = [timed(n.nvmlDeviceGetPowerUsage, h) for h in hs[:2]]
out([r, code(n.nvmlDeviceGetPowerUsage, hs[2])])
"""
    with fake_nvml(tmp_path, boards, epoch_ns=epoch, cache=cache) as driver:
        (momentary, mean), refusal = ask(driver, script)
    assert momentary[1] == 500_000
    share = [min(1.0, (mean[i] - epoch) / 1e9 - 10) for i in (0, 2)]
    assert 1000 * (100 + 400 * share[0]) - 1 <= mean[1] <= 1000 * (100 + 400 * share[1])
    assert refusal == 3


def test_fields_have_their_own_status_and_type(tmp_path: Path, cache: Path) -> None:
    boards = [Gpu(power="constant:60", energy_type=type_, power_type=1) for type_ in range(7)]
    boards += [Gpu(energy=False), Gpu(fields=False), Gpu(fail="15@0-end")]
    script = """
rows = []
for i in range(9):
    h = n.nvmlDeviceGetHandleByIndex(i)
    f = n.nvmlDeviceGetFieldValues(h, [83, 191, 186, 190, (186, 2), 999])
    names = ["dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal"]
    rows.append([[x.nvmlReturn, x.valueType, getattr(x.value, names[x.valueType]),
                  x.timestamp] for x in f])
out([rows, code(n.nvmlDeviceGetHandleByIndex, 9), time.time()])
"""
    with fake_nvml(tmp_path, boards, cache=cache) as driver:
        rows, refusal, now = ask(driver, script)
    assert refusal == 15
    for type_ in range(7):
        energy, alias, power, limit, memory_scope, unknown = rows[type_]
        assert [energy[0], energy[1], alias[1]] == [0, type_, type_]
        assert 0 < energy[2] <= alias[2]
        assert power[:3] == [0, 1, 60_000]
        assert limit[:3] == [0, 1, 400_000]
        assert memory_scope[0] == unknown[0] == 3
        assert abs(energy[3] / 1e6 - now) < 5
    assert [row[0] for row in rows[7]] == [3, 3, 0, 0, 3, 3]
    assert [row[0] for row in rows[8]] == [0, 0, 3, 3, 3, 3]


def test_fields_succeed_as_a_whole_when_every_one_fails(tmp_path: Path, cache: Path) -> None:
    boards = [Gpu(fail_fields="999@0-end"), Gpu(fail_energy="15@0-end")]
    script = """
hs = [n.nvmlDeviceGetHandleByIndex(i) for i in range(2)]
out([[x.nvmlReturn for x in n.nvmlDeviceGetFieldValues(h, [83, 186])] for h in hs])
"""
    with fake_nvml(tmp_path, boards, cache=cache) as driver:
        assert ask(driver, script) == [[999, 999], [15, 0]]


def test_errors_come_and_go_at_the_given_times(tmp_path: Path, cache: Path) -> None:
    boards = [Gpu(fail=["15@100-200", "16@200-300"]), Gpu()]
    script = """
n.nvmlInit()
by = n.nvmlDeviceGetHandleByIndex
g = by(1)
out([[code(by, 0), code(by, 1)],
     [code(n.nvmlDeviceGetPowerUsage, g), code(n.nvmlDeviceGetTotalEnergyConsumption, g)]])
"""
    seen = []
    for age in (50, 150, 250, 350):
        epoch = time.monotonic_ns() - age * 1_000_000_000
        with fake_nvml(tmp_path / str(age), boards, epoch_ns=epoch, cache=cache) as driver:
            seen.append(ask(driver, script, start=False))
    assert [row[0] for row in seen] == [[0, 0], [15, 0], [16, 0], [0, 0]]
    assert all(row[1] == [0, 0] for row in seen)


def test_a_board_lost_in_mid_run_leaves_the_other_alone(tmp_path: Path, cache: Path) -> None:
    script = """
g = n.nvmlDeviceGetHandleByIndex(1)
p, e = n.nvmlDeviceGetPowerUsage, n.nvmlDeviceGetTotalEnergyConsumption
first = [code(p, h), code(e, h), code(p, g)]
time.sleep(max(0, (EPOCH + 1_500_000_000 - time.monotonic_ns()) / 1e9))
out([first, [code(p, h), code(e, h), code(n.nvmlDeviceGetUUID, h), code(p, g)]])
"""
    with fake_nvml(tmp_path, [Gpu(fail="15@1.5-end"), Gpu()], cache=cache) as driver:
        first, then = ask(driver, script.replace("EPOCH", str(driver.epoch_ns)))
    assert first == [0, 0, 0]
    assert then == [15, 15, 15, 0]


def test_bogus_power_spares_the_counter(tmp_path: Path, cache: Path) -> None:
    board = Gpu(power="constant:10", bogus_w="593@0-end")
    with fake_nvml(tmp_path, [board], cache=cache) as driver:
        script = "out([n.nvmlDeviceGetPowerUsage(h), n.nvmlDeviceGetTotalEnergyConsumption(h)])"
        power, energy = ask(driver, script)
    assert power == 593_000
    assert energy < 593_000


def test_latency_and_slow_spells(tmp_path: Path, cache: Path) -> None:
    boards = [Gpu(latency_us=100), Gpu(latency_us=5000), Gpu(slow="30000@0-end")]
    script = """
hs = [n.nvmlDeviceGetHandleByIndex(i) for i in range(3)]
def took(h):
    t0, _, t1 = timed(n.nvmlDeviceGetPowerUsage, h)
    return (t1 - t0) / 1e3
out([min(took(h) for _ in range(5)) for h in hs])
"""
    with fake_nvml(tmp_path, boards, cache=cache) as driver:
        quick, slow, spell = ask(driver, script)
    assert 100 <= quick < 5000 <= slow < 30_000 <= spell


# ---- how the sensors of cards behave -------------------------------------------------------


def test_refreshes_jitter_and_fail_without_drifting(tmp_path: Path, cache: Path) -> None:
    board = Gpu(power="constant:200", period_ms=10, phase_ms=2, jitter_ms=2, missed=0.2)
    with fake_nvml(tmp_path, [board], cache=cache) as driver:
        rows = ask(driver, READ_COUNTER.replace("range(40)", "range(150)"))
        again = ask(driver, READ_COUNTER)
    moments = sorted({value / 200_000 for _, value, _ in rows + again})
    off = [(t - 0.002 + 0.005) % 0.010 - 0.005 for t in moments if t > 0.01]
    assert all(abs(one) <= 0.00201 for one in off)
    assert len({round(one, 5) for one in off}) > len(off) / 2
    steps = [round((b - a) * 100) for a, b in itertools.pairwise(moments[: len(moments) // 2])]
    assert max(steps) >= 2


def test_power_and_its_counter_may_differ_in_everything(tmp_path: Path, cache: Path) -> None:
    board = Gpu(
        power="constant:100",
        period_ms=20,
        counter_period_ms=100,
        counter_phase_ms=50,
        gain=0.57,
        power_gain=1.05,
        power_offset_w=-4,
    )
    script = """
f = n.nvmlDeviceGetFieldValues(h, [83, 186])
out([f[0].value.ullVal, f[1].value.uiVal, f[0].timestamp - f[1].timestamp])
"""
    epoch = time.monotonic_ns() - 60_000_000_000
    with fake_nvml(tmp_path, [board], epoch_ns=epoch, cache=cache) as driver:
        counter, power, apart_us = ask(driver, script)
    assert power == pytest.approx(101_000, abs=1)
    published = counter / 57_000
    assert (published - 0.05) % 0.1 == pytest.approx(0, abs=1e-4) or (
        published - 0.05
    ) % 0.1 == pytest.approx(0.1, abs=1e-4)
    assert apart_us % 10_000 in (0, 1, 9_999)


def test_a_duty_counter_adds_up_what_the_sensor_saw(tmp_path: Path, cache: Path) -> None:
    # All of the load falls into the 25 ms that the sensor sees of each 100.
    board = Gpu(**CARDS["a100"], power="square:400,0,0.1,0.75", phase_ms=100, counter_duty=True)
    epoch = time.monotonic_ns() - 30_000_000_000
    with fake_nvml(tmp_path, [board], epoch_ns=epoch, cache=cache) as driver:
        script = "out(timed(n.nvmlDeviceGetTotalEnergyConsumption, h))"
        before, counter, after = ask(driver, script)
    low, high = (400 * (t - epoch) / 1e9 for t in (before, after))
    assert low - 41 <= counter / 1000 <= high


def test_a_low_pass_reaches_its_wave(tmp_path: Path, cache: Path) -> None:
    boards = [
        Gpu(power="step:100,500,10", log=2000),
        Gpu(power="constant:120", log=300),
        Gpu(power="ramp:0,1000,1000", log=1000),  # follows a ramp one time constant late
    ]
    epoch = time.monotonic_ns() - 12_000_000_000
    script = """
out([timed(n.nvmlDeviceGetPowerUsage, n.nvmlDeviceGetHandleByIndex(i)) for i in range(3)])
"""
    with fake_nvml(tmp_path, boards, epoch_ns=epoch, cache=cache) as driver:
        step, constant, ramp = ask(driver, script)
    age_s = [(t - epoch) / 1e9 for t in (step[0], step[2], ramp[0], ramp[2])]
    low, high = (500 - 400 * math.exp(-(t - 10) / 2) for t in age_s[:2])
    assert low - 0.1 <= step[1] / 1000 <= high + 0.1
    assert constant[1] == pytest.approx(120_000, abs=20)
    assert age_s[2] - 1 - 0.01 <= ramp[1] / 1000 <= age_s[3] - 1 + 0.01


SAMPLES = """
def kept(h, seen): return [[s.timeStamp, s.sampleValue.uiVal] for s in
                           n.nvmlDeviceGetSamples(h, n.NVML_TOTAL_POWER_SAMPLES, seen)[1]]
offset = time.time_ns() - time.monotonic_ns()
rows = kept(h, 0)
time.sleep(0.1)
out([rows, kept(h, rows[-1][0]), code(kept, h, 1 << 60),
     code(kept, n.nvmlDeviceGetHandleByIndex(1), 0), offset])
"""


def test_the_ring_holds_the_last_readings(tmp_path: Path, cache: Path) -> None:
    wave = waveforms.parse("sine:200,150,3")
    board = Gpu(power=wave, samples=True, sample_period_ms=20, sample_depth=50)
    epoch = time.monotonic_ns() - 10_000_000_000
    with fake_nvml(tmp_path, [board, Gpu()], epoch_ns=epoch, cache=cache) as driver:
        rows, later, nothing_new, without, offset = ask(driver, SAMPLES)
        assert driver.calls()["samples"] > 0
    assert [nothing_new, without] == [6, 3]
    assert len(rows) == 50
    assert 4 <= len(later) <= 50
    assert all(b[0] - a[0] in (19_999, 20_000, 20_001) for a, b in itertools.pairwise(rows))
    assert later[0][0] > rows[-1][0]
    for stamp_us, milliwatts in rows + later:
        t = (stamp_us * 1000 - offset - epoch) / 1e9
        assert milliwatts / 1000 == pytest.approx(wave.watts(t), abs=1.0)


RELOAD = """
import ctypes
def advance(seconds): n.nvmlLib.fake_nvml_advance_ms(ctypes.c_longlong(1000 * seconds))
p = n.nvmlDeviceGetPowerUsage
first = code(p, h)
advance(1500)
gone = [code(p, h), code(n.nvmlInit)]
advance(1000)
still = code(p, h)
n.nvmlInit()
out([first, gone, still, code(p, h), timed(n.nvmlDeviceGetTotalEnergyConsumption,
                                           n.nvmlDeviceGetHandleByIndex(0))])
"""


def test_a_driver_may_be_reloaded(tmp_path: Path, cache: Path) -> None:
    board = Gpu(power="constant:100", start_j=500)
    facts = Driver(reload_at_s=1000, reload_takes_s=1000)
    with fake_nvml(tmp_path, [board], driver=facts, cache=cache) as driver:
        first, gone, still, old_handle, counter = ask(driver, RELOAD)
        low, high = (100 * ((counter[i] - driver.epoch_ns) / 1e9 + 1500) for i in (0, 2))
    assert [first, *gone, still, old_handle] == [0, 1, 9, 1, 2]
    assert low - 0.01 <= counter[1] / 1000 <= high


def test_a_module_answers_in_a_scope_of_its_own(tmp_path: Path, cache: Path) -> None:
    wave = "constant:300"
    boards = [
        Gpu(power=wave, module="constant:500", module_counter=True),
        Gpu(power=wave, module="constant:500", gpu_scope=False),
        Gpu(power=wave),
    ]
    script = """
ask = [(186, 0), (186, 1), (185, 1), (83, 0), (83, 1)]
hs = [n.nvmlDeviceGetHandleByIndex(i) for i in range(3)]
rows = [n.nvmlDeviceGetFieldValues(h, ask) for h in hs]
out([[[x.nvmlReturn, x.value.ullVal] for x in row] for row in rows])
"""
    with fake_nvml(tmp_path, boards, cache=cache) as driver:
        both, module, board = ask(driver, script)
        assert driver.module_truth(0, driver.epoch_ns, driver.epoch_ns + 10**9) == 500
    assert both[:2] == [[0, 300_000], [0, 500_000]]
    assert both[3] == both[4]
    assert [code for code, _ in module] == [3, 0, 0, 3, 0]
    assert [code for code, _ in board] == [0, 3, 3, 0, 3]


IDENTITY = """
p = n.nvmlDeviceGetPciInfo(h)
out([n.nvmlSystemGetDriverVersion(), n.nvmlDeviceGetCount(), n.nvmlDeviceGetName(h),
     n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetIndex(h), p.bus, p.busId, p.busIdLegacy,
     n.nvmlDeviceGetEnforcedPowerLimit(h), n.nvmlDeviceGetPowerManagementLimitConstraints(h),
     n.nvmlDeviceGetArchitecture(h), n.nvmlDeviceGetPersistenceMode(h),
     n.nvmlDeviceGetUtilizationRates(h).gpu, code(n.nvmlDeviceGetMigMode, h),
     n.nvmlDeviceGetMaxMigDeviceCount(h),
     [[q.pid, q.usedGpuMemory] for q in n.nvmlDeviceGetComputeRunningProcesses(h)],
     [[q.pid, q.usedGpuMemory] for q in n.nvmlDeviceGetGraphicsRunningProcesses(h)]])
"""


def test_identity_and_limits(tmp_path: Path, cache: Path) -> None:
    board = Gpu(
        uuid="GPU-4e81d9a0-1111-2222-3333-444455556666",
        name="NVIDIA H100 80GB",
        limit_w=700,
        min_w=200,
        arch=9,
        persistence=0,
        util=42,
        pids="17:4096,99",
    )
    driver_facts = Driver(version="535.1")
    with fake_nvml(tmp_path, [board, Gpu()], driver=driver_facts, cache=cache) as driver:
        answer = ask(driver, IDENTITY)
    assert answer[:5] == ["535.1", 2, "NVIDIA H100 80GB", board["uuid"], 0]
    assert answer[5:8] == [16, "00000000:10:00.0", "0000:10:00.0"]
    assert answer[8:13] == [700_000, [200_000, 700_000], 9, 0, 42]
    assert answer[13:] == [3, 0, [[17, 4096], [99, None]], []]


def test_only_a_whole_uuid_is_found(tmp_path: Path, cache: Path) -> None:
    script = """
f = n.nvmlDeviceGetHandleByUUID
u = n.nvmlDeviceGetUUID(h)
out([n.nvmlDeviceGetUUID(f(u)) == u, code(f, u[:12]), code(f, "GPU-nobody"),
     code(n.nvmlDeviceGetHandleByIndex, 1)])
"""
    with fake_nvml(tmp_path, [Gpu()], cache=cache) as driver:
        assert ask(driver, script) == [True, 6, 6, 2]


def test_mig_instances_have_no_power_of_their_own(tmp_path: Path, cache: Path) -> None:
    script = """
at = lambda k: n.nvmlDeviceGetMigDeviceHandleByIndex(h, k)
m = at(2)
f = n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(m))
out([n.nvmlDeviceGetMigMode(h), n.nvmlDeviceGetMaxMigDeviceCount(h),
     [code(at, k) for k in range(8)], n.nvmlDeviceGetUUID(f),
     code(n.nvmlDeviceGetPowerUsage, f), code(n.nvmlDeviceGetTotalEnergyConsumption, f),
     n.nvmlDeviceGetUUID(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(m)),
     code(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, h),
     n.nvmlDeviceIsMigDeviceHandle(m).value, code(n.nvmlDeviceGetPowerUsage, h)])
"""
    with fake_nvml(tmp_path, [Gpu(mig=2, mig_first=1)], cache=cache) as driver:
        answer = ask(driver, script)
        assert answer[3] == driver.mig_uuid(0, 2)
        assert answer[6] == driver.uuid(0)
    assert answer[:3] == [[1, 1], 7, [6, 0, 0, 6, 6, 6, 6, 2]]
    assert answer[4:6] == [3, 3]
    assert answer[7:] == [2, 1, 0]


FORK = """
r, w = os.pipe()
if os.fork() == 0:
    dead = [code(n.nvmlDeviceGetPowerUsage, h), code(n.nvmlShutdown)]
    n.nvmlInit()
    os.write(w, json.dumps([dead, code(n.nvmlDeviceGetPowerUsage, h)]).encode())
    os._exit(0)
os.wait()
out([json.loads(os.read(r, 99)), code(n.nvmlDeviceGetPowerUsage, h)])
"""


def test_a_forked_child_must_initialise_again(tmp_path: Path, cache: Path) -> None:
    with fake_nvml(tmp_path, [Gpu()], cache=cache) as driver:
        child, parent = ask(driver, FORK)
        calls = driver.calls()
    assert child == [[1, 1], 0]
    assert parent == 0
    assert calls["refused"] == 2
    assert calls["init"] == 2


def test_life_cycle_counts_references(tmp_path: Path, cache: Path) -> None:
    script = """
p = n.nvmlDeviceGetPowerUsage
n.nvmlInit(); n.nvmlShutdown(); still = code(p, h); n.nvmlShutdown()
gone = [code(p, h), code(n.nvmlShutdown)]
n.nvmlInit()
out([still, gone, code(p, n.nvmlDeviceGetHandleByIndex(0))])
"""
    with fake_nvml(tmp_path, [Gpu()], cache=cache) as driver:
        assert ask(driver, script) == [0, [1, 1], 0]


@pytest.mark.parametrize("error", [9, 18, 999])
def test_init_can_fail(tmp_path: Path, cache: Path, error: int) -> None:
    with fake_nvml(tmp_path, [Gpu()], driver=Driver(init_error=error), cache=cache) as driver:
        assert ask(driver, "out(code(n.nvmlInit))", start=False) == error


def test_a_wrong_spec_is_no_driver(tmp_path: Path, cache: Path) -> None:
    with fake_nvml(tmp_path, [Gpu()], cache=cache) as driver:
        spec = Path(driver.environment["FAKE_NVML_SPEC"])
        good = spec.read_text()
        for bad in ("uuid=GPU-1", "uuid=GPU-1 power=flat:1", good.splitlines()[1] + " colour=red"):
            spec.write_text(bad + "\n")
            assert ask(driver, "out(code(n.nvmlInit))", start=False) == 999


def test_exports_can_be_left_out(tmp_path: Path, cache: Path) -> None:
    gone = ("nvmlDeviceGetFieldValues", "nvmlDeviceGetTotalEnergyConsumption")
    with fake_nvml(tmp_path, [Gpu()], driver=Driver(without=gone), cache=cache) as driver:
        script = "out([code(n.nvmlDeviceGetTotalEnergyConsumption, h), n.nvmlDeviceGetCount()])"
        assert ask(driver, script) == [13, 1]


THREADS = """
from concurrent.futures import ThreadPoolExecutor
hs = [n.nvmlDeviceGetHandleByIndex(i) for i in range(4)]
def work(h):
    last = 0
    for _ in range(50):
        v = n.nvmlDeviceGetTotalEnergyConsumption(h)
        assert v >= last
        last = v
    return last
with ThreadPoolExecutor(4) as pool: out(list(pool.map(work, hs)))
"""


@pytest.mark.parametrize("serial", [False, True])
def test_calls_from_many_threads_are_counted(tmp_path: Path, cache: Path, serial: bool) -> None:
    boards = [Gpu(latency_us=1000)] * 4
    with fake_nvml(tmp_path, boards, driver=Driver(serial=serial), cache=cache) as driver:
        began = time.monotonic()
        ask(driver, THREADS)
        took = time.monotonic() - began
        assert driver.calls()["energy"] == 200
        assert driver.calls(board=3) == {"all": 51, "power": 0, "energy": 50, "fields": 0}
        assert 2 <= driver.calls()["most_at_once"] <= 4
    assert not serial or took >= 0.2


def test_two_copies_in_one_process_are_two_drivers(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for number in (1, 3):
        with fake_nvml(tmp_path / str(number), [Gpu()] * number, cache=cache) as driver:
            for key in ("FAKE_NVML_SPEC", "FAKE_NVML_CALLS"):
                monkeypatch.setenv(key, driver.environment[key])
            library = ctypes.CDLL(str(driver.library))
            count = ctypes.c_uint()
            assert library.nvmlInit_v2() == 0
            assert library.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0
            counts.append(count.value)
    assert counts == [1, 3]


def test_exported_symbols_are_those_of_the_real_library(cache: Path) -> None:
    library = ctypes.CDLL(str(build.build_nvml(cache)))
    binding = Path(pytest.importorskip("pynvml").__file__).read_text()
    source = "".join(path.read_text() for path in sorted(build.SOURCES.glob("fake_nvml*")))
    names = set(re.findall(r"^(?:int|const char \*)\s?(nvml\w+)\(", source, re.MULTILINE))
    assert len(names) >= 26
    for name in names:
        assert hasattr(library, name)
        assert re.search(rf'"{name}"', binding) or name in {"nvmlInit_v2"}, name


# ---- RAPL counters -------------------------------------------------------------------------


def _counter(tmp_path: Path, name: str, wave: str, **more: Any) -> Counter:
    return Counter(path=tmp_path / name, wave=wave, **more)


def _watch(paths: list[Path], seconds: float) -> list[tuple[int, list[int], int]]:
    """Read the files in turn, each reading between two times, on descriptors kept open."""
    rows = []
    files = [os.open(path, os.O_RDONLY) for path in paths]
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        before = time.monotonic_ns()
        values = [int(os.pread(file, 64, 0)) for file in files]
        rows.append((before, values, time.monotonic_ns()))
        time.sleep(0.0002)
    for file in files:
        os.close(file)
    return rows


def _unwrapped(values: list[int], modulus: float) -> list[float]:
    """Return the energy since the first value, each fall taken for one wrap."""
    total = [0.0]
    for old, new in itertools.pairwise(values):
        total.append(total[-1] + new - old + (modulus if new < old else 0.0))
    return total


def test_powercap_unwraps_to_the_closed_form(tmp_path: Path, cache: Path) -> None:
    counters = [
        _counter(tmp_path, "a", "square:50,400,0.02,0.5", range_uj=39_999_999, start_uj=39_000_000),
        _counter(tmp_path, "b", "constant:30", range_uj=5_000_000, unit_uj=61, period_us=500),
    ]
    with fakehost.running_powercap(tmp_path, counters, cache=cache) as host:
        rows = _watch([counter.path for counter in counters], 0.6)
    for i, counter in enumerate(counters):
        values = [row[1][i] for row in rows]
        energy = _unwrapped(values, counter.modulus_uj)
        # What the reading lacks of the truth at its moment: the part not yet published. The
        # counter may have wrapped before the first reading, so whole turns there do not count.
        turns = host.truth(i, host.epoch_ns, rows[0][2]) * 1e6 + counter.start_uj - values[0]
        turned = turns // counter.modulus_uj * counter.modulus_uj
        lacks = [
            host.truth(i, host.epoch_ns, after) * 1e6
            + counter.start_uj
            - values[0]
            - turned
            - since
            for (_, _, after), since in zip(rows, energy, strict=True)
        ]
        two_periods = 2 * counter.period_us * (400, 30)[i]
        assert sum(new < old for old, new in itertools.pairwise(values)) >= 2
        assert max(values) <= counter.range_uj
        assert min(lacks) >= -1
        # The median, because a busy machine may hold up the writer now and then.
        assert statistics.median(lacks) <= two_periods + 2 * counter.unit_uj


def test_powercap_value_is_whole_units(tmp_path: Path, cache: Path) -> None:
    counter = _counter(tmp_path, "a", "constant:0", start_uj=123_456, unit_uj=61.035)
    with fakehost.running_powercap(tmp_path, [counter], cache=cache):
        text = counter.path.read_text()
    counts = 123_456_000 // 61_035
    assert text == f"{counts * 61_035 // 1000:023d}\n"


@pytest.mark.parametrize(
    ("range_uj", "unit_uj"),
    [(262_143_328_850, 61.035), (65_712_999_613, 15.3), (4_294_967_295_000_000, 1_000_000)],
)
def test_powercap_true_modulus_is_32_bits_of_units(
    tmp_path: Path, cache: Path, range_uj: int, unit_uj: float
) -> None:
    counter = _counter(tmp_path, "a", "constant:0", range_uj=range_uj, unit_uj=unit_uj)
    assert counter.modulus_uj == pytest.approx(2**32 * unit_uj, rel=1e-15)
    for start, shown in ((range_uj + 1, range_uj), (math.ceil(counter.modulus_uj), 0)):
        last = _counter(
            tmp_path, "a", "constant:0", range_uj=range_uj, unit_uj=unit_uj, start_uj=start
        )
        with fakehost.running_powercap(tmp_path, [last], cache=cache):
            assert int(counter.path.read_text()) == shown


def test_powercap_reset(tmp_path: Path, cache: Path) -> None:
    counter = _counter(tmp_path, "a", "constant:100", start_uj=10**9, reset_at_s=0.2)
    with fakehost.running_powercap(tmp_path, [counter], cache=cache) as host:
        first = int(counter.path.read_text())
        time.sleep(max(0.0, 0.3 - (time.monotonic_ns() - host.epoch_ns) / 1e9))
        before = int(counter.path.read_text())
        true = host.truth(0, host.epoch_ns + 200_000_000, time.monotonic_ns()) * 1e6
    assert first >= 10**9 - 100
    assert before == pytest.approx(true, abs=100e6 * 0.02)


def test_powercap_writer_ends_with_its_parent(tmp_path: Path, cache: Path) -> None:
    counter = _counter(tmp_path, "a", "constant:100")
    with fakehost.running_powercap(tmp_path, [counter], cache=cache) as host:
        assert host.process.poll() is None
        assert host.process.stdin is not None
        host.process.stdin.close()
        assert host.process.wait(timeout=5) == 0


# ---- trees ---------------------------------------------------------------------------------


def _text(root: Path, path: str) -> str:
    return (root / path).read_text().strip()


def _names(root: Path) -> dict[str, str]:
    """Return zone to name, as a flat scan of the class directory sees them."""
    links = sorted((root / fakehost.POWERCAP).iterdir())
    return {link.name: _text(link, "name") for link in links if (link / "name").exists()}


def test_class_directory_lists_children_beside_their_parents(tmp_path: Path) -> None:
    root = fakehost.fake_host(tmp_path, fakehost.powercap_tree())
    assert _names(root) == {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "core",
        "intel-rapl:1:1": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    child = root / fakehost.POWERCAP / "intel-rapl:0:1"
    assert child.is_symlink()
    real = root / "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:1"
    assert child.resolve() == real.resolve()
    assert (root / fakehost.POWERCAP / "intel-rapl:0/intel-rapl:0:1/name").read_text() == "dram\n"
    assert (child / "device").resolve() == real.parent.resolve()
    assert (child / "subsystem").resolve() == (root / fakehost.POWERCAP).resolve()


def test_zone_files_hold_what_the_driver_shows(tmp_path: Path) -> None:
    root = fakehost.fake_host(tmp_path, fakehost.powercap_tree(energy_uj={"package-0/dram": 7}))
    zone = f"{fakehost.POWERCAP}/intel-rapl:0"
    assert _text(root, f"{zone}/max_energy_range_uj") == str(fakehost.RANGE_UJ)
    assert _text(root, f"{zone}/constraint_0_name") == "long_term"
    assert _text(root, f"{zone}/constraint_0_max_power_uw") == "205000000"
    assert _text(root, f"{zone}/enabled") == "1"
    assert _text(root, f"{zone}:1/energy_uj") == "7"
    assert _text(root, f"{zone}:1/max_energy_range_uj") == str(fakehost.DRAM_RANGE_UJ)
    twin = _text(root, f"{fakehost.POWERCAP}/intel-rapl-mmio:0/energy_uj")
    assert twin == _text(root, f"{zone}/energy_uj")


def test_numbers_are_the_order_of_registration(tmp_path: Path) -> None:
    order = ("package-1", "psys", "package-0")
    tree = fakehost.powercap_tree(order=order, children=("dram",))
    root = fakehost.fake_host(tmp_path, tree)
    assert {zone: name for zone, name in _names(root).items() if zone.count(":") == 1} == {
        "intel-rapl:0": "package-1",
        "intel-rapl:1": "psys",
        "intel-rapl:2": "package-0",
        "intel-rapl-mmio:0": "package-0",
    }
    assert (
        tree[fakehost.energy_key("intel-rapl-mmio:0")]
        == tree["sys/devices/virtual/powercap/intel-rapl/intel-rapl:2/energy_uj"]
    )


def test_dies_and_more_than_ten_zones(tmp_path: Path) -> None:
    tree = fakehost.powercap_tree(8, dies=2, children=(), mmio=False)
    names = _names(fakehost.fake_host(tmp_path, tree))
    assert len(names) == 17
    assert names["intel-rapl:0"] == "package-0-die-0"
    assert names["intel-rapl:15"] == "package-7-die-1"
    assert names["intel-rapl:16"] == "psys"
    values = [value for key, value in tree.items() if key.endswith("energy_uj")]
    assert len(set(map(str, values))) == 17


def test_links_modes_and_empty_directories(tmp_path: Path) -> None:
    tree: Mapping[str, fakehost.Value] = {
        "a/b": 5,
        "a/c": fakehost.Link("b"),
        "a/secret": fakehost.Mode("text", 0o000),
        "empty/": "",
        "dangling": fakehost.Link("nowhere"),
    }
    root = fakehost.fake_host(tmp_path, tree)
    assert (root / "a/c").read_text() == "5\n"
    assert (root / "a/secret").stat().st_mode & 0o777 == 0
    assert (root / "empty").is_dir()
    assert (root / "dangling").is_symlink()
    assert not (root / "dangling").exists()


def test_procfs_texts() -> None:
    stat = fakehost.proc_stat(2, 30, 70).splitlines()
    assert stat[0].split()[:5] == ["cpu", "60", "0", "0", "140"]
    assert stat[0].startswith("cpu  ")
    assert stat[2].split()[:5] == ["cpu1", "30", "0", "0", "70"]
    info = fakehost.cpuinfo("Intel(R) Xeon(R) Gold 6330", sockets=2, cores=3, threads=2)
    blocks = info.strip().split("\n\n")
    assert len(blocks) == 12
    rows = [dict(line.split("\t: ") for line in block.splitlines()) for block in blocks]
    facts = [{key.strip(): value for key, value in row.items()} for row in rows]
    assert [fact["physical id"] for fact in facts] == list("000111000111")
    assert {fact["siblings"] for fact in facts} == {"6"}
    assert fakehost.meminfo(1).startswith("MemTotal:        1048576 kB\n")
