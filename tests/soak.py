"""Everything at once for a while: threads, sessions, forks and failing sensors, on fake hardware.

``python tests/soak.py [--seconds N]`` prints what it did as JSON and fails at the first window
that breaks a rule: energy is never negative, it adds up, and it is known where the coverage is 1.
``make soak`` runs it under the sanitizers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter as Counts
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

# The doubles are compiled by programs that must not be preloaded with a sanitizer.
os.environ.pop("LD_PRELOAD", None)

from carbontracker.energy.config import Config
from carbontracker.energy.session import Session, acquire, release
from tests.support.build import build
from tests.support.fakehost import (
    Counter,
    Gpu,
    energy_key,
    fake_host,
    fake_nvml,
    powercap_tree,
    running_powercap,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.energy.energy import Energy
    from carbontracker.energy.session import Mark

THREADS = 16
RATES_HZ = (0.0, 200.0)
"""Of the two sessions that run all the time: in the sensors' rhythm, and steadily."""
KEPT = 64
"""Windows that each thread and session keeps, beside those that it drops at once."""
ROUNDING_J = 1e-6
FORK_EVERY_S = 0.25
CHILD_PATIENCE_S = 30.0
LOST, TIMEOUT, UNKNOWN = 15, 10, 999

Marks = tuple["Mark", "Mark", "Mark"]


class Broken(AssertionError):
    """A rule that every energy keeps was broken."""


class Soak:
    """What the threads share."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.counts: Counts[str] = Counts()
        self.broken: list[str] = []
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Return whether the time is up, or something has been found."""
        return bool(self.broken) or time.monotonic() >= self.deadline

    def add(self, counts: Counts[str]) -> None:
        """Take in what one thread has done."""
        with self._lock:
            self.counts.update(counts)

    def fail(self, what: str) -> None:
        """Note a broken rule."""
        with self._lock:
            self.broken.append(what)


# ---- the rules ------------------------------------------------------------------------------


def check(energy: Energy, counts: Counts[str]) -> None:
    """Hold an energy and its parts against the rules."""
    for name, one in {"total": energy, **energy.by_device}.items():
        counts["energies"] += 1
        figures = (one.joules, one.error_joules, one.coverage, one.quality)
        if not 0.0 <= one.coverage <= 1.0:
            raise Broken(f"{name}: impossible coverage: {figures}")
        if math.isnan(one.joules):
            counts["missing"] += 1
            if one.coverage >= 1.0:
                raise Broken(f"{name}: NaN where all is known: {figures}")
        elif not (0.0 <= one.joules < math.inf and one.error_joules >= 0.0):
            raise Broken(f"{name}: impossible energy: {figures}")


def apart(
    parts: tuple[Energy, Energy], whole: Energy, replaced: set[str]
) -> dict[str, tuple[float, float, float]]:
    """Return the devices whose windows do not add up.

    A window of which nothing is known has no energy, though the window around it may have: such a
    device is passed over. One for which another channel speaks, or spoke, may have been asked at
    marks that were settled before that was known: it adds up within its error.
    """
    found = {}
    for name, outer in whole.by_device.items():
        one, two = (part.by_device[name] for part in parts)
        spread = one.error_joules + two.error_joules + outer.error_joules
        allowed = ROUNDING_J + (spread if name in replaced else 0.0)
        if abs(one.joules + two.joules - outer.joules) > allowed:  # not for NaN
            found[name] = (one.joules, two.joules, outer.joules)
    return found


def check_sum(session: Session, marks: Marks, counts: Counts[str]) -> None:
    """Hold a final window against the two that it consists of.

    Another channel may take over for one that failed while they are asked for: what is asked
    again then adds up.
    """
    if not session.is_final(*marks):
        return
    counts["sums"] += 1
    for _ in range(3):
        parts = session.energy(marks[0], marks[1]), session.energy(marks[1], marks[2])
        whole = session.energy(marks[0], marks[2])
        for one in (*parts, whole):
            check(one, counts)
        replaced = {one.owner for one in session.successions()}
        off = apart(parts, whole, replaced)
        if not off:
            return
        counts["asked again"] += 1
    lengths_s = [(mark.t_ns - marks[0].t_ns) / 1e9 for mark in marks]
    raise Broken(f"windows do not add up: {off} J at {lengths_s} s; {session.config.rate_hz:g} Hz")


# ---- the load -------------------------------------------------------------------------------


def gpus(seconds: float) -> Iterator[Gpu]:
    """Return eight boards that refresh differently, of which three fail and come back."""
    for number in range(8):
        yield Gpu(
            power=f"square:60,{200 + 40 * number},{0.13 + 0.07 * number},0.5",
            period_ms=(20, 25, 50, 100)[number % 4],
            phase_ms=7.0 * number,
            jitter_ms=1.0 if number % 2 else 0.0,
            start_j=5_000.0 * number,
            limit_w=700,
        )


def failures(seconds: float) -> dict[int, Gpu]:
    """Return what goes wrong with some boards, again and again."""
    starts = [0.4 + k * seconds / 6 for k in range(6)]
    length = seconds / 20

    def spells(code: int) -> list[str]:
        return [f"{code}@{start:.3f}-{start + length:.3f}" for start in starts]

    return {
        1: Gpu(fail=spells(LOST)),
        3: Gpu(fail_energy=spells(TIMEOUT), fail_energy_field=spells(TIMEOUT)),
        5: Gpu(reset_at_s=seconds / 2),
        6: Gpu(fail=spells(UNKNOWN)),
        7: Gpu(slow=[f"60000@{start:.3f}-{start + length:.3f}" for start in starts[:2]]),
    }


