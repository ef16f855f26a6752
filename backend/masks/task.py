"""What comes of the images of one task, one after the other: their regions in one prediction, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from backend.labeling.config import Picture
from backend.masks.results import Found, Region, prediction, regions_of
from backend.queue.failures import Failure
from backend.queue.job import Job


class Segmented(Found, Protocol):
    """A `Found` that also tells the scores of the labels that were dropped."""

    @property
    def raw_scores(self) -> Mapping[str, float]:
        """Label -> score, 0..1."""


@dataclass(frozen=True)
class Outcome:
    """A finished task: the prediction as Label Studio stores it, the labels found, and every label's score by name.

    missing: which images could not be read and why, "" when all could; kind: of the first of these failures.
    """

    prediction: dict[str, Any]
    found: tuple[str, ...]
    scores: Mapping[str, float]
    missing: str = ""
    kind: Failure = Failure.OTHER


class TaskMasks:
    """Collects a task's regions, image by image: only these are kept, so that one image is in memory at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._regions: list[Region] = []
        self._found: dict[str, None] = {}
        self._found_scores: list[npt.NDArray[np.float32]] = []
        self._scores = {label.name: 0.0 for label in job.config.all_labels}
        self._failed: dict[Picture, tuple[Exception, Failure]] = {}

    def add(self, picture: Picture, masks: Segmented) -> None:
        """The masks of one image. A label that several images have keeps the best of its scores."""
        self._regions += regions_of(self._job, picture, masks)
        self._found |= dict.fromkeys(masks.labels)
        self._found_scores.append(masks.scores)
        for label in self._job.config.image(picture.tag).all_labels:
            score = float(masks.raw_scores.get(label.value, 0.0))
            self._scores[label.name] = max(score, self._scores.get(label.name, 0.0))

    def fail(self, picture: Picture, error: Exception, kind: Failure) -> None:
        """This image cannot be read; the others go on."""
        self._failed[picture] = (error, kind)

    def outcome(self) -> Outcome:
        """All of it. Raises the first error when no image could be read."""
        failed = list(self._failed.values())
        if len(failed) == len(self._job.pictures):
            raise failed[0][0]
        found = prediction(self._job, self._regions, np.concatenate(self._found_scores))
        if not failed:
            return Outcome(found, tuple(self._found), self._scores)
        reasons = "; ".join(f"{picture}: {error}" for picture, (error, _) in self._failed.items())
        missing = f"{len(failed)} of {len(self._job.pictures)} images are missing in the prediction: {reasons}"
        return Outcome(found, tuple(self._found), self._scores, missing, failed[0][1])
