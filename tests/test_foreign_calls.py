"""Threads of ours within code of others, at the end of the program."""

from __future__ import annotations

import threading

import pytest

from carbontracker.foreign_calls import ForeignCalls


class Hanging:
    """Calls what returns only when it is given up for the second time."""

    def __init__(self) -> None:
        self.given_up = 0
        self.is_within, self.returns = threading.Event(), threading.Event()

    def hang(self) -> str:
        """Wait for that."""
        self.is_within.set()
        self.returns.wait(60)
        return "given up"

    def abandon(self) -> None:
        """Take note of it."""
        self.given_up += 1
        if self.given_up == 2:
            self.returns.set()


def test_at_the_end_calls_are_given_up_until_they_return_and_none_begins() -> None:
    calls, caller, found = ForeignCalls(), Hanging(), []
    thread = threading.Thread(target=lambda: found.append(calls.call(caller, caller.hang)))
    thread.start()
    assert caller.is_within.wait(60)
    calls.end()
    assert caller.given_up == 2
    thread.join(60)
    assert found == ["given up"]
    with pytest.raises(TimeoutError, match="the program ends"):
        calls.call(caller, caller.hang)


def test_a_forked_child_leaves_the_connections_of_its_parent_alone() -> None:
    calls, caller = ForeignCalls(), Hanging()
    calls.enter(caller)
    calls.after_fork_in_child()
    calls.end()
    assert caller.given_up == 0
