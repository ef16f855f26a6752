"""`python -m backend serve`: the web process, in gunicorn."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys

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
    if not (settings.auth or args.open or _is_loopback(args.host)):
        raise SettingsError(
            f"Will not listen on {args.host} for everybody: set BASIC_AUTH_USER and BASIC_AUTH_PASS, "
            "or say --open where only Label Studio can reach this port."
        )
    options = ["--worker-class", "gthread", "--workers", "1", "--threads", str(settings.car_threads)]
    options += ["--bind", f"{args.host}:{args.port}", "--timeout", "120", "--log-level", "warning"]
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *options, "backend.wsgi:app"])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
