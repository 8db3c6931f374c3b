"""Marks of steps inside an epoch: only times, in a bounded number of blocks.

A mark counts, and sometimes stores the time. When a prediction is due, the energies between the
ends of the blocks are looked up. So a training with short steps pays only for counting.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.conversion import as_whole
from carbontracker.prediction.predictor import STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_BLOCKS = 256
"""Blocks kept of an epoch. When they are full, neighbours are joined and new ones are twice as
long, so that there are never fewer than half as many in a long epoch."""

EARLY_SHARE = 0.10
"""Share of the first epoch after which a first prediction is made, if its length is known: late
enough for some steps beyond the warm-up, six minutes into an hour. Never within ``LOOK_NS``."""

LOOK_NS = 1_000_000_000
"""At most once in so long a mark does more than count: budgets are looked at."""

_now_ns = time.monotonic_ns
_ONE = 1
"""The usual number of a mark. Comparing identity is a tenth cheaper than type and value."""


class Block(NamedTuple):
    """Some consecutive steps, or a phase between steps."""

    steps: int
    start_ns: int
    """Moment on CLOCK_MONOTONIC, ns."""
    end_ns: int
    kind: str
    """``step``, or what the phase was called: ``validation``, ``checkpoint``."""


class Steps:
    """The steps of the epoch that is open.

    Args:
        look: called from a mark, in its thread, once a second at most.
        look_every_ns: how seldom, ns.
    """

    __slots__ = (
        "_block",
        "_blocks",
        "_done",
        "_due",
        "_look",
        "_look_every_ns",
        "_look_ns",
        "_pending",
        "_since_ns",
        "per_epoch",
        "planned",
    )

    def __init__(self, look: Callable[[], object], look_every_ns: int = LOOK_NS) -> None:
        self._look = look
        self._look_every_ns = look_every_ns
        self._look_ns: float = 0
        self._due: float = math.inf
        self._block: float = math.inf
        self._blocks: list[Block] = []
        self._pending = 0
        self._done = 0
        self._since_ns = 0
        self.per_epoch: int | None = None
        """How many steps an epoch has, if that is known."""
        self.planned: int | None = None
        """How many steps the training has, if its plan is in steps."""

    def mark(self, n: int = 1) -> None:
        """Mark the end of ``n`` steps; a value that is not a number of steps counts as 0."""
        if n is not _ONE:  # rare: several steps, a number of numpy, or a mistake
            n = as_whole(n)
        self._pending = pending = self._pending + n
        if pending >= self._block or _now_ns() >= self._look_ns:
            self._turn()

    @contextmanager
    def phase(self, kind: str, start_ns: int | None = None) -> Iterator[None]:
        """Keep a block of code apart from the steps. Steps marked inside the block are ignored.

        Args:
            kind: what the code does.
            start_ns: its beginning on CLOCK_MONOTONIC, ns, not before the newest step; else now.
        """
        start_ns = time.monotonic_ns() if start_ns is None else max(start_ns, self._since_ns)
        self._close(start_ns)
        block, self._block = self._block, math.inf
        try:
            yield
        finally:
            self._pending, self._since_ns = 0, time.monotonic_ns()
            if math.inf not in (block, self._look_ns):  # neither before nor after it all
                self._block = block
                apart = f"{kind} apart" if kind == STEP else kind  # no block of no steps is a step
                self._keep(Block(0, start_ns, self._since_ns, apart))

    def begin(self, *, early: bool = False) -> None:
        """Begin an epoch, with an early prediction or without."""
        self._blocks = []
        self._block, self._pending, self._done = 1, 0, 0
        self._since_ns = time.monotonic_ns()
        self._look_ns = self._since_ns + self._look_every_ns
        self._due = EARLY_SHARE if early else math.inf

    def end(self, now_ns: int) -> None:
        """End the epoch: what is marked from here on belongs to no block."""
        self._close(now_ns)
        self._block = self._due = math.inf

    def stop(self) -> None:
        """Only count from now on, and drop the function that marks call."""
        self._block = self._look_ns = self._due = math.inf
        self._look = _nothing

    def look_soon(self) -> None:
        """Have the next mark look, however recent the last look is; not after the end."""
        self._look_ns = min(self._look_ns, 0) if self._look is not _nothing else math.inf

    @property
    def done(self) -> int:
        """Return how many steps of the epoch are done."""
        return self._done + self._pending

    @property
    def expected(self) -> int | None:
        """Return how many steps the first epoch is expected to have; None if that is unknown.

        A plan in steps is one epoch until more is known.
        """
        known = [count for count in (self.per_epoch, self.planned) if count is not None]
        return min(known, default=None)

    @property
    def early(self) -> bool:
        """Return whether the early prediction is due; True once an epoch at most."""
        if self.expected is None or self.done < self._due * self.expected:
            return False
        self._due = math.inf
        return True

    def blocks(self) -> list[Block]:
        """Return the blocks of the epoch so far; at most ``MAX_BLOCKS``."""
        return list(self._blocks)

    def _turn(self) -> None:
        now_ns = time.monotonic_ns()
        if self._pending >= self._block:
            self._close(now_ns)
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + self._look_every_ns
            self._look()

    def _close(self, now_ns: int) -> None:
        if self._pending and self._block != math.inf:
            self._keep(Block(self._pending, self._since_ns, now_ns, STEP))
            self._done += self._pending
        self._pending = 0
        self._since_ns = now_ns

    def _keep(self, block: Block) -> None:
        self._blocks.append(block)
        if len(self._blocks) < MAX_BLOCKS:
            return
        joined = _joined(self._blocks)
        if len(joined) > 3 * MAX_BLOCKS // 4:
            # Phases lie between nearly all of them: every other one is representative.
            joined = _every_other(joined)
        self._blocks = joined
        self._block *= 2


def _nothing() -> None:
    """Replace the function that marks call, after the end."""


def _joined(blocks: list[Block]) -> list[Block]:
    """Return the blocks with neighbouring steps joined in pairs."""
    joined: list[Block] = []
    free = False
    for block in blocks:
        last = joined[-1] if joined else None
        if free and last is not None and last.kind == block.kind == STEP:
            joined[-1] = Block(last.steps + block.steps, last.start_ns, block.end_ns, STEP)
            free = False
        else:
            joined.append(block)
            free = True
    return joined


def _every_other(blocks: list[Block]) -> list[Block]:
    """Return every other block of each kind, in order."""
    seen: dict[str, int] = {}
    kept = []
    for block in blocks:
        seen[block.kind] = seen.get(block.kind, 0) + 1
        if seen[block.kind] % 2:
            kept.append(block)
    return kept


def length_of(items: object) -> int | None:
    """Return the number of items, or None if it cannot be known without iterating."""
    try:
        count = len(items)  # type: ignore[arg-type]  # what has none says so
    except Exception:  # noqa: BLE001  # of the user: loaders of streams have one that refuses
        return None
    return count if count > 0 else None
