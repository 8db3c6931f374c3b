"""Answers of services on disk, shared by the processes of a user: one request serves all of them.

A file holds figures and the time of the request, or why there are no figures; never a key or a URL.
If the disk fails, answers stay in memory, after one warning.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker import environment
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.guard import logger
from carbontracker.intensity.base import Intensity
from carbontracker.operating_system import BINARY, NO_LINK, NO_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

VARIABLE = "CARBONTRACKER_CACHE_DIR"
FORMAT = 1
REFUSED_S = 3600.0
"""How long a refusal is kept, s."""
REFUSALS = (401, 403, 404, 410)
LOCK_WAIT_S = 20.0
"""Limit of the wait for another process's request, s: longer than a request takes."""
MAX_BYTES = 16 * 1024 * 1024
"""Of a file: months of figures are a few hundred kilobytes."""
_LOCK_STEP_S = 0.05
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""Errors of reading a file with other content."""


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the directory of the cache: ``CARBONTRACKER_CACHE_DIR``, else the user's cache.

    None without a home directory: answers are then kept in memory.
    """
    if given := environ.get(VARIABLE, "").strip():
        return Path(given)
    try:
        return environment.cache_directory()
    except OSError:
        return None


def read_own(path: Path) -> bytes:
    """Return the content of a file of the cache; never waits.

    Other users may be able to write to the directory, such as a shared temporary one. A file is
    valid only if it is a plain file that only this user or root can have written.

    Raises:
        OSError: the file does not exist or is not valid.
    """
    fd = _opened_own(path, os.O_RDONLY)
    with os.fdopen(fd, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def write_own(path: Path, data: bytes) -> None:
    """Write a file of the cache atomically, readable only by this user.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f"{path.stem}.{os.getpid()}.{os.urandom(3).hex()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK | BINARY, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise


def _opened_own(path: Path, flags: int) -> int:
    """Open a plain file that this user or root owns and no other user can write to.

    Raises:
        OSError: it cannot be opened, or is not such a file.
    """
    fd = os.open(path, flags | NO_LINK | NO_WAIT | BINARY, 0o600)
    about = os.fstat(fd)
    # Windows shows neither; the folder of the cache is in the user's own there.
    owned = not hasattr(os, "geteuid") or (
        about.st_uid in {os.geteuid(), 0} and not about.st_mode & 0o022
    )
    if stat.S_ISREG(about.st_mode) and owned:
        return fd
    os.close(fd)
    reason = "not a plain file" if owned else "another user can have written it"
    raise OSError(errno.EPERM, reason, str(path))


@dataclass(frozen=True)
class Answer:
    """The answer of a service."""

    at: float
    """Time of the request, seconds since 1970."""
    slots: tuple[Intensity, ...] = ()
    reason: str = ""
    """Why there are no slots."""
    status: int | None = None
    """The HTTP status of the answer, if the service answered."""
    retry_after_s: float | None = None
    """How long the service asks to be left alone, s; not kept on disk."""


class Cache:
    """Answers by name, in memory and, if possible, in a directory.

    Args:
        directory: created if missing; None for memory only.
        wall: seconds since 1970.
    """

    def __init__(self, directory: Path | None, *, wall: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._wall = wall
        self._memory: dict[str, Answer] = {}
        self._warned = False

    def get(self, name: str, fresh_s: float, fetch: Callable[[], list[Intensity]]) -> Answer:
        """Return the answer called ``name``, from ``fetch`` if it is older than ``fresh_s``.

        One of several processes makes the request, and the others use its answer. A failure other
        than a refusal is not kept.
        """
        if found := self._fresh(name, fresh_s):
            return found
        with self._locked(name):
            if found := self._fresh(name, fresh_s):
                return found
            answer = self._fetch(fetch)
            if answer.slots or answer.status in REFUSALS:
                self._memory[name] = answer
                self._write(name, answer)
            return answer

    def newest(self, name: str) -> Answer | None:
        """Return the newest answer called ``name`` that has slots, of any age, or None."""
        known = [a for a in (self._memory.get(name), self._read(name)) if a and a.slots]
        return max(known, key=lambda answer: answer.at, default=None)

    def _fetch(self, fetch: Callable[[], list[Intensity]]) -> Answer:
        at = self._wall()
        try:
            slots = fetch()
        except IntensityUnavailable as error:
            return Answer(at, (), error.reason, error.status, error.retry_after_s)
        stamp = datetime.fromtimestamp(at, tz=timezone.utc)
        return Answer(at, tuple(replace(slot, fetched_at=stamp) for slot in slots))

    def _fresh(self, name: str, fresh_s: float) -> Answer | None:
        for answer in (self._memory.get(name), self._read(name)):
            if answer is None:
                continue
            lasts_s = fresh_s if answer.slots else REFUSED_S
            if 0 <= self._wall() - answer.at < lasts_s:  # a future time: the clock was wrong
                self._memory[name] = answer
                return answer
        return None

    def _read(self, name: str) -> Answer | None:
        if self._directory is None:
            return None
        try:
            return _loaded(json.loads(read_own(self._directory / f"{name}.json")))
        except _DAMAGED:
            return None  # missing or damaged

    def _write(self, name: str, answer: Answer) -> None:
        if self._directory is None:
            return
        text = json.dumps(_dumped(answer), allow_nan=False)
        try:
            write_own(self._directory / f"{name}.json", text.encode())
        except OSError as error:
            self._warn(error)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold the lock of ``name``, if possible; without a lock the last writer wins."""
        fd = self._lock_file(name)
        if fd is None:
            yield
            return
        import fcntl

        try:
            deadline = time.monotonic() + LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(_LOCK_STEP_S)
                except OSError:  # a file system without locks
                    break
            yield
        finally:
            with suppress(OSError):
                # Closing is not enough: a child forked meanwhile would still hold the lock.
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def _lock_file(self, name: str) -> int | None:
        if self._directory is None or sys.platform == "win32":  # which has no such locks
            return None
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            return _opened_own(self._directory / f"{name}.lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            self._warn(error)
            return None

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "carbontracker: carbon intensities are kept in memory only: %s; choose another "
                "directory with %s",
                error,
                VARIABLE,
            )


def _dumped(answer: Answer) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "at": answer.at,
        "reason": answer.reason,
        "status": answer.status,
        "slots": [slot.to_dict() for slot in answer.slots],
    }


def _loaded(document: Any) -> Answer | None:
    """Return the answer of a file's document.

    Raises:
        One of ``_DAMAGED``: the document is damaged.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None
    slots = tuple(Intensity.from_dict(slot, strict=True) for slot in document["slots"])
    if any(slot.start is None or slot.end is None for slot in slots):
        raise ValueError("a slot without its time")
    return Answer(float(document["at"]), slots, str(document["reason"]), document["status"])
