"""The address that the Prometheus endpoint binds to: ``9095``, ``"9095"`` or ``"host:port"``."""

from __future__ import annotations

LOOPBACK = "127.0.0.1"
"""The host where only a port is given."""
_MAX_PORT = 65_535


def parse_bind_address(given: int | str) -> tuple[str, int]:
    """Return host and port.

    Raises:
        ValueError: ``given`` is neither a port nor ``HOST:PORT``.
    """
    text = str(given).strip()
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else LOOPBACK
    is_port = port.isascii() and port.isdigit() and int(port) <= _MAX_PORT
    if isinstance(given, bool) or not is_port or not host:
        message = (
            f"prometheus={given!r} is neither a port nor HOST:PORT: write 9095 for this machine"
            " only, or 0.0.0.0:9095 for every network of this machine"
        )
        raise ValueError(message)
    return host, int(port)
