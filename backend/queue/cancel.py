"""Taking back what was asked for: the queue of a project, what an older labeling config asked for, deleted tasks.

What a worker is at is not stopped. A job of an older labeling config that runs is finished but not delivered: its
words are no longer asked for, and Label Studio 1.23 asks for a task that is opened only while it has no prediction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from redis import Redis
from rq.job import Job as RQJob
from rq.registry import FailedJobRegistry, ScheduledJobRegistry

from backend import store
from backend.labeling.parsing import ConfigError, parse_config
from backend.queue import scripts
from backend.queue.job import State, project_of
from backend.queue.jobs import TOGETHER, Jobs
from backend.settings import Settings
from backend.store import text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cancelled:
    """How many jobs were taken out of the queue, and how many run and are left to finish."""

    queued: int
    running: int


def cancel(jobs: Jobs, project: int | None = None) -> Cancelled:
    """Empty the queue of a project, or of all; what runs is finished and delivered.

    Convergence leaves the tasks alone that were created before (`cancelled_at`).
    """
    jobs.redis.hset(store.CANCELLED, "*" if project is None else str(project), datetime.now(UTC).isoformat())
    return _cancel(jobs, open_jobs(jobs, project), keep_back=False)


def cancelled_at(redis: Redis, project: int) -> str:
    """When the queue of a project was emptied last (ISO 8601, UTC), "" when it never was."""
    found = cast(list[bytes | None], redis.hmget(store.CANCELLED, ["*", str(project)]))
    return max((text(moment) for moment in found if moment is not None), default="")


def cancel_outdated(jobs: Jobs, project: int, version: str | None) -> Cancelled:
    """Cancel a project's jobs that are not for `version`; what runs of them is finished but not delivered.

    None stands for a labeling config that cannot be pre-labelled (any more). Trials are left alone: they may try words
    that are in no labeling config.
    """
    found = _cancel(jobs, _outdated(jobs, open_jobs(jobs, project), version), keep_back=True)
    if found.queued or found.running:
        log.warning(
            "project %s has another labeling config: %d queued jobs are cancelled, %d running ones are not delivered",
            project,
            found.queued,
            found.running,
        )
    return found


def cancel_jobs(jobs: Jobs, job_ids: Sequence[str]) -> Cancelled:
    """Cancel those of these jobs that are open; what runs of them is finished but not delivered."""
    return _cancel(jobs, list(job_ids), keep_back=True)


def open_jobs(jobs: Jobs, project: int | None) -> list[str]:
    """Ids of the jobs, of a project or of all, that are queued or run; those that were asked for first in front."""
    return [job_id for job_id in jobs.open_ids() if project in (None, int(project_of(job_id)))]


def current_version(label_config: str, settings: Settings) -> str | None:
    """The model version of a labeling config; None when it cannot or is not to be pre-labelled."""
    try:
        config = parse_config(label_config, settings.car_preset)
    except ConfigError:
        return None
    return None if config.skip else config.version(settings.car_weights)


def _outdated(jobs: Jobs, ids: list[str], version: str | None) -> list[str]:
    outdated = []
    for together in _portions(ids):
        with jobs.redis.pipeline(transaction=False) as pipe:
            for job_id in together:
                pipe.hmget(store.ticket_key(job_id), "version", "trial")
            answers = pipe.execute()
        for job_id, (stored, trial) in zip(together, answers, strict=True):
            if trial is None and version != (text(stored) if stored else _version_of(jobs, job_id)):
                outdated.append(job_id)
    return outdated


def _version_of(jobs: Jobs, job_id: str) -> str:
    """The version of a job that an earlier release has queued, without writing it into the ticket."""
    job = jobs.job(job_id)
    return job.version if job else ""


def _portions(ids: list[str]) -> Iterator[list[str]]:
    """So many at a time that nobody else waits for Redis."""
    return (ids[at : at + TOGETHER] for at in range(0, len(ids), TOGETHER))


def _cancel(jobs: Jobs, ids: list[str], *, keep_back: bool) -> Cancelled:
    states: dict[str, str] = {}
    for together in _portions(ids):
        with jobs.redis.pipeline(transaction=False) as pipe:
            for job_id in together:
                pipe.eval(scripts.CANCEL, 2, store.ticket_key(job_id), store.OPEN, job_id, int(keep_back))
            states |= {job_id: text(state or "") for job_id, state in zip(together, pipe.execute(), strict=True)}
    _remove_from_rq(jobs, states)
    return Cancelled(*(sum(state == one for state in states.values()) for one in (State.QUEUED, State.RUNNING)))


def _remove_from_rq(jobs: Jobs, states: Mapping[str, str]) -> None:
    gone = [job_id for job_id, state in states.items() if state == State.QUEUED]
    for queue in jobs.queues.values():
        for registry in (ScheduledJobRegistry(queue=queue), FailedJobRegistry(queue=queue)):
            for together in _portions(gone):
                jobs.redis.zrem(registry.key, *together)
        for project in {project_of(job_id) for job_id in gone}:
            queue.tidy(project)
    for together in _portions(gone):
        jobs.redis.delete(*map(RQJob.key_for, together))
