"""`python -m backend serve`: the web process, in gunicorn."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from typing import Any

from gunicorn.glogging import Logger

from backend import logs
from backend.settings import SettingsError, load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9090, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--open", action="store_true", help="listen on other than loopback addresses although no password is set"
    )


def run(args: argparse.Namespace) -> int:
    """Become gunicorn: one process, many threads, which mostly wait."""
    settings = load_settings()
    is_open = args.open or settings.car_open
    if not (settings.auth or is_open or _is_loopback(args.host)):
        raise SettingsError(
            f"Will not listen on {args.host} for everybody: set BASIC_AUTH_USER and BASIC_AUTH_PASS, "
            "or say --open (CAR_OPEN=true) where only Label Studio can reach this port."
        )
    options = ["--worker-class", "gthread", "--workers", "1", "--threads", str(settings.car_threads)]
    options += ["--bind", f"{args.host}:{args.port}", "--timeout", "120"]
    options += ["--log-level", "warning", "--logger-class", "backend.commands.serve.ServerLog"]
    os.environ["CAR_OPEN"] = str(is_open).lower()  # what `python -m backend doctor` is told
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *options, "backend.wsgi:app"])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ServerLog(Logger):  # type: ignore[misc]
    """Gunicorn's own log, in our form."""

    def setup(self, cfg: Any) -> None:
        """Called by gunicorn at its start: leave the lines to the handler that all of our lines go to."""
        super().setup(cfg)
        logs.configure("serve")
        self.error_log.handlers.clear()
        self.error_log.propagate = True
