"""Webhooks that could not be kept: counted in this process's memory, as Redis is what does not take them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class LastRefused:
    """How many webhooks this web process has refused since its start; `at` is when the last one (epoch seconds)."""

    count: int = 0
    at: float = 0.0
    reason: str = ""


class Refused:
    """The count; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = LastRefused()

    def add(self, reason: str) -> None:
        """Count one that is refused now."""
        with self._lock:
            self._last = LastRefused(self._last.count + 1, time.time(), reason)

    @property
    def last(self) -> LastRefused:
        """What was counted so far."""
        return self._last
