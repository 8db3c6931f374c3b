"""Answers on disk: one request for many processes, and nothing that a bad disk could break."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import carbontracker
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.base import Intensity
from carbontracker.intensity.cache import Answer, Cache, cache_directory
from carbontracker.intensity.providers import provider
from carbontracker.intensity.service import Service
from tests.support.intensity_server import Asked, Reply, serving
from tests.support.intensity_services import KEY

START = datetime(2026, 11, 23, 9, tzinfo=timezone.utc)
SLOT = Intensity(
    77.5,
    "DK",
    "DK",
    None,
    "direct",
    "measured",
    start=START,
    end=START + timedelta(hours=1),
    provider="test",
)


class Clock:
    """Seconds since 1970 that stand still until a test sets them."""

    def __init__(self) -> None:
        self.s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.s


class Fetch:
    """A question that counts how often it was asked."""

    def __init__(self, *outcomes: list[Intensity] | IntensityUnavailable) -> None:
        self.outcomes = list(outcomes)
        self.count = 0

    def __call__(self) -> list[Intensity]:
        self.count += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, IntensityUnavailable):
            raise outcome
        return outcome


def test_an_answer_is_kept_as_long_as_it_is_fresh_and_for_others_too(tmp_path: Path) -> None:
    clock, fetch = Clock(), Fetch([SLOT])
    first, second = (Cache(tmp_path / "deep" / "er", wall=clock) for _ in range(2))
    answer = first.get("a", 900, fetch)
    (slot,) = answer.slots
    assert slot.gco2eq_per_kwh == 77.5
    assert slot.fetched_at == datetime.fromtimestamp(clock.s, tz=timezone.utc)
    assert second.get("a", 900, fetch) == answer
    clock.s += 899.9
    assert second.get("a", 900, fetch) == first.get("a", 900, fetch) == answer
    assert fetch.count == 1
    clock.s += 0.2
    assert second.get("a", 900, fetch).at == clock.s
    assert first.get("a", 900, fetch).at == clock.s
    assert fetch.count == 2
    clock.s -= 10_000  # a clock that was set back: what is from the future is not believed
    first.get("a", 900, fetch)
    assert fetch.count == 3


def test_files_are_private_whole_and_leave_nothing_behind(tmp_path: Path) -> None:
    Cache(tmp_path / "c").get("a", 900, Fetch([SLOT]))
    files = {path.name: path for path in (tmp_path / "c").iterdir()}
    assert set(files) == {"a.json", "a.lock"}
    for path in files.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    assert json.loads(files["a.json"].read_text())["slots"][0]["gco2eq_per_kwh"] == 77.5


def in_a_thread(cache: Cache, fetch: Fetch) -> Answer:
    """Ask a cache in a thread that the test does not wait for longer than a minute."""
    found: list[Answer] = []
    thread = threading.Thread(target=lambda: found.append(cache.get("a", 900, fetch)), daemon=True)
    thread.start()
    thread.join(60)
    assert found, "the cache waits for what it reads"
    return found[0]


def poisoned(directory: Path) -> bytes:
    """Return the content of a cache file with a figure that is not the service's."""
    Cache(directory).get("a", 900, Fetch([replace(SLOT, gco2eq_per_kwh=1.0)]))
    return (directory / "a.json").read_bytes()


@pytest.mark.parametrize("name", ["a.json", "a.lock"])
@pytest.mark.parametrize("kind", ["pipe", "directory", "link", "device"])
def test_only_regular_files_are_read_and_others_are_not_waited_for(
    tmp_path: Path, name: str, kind: str
) -> None:
    shared, target = tmp_path / "shared", tmp_path / "target"
    shared.mkdir()
    if kind == "link":
        target.write_bytes(poisoned(tmp_path / "other"))
        target.chmod(0o600)
    before = target.read_bytes() if target.exists() else None
    if kind == "pipe":
        os.mkfifo(shared / name)
    elif kind == "directory":
        (shared / name).mkdir()
    else:
        (shared / name).symlink_to(target if kind == "link" else "/dev/zero")
    fetch = Fetch([SLOT])
    answer = in_a_thread(Cache(shared), fetch)
    assert (answer.slots[0].gco2eq_per_kwh, fetch.count) == (77.5, 1)
    assert (target.read_bytes() if target.exists() else None) == before


