"""The tickets and queues of jobs: states, enqueueing without doubles.

The truth about a job is its *ticket*, a hash in Redis that changes only in atomic steps (Lua). RQ carries the job to
a worker; what RQ forgets (a worker killed at the wrong moment, a lost list) the courier's sweep finds by comparing
the open tickets with RQ and gives back.

    (none) --request--> queued --start--> running --finish--> done --(delivered, CAR_RESULT_DAYS)--> (none)
                          ^                  |
                          |<---- retry ------|---- fail ----> failed --request, within the budget--> queued
"""

from __future__ import annotations

import json
import random
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from redis import Redis
from rq import Retry
from rq.job import Job as RQJob
from rq.registry import FailedJobRegistry, ScheduledJobRegistry
from rq.serializers import JSONSerializer

from backend import store
from backend.queue import scripts
from backend.queue.failures import Failure
from backend.queue.job import SEGMENT, Job, SegmentJob, State, project_of
from backend.queue.queues import TakingQueue
from backend.settings import Settings
from backend.store import text

__all__ = ["Job", "Jobs", "SegmentJob", "State"]

TOGETHER = 100
"""Jobs asked for in one round trip: enough to be quick, few enough that nobody else waits for Redis."""
ASKED_SECONDS = 600
"""How long the answer to an annotator is kept, for the same question asked again."""


class Jobs:
    """The tickets and queues of one Redis."""

    def __init__(self, redis: Redis, settings: Settings):
        self.redis = redis
        self.settings = settings
        self.queues = {
            name: TakingQueue(name, connection=redis, serializer=JSONSerializer, job_class=SegmentJob)
            for name in store.QUEUES
        }
        self._start = redis.register_script(scripts.START)
        self._finish = redis.register_script(scripts.FINISH)
        self._retry = redis.register_script(scripts.RETRY)
        self._fail = redis.register_script(scripts.FAIL)
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
                what: list[str | int] = [json.dumps(job.to_json()), job.version, int(not job.is_delivered)]
                pipe.eval(scripts.REQUEST, len(keys), *keys, job_id, time.time(), budget, limit, *what)
            answers = dict(zip(jobs, map(text, pipe.execute()), strict=True))
        self._enqueue({job_id: job for job_id, job in jobs.items() if answers[job_id] == "enqueue"}, queue)
        if queue == store.INTERACTIVE:
            for job_id in (one for one in jobs if answers[one] == State.QUEUED):
                self.queues[store.BATCH].promote(job_id, self.queues[store.INTERACTIVE])
        return {one: State.QUEUED if answer == "enqueue" else State(answer) for one, answer in answers.items()}

    def enqueue(self, job_id: str, job: Job, queue: str) -> None:
        """Put a job with an open ticket on a queue."""
        self._enqueue({job_id: job}, queue)

    def _enqueue(self, jobs: Mapping[str, Job], queue: str) -> None:
        if not jobs:
            return
        with self.redis.pipeline() as pipe:
            for job_id, job in jobs.items():
                retries = self.settings.car_retries if job.ask is None else 0  # who asked would be gone
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

    def start(self, job_id: str) -> bool:
        """A worker begins; False when there is nothing to begin, because the job was cancelled."""
        return bool(self._start([store.ticket_key(job_id)], [time.time()]))

    def retry(self, job_id: str, error: str) -> None:
        """An attempt failed with something that may pass, or its worker died; RQ will run it again.

        A job that is not running (another attempt has finished it) stays as it is.
        """
        self._retry([store.ticket_key(job_id)], [State.RUNNING, error])

    def finish(
        self,
        job_id: str,
        prediction: Mapping[str, Any],
        found: Iterable[str],
        missing: str = "",
        kind: Failure = Failure.OTHER,
        *,
        is_asked: bool = False,
    ) -> None:
        """Keep a finished prediction and hand it to the courier, in one step; an annotator's answer is kept briefly.

        `missing` says what it lacks, where one of several images could not be read: it is listed with the failed ones.
        """
        data = zlib.compress(json.dumps(prediction, separators=(",", ":")).encode(), level=6)
        keys = [store.ticket_key(job_id), store.result_key(job_id), store.OPEN, store.OUTBOX, store.FAILED]
        keys.append(store.COUNTERS)
        scores = json.dumps(found_scores(prediction))
        keep = ASKED_SECONDS if is_asked else self.keep_seconds
        self._finish(keys, [job_id, time.time(), data, ", ".join(found), scores, keep, missing, kind])

    def fail(self, job_id: str, error: str, kind: Failure = Failure.OTHER) -> None:
        """Give a job up; it stays listed with its reason and may be asked for again within the budget.

        Not so a job that another attempt has finished.
        """
        keys = [store.ticket_key(job_id), store.OPEN, store.FAILED, store.COUNTERS]
        self._fail(keys, [job_id, time.time(), error, self.keep_seconds, kind])

    def requeue(self, job_id: str) -> bool:
        """Give a failed job all its tries again and queue it; False when it is not (or no longer) known as failed.

        So it is with a prediction that lacks some images: the courier replaces it by the new one.
        """
        job, ticket = self.job(job_id), self.ticket(job_id)
        is_incomplete = ticket.get("state") == State.DONE and "error" in ticket
        if job is None or not (is_incomplete or ticket["state"] == State.FAILED):
            return False
        if is_incomplete:
            self.redis.hset(store.ticket_key(job_id), "replaces", 1)
            self.redis.delete(store.result_key(job_id))
        self.redis.hdel(store.ticket_key(job_id), "failures")
        return self.request(job, store.BATCH) is State.QUEUED

    def forget(self, job_id: str) -> None:
        """Take a job out of everything, as though nobody had asked for it; a worker that is at it is not stopped."""
        with self.redis.pipeline() as pipe:
            for queue in self.queues.values():
                pipe.lrem(queue.key, 0, job_id)
                pipe.lrem(store.line_key(queue.name, project_of(job_id)), 0, job_id)
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
        """The job of a ticket, None when it is forgotten, or was written by a release that wrote jobs otherwise."""
        data = self.redis.hget(store.ticket_key(job_id), "job")
        try:
            return Job.from_json(json.loads(data)) if data else None
        except (KeyError, TypeError):
            return None

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

    def failed_ids(self, project: int | None = None) -> list[str]:
        """Ids of the jobs, of a project or of all, that are listed as failed, the newest first."""
        ids = [text(job_id) for job_id in self.redis.zrevrange(store.FAILED, 0, -1)]
        return [job_id for job_id in ids if project in (None, int(project_of(job_id)))]

    def failures(self, limit: int | None = 20) -> Iterator[tuple[str, dict[str, str]]]:
        """The newest failed jobs with their tickets, all of them without a limit."""
        for job_id in map(text, self.redis.zrevrange(store.FAILED, 0, -1 if limit is None else limit - 1)):
            ticket = self.ticket(job_id)
            if ticket:
                yield job_id, ticket
            else:  # kept for CAR_RESULT_DAYS, then forgotten
                self.redis.zrem(store.FAILED, job_id)


def found_scores(prediction: Mapping[str, Any]) -> dict[str, float]:
    """The labels of a prediction as Label Studio stores them, each with the best score among its regions."""
    best: dict[str, float] = {}
    for region in prediction.get("result", ()):
        for label in region.get("value", {}).get(region.get("type"), ()):
            best[label] = max(best.get(label, 0.0), float(region.get("score", 0.0)))
    return best
