"""Jobs: one image to segment for one task and one model version. Ids, states, enqueueing without doubles.

The truth about a job is its *ticket*, a hash in Redis that changes only in atomic steps (Lua). RQ carries the job to
a worker; what RQ forgets (a worker killed at the wrong moment, a lost list) the courier's sweep finds by comparing
the open tickets with RQ and gives back.

    (none) --request--> queued --start--> running --finish--> done --(delivered, CAR_RESULT_DAYS)--> (none)
                          ^                  |
                          |<---- retry ------|---- fail ----> failed --request, within the budget--> queued
"""

from __future__ import annotations

import hashlib
import json
import random
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, cast

from redis import Redis
from rq import Queue, Retry
from rq.job import Job as RQJob
from rq.registry import FailedJobRegistry, ScheduledJobRegistry
from rq.serializers import JSONSerializer

from backend import store
from backend.project import LabelingConfig
from backend.settings import Settings
from backend.store import text

SEGMENT = "backend.worker.segment"
"""The one function that a queue may name; the web process only knows it by name."""
TOGETHER = 100
"""Jobs asked for in one round trip: enough to be quick, few enough that nobody else waits for Redis."""


class SegmentJob(RQJob):  # type: ignore[misc]
    """An RQ job that can do nothing but segment, whatever somebody wrote into Redis.

    RQ calls any function that a job names, callbacks and web addresses included; ours are one function and none.
    """

    def perform(self) -> Any:
        """Run the job. Raises PermissionError for another function than ours."""
        if self.func_name != SEGMENT:
            raise PermissionError(f"jobs may only call {SEGMENT}, this one wants {self.func_name}")
        return super().perform()

    def execute_success_callback(self, *args: Any) -> None:
        """Call nothing."""

    def execute_failure_callback(self, *args: Any) -> None:
        """Call nothing."""

    def send_webhooks(self, *args: Any, **kwargs: Any) -> None:
        """Call nobody."""


