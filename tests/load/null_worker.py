"""The real GPU worker with a segmenter that only sleeps: everything but the model, and no torch.

    python -m tests.load.null_worker --latency 0.2

Images are fetched and decoded, masks encoded, compressed and kept by the code that serves in earnest.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from tests.load.image_codes import code_of_image, masks_of


@dataclass(frozen=True)
class Segmentation:
    """As `model.segmentation.Segmentation`, as far as the worker reads it."""

    labels: tuple[str, ...]
    masks: np.ndarray
    scores: np.ndarray
    raw_scores: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


class Segmenter:
    """Finds a disc of the first label in every image, and bars of the second that show the image's code.

    That takes `latency` seconds of sleep.
    """

    latency = 0.0
    device = "null"

    def __init__(self, preset: Any, device: str | None = None, weights: str | None = None):
        self.preset = preset

    def shares(self, preset: Any) -> bool:
        """There are no weights to share."""
        return False

    def segment(
        self, image: np.ndarray, queries: Sequence[Any], threshold: float | Mapping[str, float] | None = None
    ) -> Segmentation:
        """Two disjoint masks at the size of the image, uint8 [H, W, 3]."""
        time.sleep(self.latency)
        labels = tuple(query.label for query in queries[:2])
        masks = masks_of(*image.shape[:2], code_of_image(image))
        return Segmentation(labels, masks[: len(labels)], np.array([0.9, 0.8], np.float32)[: len(labels)])


class Desk:
    """Answers nobody: load runs have no annotators."""

    def __init__(self, settings: Any, segmenter: Any) -> None:
        pass

    def warm_up(self, config: Any) -> None:
        """There is nothing to make beforehand."""


def stand_in(latency: float) -> None:
    """Put the classes above in the place of those that need torch. To be called before `backend.worker` is imported."""
    Segmenter.latency = latency
    for one in (Segmenter, Segmentation):
        module = ModuleType(f"model.{one.__name__.lower()}")
        vars(module)[one.__name__] = one
        sys.modules[module.__name__] = module
    desk = ModuleType("backend.interactive.desk")
    vars(desk).update(Desk=Desk)
    sys.modules["backend.interactive.desk"] = desk


def main() -> None:
    """Work until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.null_worker")
    parser.add_argument("--latency", type=float, default=0.2, metavar="SECONDS")
    parser.add_argument("--hurry", type=float, default=1.0, metavar="FACTOR", help="divides every waiting time")
    parser.add_argument("--host", default="", metavar="NAME", help="what this machine calls itself to this process")
    args = parser.parse_args()
    if args.host:
        socket.gethostname = lambda: args.host  # RQ and our reports ask here
    stand_in(args.latency)
    from backend import patient_worker, worker
    from backend.settings import load_settings

    assert "torch" not in sys.modules
    for module in (worker, patient_worker):
        module.HEARTBEAT_SECONDS /= args.hurry  # type: ignore[attr-defined]
    worker.DEAD_AFTER_SECONDS = max(1, round(worker.DEAD_AFTER_SECONDS / args.hurry))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    worker.work(load_settings())


if __name__ == "__main__":
    main()
