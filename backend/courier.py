"""The courier: the worker without torch. Delivers predictions, reads webhooks, gives back what was lost.

One courier is at work at a time; others stand by and take over when it is silent for `LOCK_SECONDS`.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from backend import store, trouble
from backend.bulk.refresh import remove
from backend.corrections.corrector import Corrector
from backend.delivery import Delivery, backoff
from backend.predict import Predictor
from backend.queue.cancel import cancel_outdated, cancel_tasks, current_version, open_tasks
from backend.queue.jobs import Job, Jobs
from backend.queue.sweep import renew_outdated, sweep
from backend.settings import Settings
from backend.studio.client import Studio, StudioError, StudioUnavailable
from backend.webhooks import Webhooks

log = logging.getLogger(__name__)

LOCK = store.COURIER
LOCK_SECONDS = 15
"""Two couriers at once do no harm (each leases what it pushes), a dead one that holds everybody up does."""
PUSH_AT_ONCE = 25
"""Predictions per bulk import: large enough to be quick, small enough that masks of 12 megapixels fit."""
SWEEP_SECONDS = 15
IDLE_SECONDS = 0.2

_REFRESH = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) and 1 or 0
"""


class Courier:
    """Everything between Redis and Label Studio that needs no image."""

    def __init__(self, settings: Settings, studio: Studio | None = None):
        self.settings = settings
        self.redis: Redis = store.connect(settings.redis_url, patient=True)
        self.jobs = Jobs(self.redis, settings)
        self.delivery = Delivery(self.redis, self.jobs, settings.car_verify_seconds)
        self.studio = studio or Studio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
        self.corrector = Corrector(self.redis, settings, self.studio)
        self.webhooks = Webhooks(
            self.redis, settings, Predictor(settings), self.corrector.hear, self.cancel_outdated, self.cancel_deleted
        )
        self.name = uuid.uuid4().hex
        self._refresh = self.redis.register_script(_REFRESH)
        self._swept = 0.0
        self._renewed = False

    def round(self) -> bool:
        """Do what is due, once; True when there was something (so that more may be)."""
        if not self._refresh([LOCK], [self.name, LOCK_SECONDS]):
            return False
        if not self._renewed:
            renew_outdated(self.jobs)
            self._renewed = True
        busy = self.webhooks.read_one()
        busy = self.deliver() > 0 or busy
        busy = self.corrector.round() or busy
        self.webhooks.protect(self.studio)
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            sweep(self.jobs)
        return busy

    def retire(self) -> None:
        """Let a standby take over at once."""
        if self.redis.get(LOCK) == self.name.encode():
            self.redis.delete(LOCK)

    def cancel_outdated(self, project: int) -> bool:
        """Cancel what an older labeling config asked for; False when Label Studio is away, so that it cannot be told.

        The config is read from Label Studio, never from the event: a late or forged one does no harm.
        """
        try:
            found = self.studio.project(project)
        except StudioUnavailable:
            return False
        except StudioError as error:
            log.error("project %s may have changed, but cannot be read: %s", project, error)
            return True
        version = current_version(found["label_config"], self.settings) if found else None
        cancel_outdated(self.jobs, project, version)
        return True

    def cancel_deleted(self, project: int, tasks: Collection[int]) -> bool:
        """Cancel the jobs of tasks that were deleted; False when Label Studio is away, so that it cannot be told.

        Label Studio is asked whether they are gone, as a forged event would say so of tasks that are there.
        """
        asked_for = open_tasks(self.jobs, project) & set(tasks)
        try:
            cancel_tasks(self.jobs, project, asked_for - self.studio.existing_tasks(project, sorted(asked_for)))
        except StudioUnavailable:
            return False
        except StudioError as error:
            log.error("tasks of project %s may be deleted, but it cannot be read: %s", project, error)
        return True

    def deliver(self) -> int:
        """Push what is due; the number of predictions looked after."""
        due = self.delivery.take_due(PUSH_AT_ONCE)
        by_project: dict[int, dict[str, Job]] = defaultdict(dict)
        for job_id in due:
            job = self.jobs.job(job_id)
            if job is None:
                self.delivery.drop(job_id)
            else:
                by_project[job.project][job_id] = job
        for project, jobs in by_project.items():
            try:
                self._deliver_to(project, jobs)
            except StudioError as error:
                self._postpone(list(jobs), error)
        return len(due)

    def _deliver_to(self, project: int, jobs: Mapping[str, Job]) -> None:
        """Push those of one project that Label Studio does not have yet."""
        looked = {job_id: self._still_missing(job_id, job) for job_id, job in jobs.items()}
        missing = {job_id: one for job_id, one in looked.items() if one is not None and self.delivery.renew(job_id)}
        if len(missing) > 1:
            try:
                if self.studio.import_predictions(project, list(missing.values())) == len(missing):
                    for job_id in missing:
                        self._pushed(job_id)
                    return
            except StudioUnavailable:
                raise
            except StudioError as error:
                # Label Studio 1.23 refuses a whole batch for one task that is gone.
                log.warning(
                    "project %s refused %d predictions at once, going one by one: %s", project, len(missing), error
                )
        for job_id, prediction in missing.items():
            # A bulk import may have stored some of its predictions before it was refused.
            if len(missing) == 1 or self._still_missing(job_id, jobs[job_id]) is not None:
                self._push_one(job_id, prediction)

    def _still_missing(self, job_id: str, job: Job) -> dict[str, Any] | None:
        """The prediction to push with its task, or None when Label Studio has it, or there is none (any more)."""
        prediction = self.jobs.result(job_id)
        if prediction is None:
            self.delivery.drop(job_id)
            return None
        stored = [one for one in self.studio.predictions(job.task) if one.get("model_version") == job.version]
        for surplus in sorted(stored, key=lambda one: int(one["id"]))[1:]:
            self.studio.delete_prediction(surplus["id"])
            log.warning("task %s had the same prediction twice; one is deleted", job.task)
        if stored and not ("replaces" in self.jobs.ticket(job_id) and remove(self.studio, job.task, stored[:1])):
            self.delivery.delivered(job_id)
            return None
        return {"task": job.task, **prediction}

    def _pushed(self, job_id: str) -> None:
        """Label Studio took it. Where an answer or an earlier push may yet arrive beside it, look once more."""
        ticket = self.jobs.ticket(job_id)
        self.delivery.delivered(job_id)
        if "answered" in ticket or "undelivered" in ticket:
            self.delivery.look_again(job_id)

    def _push_one(self, job_id: str, prediction: dict[str, Any]) -> None:
        try:
            if self.studio.create_prediction(prediction["task"], prediction):
                self._pushed(job_id)
            else:
                log.info("task %s is gone; its prediction is dropped", prediction["task"])
                self.delivery.drop(job_id)
        except StudioError as error:
            self._postpone([job_id], error)

    def _postpone(self, ids: Sequence[str], error: StudioError) -> None:
        for job_id in ids:
            pushes = int(self.jobs.ticket(job_id).get("pushes", "0"))
            self.delivery.postpone(job_id, backoff(pushes, random.random()), str(error))
        log.warning("%d predictions wait, Label Studio did not take them: %s", len(ids), error)


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; a Redis that is away is waited for."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    courier = Courier(settings)
    log.info("courier of %s is ready", settings.label_studio_url)
    until(stop, courier.round)
    try:
        courier.retire()
    except RedisError:
        log.warning("Redis is away; a standby takes over within %d seconds", LOCK_SECONDS)


def until(stop: threading.Event, once: Callable[[], bool]) -> None:
    """Call `once` again and again until `stop`; pause when it had nothing to do, a second while Redis fails it."""
    told: str | None = None  # what the log has of the trouble that lasts
    while not stop.is_set():
        try:
            pause = 0.0 if once() else IDLE_SECONDS
        except RedisError as error:
            pause = trouble.AGAIN_SECONDS
            if told != trouble.refusal(error):
                log.error("%s Waiting for it; tried again every second.", trouble.explain(error))
            told = trouble.refusal(error)
        else:
            if told is not None:
                log.warning("Redis takes writes again")
            told = None
        stop.wait(pause)
