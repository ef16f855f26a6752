"""Upkeep: whatever was lost between Redis, RQ and a dead worker is given back.

Runs every few seconds in the courier. All steps are idempotent and safe beside working workers.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import cast

from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job as RQJob
from rq.job import JobStatus
from rq.registry import ScheduledJobRegistry, StartedJobRegistry, clean_registries
from rq.worker_registration import clean_worker_registry

from backend import store
from backend.queue.failures import Failure
from backend.queue.jobs import Jobs, State
from backend.queue.queues import TakingQueue
from backend.store import text

log = logging.getLogger(__name__)

STUCK_SECONDS = 10
"""A job between a queue and its start takes milliseconds; after this long its worker is gone."""
LOST_SECONDS = 60
"""Only tickets open for longer than this are compared with RQ: younger ones may just be on their way."""


def sweep(jobs: Jobs) -> None:
    """Bring RQ and the tickets together again."""
    for queue in jobs.queues.values():
        enqueue_scheduled(jobs, queue)
        give_back_taken(jobs, queue)
        retry_abandoned(jobs, queue)
        clean_worker_registry(queue)
    reconcile(jobs)


def enqueue_scheduled(jobs: Jobs, queue: Queue) -> None:
    """Queue the retries whose pause is over (RQ's own scheduler would fork a process in the worker)."""
    registry = ScheduledJobRegistry(queue=queue)
    for job_id in registry.get_jobs_to_schedule():
        try:
            job = RQJob.fetch(job_id, connection=jobs.redis, serializer=queue.serializer)
        except NoSuchJobError:
            registry.remove(job_id)
            continue
        with jobs.redis.pipeline() as pipe:
            queue._enqueue_job(job, pipeline=pipe)
            registry.remove(job_id, pipeline=pipe)
            pipe.execute()


def give_back_taken(jobs: Jobs, queue: TakingQueue) -> None:
    """Return jobs that a worker took but never started to the front of their line; this costs no retry."""
    taken = queue.intermediate_queue
    started = set(StartedJobRegistry(queue=queue).get_job_ids(cleanup=False))
    now, waiting = time.time(), set(taken.get_job_ids()) - started
    key = store.taken_key(queue.name)
    members = cast(list[tuple[bytes, float]], jobs.redis.zrange(key, 0, -1, withscores=True))
    seen = {text(job_id): at for job_id, at in members}
    if seen.keys() - waiting:  # started since; should it be taken once more, its time begins anew
        jobs.redis.zrem(key, *(seen.keys() - waiting))
    for job_id in waiting:
        if job_id not in seen:
            jobs.redis.zadd(key, {job_id: now})
        elif now - seen[job_id] > STUCK_SECONDS:
            if queue.give_back(job_id):
                log.warning("job %s was taken by a worker that died; it is queued again", job_id)
            jobs.redis.zrem(key, job_id)


def retry_abandoned(jobs: Jobs, queue: Queue) -> None:
    """Have RQ retry the jobs of workers without a heartbeat, or fail them after the last try."""
    abandoned = StartedJobRegistry(queue=queue).get_expired_job_ids()
    clean_registries(queue)
    for job_id in abandoned:
        jobs.retry(job_id, "the worker died over it (out of memory?)")
        log.warning("job %s was running in a worker that died", job_id)


def reconcile(jobs: Jobs) -> None:
    """Compare tickets that have been open for long with RQ: fail what RQ gave up, queue again what RQ lost."""
    open_ids = jobs.open_ids(older_than=LOST_SECONDS)
    if not open_ids:
        return
    known = _known_to_rq(jobs)
    for job_id in open_ids:
        if job_id in known:
            continue
        job, ticket = jobs.job(job_id), jobs.ticket(job_id)
        if job is None:
            jobs.redis.zrem(store.OPEN, job_id)
        elif job.ask is not None:  # who asked is gone
            jobs.forget(job_id)
        elif ticket.get("state") not in (State.QUEUED, State.RUNNING):
            continue
        elif _gave_up(jobs, job_id):
            jobs.fail(job_id, ticket.get("error") or "the worker died over it (out of memory?)", Failure.DIED)
        else:
            jobs.enqueue(job_id, job, store.BATCH)
            log.warning("job %s was lost; it is queued again", job_id)


def renew_outdated(jobs: Jobs) -> None:
    """Ask again, under its present version, for what an earlier release left open or failed; once per start.

    A release that changes a preset changes the model versions: workers of the new one refuse jobs of the old one.
    """
    unfinished = [*jobs.open_ids(), *(job_id for job_id, _ in jobs.failures(None))]
    renewed = 0
    for job_id in unfinished:
        job = jobs.job(job_id)
        if job is None or job.version == job.config.version(jobs.settings.car_weights):
            continue
        jobs.forget(job_id)
        if job.ask is not None:
            continue
        jobs.request(replace(job, version=job.config.version(jobs.settings.car_weights)), store.BATCH)
        renewed += 1
    if renewed:
        log.warning("%d jobs of an earlier release are asked for again under their present version", renewed)


def _known_to_rq(jobs: Jobs) -> set[str]:
    """Ids of all jobs that RQ will still run or is running."""
    known: set[str] = set()
    for queue in jobs.queues.values():
        known.update(queue.job_ids)
        known.update(queue.intermediate_queue.get_job_ids())
        known.update(StartedJobRegistry(queue=queue).get_job_ids(cleanup=False))
        known.update(ScheduledJobRegistry(queue=queue).get_job_ids(cleanup=False))
    return known


def _gave_up(jobs: Jobs, job_id: str) -> bool:
    try:
        job = RQJob.fetch(job_id, connection=jobs.redis, serializer=jobs.queues[store.BATCH].serializer)
    except NoSuchJobError:
        return False
    return bool(job.get_status() == JobStatus.FAILED)
