"""The real courier with every waiting time divided, so that a test of what it waits for takes seconds."""

from __future__ import annotations

import argparse
import logging

from backend import courier, delivery
from backend.queue import sweep
from backend.settings import load_settings


def main() -> None:
    """Work until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.hasty_courier")
    parser.add_argument("--hurry", type=float, required=True, metavar="FACTOR")
    hurry = parser.parse_args().hurry
    courier.LOCK_SECONDS = max(1, round(courier.LOCK_SECONDS / hurry))
    courier.SWEEP_SECONDS = courier.SWEEP_SECONDS / hurry  # type: ignore[assignment]
    delivery.LEASE /= hurry
    sweep.STUCK_SECONDS = sweep.STUCK_SECONDS / hurry  # type: ignore[assignment]
    sweep.LOST_SECONDS = sweep.LOST_SECONDS / hurry  # type: ignore[assignment]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    courier.run(load_settings())


if __name__ == "__main__":
    main()