def test_a_link_to_nowhere_makes_no_file(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("a.json", "a.lock"):
        (shared / name).symlink_to(tmp_path / "made")
    assert in_a_thread(Cache(shared), Fetch([SLOT])).slots
    assert not (tmp_path / "made").exists()


def test_a_file_that_others_can_write_is_ignored(tmp_path: Path) -> None:
    content = poisoned(tmp_path)
    for mode in (0o620, 0o602, 0o666):
        (tmp_path / "a.json").write_bytes(content)
        (tmp_path / "a.json").chmod(mode)
        fetch = Fetch([SLOT])
        assert Cache(tmp_path).get("a", 900, fetch).slots[0].gco2eq_per_kwh == 77.5
        assert fetch.count == 1
        assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_ignored(tmp_path: Path) -> None:
    poisoned(tmp_path)
    os.chown(tmp_path / "a.json", 65_534, 65_534)
    fetch = Fetch([SLOT])
    assert Cache(tmp_path).get("a", 900, fetch).slots[0].gco2eq_per_kwh == 77.5
    assert fetch.count == 1


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no space
    (tmp_path / "a.json").chmod(0o600)
    assert in_a_thread(Cache(tmp_path), Fetch([SLOT])).slots


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_cached_for_an_hour(tmp_path: Path, status: int) -> None:
    clock, fetch = Clock(), Fetch(IntensityUnavailable("no such zone", status))
    first, second = (Cache(tmp_path, wall=clock) for _ in range(2))
    assert first.get("a", 60, fetch).reason == "no such zone"
    clock.s += 3599
    answer = second.get("a", 60, fetch)
    assert (answer.reason, answer.status, answer.slots) == ("no such zone", status, ())
    assert fetch.count == 1
    clock.s += 2
    second.get("a", 60, fetch)
    assert fetch.count == 2


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    fetch = Fetch(IntensityUnavailable("down", 503), [SLOT])
    assert cache.get("a", 60, fetch).reason == "down"
    assert cache.get("a", 60, fetch).slots
    assert fetch.count == 2


def test_an_old_answer_stays_as_a_last_resort(tmp_path: Path) -> None:
    clock = Clock()
    Cache(tmp_path, wall=clock).get("a", 900, Fetch([SLOT]))
    clock.s += 80_000
    later = Cache(tmp_path, wall=clock)
    assert later.get("a", 900, Fetch(IntensityUnavailable("down"))).slots == ()
    kept = later.newest("a")
    assert kept is not None
    assert kept.slots[0].gco2eq_per_kwh == 77.5
    assert later.newest("b") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format": 1}',
        b'{"format": 1, "at": "soon", "reason": "", "status": null, "slots": []}',
        b'{"format": 1, "at": 1e9, "reason": "", "status": null, "slots": [{"zone": 1}]}',
        b'{"format": 1, "at": 1e9, "reason": "", "status": null, "slots": 7}',
        b'{"format": 2, "at": 1e9, "reason": "", "status": null, "slots": []}',
        b"[" * 100_000,
        b'{"format": 1, "at": 1e9, "reason": "", "status": null, "slots": ["a"]}',
        b'{"format": 1, "at": 1%s, "reason": "", "status": null, "slots": []}' % (b"0" * 400),
        *(
            json.dumps(
                {"format": 1, "at": 1e9, "reason": "", "status": None, "slots": [spoilt]}
            ).encode()
            for spoilt in (
                SLOT.to_dict() | {"start": None},
                SLOT.to_dict() | {"end": None},
                SLOT.to_dict() | {"end": 5},
                SLOT.to_dict() | {"kind": "sometimes"},
                SLOT.to_dict() | {"gco2eq_per_kwh": 9e9},
                SLOT.to_dict() | {"gco2eq_per_kwh": None},
                SLOT.to_dict() | {"end": "9999-12-31T23:59:59+00:00"},
            )
        ),
    ],
)
def test_a_file_with_other_content_is_requested_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    fetch = Fetch([SLOT])
    cache = Cache(tmp_path)
    assert cache.newest("a") is None
    assert cache.get("a", 900, fetch).slots
    assert Cache(tmp_path).get("a", 900, fetch).slots
    assert fetch.count == 1


def test_without_a_directory_memory_is_used_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    fetch = Fetch([SLOT])
    cache = Cache(tmp_path / "file" / "below")
    with caplog.at_level(logging.WARNING):
        for name in ("a", "a", "b"):
            assert cache.get(name, 900, fetch).slots
    assert fetch.count == 2
    (said,) = caplog.records
    assert "CARBONTRACKER_CACHE_DIR" in said.getMessage()
    assert Cache(None).get("a", 900, fetch).slots


def test_a_file_that_cannot_be_replaced_leaves_no_rubbish(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    assert Cache(tmp_path).get("a", 900, Fetch([SLOT])).slots
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "a.lock"}


def test_many_threads_make_one_request(tmp_path: Path) -> None:
    fetch, answers = Fetch([SLOT]), list[Answer]()
    cache = Cache(tmp_path)

    def ask() -> None:
        answers.append(cache.get("a", 900, fetch))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetch.count == 1
    assert len(set(answers)) == 1


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CARBONTRACKER_CACHE_DIR", str(tmp_path / "here"))
    assert cache_directory() == tmp_path / "here"
    monkeypatch.delenv("CARBONTRACKER_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_directory()
    assert folder is not None
    assert folder.parent == tmp_path


PROCESS = """
import sys
from carbontracker.intensity.providers import provider
from carbontracker.intensity.live_provider import LiveProvider
live = LiveProvider(provider("electricitymaps", api_key=sys.argv[1]), "DK", None)
sys.stdin.read(1)
live.refresh()
print([slot.gco2eq_per_kwh for slot in live.between("DK", *[live._clock()] * 2)])
"""


def test_eight_processes_make_one_request_per_refresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(asked: Asked) -> Reply:
        hour = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
        key = "forecast" if asked.path.endswith("/forecast") else "history"
        row = {"zone": "DK", "carbonIntensity": 77, "datetime": hour.isoformat()}
        return Reply({"zone": "DK", key: [row]})

    with serving(script) as server:
        monkeypatch.setenv("CARBONTRACKER_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("CARBONTRACKER_ELECTRICITYMAPS_URL", server.url)
        package = str(Path(carbontracker.__file__).parents[1])  # installed or not
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (package, environment.get("PYTHONPATH")))
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROCESS, KEY],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                text=True,
            )
            for _ in range(8)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("x")
            process.stdin.flush()
        told = [process.communicate(timeout=60)[0] for process in processes]
    assert told == ["[77.0]\n"] * 8
    assert sorted(asked.path.rpartition("/")[2] for asked in server.asked) == [
        "forecast",
        "history",
    ]
    for path in (tmp_path / "cache").iterdir():
        assert KEY not in path.name + path.read_text()


def test_two_accounts_do_not_share() -> None:
    settings = ({"api_key": "a"}, {"api_key": "b"}, {"api_key": "a", "scope": "direct"})
    built = [provider("electricitymaps", **one) for one in settings]
    assert all(isinstance(one, Service) for one in built)
    assert len({one.fingerprint for one in built if isinstance(one, Service)}) == 3
