"""What a request for predictions gets: what is finished, and the promise that the rest will be delivered.

Label Studio 1.23 knows no deferred answer. `[]` for a task is the only one that it neither stores nor forgets: it
asks again, and meanwhile the courier pushes. So nothing here ever waits for long, and nothing is ever lost by it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError
from rq.worker_registration import get_keys

from backend import store
from backend.delivery import Delivery
from backend.labeling.parsing import ConfigError, LabelingConfig, parse_config
from backend.provenance import Origin, Shown
from backend.queue.job import Job, State, job_of, project_of
from backend.queue.jobs import Jobs
from backend.queue.queues import is_paused
from backend.settings import Settings

log = logging.getLogger(__name__)

PROJECT_UPDATED = "PROJECT_UPDATED"
"""Label Studio's name for the webhook about a changed project, labeling config included."""

Answer = dict[str, Any] | list[Any]
"""A prediction, or `[]`: not ready."""


class Predictor:
    """Answers requests of one Label Studio. Thread-safe; opens no connection before it is asked."""

    POLL_SECONDS = 0.05

    def __init__(self, settings: Settings):
        self.settings = settings
        self.redis = store.connect(settings.redis_url, patient=False)
        self.jobs = Jobs(self.redis, settings)
        self.delivery = Delivery(self.redis, self.jobs, settings.car_verify_seconds)
        self._may_wait = threading.BoundedSemaphore(settings.car_threads // 2)

    def version(self, label_config: str) -> str:
        """The model version for a project.

        Raises:
            ConfigError: the labeling config cannot be pre-labelled, with what is missing.
        """
        return parse_config(label_config, self.settings.car_preset).version(self.settings.car_weights)

    def note_version(self, version: str, project: int = 0) -> None:
        """Remember a version that a project showed, for /versions; where it is a new one, tell the courier."""
        before = self.redis.hget(store.PROJECT_VERSIONS, str(project)) if project else None
        with self.redis.pipeline() as pipe:
            pipe.zadd(store.VERSIONS, {version: time.time()})
            if project:
                pipe.hset(store.PROJECT_VERSIONS, str(project), version)
            if before is not None and store.text(before) != version:
                pipe.lpush(store.INBOX, json.dumps({"action": PROJECT_UPDATED, "project": {"id": project}}))
            pipe.execute()

    def versions(self) -> list[str]:
        """The versions that projects showed, newest first."""
        return [store.text(version) for version in self.redis.zrevrange(store.VERSIONS, 0, 99)]

    def predict(self, tasks: Sequence[Mapping[str, Any]], project: int, label_config: str) -> list[Answer]:
        """One answer per task, in order; `[]` where there is none (yet). Never raises for what a user can cause."""
        answers: list[Answer] = [[] for _ in tasks]
        try:
            config = parse_config(label_config, self.settings.car_preset)
        except ConfigError as error:
            log.error("project %s cannot be pre-labelled: %s", project, error)
            return answers
        if config.skip:
            return answers
        version = config.version(self.settings.car_weights)
        try:
            self._fill(answers, tasks, project, config, version)
        except RedisError as error:
            log.error("Redis at REDIS_URL does not answer, so tasks wait to be asked again: %s", error)
        return answers

    def request(
        self, tasks: Sequence[Mapping[str, Any]], project: int, config: LabelingConfig, version: str, queue: str
    ) -> list[tuple[str, State] | None]:
        """Ask for many tasks: (job id, where it stands) for each, or None when it has no image (logged)."""
        jobs = [job_of(task, project, config, version) for task in tasks]
        states = iter(self.jobs.request_many([job for job in jobs if job is not None], queue))
        return [None if job is None else (self.jobs.id_of(job), next(states)) for job in jobs]

    def _fill(
        self,
        answers: list[Answer],
        tasks: Sequence[Mapping[str, Any]],
        project: int,
        config: LabelingConfig,
        version: str,
    ) -> None:
        queue = store.INTERACTIVE if len(tasks) == 1 else store.BATCH
        jobs = [job_of(task, project, config, version) for task in tasks]
        # Only "Test request" and interactive tools ask for what Label Studio already has.
        wanted = {
            place: job for place, job in enumerate(jobs) if job is not None and not has_prediction(tasks[place], job)
        }
        states = self.jobs.request_many(list(wanted.values()), queue)
        carried = 0
        for (place, job), state in zip(wanted.items(), states, strict=True):
            job_id = self.jobs.id_of(job)
            if len(tasks) == 1 and state in (State.QUEUED, State.RUNNING):
                state = self.wait(job_id, self.settings.car_wait)
            if state is not State.DONE:
                continue
            if carried >= self.settings.car_answer_limit:
                self.delivery.push_soon(job_id)
                continue
            prediction = self.delivery.answer(job_id, len(tasks))
            if prediction is not None:
                answers[place] = prediction
                carried += 1

    def wait(self, job_id: str, seconds: float) -> State:
        """Wait a little for a job, unless enough requests wait already or nobody would work on it."""
        if not seconds or not get_keys(connection=self.redis) or is_paused(self.redis, project_of(job_id)):
            return State.QUEUED
        if not self._may_wait.acquire(blocking=False):
            return State.QUEUED
        try:
            self.delivery.hold(job_id, seconds + 1)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                state = self.jobs.state(job_id)
                if state in (State.DONE, State.FAILED):
                    return state
                time.sleep(self.POLL_SECONDS)
            self.delivery.release(job_id)
            return State.QUEUED
        finally:
            self._may_wait.release()


def has_prediction(task: Mapping[str, Any], job: Job) -> bool:
    """Whether the task, as Label Studio sent it, has a prediction of the job's version, and not of other images."""
    stored, now = task.get("predictions"), Shown(job, task.get("data"))
    return isinstance(stored, list) and any(
        isinstance(one, dict) and one.get("model_version") == job.version and now.origin(one) is not Origin.OTHER
        for one in stored
    )
