"""The connection to Redis, and the names of what is kept there.

Only commands of Redis 6.2 are used, so that Valkey and every managed Redis will do.
"""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

INTERACTIVE = "interactive"
BATCH = "batch"
QUEUES = (INTERACTIVE, BATCH)
"""RQ queues in the order in which workers empty them."""

OPEN = "car:open"
"""Sorted set: job id -> when it was asked for; every job that is queued or running."""
FAILED = "car:failed"
"""Sorted set: job id -> when it failed for good."""
OUTBOX = "car:outbox"
"""Sorted set: job id -> when the courier is to look after its delivery."""
INBOX = "car:inbox"
"""List: raw webhook bodies, oldest last."""
READING = "car:inbox:reading"
"""List: the webhook body that the courier is expanding."""
PROJECTS = "car:projects"
"""Hash: project -> when it was created, as Label Studio writes it (see `backend.projects`)."""
SETUPS = "car:setups"
"""Hash: project -> how often Label Studio has called /setup for it."""
ADDRESSES = "car:addresses"
"""Hash: project -> the address at which Label Studio called /setup last."""
OWN_ADDRESSES = "car:own-addresses"
"""Set: every address at which Label Studio has called /setup."""
CONNECTED = "car:connected"
"""Hash: project -> its connection to us as JSON (see `backend.connections`)."""
WEBHOOK_PROBLEMS = "car:webhook-problems"
"""Hash: project -> why Label Studio does not tell us of its imports."""
CONVERGE_DUE = "car:converge:due"
"""Sorted set: project, or "*" for all -> when the courier is to compare it with what it should hold."""
WATERMARKS = "car:watermarks"
"""Hash: project -> up to which change of its tasks it was compared (see `backend.convergence`)."""
CANCELLED = "car:cancelled"
"""Hash: project, or "*" for all -> when its queue was emptied by `cancel` (ISO 8601, UTC)."""
VERSIONS = "car:versions"
"""Sorted set: model version -> when a project last showed it."""
PAUSED = "car:paused"
"""Set: ids of projects whose jobs wait until they are resumed; "*" stands for all."""
PROJECT_VERSIONS = "car:project-versions"
"""Hash: project -> the model version of the labeling config that it showed last."""
COURIER = "car:courier"
"""String that expires: the name of the courier at work."""
COUNTERS = "car:counters"
"""Hash: what happened since the beginning (delivered, dropped, failed, and `failed:KIND` of each kind)."""
STAGES = "car:stages"
"""Hash: `STAGE|BUCKET` -> how many, `STAGE|sum` -> seconds (see `backend.status.measures`)."""
WORKERS = "car:workers"
"""Set: names of the workers that report (see `backend.status.reports`)."""
PROBE = "car:probe"
"""String that expires: written to find out whether Redis takes writes (see `backend.trouble`)."""

CORRECTIONS_DUE = "car:corrections:due"
"""Sorted set: [project, task] as JSON -> when the courier is to look at what annotators made of its predictions."""


def ticket_key(job_id: str) -> str:
    """Hash with the state of one job (see `backend.queue.jobs`)."""
    return f"car:ticket:{job_id}"


def result_key(job_id: str) -> str:
    """String with the compressed prediction of one finished job."""
    return f"car:result:{job_id}"


def line_key(queue: str, project: str) -> str:
    """List: ids of one project's jobs that wait in a queue, in order."""
    return f"car:line:{queue}:{project}"


def turns_key(queue: str) -> str:
    """List: the projects with a line in a queue; who comes next stands first."""
    return f"car:turns:{queue}"


def worker_key(name: str) -> str:
    """String with a worker's report as JSON; expires when the worker is silent."""
    return f"car:worker:{name}"


def minute_key(minute: int) -> str:
    """Hash with what was finished within one minute, numbered since the epoch."""
    return f"car:minute:{minute}"


def taken_key(queue: str) -> str:
    """Sorted set: job id -> when the sweep first saw it between this queue and its start."""
    return f"car:taken:{queue}"


def corrections_key(project: int) -> str:
    """Hash: task -> what annotators changed there, compressed (see `backend.corrections.records`)."""
    return f"car:corrections:{project}"


def corrected_key(project: int) -> str:
    """Sorted set: task -> when its newest annotation was submitted."""
    return f"car:corrected:{project}"


def annotations_key(project: int) -> str:
    """Hash: annotation -> its task, for annotations whose correction is kept."""
    return f"car:annotations:{project}"


def scores_key(project: int, version: str) -> str:
    """Hash: task -> the scores of all labels, packed; its field `labels` names them in that order."""
    return f"car:scores:{project}:{version}"


def held_key(project: int, version: str) -> str:
    """Hash: task -> the fingerprint of the job whose prediction Label Studio holds (see `backend.provenance`)."""
    return f"car:held:{project}:{version}"


def calibration_key(project: int) -> str:
    """String with the newest proposal for a project's thresholds (see `backend.corrections.calibration`)."""
    return f"car:calibration:{project}"


def connect(url: str, *, patient: bool) -> Redis:
    """A client for `url`; nothing is sent yet.

    `patient` is for workers and couriers, which block on Redis and outlive its restarts. The web process is not
    patient: it would rather answer "not ready" within a second.
    """
    if patient:
        client = Redis.from_url(url, socket_connect_timeout=5, socket_timeout=30, health_check_interval=30)
    else:
        client = Redis.from_url(
            url, socket_connect_timeout=0.5, socket_timeout=0.8, retry=Retry(NoBackoff(), 0), max_connections=300
        )
    pool = client.connection_pool
    pool.connection_class = type("Connection", (_LeavesReplicas, pool.connection_class), {})
    return client


class _LeavesReplicas:
    """A connection to be made anew after Redis called itself a replica: its address may lead to another one by now.

    After a failover a connection stays with the Redis that it was made to, which may go on as a read-only replica.
    """

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """See `redis.connection.Connection`; the pool closes the connection when it comes back."""
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except ResponseError as error:
            if "READONLY" in f"{error.status_code} {error}":
                self.mark_for_reconnect()  # type: ignore[attr-defined]
            raise


def text(value: object) -> str:
    """Redis answers bytes; everything that we read as text is UTF-8."""
    return value.decode() if isinstance(value, bytes) else str(value)
