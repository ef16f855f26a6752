"""What `up` tells the person who waits: lines, a progress line that renews itself, and colour on a terminal only."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

BOLD, DIM, GREEN, YELLOW, RED = "1", "2", "32", "33", "31"

PROGRESS_EVERY = 5.0
"""Seconds between two progress lines where they can't be overwritten (a file, a pipe)."""


class Console:
    """Lines for a person. On a terminal progress overwrites itself; elsewhere it becomes a line now and then."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stdout
        self.is_terminal = self.out.isatty()
        self.has_colour = self.is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._open = ""
        self._said = ""
        self._said_at = 0.0

    def paint(self, text: str, colour: str) -> str:
        """Return the text in a colour, or as it is where there are none."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.has_colour else text

    def say(self, text: str = "") -> None:
        """Print a line, below the progress line if one is open."""
        self._close()
        self._write(text + "\n")

    def warn(self, text: str) -> None:
        """Print a line that asks for attention."""
        self.say(self.paint(text, YELLOW))

    def progress(self, text: str) -> None:
        """Show how far things are; called as often as one likes."""
        if text in (self._open, self._said):
            return
        if self.is_terminal:
            self._write(f"\r\x1b[K{text}")
            self._open = text
        elif time.monotonic() - self._said_at >= PROGRESS_EVERY:
            self._write(text + "\n")
            self._said, self._said_at = text, time.monotonic()

    def _close(self) -> None:
        if self._open:
            self._write("\n")
        self._open = ""

    def _write(self, text: str) -> None:
        try:
            self.out.write(text)
            self.out.flush()
        except (OSError, ValueError):
            # The terminal is gone, or the pipe's reader: that must not keep us from stopping what we started.
            self._open = ""
