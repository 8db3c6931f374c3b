"""Where to serve: ``9095``, ``"9095"``, ``"host:port"``; loopback unless a host is named."""

from __future__ import annotations

LOOPBACK = "127.0.0.1"


def address(given: int | str) -> tuple[str, int]:
    """Return host and port.

    Raises:
        ValueError: it is neither a port nor a host with one.
    """
    text = str(given).strip()
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else LOOPBACK
    is_port = port.isascii() and port.isdigit() and int(port) <= 65_535
    if isinstance(given, bool) or not is_port or not host:
        message = (
            f"prometheus={given!r} is neither a port nor HOST:PORT: say 9095 for this machine only,"
            " or 0.0.0.0:9095 for every network it is on"
        )
        raise ValueError(message)
    return host, int(port)
