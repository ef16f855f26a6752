"""Weights that stay as they are, for tests of what is done with masks and not of how well the demo's are trained."""

from pathlib import Path

CLIP = Path(__file__).parent / "model" / "parity" / "clip"
"""The first weights of the demo, which know 140 of its concepts; the recordings in `model/parity` were made on them."""