class State(StrEnum):
    """What a ticket says, and what `Jobs.request` answers."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    """Too many jobs are open; nothing was recorded."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to know, as JSON in the queue. It carries no token and no weights' path."""

    project: int
    task: int
    image: str
    config: LabelingConfig
    version: str

    def id_at(self, studio_url: str) -> str:
        """The job's id: the same for the same task, image and version of one Label Studio, however often asked."""
        key = json.dumps([studio_url, self.project, self.task, self.image, self.version])
        return f"p{self.project}-t{self.task}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the inverse."""
        return {**vars(self), "config": _plain(self.config)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """Inverse of `to_json`."""
        return cls(**{**data, "config": LabelingConfig.from_json(data["config"])})


@lru_cache(maxsize=64)
def _plain(config: LabelingConfig) -> dict[str, Any]:
    """A config as JSON values: thousands of tasks come with the same one."""
    return config.to_json()


# KEYS ticket, result, open, failed. ARGV job id, now, retry budget, limit of open jobs, job as JSON.
# -> "enqueue" when the caller must put it on a queue, else the state.
_REQUEST = """
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'queued' or state == 'running' then return state end
if state == 'done' and redis.call('EXISTS', KEYS[2]) == 1 then return state end
if state == 'failed' and tonumber(redis.call('HGET', KEYS[1], 'failures') or '0') > tonumber(ARGV[3]) then
  return state
end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[4]) then return 'refused' end
redis.call('HSET', KEYS[1], 'state', 'queued', 'asked', ARGV[2], 'job', ARGV[5])
redis.call('HDEL', KEYS[1], 'answered', 'delivered', 'pushing')
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
return 'enqueue'
"""

# KEYS ticket, result, open, outbox, failed. ARGV job id, now, result, found labels.
# The mask goes to the outbox at once, or when the request that waits for it would have given up.
_FINISH = """
redis.call('SET', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[1], 'state', 'done', 'finished', ARGV[2], 'found', ARGV[4])
redis.call('HDEL', KEYS[1], 'error')
redis.call('PERSIST', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
local due = math.max(tonumber(ARGV[2]), tonumber(redis.call('HGET', KEYS[1], 'hold') or '0'))
redis.call('ZADD', KEYS[4], due, ARGV[1])
"""

# KEYS ticket. ARGV state to be in, error. A worker given up for dead may have finished all the same.
_RETRY = """
if redis.call('HGET', KEYS[1], 'state') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'state', 'queued', 'error', ARGV[2])
end
"""

# KEYS ticket, open, failed, counters. ARGV job id, now, error, seconds to live.
_FAIL = """
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then return end
redis.call('HSET', KEYS[1], 'state', 'failed', 'finished', ARGV[2], 'error', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'failures', 1)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('HINCRBY', KEYS[4], 'failed', 1)
"""

# KEYS batch list, interactive list, RQ's hash of the job. ARGV job id. Somebody waits for a task of the night's batch.
_PROMOTE = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then
  redis.call('LPUSH', KEYS[2], ARGV[1])
  redis.call('HSET', KEYS[3], 'origin', 'interactive')
end
"""


class Jobs:
    """The tickets and queues of one Redis."""

    def __init__(self, redis: Redis, settings: Settings):
        self.redis = redis
        self.settings = settings
        self.queues = {
            name: Queue(name, connection=redis, serializer=JSONSerializer, job_class=SegmentJob)
            for name in store.QUEUES
        }
        self._finish = redis.register_script(_FINISH)
        self._retry = redis.register_script(_RETRY)
        self._fail = redis.register_script(_FAIL)
        self._promote = redis.register_script(_PROMOTE)
        self.keep_seconds = int(settings.car_result_days * 86_400)

    def id_of(self, job: Job) -> str:
        """The id of `job` for this backend's Label Studio."""
        return job.id_at(self.settings.label_studio_url)

    def request(self, job: Job, queue: str) -> State:
        """Ask for `job`: enqueue it unless it is open, done, or failed too often; say where it stands."""
        return self.request_many([job], queue)[0]

    def request_many(self, jobs: Sequence[Job], queue: str) -> list[State]:
        """`request` for each of many, with two round trips per `TOGETHER` of them."""
        ids = [self.id_of(job) for job in jobs]
        wanted = list(dict(zip(ids, jobs, strict=True)).items())
        states: dict[str, State] = {}
        for at in range(0, len(wanted), TOGETHER):
            states |= self._request_together(dict(wanted[at : at + TOGETHER]), queue)
        return [states[job_id] for job_id in ids]

    def _request_together(self, jobs: Mapping[str, Job], queue: str) -> dict[str, State]:
        budget, limit = self.settings.car_retries, self.settings.car_queue_limit
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id, job in jobs.items():
                keys = [store.ticket_key(job_id), store.result_key(job_id), store.OPEN, store.FAILED]
                # Not by its hash: a registered script in a pipeline costs a round trip to ask whether Redis knows it.
                pipe.eval(_REQUEST, len(keys), *keys, job_id, time.time(), budget, limit, json.dumps(job.to_json()))
            answers = dict(zip(jobs, map(text, pipe.execute()), strict=True))
        self._enqueue({job_id: job for job_id, job in jobs.items() if answers[job_id] == "enqueue"}, queue)
        if queue == store.INTERACTIVE:
            batch, interactive = (self.queues[name].key for name in (store.BATCH, store.INTERACTIVE))
            for job_id in (one for one in jobs if answers[one] == State.QUEUED):
                self._promote([batch, interactive, RQJob.key_for(job_id)], [job_id])
        return {one: State.QUEUED if answer == "enqueue" else State(answer) for one, answer in answers.items()}

    def enqueue(self, job_id: str, job: Job, queue: str) -> None:
        """Put a job with an open ticket on a queue."""
        self._enqueue({job_id: job}, queue)

    def _enqueue(self, jobs: Mapping[str, Job], queue: str) -> None:
        if not jobs:
            return
        retries = self.settings.car_retries
        with self.redis.pipeline() as pipe:
            for job_id, job in jobs.items():
                self.queues[queue].enqueue_call(
                    SEGMENT,
                    args=(job.to_json(),),
                    job_id=job_id,
                    timeout=self.settings.car_job_timeout,
                    result_ttl=60,
                    failure_ttl=self.keep_seconds,
                    description=f"task {job.task} of project {job.project}",
                    retry=Retry(max=retries, interval=self._pauses()) if retries else None,
                    pipeline=pipe,
                )
            pipe.zrem(FailedJobRegistry(queue=self.queues[queue]).key, *jobs)
            pipe.execute()

    def _pauses(self) -> list[int]:
        """Seconds before each further try, spread a little: what failed together need not come back together."""
        pauses = self.settings.car_retry_seconds or (0,)
        return [round(pause * random.uniform(0.85, 1.15)) for pause in pauses]

    def start(self, job_id: str) -> None:
        """A worker begins."""
        self.redis.hset(store.ticket_key(job_id), mapping={"state": State.RUNNING, "started": time.time()})

    def retry(self, job_id: str, error: str) -> None:
        """An attempt failed with something that may pass, or its worker died; RQ will run it again.

        A job that is not running (another attempt has finished it) stays as it is.
        """
        self._retry([store.ticket_key(job_id)], [State.RUNNING, error])

    def finish(self, job_id: str, prediction: Mapping[str, Any], found: Iterable[str]) -> None:
        """Keep a finished prediction and hand it to the courier, in one step."""
        data = zlib.compress(json.dumps(prediction, separators=(",", ":")).encode(), level=6)
        keys = [store.ticket_key(job_id), store.result_key(job_id), store.OPEN, store.OUTBOX, store.FAILED]
        self._finish(keys, [job_id, time.time(), data, ", ".join(found)])

    def fail(self, job_id: str, error: str) -> None:
        """Give a job up; it stays listed with its reason and may be asked for again within the budget.

        Not so a job that another attempt has finished.
        """
        keys = [store.ticket_key(job_id), store.OPEN, store.FAILED, store.COUNTERS]
        self._fail(keys, [job_id, time.time(), error, self.keep_seconds])

    def requeue(self, job_id: str) -> bool:
        """Give a failed job all its tries again and queue it; False when it is not (or no longer) known as failed."""
        job = self.job(job_id)
        if job is None or self.state(job_id) is not State.FAILED:
            return False
        self.redis.hdel(store.ticket_key(job_id), "failures")
        return self.request(job, store.BATCH) is State.QUEUED

    def forget(self, job_id: str) -> None:
        """Take a job out of everything, as though nobody had asked for it; a worker that is at it is not stopped."""
        with self.redis.pipeline() as pipe:
            for queue in self.queues.values():
                pipe.lrem(queue.key, 0, job_id)
                pipe.zrem(ScheduledJobRegistry(queue=queue).key, job_id)
                pipe.zrem(FailedJobRegistry(queue=queue).key, job_id)
            pipe.delete(store.ticket_key(job_id), store.result_key(job_id), RQJob.key_for(job_id))
            pipe.zrem(store.OPEN, job_id)
            pipe.zrem(store.FAILED, job_id)
            pipe.zrem(store.OUTBOX, job_id)
            pipe.execute()

    def ticket(self, job_id: str) -> dict[str, str]:
        """All fields of a ticket, {} when there is none."""
        return {text(key): text(value) for key, value in self.redis.hgetall(store.ticket_key(job_id)).items()}

    def job(self, job_id: str) -> Job | None:
        """The job of a ticket, None when it is forgotten."""
        data = self.redis.hget(store.ticket_key(job_id), "job")
        return Job.from_json(json.loads(data)) if data else None

    def state(self, job_id: str) -> State | None:
        """The state of a ticket, None when there is none."""
        value = self.redis.hget(store.ticket_key(job_id), "state")
        return State(text(value)) if value else None

    def result(self, job_id: str) -> dict[str, Any] | None:
        """The finished prediction as Label Studio wants it, None when there is none (any more)."""
        data = self.redis.get(store.result_key(job_id))
        return json.loads(zlib.decompress(cast(bytes, data))) if data else None

    def open_ids(self, older_than: float = 0.0) -> list[str]:
        """Ids of jobs that are queued or running and were asked for at least `older_than` seconds ago."""
        return [text(job_id) for job_id in self.redis.zrangebyscore(store.OPEN, 0, time.time() - older_than)]

    def failures(self, limit: int | None = 20) -> Iterator[tuple[str, dict[str, str]]]:
        """The newest failed jobs with their tickets, all of them without a limit."""
        for job_id in map(text, self.redis.zrevrange(store.FAILED, 0, -1 if limit is None else limit - 1)):
            ticket = self.ticket(job_id)
            if ticket:
                yield job_id, ticket
            else:  # kept for CAR_RESULT_DAYS, then forgotten
                self.redis.zrem(store.FAILED, job_id)
