"""An initialised ``torch.distributed`` without torch: a store of files, and a barrier.

For tests of several processes that would spend most of their time importing torch. What the real
one does is tested with the real one.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

DEADLINE_S = 60.0


class FileStore:
    """Keys and values of all processes of a job, one file each."""

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self.folder, self.prefix = folder, prefix
        self.timeout: object = None

    def _file(self, key: str) -> Path:
        return self.folder / quote(f"{self.prefix}{key}", safe="")

    def clone(self) -> FileStore:
        return FileStore(self.folder, self.prefix)

    def set_timeout(self, timeout: object) -> None:
        self.timeout = timeout

    def set(self, key: str, value: bytes) -> None:
        file = self._file(key)
        if not self.folder.is_dir():
            raise RuntimeError("Connection was closed")
        part = file.with_name(f".{file.name}.{os.getpid()}")
        part.write_bytes(value)
        part.replace(file)

    def get(self, key: str) -> bytes:
        deadline = time.monotonic() + DEADLINE_S
        while not self.check([key]):
            if time.monotonic() > deadline:
                raise RuntimeError("wait timeout")
            time.sleep(0.01)
        return self._file(key).read_bytes()

    def check(self, keys: list[str]) -> bool:
        if not self.folder.is_dir():
            raise RuntimeError("Connection was closed")
        return all(self._file(key).exists() for key in keys)

    def add(self, key: str, amount: int) -> int:
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            value = (int(self._file(key).read_bytes()) if self.check([key]) else 0) + amount
            self.set(key, str(value).encode())
        return value

    def delete_key(self, key: str) -> bool:
        self._file(key).unlink(missing_ok=True)
        return True


def _prefix_store(prefix: str, store: FileStore) -> FileStore:
    return FileStore(store.folder, f"{store.prefix}{prefix}/")


def install() -> ModuleType:
    """Put it where a program has ``torch.distributed``; return it, with ``barrier()``."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = FileStore(Path(os.environ["FAKE_STORE"]))
    state = {"initialised": True, "barriers": 0}
    distributed, c10d = ModuleType("torch.distributed"), ModuleType("c10d")

    def barrier() -> None:
        state["barriers"] += 1
        key, deadline = f"barrier/{state['barriers']}", time.monotonic() + DEADLINE_S
        store.add(key, 1)
        while int(store.get(key)) < world:
            if time.monotonic() > deadline:
                raise RuntimeError("a rank did not come")
            time.sleep(0.002)

    def destroy() -> None:
        state["initialised"] = False

    parts: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: state["initialised"],
        "get_rank": lambda: rank,
        "get_world_size": lambda: world,
        "PrefixStore": _prefix_store,
        "barrier": barrier,
        "destroy_process_group": destroy,
    }
    vars(distributed).update(parts)
    vars(c10d)["_get_default_store"] = lambda: store
    sys.modules["torch.distributed"] = distributed
    sys.modules["torch.distributed.distributed_c10d"] = c10d
    return distributed
