"""`python -m backend courier`: delivers, expands webhooks, sweeps."""

from __future__ import annotations

import argparse

from backend.courier import run as run_courier
from backend.settings import load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The courier has no options: the environment says it all."""


def run(args: argparse.Namespace) -> int:
    """Work until told to stop."""
    run_courier(load_settings())
    return 0
