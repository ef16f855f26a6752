"""Clients that hold connections open: each kind sends a part of a request, or nothing, and stays."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

HEAD = b"POST /predict HTTP/1.1\r\nHost: backend\r\nContent-Type: application/json\r\n"
SENT = {
    "silent": b"",
    "half a request line": b"POST /pred",
    "half of the headers": HEAD,
    "half of a body": HEAD + b'Content-Length: 1000\r\n\r\n{"tasks": [',
    "half of a chunked body": HEAD + b'Transfer-Encoding: chunked\r\n\r\n400\r\n{"tasks": [',
    "idle after a request": b"GET /health HTTP/1.1\r\nHost: backend\r\n\r\n",
    "one byte at a time": HEAD + b"X-Slow: ",
}
"""Kind -> what such a client sends at once; the last kind goes on, one byte every `DRIP_SECONDS`."""
DRIP_SECONDS = 0.5


@contextmanager
def slow_clients(url: str, kind: str, count: int) -> Iterator[list[socket.socket]]:
    """Hold `count` connections of a kind to the server at `url` while the block runs."""
    parts = urlsplit(url)
    clients: list[socket.socket] = []
    over = threading.Event()
    try:
        for _ in range(count):
            clients.append(socket.create_connection((parts.hostname, parts.port), timeout=10))
            clients[-1].sendall(SENT[kind])
        if kind == "one byte at a time":
            threading.Thread(target=_drip, args=(clients, over), daemon=True).start()
        yield clients
    finally:
        over.set()
        for client in clients:
            client.close()


def _drip(clients: list[socket.socket], over: threading.Event) -> None:
    while not over.wait(DRIP_SECONDS):
        for client in clients:
            try:
                client.sendall(b"x")
            except OSError:  # the server has closed it
                continue
