"""Web servers for tests, each on an address of its own: one may play Label Studio, one a stranger."""

from __future__ import annotations

import io
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
TOKEN = {"Authorization": "Token 7c0ffee7"}


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


PNG = png()


@dataclass(frozen=True)
class Reply:
    """What a server answers: after the headers the body in parts, each after a pause of ``pause`` seconds."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[bytes, ...] = (PNG,)
    pause: float = 0.0
    length: int | None = -1  # -1: the true one; None: none announced


def redirect(target: str, status: int = 302) -> Reply:
    return Reply(status, {"Location": target}, (b"<html>moved</html>",))


class Site:
    """A web server on one address, with a table of replies and a record of what was asked."""

    def __init__(self, address: str, context: ssl.SSLContext | None = None) -> None:
        self.replies: dict[str, Reply | list[Reply]] = {}  # of a list one after another, the last for ever
        self.otherwise = Reply(404, {}, (b"no",))
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 20
            daemon_threads = False  # so that closing waits for all

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients hang up on us by design

        self.server = Server((address, 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = f"http{'s' if context else ''}://{address}:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append((handler.path, dict(handler.headers)))
        path = handler.path.partition("?")[0]
        reply = self.replies.get(handler.path) or self.replies.get(path) or self.otherwise
        if isinstance(reply, list):
            reply = reply.pop(0) if len(reply) > 1 else reply[0]
        handler.send_response(reply.status)
        length = sum(map(len, reply.parts)) if reply.length == -1 else reply.length
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        for part in reply.parts:
            self.closing.wait(reply.pause)
            handler.wfile.write(part)

    @property
    def tokens(self) -> list[str | None]:
        """The Authorization header of each request so far."""
        return [headers.get("Authorization") for _, headers in self.asked]

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
