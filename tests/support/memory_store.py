"""A key-value store for the ranks of one process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class MemoryStore:
    """What ``torch.distributed.Store`` does, in memory; counts requests and bytes."""

    values: dict[str, bytes] = field(default_factory=dict)
    requests: int = 0
    sent_bytes: int = 0

    def set(self, key: str, value: bytes) -> None:
        """Set a key."""
        self.requests += 1
        self.sent_bytes += len(value)
        self.values[key] = value

    def get(self, key: str) -> bytes:
        """Return a value."""
        self.requests += 1
        return self.values[key]

    def check(self, keys: Sequence[str]) -> bool:
        """Return whether all keys are there."""
        self.requests += 1
        return all(key in self.values for key in keys)

    def add(self, key: str, amount: int) -> int:
        """Count."""
        self.requests += 1
        self.values[key] = str(int(self.values.get(key, b"0")) + amount).encode()
        return int(self.values[key])

    def delete_key(self, key: str) -> bool:
        """Forget a key."""
        self.requests += 1
        return self.values.pop(key, None) is not None
