"""A worker's pulse: shows from a thread that it lives, and ends it when it is stuck where nothing else would."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

log = logging.getLogger(__name__)

STUCK_GRACE = 60.0
"""Seconds beyond a job's time in which its own alarm should have ended it."""
STUCK = 70
"""The exit code of a process that was stuck."""


@contextmanager
def pulse(beat: Callable[[], None], every: float, seconds: float) -> Iterator[None]:
    """Call `beat` each `every` seconds in a thread while the block runs, which may take so many `seconds`.

    RQ's time limit is a signal, which Python heeds only between two of its own steps: not while a call of CUDA does not
    return. The heart would beat on and nobody take the job over. So beyond its time the process ends, without tidying
    up; the supervisor starts another, and the sweep gives the job back.
    """
    end = time.monotonic() + seconds + STUCK_GRACE

    def beat_or_end() -> None:
        if time.monotonic() > end:
            log.critical("stuck in a job for %.0f s more than it may take; this process ends", STUCK_GRACE)
            os._exit(STUCK)
        try:
            beat()
        except (RedisError, AttributeError) as error:  # Redis restarts; or RQ ended the execution meanwhile
            log.warning("no heartbeat: %s", error)

    with repeated(beat_or_end, every, "heartbeat"):
        yield


@contextmanager
def repeated(action: Callable[[], None], every: float, name: str) -> Iterator[None]:
    """Call `action`, which must not raise, each `every` seconds in a thread of that name while the block runs."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every):
            action()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
