from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from redis.exceptions import ConnectionError

from backend import pulse as module
from backend.pulse import STUCK, pulse


def test_it_beats_while_the_block_runs_and_no_longer() -> None:
    beats: list[float] = []
    with pulse(lambda: beats.append(time.monotonic()), 0.02, 60):
        until = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < until:
            time.sleep(0.01)
    assert len(beats) >= 3
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("error", [ConnectionError("Redis restarts"), AttributeError("RQ ended the execution")])
def test_a_beat_that_fails_is_not_the_last(error: Exception) -> None:
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        raise error

    with pulse(beat, 0.02, 60):
        until = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < until:
            time.sleep(0.01)
    assert len(beats) >= 3


STUCK_CALL = """
import hashlib, signal
from backend import pulse
pulse.STUCK_GRACE = 0.5
signal.signal(signal.SIGALRM, lambda *_: print("alarm"))
signal.alarm(1)  # RQ's time limit: not heeded while C does not return
with pulse.pulse(lambda: print("beat", flush=True), 0.1, 1.0):
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
"""


def test_a_call_that_never_returns_ends_the_process_but_not_at_once() -> None:
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", STUCK_CALL], capture_output=True, text=True, timeout=60)
    assert ended.returncode == STUCK
    assert time.monotonic() - begun > 1.5
    assert ended.stdout.count("beat") >= 2
    assert "alarm" not in ended.stdout
    assert "stuck in a job" in ended.stderr
    assert module.STUCK_GRACE == 60
