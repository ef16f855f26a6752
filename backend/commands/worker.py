"""`python -m backend worker`: a GPU worker."""

from __future__ import annotations

import argparse
import os
import sys

from backend import store
from backend.settings import load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--burst", action="store_true", help="stop when the queues are empty")
    parser.add_argument(
        "--only",
        choices=store.QUEUES,
        help="take from this queue only: interactive keeps a worker free for annotators (tasks being opened, clicks)",
    )


def run(args: argparse.Namespace) -> int:
    """Load the weights, then work until told to stop."""
    # Threads that spin while they wait take the cores from each other; must be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from backend.worker import work  # torch: a slow import that other commands must not pay for
    from model.weights import WeightsError

    try:
        work(load_settings(), burst=args.burst, only=args.only)
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
