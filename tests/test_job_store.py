"""The connection of the job's store is found among the program's, which stay as they are."""

from __future__ import annotations

import os
import socket

from carbontracker.jobs.store import _connections


def test_looking_at_the_program_s_connections_changes_none_of_them() -> None:
    """A default timeout of the program would make them non-blocking, also for code in C."""
    before = socket.getdefaulttimeout()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as mine:
            mine.setblocking(True)
            socket.setdefaulttimeout(5.0)
            try:
                found = _connections(port)
            finally:
                socket.setdefaulttimeout(before)
            assert found == {os.fstat(mine.fileno()).st_ino: mine.fileno()}
            assert os.get_blocking(mine.fileno())
