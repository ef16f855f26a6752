"""Pushes finished predictions to the tasks that they were made for, in bulk, each once.

Before anything is pushed Label Studio is asked for the tasks of the job's project, with their data and predictions:
one request for each project and batch. What does not fit its task (any more) is dropped, and the task's present images
are asked for instead. After a push the tasks are read once more, as they may have changed in between.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

from backend.delivery import backoff
from backend.provenance import Origin, Prediction, Shown, begun_with, fits, ours, same_regions
from backend.queue.job import Job
from backend.reconcile import Reconciler, Task, by_project, read_tasks, remove
from backend.studio.client import WHOLE_PAGE, StudioError, StudioUnavailable

log = logging.getLogger(__name__)

PUSH_AT_ONCE = WHOLE_PAGE
"""Predictions per bulk import: large enough to be quick, small enough that masks of 12 megapixels fit."""


class Pusher:
    """The courier's part that delivers."""

    def __init__(self, reconciler: Reconciler):
        self.reconciler = reconciler
        self.studio = reconciler.studio
        self.jobs = reconciler.jobs
        self.delivery = reconciler.delivery
        self.holdings = reconciler.holdings
        self.is_studio_away = False
        """Whether the last push failed because Label Studio did not answer."""

    def push_due(self) -> int:
        """Push what is due; the number of predictions looked after."""
        due = self.delivery.take_due(PUSH_AT_ONCE)
        jobs = {}
        for job_id in due:
            job = self.jobs.job(job_id)
            if job is None:
                log.warning("job %s is forgotten, or of another release; its prediction is dropped", job_id)
                self.delivery.drop(job_id)
            else:
                jobs[job_id] = job
        for project, own in by_project(jobs).items():
            try:
                self._deliver_to(project, own)
                self.is_studio_away = False
            except StudioError as error:
                self.is_studio_away = isinstance(error, StudioUnavailable)
                self._postpone(list(own), error)
        return len(due)

    def _deliver_to(self, project: int, jobs: Mapping[str, Job]) -> None:
        """Push those of one project that fit their task, and that Label Studio does not hold yet."""
        tasks = read_tasks(self.studio, project, (job.task for job in jobs.values()), whole=True)
        if tasks is None:
            for job_id in jobs:
                self.delivery.drop(job_id)
            self.reconciler.project_is_gone(project)
            return
        missing: dict[str, dict[str, Any]] = {}
        changed: list[int] = []
        for job_id, job in jobs.items():
            task = tasks.get(job.task)
            if task is not None and fits(job, task):
                prediction = self._missing(job_id, job, task)
                if prediction is not None and self.delivery.renew(job_id):
                    missing[job_id] = prediction
                continue
            log.info("task %s of project %s %s; its prediction is dropped", job.task, project, _why(task))
            self.delivery.drop(job_id)
            if task is not None:
                changed.append(job.task)
        self._push(project, jobs, missing)
        self._check_pushed(project, {job_id: jobs[job_id] for job_id in missing})
        self.reconciler.show_present_of(project, changed)

    def _missing(self, job_id: str, job: Job, task: Task) -> dict[str, Any] | None:
        """The prediction to push with its task; None when Label Studio holds it, or there is none (any more).

        Predictions of other images are deleted, and all but one of equal ones. One whose images are not known makes
        room unless it draws the same.
        """
        prediction = self.jobs.result(job_id)
        if prediction is None:
            self.delivery.drop(job_id)
            return None
        held = self.holdings.of(job.project, job.version, [job.task])
        now, kept = Shown(job, task.get("data"), held.get(job.task)), begun_with(task)
        current: list[Prediction] = []
        other: list[Prediction] = []
        for stored in ours(task):
            (current if _is_current(stored, job, now, prediction, kept) else other).append(stored)
        stale = [one for one in other if one["model_version"] == job.version or now.origin(one) is Origin.OTHER]
        current.sort(key=lambda one: (one["id"] not in kept, one["id"]))
        if current and "replaces" in self.jobs.ticket(job_id) and current[0]["id"] not in kept:
            stale, current = [*stale, *current], []
        if removed := remove(self.studio, task, [*stale, *current[1:]]):
            log.warning("task %s had predictions that are doubled or of other images; %d deleted", job.task, removed)
        if current:
            self._delivered(job_id, job)
            return None
        return {"task": job.task, **prediction}

    def _push(self, project: int, jobs: Mapping[str, Job], missing: Mapping[str, dict[str, Any]]) -> None:
        if len(missing) > 1:
            try:
                if self.studio.import_predictions(project, list(missing.values())) == len(missing):
                    for job_id in missing:
                        self._pushed(job_id, jobs[job_id])
                    return
            except StudioUnavailable:
                raise
            except StudioError as error:
                # Label Studio 1.23 refuses a whole batch for one task that is gone.
                log.warning(
                    "project %s refused %d predictions at once, going one by one: %s", project, len(missing), error
                )
            missing = self._still_missing(project, jobs, missing)
        for job_id, prediction in missing.items():
            self._push_one(job_id, jobs[job_id], prediction)

    def _still_missing(
        self, project: int, jobs: Mapping[str, Job], missing: Mapping[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """A bulk import may have stored some of its predictions before it was refused: leave these out."""
        tasks = read_tasks(self.studio, project, (jobs[job_id].task for job_id in missing), whole=True) or {}
        left = {}
        for job_id, prediction in missing.items():
            task = tasks.get(jobs[job_id].task)
            if task is None or self._missing(job_id, jobs[job_id], task) is not None:
                left[job_id] = prediction
        return left

    def _push_one(self, job_id: str, job: Job, prediction: dict[str, Any]) -> None:
        try:
            if self.studio.create_prediction(job.task, prediction):
                self._pushed(job_id, job)
            else:
                log.info("task %s is gone; its prediction is dropped", job.task)
                self.delivery.drop(job_id)
        except StudioError as error:
            self._postpone([job_id], error)

    def _pushed(self, job_id: str, job: Job) -> None:
        """Label Studio took it. Where an answer or an earlier push may yet arrive beside it, look once more."""
        ticket = self.jobs.ticket(job_id)
        self._delivered(job_id, job)
        if "answered" in ticket or "undelivered" in ticket:
            self.delivery.look_again(job_id)

    def _delivered(self, job_id: str, job: Job) -> None:
        self.delivery.delivered(job_id)
        self.holdings.note(job)

    def _check_pushed(self, project: int, pushed: Mapping[str, Job]) -> None:
        """Look again at once after what was pushed to a task that has changed during the push."""
        if not pushed:
            return
        tasks = read_tasks(self.studio, project, (job.task for job in pushed.values())) or {}
        for job_id, job in pushed.items():
            if job.task in tasks and not fits(job, tasks[job.task]):
                self.delivery.look_again(job_id, 0)

    def _postpone(self, ids: Sequence[str], error: StudioError) -> None:
        for job_id in ids:
            pushes = int(self.jobs.ticket(job_id).get("pushes", "0"))
            self.delivery.postpone(job_id, backoff(pushes, random.random()), str(error))
        log.warning("%d predictions wait, Label Studio did not take them: %s", len(ids), error)


def _is_current(stored: Prediction, job: Job, now: Shown, prediction: Mapping[str, Any], kept: set[object]) -> bool:
    """Whether a stored prediction is the one that `job` would store."""
    if stored["model_version"] != job.version:
        return False
    origin = now.origin(stored)
    if origin is Origin.UNKNOWN:  # the one that an annotation began with cannot make room
        return stored["id"] in kept or same_regions(stored, prediction)
    return origin is Origin.PRESENT


def _why(task: Task | None) -> str:
    return "is gone" if task is None else "shows other images now"
