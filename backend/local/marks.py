"""Finding every process that a run has started, and no other.

Each process of a run carries the run's folder in its environment, and hands it on to whatever it starts itself. So
children's children are found after their parents have died, and after a crash of `up` as well (Linux: /proc).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "CAR_RUN"
"""The environment variable that names the folder of the run."""


def marked(folder: Path) -> list[int]:
    """Return the ids of the living processes that the run in `folder` has started, ourselves apart."""
    wanted = f"{MARK}={folder}".encode()
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _carries(entry, wanted)
    ]


def _carries(process: Path, wanted: bytes) -> bool:
    try:
        return wanted in (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or belongs to somebody else
        return False


def stop_marked(folder: Path, grace: float) -> int:
    """Stop every process of the run, by force after `grace` seconds; return how many there were."""
    found = marked(folder)
    signal_all(found, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while (left := marked(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    signal_all(left, signal.SIGKILL)
    return len(found)


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