def work(soak: Soak, sessions: tuple[Session, ...], seed: int) -> None:
    """Mark, ask, keep and drop, until the time is up."""
    dice = random.Random(seed)
    counts: Counts[str] = Counts()
    kept: dict[Session, deque[Marks]] = {session: deque(maxlen=KEPT) for session in sessions}
    try:
        while not soak.over:
            session = dice.choice(sessions)
            first = session.mark()
            if dice.random() < 0.5:
                time.sleep(dice.expovariate(1 / 0.004))
            second = session.mark()
            check(session.energy(first, second), counts)
            third = session.mark()
            counts["windows"] += 1
            if dice.random() < 0.3:
                kept[session].append((first, second, third))
            if kept[session] and dice.random() < 0.3:
                check_sum(session, dice.choice(kept[session]), counts)
            if dice.random() < 0.05:
                session.power(dice.randrange(len(session.channels)), first.t_ns, third.t_ns)
                counts["traces"] += 1
    except Exception as error:  # noqa: BLE001  # the main thread tells
        soak.fail(f"{type(error).__name__}: {error}")
    soak.add(counts)


def come_and_go(soak: Soak, config: Config) -> None:
    """Start and stop sessions of the same machine beside those that go on."""
    counts: Counts[str] = Counts()
    try:
        while not soak.over:
            session = acquire(config)
            start = session.mark()
            time.sleep(0.02)
            end = session.mark()
            release(session)
            check(session.energy(start, end), counts)
            counts["sessions"] += 1
    except Exception as error:  # noqa: BLE001  # the main thread tells
        soak.fail(f"{type(error).__name__}: {error}")
    soak.add(counts)


def fork(soak: Soak, session: Session, start: Mark) -> None:
    """Leave a child that asks for energy and ends; fail if it does not, or knows any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: it is meant
        child = os.fork()
    if child == 0:
        knows = session.owned_by_this_process or not math.isnan(
            session.energy(start, session.mark()).joules
        )
        os._exit(1 if knows else 0)
    deadline = time.monotonic() + CHILD_PATIENCE_S
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            soak.fail("a forked child hangs")
            return
        time.sleep(0.002)
    soak.add(Counts(forks=1))
    if status != 0:
        soak.fail(f"a forked child ended with {status}")


# ---- all of it ------------------------------------------------------------------------------


def run(seconds: float, directory: Path) -> Soak:
    """Let everything happen for so long."""
    build(directory / "c-doubles")
    root = fake_host(directory, powercap_tree(2))
    moving = [
        Counter(root / energy_key("intel-rapl:0"), "constant:80", start_uj=262_143_000_000),
        Counter(root / energy_key("intel-rapl:0:1"), "constant:20", start_uj=2_000_000),
        Counter(root / energy_key("intel-rapl:1"), "square:60,150,0.31,0.5", start_uj=3_000_000),
        Counter(root / energy_key("intel-rapl:1:1"), "constant:25", start_uj=4_000_000),
    ]
    trouble = failures(seconds)
    boards = [Gpu(**{**gpu, **trouble.get(i, {})}) for i, gpu in enumerate(gpus(seconds))]
    with ExitStack() as stack:
        cache = directory / "c-doubles"
        driver = stack.enter_context(fake_nvml(directory, boards, cache=cache))
        stack.enter_context(running_powercap(directory, moving, cache=cache))
        os.environ.update(
            {key: driver.environment[key] for key in ("FAKE_NVML_SPEC", "FAKE_NVML_CALLS")}
        )

        def config(rate_hz: float) -> Config:
            return Config(root=str(root), nvml_library=str(driver.library), rate_hz=rate_hz)

        sessions = tuple(acquire(config(rate_hz)) for rate_hz in RATES_HZ)
        for session in sessions:
            stack.callback(release, session)
        soak = Soak(seconds)
        threads = [
            threading.Thread(target=work, args=(soak, sessions, seed)) for seed in range(THREADS)
        ]
        threads.append(threading.Thread(target=come_and_go, args=(soak, config(50.0))))
        for thread in threads:
            thread.start()
        start = sessions[0].mark()
        while not soak.over:
            fork(soak, sessions[0], start)
            time.sleep(FORK_EVERY_S)
        for thread in threads:
            thread.join()
        for index, channel in enumerate(sessions[0].channels):
            stats = sessions[0].channel_stats(index)
            assert stats is not None
            soak.add(Counts({"readings": stats.readings, "errors": stats.errors}))
            if stats.readings == 0 and channel.counted:
                soak.fail(f"{channel.id} was never read")
    return soak


def main() -> int:
    """Run the soak and say what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        soak = run(arguments.seconds, Path(directory) / "soak")
    print(json.dumps(dict(sorted(soak.counts.items()))))
    for what in soak.broken:
        print(f"BROKEN: {what}", file=sys.stderr)
    return 1 if soak.broken else 0


if __name__ == "__main__":
    sys.exit(main())
