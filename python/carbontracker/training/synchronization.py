"""Waiting at marks until the accelerator has done what was queued before them, on request only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from carbontracker.guard import SYNCHRONIZATION, optional

if TYPE_CHECKING:
    from collections.abc import Callable

    Sync = str | Callable[[], object]

FRAMEWORKS = ("torch", "jax")


def check_sync(sync: object) -> None:
    """Refuse what cannot be called at marks.

    Raises:
        ValueError: it is neither a function nor the name of a framework.
    """
    if sync is not None and sync not in FRAMEWORKS and not callable(sync):
        message = f"sync must be {' or '.join(FRAMEWORKS)} or a function, not {sync!r}"
        raise ValueError(message)


class Synchronizer:
    """Called at a mark, waits for the accelerator. The first failure is reported and the last.

    Args:
        sync: a function, or the framework to ask; None to wait for nothing.
    """

    def __init__(self, sync: Sync | None) -> None:
        self._wait = {"torch": _torch, "jax": _jax}.get(sync) if isinstance(sync, str) else sync

    def __bool__(self) -> bool:
        """Return whether there is something to wait for."""
        return self._wait is not None

    def __call__(self) -> None:
        """Wait."""
        wait = self._wait
        if wait is not None:
            optional(SYNCHRONIZATION, wait, self._stop)

    def _stop(self, _: str) -> None:
        self._wait = None


def _torch() -> None:
    """Wait for the current device of each backend of torch that the program uses."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    for name in ("cuda", "xpu"):
        backend = getattr(torch, name, None)
        # Else the first mark would begin to use the device.
        if backend is not None and backend.is_initialized():
            backend.synchronize()
    mps = getattr(torch.backends, "mps", None)
    if mps is not None and mps.is_available():
        torch.mps.synchronize()


def _jax() -> None:
    """Wait for each local device: it computes in the order in which it was asked."""
    jax: Any = sys.modules.get("jax")
    if jax is None:
        return
    for device in jax.local_devices():
        (jax.device_put(0.0, device) + 1).block_until_ready()
