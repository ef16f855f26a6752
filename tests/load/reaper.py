"""Stops all that a load run has started when the run itself has ended, however it did: `kill -9` and `timeout` too.

    python -m tests.load.reaper FOLDER

Its standard input is a pipe that the run holds open; nothing comes through it but its end.
"""

from __future__ import annotations

import sys
from pathlib import Path

from backend.local.marks import stop_marked

GRACE = 2.0


def main() -> None:
    """Wait for the end of the run."""
    sys.stdin.read()
    stop_marked(Path(sys.argv[1]), GRACE)


if __name__ == "__main__":
    main()
