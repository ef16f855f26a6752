"""All figures about the backend in one place: `python -m backend status`, the status page and /metrics share them.

Everything is read from Redis when it is asked for; no process keeps figures of its own.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis
from redis.exceptions import ResponseError
from rq.registry import ScheduledJobRegistry, StartedJobRegistry

from backend import store
from backend.connections import webhook_problems
from backend.delivery import oldest_age
from backend.queue.failures import fix, requeue_command
from backend.queue.job import task_of
from backend.queue.jobs import Jobs
from backend.queue.queues import paused
from backend.status import measures, reports
from backend.status.measures import Histogram, Minute
from backend.status.reports import WorkerReport
from backend.store import text
from backend.trouble import explain, try_write

RATE_MINUTES = 10
"""The rate is that of so many minutes, and of the one under way."""
RUNNING_SHOWN = 50


@dataclass(frozen=True)
class Running:
    """A job that a worker has begun; `worker` is where, empty when none says that it has it."""

    job: str
    project: int
    task: int
    seconds: float
    worker: str


@dataclass(frozen=True)
class Failed:
    """A job that was given up; `requeue` is the command for when `fix` is done."""

    job: str
    project: int | None
    task: int | None
    error: str
    kind: str
    fix: str
    requeue: str
    failures: int
    seconds_ago: float


@dataclass(frozen=True)
class Undelivered:
    """A finished prediction that Label Studio has not (verifiably) stored yet; `reason` is empty at first."""

    job: str
    answered: bool
    reason: str


@dataclass(frozen=True)
class Overview:
    """Everything at the moment `at` (seconds since the epoch); ages are in seconds, None where there is nothing."""

    at: float
    refuses_writes: str
    """Why Redis refuses writes, and what to do; empty when it takes them."""
    queued: int
    """Jobs that wait, retries included."""
    running: int
    oldest_open_seconds: float | None
    waiting: dict[str, int]
    """Where they wait: `interactive`, `batch`, `retries`."""
    waiting_by_project: dict[str, int]
    """Project -> its jobs in line; "new": not sorted by project yet."""
    paused: list[str]
    """Projects whose jobs wait until they are resumed, "*": all."""
    workers: int
    courier: bool
    webhooks_to_read: int
    connected: int
    """Projects that have us as their ML backend."""
    webhook_problems: dict[int, str]
    """Project -> why Label Studio does not tell us of its imports."""
    in_outbox: int
    oldest_in_outbox_seconds: float | None
    """How long the courier is behind with the first of them."""
    delivered: int
    dropped: int
    failed: int
    failed_by_kind: dict[str, int]
    """Since the beginning."""
    images_per_minute: float
    seconds_per_image: float | None
    minutes: tuple[Minute, ...]
    """The last hour, oldest first; the last one is not over."""
    stages: dict[str, Histogram]
    worker_reports: tuple[WorkerReport, ...]
    running_tasks: tuple[Running, ...]
    failures: tuple[Failed, ...]
    undelivered: tuple[Undelivered, ...]


def read(jobs: Jobs, shown: int = 20) -> Overview:
    """Everything, with the newest `shown` failures and deliveries. Raises RedisError."""
    redis, now = jobs.redis, time.time()
    unfinished = int(redis.zcard(store.OPEN))
    started = [
        job_id
        for queue in jobs.queues.values()
        for job_id in StartedJobRegistry(queue=queue).get_job_ids(cleanup=False)
    ]
    running = min(len(started), unfinished)
    by_queue = {name: queue.waiting() for name, queue in jobs.queues.items()}
    retries = sum(ScheduledJobRegistry(queue=queue).get_job_count(cleanup=False) for queue in jobs.queues.values())
    counters = {text(name): int(value) for name, value in redis.hgetall(store.COUNTERS).items()}
    told = reports.read(redis)
    minutes = _minutes(redis, now)
    per_minute, per_image = rate(minutes, now)
    return Overview(
        at=now,
        refuses_writes=_refuses_writes(redis),
        queued=unfinished - running,
        running=running,
        oldest_open_seconds=oldest_age(redis, store.OPEN, now),
        waiting={**{name: sum(lines.values()) for name, lines in by_queue.items()}, "retries": retries},
        waiting_by_project=dict(sum((Counter(lines) for lines in by_queue.values()), Counter())),
        paused=paused(redis),
        workers=len(reports.alive(told)),
        courier=bool(redis.exists(store.COURIER)),
        webhooks_to_read=int(redis.llen(store.INBOX) + redis.llen(store.READING)),
        connected=int(redis.hlen(store.CONNECTED)),
        webhook_problems=webhook_problems(redis),
        in_outbox=int(redis.zcard(store.OUTBOX)),
        oldest_in_outbox_seconds=_behind(redis, now),
        delivered=counters.get("delivered", 0),
        dropped=counters.get("dropped", 0),
        failed=int(redis.zcard(store.FAILED)),
        failed_by_kind={
            name.partition(":")[2]: count for name, count in counters.items() if name.startswith("failed:")
        },
        images_per_minute=per_minute,
        seconds_per_image=per_image,
        minutes=minutes,
        stages=measures.histograms(cast(Mapping[bytes, bytes], redis.hgetall(store.STAGES))),
        worker_reports=told,
        running_tasks=_running(jobs, started[:RUNNING_SHOWN], told, now),
        failures=tuple(_failed(job_id, ticket, now) for job_id, ticket in jobs.failures(shown)) if shown else (),
        undelivered=tuple(_undelivered(jobs, text(one)) for one in redis.zrange(store.OUTBOX, 0, shown - 1))
        if shown
        else (),
    )


def _refuses_writes(redis: Redis) -> str:
    try:
        try_write(redis)
    except ResponseError as error:
        return explain(error)
    return ""


def rate(minutes: Sequence[Minute], now: float) -> tuple[float, float | None]:
    """(images per minute, seconds that a worker spends on one) lately, from `minutes` of which the last is under way.

    Counted from the first minute in which something was finished, so that a short run is not spread over a long time.
    """
    recent = list(minutes[-RATE_MINUTES - 1 :])
    while recent and not recent[0].images:
        recent.pop(0)
    if not recent:
        return 0.0, None
    images = sum(minute.images for minute in recent)
    elapsed = 60 * (len(recent) - 1) + max(now % 60, 1.0)
    return 60 * images / elapsed, sum(minute.seconds for minute in recent) / images


def advice(overview: Overview, version: str) -> list[str]:
    """What stands in the way, with what to do; `version` is the web process's own for an empty config."""
    told = []
    if overview.refuses_writes:
        told.append(f"{overview.refuses_writes} Until then nothing is queued, segmented or delivered.")
    if not overview.workers:
        told.append("No worker is alive, so nothing is segmented: start python -m backend worker.")
    if not overview.courier:
        told.append("No courier is at work, so nothing is delivered: start python -m backend courier.")
    if overview.paused:
        names = "all projects" if "*" in overview.paused else f"project {', '.join(overview.paused)}"
        told.append(f"Paused: {names}. To go on: python -m backend resume.")
    others = sorted({one.version for one in reports.alive(overview.worker_reports)} - {version})
    if others:
        told.append(
            f"Workers of another release or with other weights ({', '.join(others)}; here {version}) will refuse jobs: "
            "start all processes from one release, with the same CAR_PRESET and CAR_WEIGHTS."
        )
    told += [f"Project {project}: {problem}" for project, problem in overview.webhook_problems.items()]
    told += [f"A worker on {one.host} cannot work: {one.error}" for one in overview.worker_reports if one.error]
    return told


