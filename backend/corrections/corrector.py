"""The courier's part of the corrections: hears of annotations, reads them from Label Studio, compares, keeps.

Label Studio 1.23 sends ANNOTATION_CREATED and ANNOTATION_UPDATED with the annotation, its task and project;
ANNOTATIONS_CREATED (predictions turned into annotations in the Data Manager) with lists of them; ANNOTATIONS_DELETED
and TASKS_DELETED with ids. The webhook it makes when a backend is connected sends all of them. START_TRAINING comes
from the button in a project's settings: what calibration has proposed is applied.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from redis import Redis

from backend.corrections.calibration import propose, samples_of
from backend.corrections.comparison import ComparisonError, compare
from backend.corrections.proposals import Kept, ProposalError, apply, floors, keep, kept
from backend.corrections.records import (
    OTHER,
    REASON,
    Change,
    Correction,
    Corrections,
    ScoreBook,
    compared,
    is_ours,
)
from backend.labeling.parsing import ConfigError, parse_config
from backend.masks.shapes import names_in, shape_of
from backend.provenance import Origin, Shown
from backend.queue.job import job_of
from backend.reconcile import read_tasks, served
from backend.settings import Settings
from backend.studio.client import Studio, StudioError, StudioUnavailable

log = logging.getLogger(__name__)

PROPOSE_EVERY = 5
"""Corrected tasks of a project after which thresholds are calibrated anew."""
PAUSE = 10.0
"""Seconds until a task is looked at again for which Label Studio had no answer, spread by a half."""


class Corrector:
    """Keeps the corrections of one Redis as Label Studio has them."""

    def __init__(self, redis: Redis, settings: Settings, studio: Studio):
        self.redis = redis
        self.settings = settings
        self.studio = studio
        self.corrections = Corrections(redis, settings)
        self.scores = ScoreBook(redis, settings)

    def hear(self, event: Mapping[str, Any]) -> None:
        """Note which tasks a webhook is about. Raises KeyError, TypeError or ValueError for a malformed one."""
        action = event.get("action")
        if action in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED"):
            annotations = event["annotation"]
            touched = annotations if isinstance(annotations, list) else [annotations]
            self.corrections.look_at(int(event["project"]["id"]), {int(one["task"]) for one in touched})
        elif action == "ANNOTATIONS_DELETED" and "project" in event:  # 1.23 leaves it out for one turned into a draft
            project = int(event["project"]["id"])
            tasks = (self.corrections.task_of(project, int(one["id"])) for one in event["annotations"])
            self.corrections.look_at(project, {task for task in tasks if task is not None})
        elif action == "TASKS_DELETED" and "project" in event:
            project = int(event["project"]["id"])
            deleted = {int(one["id"]) for one in event["tasks"]}
            self.corrections.look_at(project, deleted & set(self.corrections.tasks(project)))
        elif action == "START_TRAINING":
            self._apply(int(event["project"]["id"]))

    def round(self) -> bool:
        """Compare the task that waits longest; False when none is due, or Label Studio does not answer."""
        due = self.corrections.next_due()
        if due is None:
            return False
        asked = time.time()
        try:
            self.compare_task(*due)
        except StudioUnavailable as error:
            self.corrections.postpone(*due, PAUSE * random.uniform(0.75, 1.25))
            log.warning("task %s is compared later: %s", due[1], error)
            return False
        except StudioError as error:
            log.error("task %s of project %s is not compared: %s", due[1], due[0], error)
        self.corrections.done_with(*due, asked)
        corrected = self.corrections.count(due[0])
        if corrected and corrected % PROPOSE_EVERY == 0:
            self._propose(due[0])
        return True

    def compare_task(self, project: int, task: int) -> int:
        """Replace what is kept of a task by what Label Studio has now; the number of annotations that were compared.

        Annotations that were skipped, or have no prediction of ours to be compared with, do not count; where an earlier
        comparison is known and the prediction was deleted since, that stays. Those that cannot be compared are kept
        with the reason.
        """
        found = (read_tasks(self.studio, project, [task], whole=True) or {}).get(task, {})
        now = self._shown(project, found) if found.get("annotations") else None
        known = {one.annotation: one for one in self.corrections.of_task(project, task)}
        corrections = []
        for annotation in found.get("annotations") or ():
            if annotation.get("was_cancelled"):
                continue
            prediction = prediction_of(annotation, found.get("predictions") or (), now)
            if prediction is None:
                earlier = known.get(annotation["id"])
                corrections += [earlier] if earlier and is_of(earlier, annotation) else []
                continue
            corrections.append(self._compared(project, task, annotation, prediction, now))
        self.corrections.replace(project, task, corrections)
        return len(compared(corrections))

    def _shown(self, project: int, task: Mapping[str, Any]) -> Shown | None:
        """What a task shows now, None where its labeling config has no image for it (any more)."""
        found = served(project, self.studio.project(project), self.settings)
        job = found and job_of(task, project, found.config, found.version)
        return Shown(job, task.get("data")) if job else None

    def propose(
        self, project: int, seed: int = 0, miss_at_most: float | None = None, asked: bool = True
    ) -> Kept | None:
        """Calibrate a project's thresholds from what is kept of it, keep the proposal; None if it is not served.

        Where nobody asked, one that somebody did ask for, and that may still be applied, stays.
        """
        shown = self.studio.project(project)
        config = parse_config(shown["label_config"], self.settings.car_preset) if shown else None
        if config is None or config.skip:
            return None
        version = config.version(self.settings.car_weights)
        earlier = kept(self.redis, project)
        if earlier and earlier.waits(version) and not asked:
            return earlier
        samples = samples_of(self.corrections.newest(project), version)
        return keep(self.redis, project, version, propose(samples, floors(config), seed, miss_at_most), asked)

    def _propose(self, project: int) -> None:
        try:
            self.propose(project, asked=False)
        except (StudioError, ConfigError) as error:
            log.warning("no thresholds are proposed for project %s: %s", project, error)

    def _apply(self, project: int) -> None:
        try:
            applied = apply(self.redis, self.settings, self.studio, project)
        except (ProposalError, StudioError, ConfigError) as error:
            log.warning("START_TRAINING: %s", error)
        else:
            log.info("START_TRAINING: project %s has new thresholds: %s", project, applied.proposal.reason)

    def rebuild(self, project: int) -> Iterator[tuple[int, int]]:
        """Compare every annotated task of a project anew, and forget those that are gone: (task, corrections) each."""
        gone = set(self.corrections.tasks(project))
        for task in self.studio.tasks(project):
            if task.get("total_annotations") or task["id"] in gone:
                yield task["id"], self.compare_task(project, task["id"])
            gone.discard(task["id"])
        for number in sorted(gone):
            self.corrections.replace(project, number, ())
            yield number, 0

    def _compared(
        self,
        project: int,
        task: int,
        annotation: Mapping[str, Any],
        prediction: Mapping[str, Any],
        now: Shown | None,
    ) -> Correction:
        size, changes, why = (0, 0), tuple[Change, ...](), ""
        try:
            most = self.settings.car_max_pixels
            size, changes = compare(prediction.get("result"), annotation.get("result"), most)
        except ComparisonError as error:
            why = str(error)[:REASON]
            log.error("annotation %s of task %s is not compared: %s", annotation["id"], task, why)
        version, fingerprint = str(prediction["model_version"]), now.job.fingerprint if now else ""
        if now and now.origin(prediction) is Origin.OTHER:
            fingerprint = OTHER
        scores = self.scores.scores(project, task, version, fingerprint) if fingerprint not in ("", OTHER) else {}
        return Correction(
            project=project,
            task=task,
            annotation=int(annotation["id"]),
            version=version,
            submitted=seconds_of(annotation.get("updated_at") or annotation.get("created_at")),
            seconds=_number(annotation.get("lead_time")),
            size=size,
            changes=changes,
            scores={} if why else scores or scores_of(prediction),
            not_compared=why,
            fingerprint=fingerprint,
        )


def is_of(correction: Correction, annotation: Mapping[str, Any]) -> bool:
    """Whether a correction is of this annotation, and not of a deleted one whose id was given out again."""
    return seconds_of(annotation.get("created_at")) <= correction.submitted


def prediction_of(
    annotation: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]], now: Shown | None = None
) -> Mapping[str, Any] | None:
    """Our prediction that an annotation began with: its `parent_prediction`, else our newest one that is older than it.

    None when there is none, for example when it began with somebody else's prediction. `now`, what the task shows,
    keeps out predictions of other images where the annotation names no parent.
    """
    ours = [one for one in predictions if is_ours(one.get("model_version"))]
    parent = annotation.get("parent_prediction")
    if parent is not None:
        return next((one for one in ours if one["id"] == parent), None)
    created = seconds_of(annotation.get("created_at"))
    older = [one for one in ours if seconds_of(one.get("created_at")) <= created]
    older = [one for one in older if now is None or now.origin(one) is not Origin.OTHER]
    return max(older, key=lambda one: int(one["id"]), default=None)


def scores_of(prediction: Mapping[str, Any]) -> dict[str, float]:
    """The scores that a stored prediction still tells: the best of each label that was drawn, in any shape."""
    scores: dict[str, float] = {}
    for region in prediction.get("result") or []:
        score, kind = _number(region.get("score")), str(region.get("type"))
        if score is None or shape_of(region) is None or not kind.endswith("labels"):
            continue
        for label in names_in(region["value"].get(kind)):
            scores[label] = max(score, scores.get(label, 0.0))
    return scores


def _number(value: object) -> float | None:
    """A finite number from 0 up, None for anything else: seconds and scores that somebody sent."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    return float(value) if known else None  # type: ignore[arg-type]


def seconds_of(moment: object) -> float:
    """Seconds since 1970 of a time as Label Studio writes it (ISO 8601), 0 when there is none."""
    return datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else 0.0
