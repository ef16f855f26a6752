"""`python -m backend serve`: the web process, in waitress."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import signal
import socket
import time

from flask import Flask
from waitress import create_server, wasyncore
from waitress.server import TcpWSGIServer

from backend.settings import Settings, SettingsError, load_settings

log = logging.getLogger(__name__)

CONNECTIONS = 500
"""Connections that are open at once; more wait in the backlog. Each takes a file descriptor, with a large body two."""
IDLE_SECONDS = 60
"""A connection on which nothing moves for so long is closed. Not one whose request is being answered."""
HEADER_BYTES = 64 * 2**10
"""How large the request line and all headers may be together."""
GRACE_SECONDS = 30.0
"""Told to stop, requests that are being answered may take so long."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9090, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--open", action="store_true", help="listen on other than loopback addresses although no password is set"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop: one process, many threads, which mostly wait."""
    settings = load_settings()
    is_open = args.open or settings.car_open
    if not (settings.auth or is_open or _is_loopback(args.host)):
        raise SettingsError(
            f"Will not listen on {args.host} for everybody: set BASIC_AUTH_USER and BASIC_AUTH_PASS, "
            "or say --open (CAR_OPEN=true) where only Label Studio can reach this port."
        )
    os.environ["CAR_OPEN"] = str(is_open).lower()  # what `python -m backend doctor` is told
    from backend.wsgi import app  # reads the settings: only after --open is known

    server = make_server(app, settings, listen(args.host, args.port))
    log.info("listening on http://%s:%d", args.host, args.port)
    serve(server)
    return 0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Open the socket to listen on.

    Raises:
        SettingsError: this machine has no such address, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise SettingsError(f"Cannot listen on {host}, port {port} (--host, --port): {error}") from None


def make_server(app: Flask, settings: Settings, listening: socket.socket) -> TcpWSGIServer:
    """Make the server: a thread sees a request only when all of it has arrived.

    One loop reads and writes all connections, so that clients which send half a request cost memory, no thread. What
    X-Forwarded-* headers claim is removed.
    """
    logging.getLogger("waitress").setLevel(logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns whenever a request waits for a thread
    return create_server(
        app,
        sockets=[listening],
        threads=settings.car_threads,
        connection_limit=CONNECTIONS,
        asyncore_use_poll=True,  # select() knows no file descriptor beyond 1023
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=5,
        max_request_header_size=HEADER_BYTES,
        max_request_body_size=settings.car_max_body_bytes + 1,  # it refuses what is as large as its limit
        recv_bytes=64 * 2**10,
        log_socket_errors=False,  # a client that hangs up is no error
        ident=None,
    )


def serve(server: TcpWSGIServer) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish what was begun; a second signal ends the process at once."""
    stopping = False

    def stop(number: int, _: object) -> None:
        nonlocal stopping
        stopping = True
        signal.signal(number, signal.SIG_DFL)
        server.pull_trigger()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while not stopping:
        _once(server, 1.0)
    wasyncore.dispatcher.close(server)  # only the socket that listens
    until = time.monotonic() + GRACE_SECONDS
    while _is_busy(server) and time.monotonic() < until:
        _once(server, 0.1)


def _once(server: TcpWSGIServer, seconds: float) -> None:
    wasyncore.loop(timeout=seconds, map=server._map, use_poll=True, count=1)


def _is_busy(server: TcpWSGIServer) -> bool:
    """Whether a request is being answered, or an answer not sent yet."""
    return any(one.requests or one.total_outbufs_len for one in list(server.active_channels.values()))