def _minutes(redis: Redis, now: float) -> tuple[Minute, ...]:
    with redis.pipeline(transaction=False) as pipe:
        for key in measures.minute_keys(now):
            pipe.hgetall(key)
        return tuple(measures.minute(fields) for fields in pipe.execute())


def _behind(redis: Redis, now: float) -> float | None:
    age = oldest_age(redis, store.OUTBOX, now)
    return None if age is None else max(age, 0.0)  # what is not due yet is not late


def _running(jobs: Jobs, ids: Sequence[str], told: Iterable[WorkerReport], now: float) -> tuple[Running, ...]:
    where = {report.job: f"{report.host}:{report.pid}" for report in told if report.job}
    with jobs.redis.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hget(store.ticket_key(job_id), "started")
        begun = pipe.execute()
    listed = [
        Running(job_id, *task_of(job_id), max(now - float(at), 0.0) if at else 0.0, where.get(job_id, ""))
        for job_id, at in zip(ids, begun, strict=True)
    ]
    return tuple(sorted(listed, key=lambda one: -one.seconds))


def _failed(job_id: str, ticket: Mapping[str, str], now: float) -> Failed:
    job: dict[str, Any] = json.loads(ticket.get("job", "{}"))
    kind = ticket.get("kind", "")
    return Failed(
        job=job_id,
        project=job.get("project"),
        task=job.get("task"),
        error=ticket.get("error", ""),
        kind=kind,
        fix=fix(kind),
        requeue=requeue_command(job.get("project"), job.get("task")),
        failures=int(ticket.get("failures", "0")),
        seconds_ago=max(now - float(ticket.get("finished", now)), 0.0),
    )


def _undelivered(jobs: Jobs, job_id: str) -> Undelivered:
    ticket = jobs.ticket(job_id)
    return Undelivered(job_id, "answered" in ticket, ticket.get("undelivered", ""))
