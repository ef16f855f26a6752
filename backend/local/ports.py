"""Ports on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Collection

HOST = "127.0.0.1"

TRIES = 200
"""Ports looked at from the wanted one upwards."""


class NoFreePort(Exception):
    """Every port near the wanted one is taken."""


def is_free(port: int, host: str = HOST) -> bool:
    """Tell whether a server can listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do it: a port whose last connections linger in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True


def free_port(wanted: int, taken: Collection[int] = ()) -> int:
    """Return the first free port from `wanted` upwards that isn't promised to somebody (`taken`)."""
    for port in range(wanted, min(wanted + TRIES, 65536)):
        if port not in taken and is_free(port):
            return port
    raise NoFreePort(f"No free port between {wanted} and {wanted + TRIES}. Choose another one.")


def any_free_port() -> int:
    """Return a free port of the system's choice."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
