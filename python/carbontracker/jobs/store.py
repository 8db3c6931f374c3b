"""What the ranks of a job tell each other through the key-value store of ``torch.distributed``.

Nothing here waits for another process: keys are set, counted, deleted, looked for, and read only
once they are there. There is no barrier and no collective. The store is asked on a connection of
its own where torch has one (``clone``), and only by a thread of ours, because a call may hang with
the store. A store that has gone is silence: what was not told is missing, and named at the end.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.foreign_calls import foreign_calls
from carbontracker.json_values import jsonable, mapping
from carbontracker.model.job import NodeReport, RankReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = "carbontracker"
CALL_TIMEOUT_S = 2.0
"""After which a call on a connection of our own fails, s."""


@dataclass
class Trainings:
    """The trainings that this process has had a part in, one after another."""

    last: int = 0
    """The number of the last one: rank 0 counts them, from 1."""


_OF_THIS_PROCESS = Trainings()


class JobStore:
    """One rank's view of the store. All methods may raise what the store raises.

    Args:
        connect: returns what is like a ``torch.distributed.Store``. It may hang with the store.
        rank: of this process.
        node: names its node.
        trainings: of this process.
    """

    def __init__(
        self, connect: Callable[[], Any], rank: int, node: str, trainings: Trainings | None = None
    ) -> None:
        self._connect = connect
        self._store: Any = None
        """Once this rank has joined."""
        self.rank, self.node = rank, node
        self._trainings = trainings or Trainings()
        self._training = 0
        """Its number."""
        self._prefix = ""
        """Of all keys of this training."""
        self._place = 0
        """On the node, from 1, in the order of arrival."""
        self._node_place = 0
        """Of the node, if this rank speaks for it."""
        self._told = 0
        self._heard: dict[str, int] = {}
        """Messages taken, by their sender."""

    @property
    def leads_node(self) -> bool:
        """Return whether this rank adds up its node: the first one that arrived there."""
        return self._place == 1

    def join(self) -> None:
        """Connect, and take a place on the node; the first rank there takes one for the node."""
        self._store = self._connect()
        self._training = self._number_of_training()
        self._prefix = self._prefix_of(self._training)
        self._place = self._add(f"ranks/{self.node}")
        if self.leads_node:
            self._node_place = self._add("nodes")

    def _number_of_training(self) -> int:
        """Return the number of the training of rank 0 that is open, or that is the next.

        Ranks may have had different numbers of trackers before.
        """
        mine = self._trainings.last + 1
        if self.rank == 0:
            self._trainings.last = mine
            self._store.set("begun", str(mine).encode())
            return mine
        begun = int(self._store.get("begun")) if self._store.check(["begun"]) else 0
        is_over = bool(begun) and self._store.check([f"{self._prefix_of(begun)}ended"])
        return max(mine, begun + is_over)

    def _prefix_of(self, training: int) -> str:
        key = f"withdrawn/{training}"
        withdrawn = int(self._store.get(key)) if self._store.check([key]) else 0
        return f"{training}/{withdrawn}/"

    def has_rank_0(self) -> None:
        """Tell that rank 0 has come: this tracker is one of its training."""
        self._trainings.last = max(self._trainings.last, self._training)

    def withdraw(self) -> None:
        """Leave a training that rank 0 has not begun: it begins without what was told so far."""
        self._store.add(f"withdrawn/{self._training}", 1)

    def set(self, key: str, value: Any) -> None:
        """Set a key to a value of JSON."""
        text = json.dumps(jsonable(value), allow_nan=False, separators=(",", ":"))
        self._store.set(self._prefix + key, text.encode())

    def get(self, key: str) -> Any:
        """Return the value of a key; None if it is not there."""
        if not self._store.check([self._prefix + key]):
            return None
        try:
            return json.loads(self._store.get(self._prefix + key))
        except ValueError:
            return None

    def first(self, key: str) -> bool:
        """Return whether this is the first call with this key in the job."""
        return self._add(key) == 1

    def may_stop(self) -> None:
        """Tell that this rank stops where rank 0 tells it to."""
        self._add("may stop")

    def all_may_stop(self, ranks: int) -> bool:
        """Return whether so many ranks have told that they do."""
        return self._count("may stop") >= ranks

    def tell_end(self) -> None:
        """Tell the others of this node that this rank has ended."""
        self._add(f"ends/{self.node}")

    def node_has_ended(self) -> bool:
        """Return whether all ranks that have come to this node have told that they have ended."""
        return self._count(f"ends/{self.node}") >= self._count(f"ranks/{self.node}")

    def tell_rank(self, report: RankReport) -> None:
        """Tell what this rank has measured to the rank that adds up its node."""
        self._told += 1
        self.set(f"rank/{self.node}/{self._place}/{self._told}", report.to_dict())

    def tell_node(self, report: NodeReport) -> None:
        """Tell what this node has measured to rank 0."""
        key = f"node/{self._node_place}"
        self._heard[key] = number = self._heard.get(key, 0) + 1
        self.set(f"{key}/{number}", report.to_dict())

    def ranks(self) -> Iterator[RankReport]:
        """Yield what the other ranks of this node have told and this one has not heard."""
        for place in range(2, self._count(f"ranks/{self.node}") + 1):
            for message in self._messages(f"rank/{self.node}/{place}"):
                yield RankReport.from_dict(message)

    def nodes(self) -> Iterator[tuple[int, NodeReport]]:
        """Yield what other nodes have told and this rank has not heard, with their places."""
        for place in range(1, self._count("nodes") + 1):
            if place != self._node_place:
                for message in self._messages(f"node/{place}"):
                    yield place, NodeReport.from_dict(message)

    def _add(self, key: str) -> int:
        return int(self._store.add(self._prefix + key, 1))

    def _count(self, key: str) -> int:
        key = self._prefix + key
        return int(self._store.get(key)) if self._store.check([key]) else 0

    def _messages(self, sender: str) -> Iterator[dict[str, Any]]:
        """Yield the messages of a sender in order, each once, and delete them."""
        while True:
            number = self._heard.get(sender, 0) + 1
            key = f"{self._prefix}{sender}/{number}"
            if not self._store.check([key]):
                return
            found = json.loads(self._store.get(key))
            self._store.delete_key(key)
            self._heard[sender] = number
            yield mapping(found)


class _Link:
    """A connection of our own to a store, which can be shut down; or the store, if it has no clone.

    Torch does not name the socket: it is the one that cloning the store makes to its port.
    """

    def __init__(self, shared: Any) -> None:
        self.store = shared
        self._port: int | None = None
        self._before: set[int] = set()
        self._inode: int | None = None
        """Of the socket, once it is known."""
        if hasattr(shared, "clone"):
            self._port = _port(shared)
            self._before = set(_connections(self._port))
            self.store = foreign_calls.call(self, shared.clone)
            self.store.set_timeout(timedelta(seconds=CALL_TIMEOUT_S))
            self._inode = self._made()

    def _made(self) -> int | None:
        """Return the inode of the socket; None where another thread connects at the same time."""
        new = set(_connections(self._port)) - self._before
        return new.pop() if len(new) == 1 else None

    def abandon(self) -> None:
        """Shut the connection down, from another thread: what waits for it ends."""
        inode = self._made() if self._inode is None else self._inode
        descriptor = None if inode is None else _connections(self._port).get(inode)
        if descriptor is not None:
            with suppress(OSError), _copy_of(descriptor) as one:
                one.shutdown(socket.SHUT_RDWR)


class _Linked:
    """A store whose calls end before the interpreter does."""

    def __init__(self, store: Any, link: _Link) -> None:
        self._store, self._link = store, link

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)
        return lambda *args: foreign_calls.call(self._link, lambda: method(*args))


def _port(store: Any) -> int | None:
    """Return the port of the server of a store; None if it has none."""
    while hasattr(store, "underlying_store"):
        store = store.underlying_store
    port = getattr(store, "port", None)
    return port if isinstance(port, int) and port > 0 else None


def _copy_of(descriptor: int) -> socket.socket:
    """Return a socket for a descriptor of the program, which stays as it is.

    Without ``SOCK_NONBLOCK`` a default timeout that the program has set would make its own
    descriptor non-blocking, which shares that flag with the copy.
    """
    kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
    return socket.socket(type=kind, fileno=os.dup(descriptor))


def _connections(port: int | None) -> dict[int, int]:
    """Return the descriptors of this process's connections to a port, by their inodes."""
    found: dict[int, int] = {}
    if port is None:
        return found
    with suppress(OSError):
        for entry in Path("/dev/fd").iterdir():
            with suppress(OSError, ValueError):
                descriptor = int(entry.name)
                status = os.fstat(descriptor)
                if stat.S_ISSOCK(status.st_mode):
                    with _copy_of(descriptor) as one:
                        if one.getpeername()[1:2] == (port,):
                            found[status.st_ino] = descriptor
    return found


def torch_store(rank: int, node: str) -> JobStore | None:
    """Return the store of the job; None if torch has none, or is not initialised.

    Nothing is asked before ``join()``: a new connection to a store that has gone takes minutes.
    """
    distributed = sys.modules.get("torch.distributed")
    c10d = sys.modules.get("torch.distributed.distributed_c10d")
    if distributed is None or c10d is None or not distributed.is_initialized():
        return None
    shared: Any = c10d._get_default_store()

    def connect() -> Any:
        link = _Link(shared)
        return _Linked(distributed.PrefixStore(PREFIX, link.store), link)

    return JobStore(connect, rank, node, _OF_THIS_PROCESS)
