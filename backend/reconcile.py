"""Bring tasks to what they should hold: no prediction of other images, and one of the present images.

Called with tasks as Label Studio has them now, never with what an event claims. All steps may be repeated.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from redis import Redis

from backend import store
from backend.delivery import Delivery
from backend.labeling.parsing import ConfigError, LabelingConfig, parse_config
from backend.provenance import Holdings, Origin, Prediction, begun_with, fits, ours, shown
from backend.queue.cancel import Cancelled, cancel_jobs, open_jobs
from backend.queue.job import Job, State
from backend.queue.jobs import Jobs
from backend.settings import Settings
from backend.studio.client import PAGE, WHOLE_PAGE, Studio, StudioError, TaskFilter

log = logging.getLogger(__name__)

Task = Mapping[str, Any]
"""A task as Label Studio returns it: `id`, `data`, `updated_at`, ..., where read whole also its predictions."""


@dataclass(frozen=True)
class Served:
    """A project that is to be pre-labelled: its labeling config as it is now, and the model version that gives."""

    project: int
    config: LabelingConfig
    version: str


def served(project: int, found: Mapping[str, Any] | None, settings: Settings) -> Served | None:
    """Read a project as Label Studio returns it; None when it is gone or cannot (or is not to) be pre-labelled."""
    try:
        config = parse_config((found or {})["label_config"], settings.car_preset)
    except (ConfigError, KeyError):
        return None
    return None if config.skip else Served(project, config, config.version(settings.car_weights))


def read_tasks(
    studio: Studio, project: int, tasks: Iterable[int], *, whole: bool = False
) -> dict[int, dict[str, Any]] | None:
    """Read those of these tasks that are in a project, by id; None when there is no such project (any more).

    With `whole` they come with their predictions and annotations. One request per `PAGE` (`WHOLE_PAGE`) tasks. Raises
    StudioError.
    """
    ids, size = sorted(set(tasks)), WHOLE_PAGE if whole else PAGE
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, len(ids), size):
        which = TaskFilter(ids=tuple(ids[start : start + size]))
        try:
            page = studio.tasks_beyond(project, 0, which, whole=whole)
        except StudioError as error:
            if error.status != 404 or studio.project(project) is not None:
                raise
            return None
        found |= {int(task["id"]): task for task in page}
    return found


def remove(studio: Studio, task: Task, predictions: Iterable[Prediction]) -> int:
    """Delete predictions of a task (read whole), but for those that an annotation began with; how many."""
    kept = begun_with(task)
    return sum(studio.delete_prediction(one["id"]) for one in predictions if one["id"] not in kept)


class Reconciler:
    """Changes predictions and jobs so that tasks hold what they should."""

    def __init__(self, studio: Studio, jobs: Jobs, delivery: Delivery, holdings: Holdings):
        self.studio = studio
        self.jobs = jobs
        self.delivery = delivery
        self.holdings = holdings

    def check(self, project: Served, page: Sequence[Task]) -> int:
        """`show_present` for those tasks of a page that are not known to hold a prediction of their present images.

        Returns how many tasks were asked for.
        """
        whole = read_tasks(self.studio, project.project, self.suspects(project, page), whole=True) or {}
        return self.show_present(project, list(whole.values()))

    def suspects(self, project: Served, page: Sequence[Task]) -> list[int]:
        """The tasks of which `Holdings` does not know that their prediction is of their present images."""
        found = shown(page, project.project, project.config, project.version, self.holdings)
        fine = {now.job.task for _, now in found if now.held == now.job.fingerprint}
        return [int(task["id"]) for task in page if int(task["id"]) not in fine]

    def show_present(self, project: Served, tasks: Sequence[Task]) -> int:
        """Remove predictions of other images from tasks (read whole), and ask for those that have none of the present.

        Returns how many tasks were asked for.
        """
        wanted = []
        for task, now in shown(tasks, project.project, project.config, project.version, self.holdings):
            origins = [(one, now.origin(one)) for one in ours(task)]
            stale = [one for one, origin in origins if origin is Origin.OTHER]
            if removed := remove(self.studio, task, stale):
                log.warning("task %s shows another image now: %d predictions are deleted", task["id"], removed)
            current = [(one, origin) for one, origin in origins if one["model_version"] == project.version]
            is_present = any(origin is Origin.PRESENT for _, origin in current)
            is_held = any(is_believed(one, task) for one, origin in current if origin is Origin.UNKNOWN)
            if not (is_present or is_held):
                wanted.append(now.job)
            elif is_present or not task.get("annotations"):
                self.holdings.note(now.job)  # from now on this task need not be read whole
        self.ask(wanted)
        return len(wanted)

    def ask(self, wanted: Sequence[Job]) -> tuple[int, int]:
        """Ask for jobs whose predictions Label Studio does not hold; (how many were not under way, had no room)."""
        if not wanted:
            return 0, 0
        ids = [self.jobs.id_of(job) for job in wanted]
        with self.jobs.redis.pipeline(transaction=False) as pipe:
            pipe.zmscore(store.OPEN, ids)
            pipe.zmscore(store.OUTBOX, ids)
            under_way = [was_open or is_due for was_open, is_due in zip(*pipe.execute(), strict=True)]
        states = self.jobs.request_many(wanted, store.BATCH)
        for job_id, state, is_busy in zip(ids, states, under_way, strict=True):
            if state is State.DONE and not is_busy:  # kept from before: it was deleted in Label Studio, or made room
                self.delivery.deliver_again(job_id)
        new = sum(
            state in (State.QUEUED, State.DONE) and not busy for state, busy in zip(states, under_way, strict=True)
        )
        return new, sum(state is State.REFUSED for state in states)

    def drop_misfits(self, project: int, job_ids: Iterable[str]) -> None:
        """Cancel open jobs, and forget failed ones, whose tasks are gone or show other images now.

        The present images are asked for instead.
        """
        jobs = {job_id: job for job_id in job_ids if (job := self.jobs.job(job_id)) and job.is_delivered}
        tasks = read_tasks(self.studio, project, (job.task for job in jobs.values()))
        if tasks is None:
            self.project_is_gone(project)
            return
        misfits = {i: job for i, job in jobs.items() if job.task not in tasks or not fits(job, tasks[job.task])}
        if not misfits:
            return
        found = self._drop(list(misfits))
        log.info(
            "project %s: %d jobs are dropped, as their tasks are gone or show other images; %d of them run and are not "
            "delivered",
            project,
            len(misfits),
            found.running,
        )
        self.show_present_of(project, [job.task for job in misfits.values() if job.task in tasks])

    def show_present_of(self, project: int, numbers: Iterable[int]) -> None:
        """`show_present` for tasks by their ids, under the labeling config of their project as it is now."""
        tasks = read_tasks(self.studio, project, numbers, whole=True)
        found = served(project, self.studio.project(project), self.jobs.settings) if tasks else None
        if tasks and found is not None:
            self.show_present(found, list(tasks.values()))

    def project_is_gone(self, project: int) -> None:
        """Cancel all jobs of a project that Label Studio does not have any more."""
        failed = self.jobs.failed_ids(project)
        found = self._drop([*open_jobs(self.jobs, project), *failed])
        if found.queued or found.running or failed:
            log.warning(
                "project %s is gone: %d queued jobs are cancelled, %d running ones are not delivered, %d failed ones "
                "are forgotten",
                project,
                found.queued,
                found.running,
                len(failed),
            )

    def _drop(self, job_ids: Sequence[str]) -> Cancelled:
        found = cancel_jobs(self.jobs, job_ids)
        for job_id in job_ids:
            if self.jobs.state(job_id) in (State.FAILED, State.DONE):  # done: listed as failed, as it lacks an image
                self.jobs.forget(job_id)
        return found


def reconciler_of(redis: Redis, settings: Settings, studio: Studio) -> Reconciler:
    """The reconciler of one Redis and one Label Studio."""
    jobs = Jobs(redis, settings)
    return Reconciler(studio, jobs, Delivery(redis, jobs, settings.car_verify_seconds), Holdings(redis, settings))


def is_believed(prediction: Prediction, task: Task) -> bool:
    """Whether a prediction whose images are not known counts as made from what its task (read whole) shows now.

    It has no regions, or those of an earlier release, and Redis has no record of it. It counts if the task has not
    changed since, or if an annotator has dealt with the task. Otherwise the task is asked for again, and the courier
    compares: a prediction that draws the same stays, another one makes room for one whose images are known.
    """
    if task.get("annotations"):
        return True
    made, changed = (datetime.fromisoformat(str(one)) for one in (prediction["created_at"], task["updated_at"]))
    return made >= changed - timedelta(seconds=1)


def by_project(jobs: Mapping[str, Job]) -> dict[int, dict[str, Job]]:
    """Jobs by id, project by project."""
    grouped: dict[int, dict[str, Job]] = defaultdict(dict)
    for job_id, job in jobs.items():
        grouped[job.project][job_id] = job
    return dict(grouped)
