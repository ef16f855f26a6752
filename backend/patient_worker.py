"""RQ's worker without its haste: it waits for a Redis that is away or refuses writes, and registers again.

RQ 2.12's worker ends at the first command that Redis refuses, and an idle one never notices that Redis has forgotten
it. With weights to load, ending is dear; and whoever opens a task waits for its mask only while a worker is registered.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, StopRequested
from rq.executions import Execution
from rq.job import Job as RQJob
from rq.worker.base import WorkerStatus
from rq.worker_registration import WORKERS_BY_QUEUE_KEY, register

from backend.queue.queues import TakingQueue
from backend.trouble import patiently

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15


class PatientWorker(SimpleWorker):  # type: ignore[misc]
    """A SimpleWorker that outlives what Redis does, in mid-job and idle. SIGTERM ends it also while it waits."""

    execution: Execution | None
    _stop_requested: bool

    @property
    def dequeue_timeout(self) -> int:
        """Seconds between two heartbeats of an idle worker."""
        return HEARTBEAT_SECONDS

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """See `rq.worker.BaseWorker`; signals are heeded from the start, as registering may have to wait for Redis."""
        self._install_signal_handlers()
        try:
            return bool(super().work(*args, **kwargs))
        except StopRequested:
            return False

    def register_birth(self) -> None:
        """See `rq.worker.BaseWorker`."""
        patiently(super().register_birth)

    def subscribe(self) -> None:
        """See `rq.worker.BaseWorker`."""
        patiently(super().subscribe)

    def check_for_suspension(self, burst: bool) -> None:
        """See `rq.worker.BaseWorker`."""
        check = super().check_for_suspension
        patiently(lambda: check(burst))

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """See `rq.worker.BaseWorker`."""
        change = super().set_state
        if pipeline is None:
            patiently(lambda: change(state))
        else:
            change(state, pipeline)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Show that this worker lives, and register it again when Redis has forgotten it."""
        beat = super().heartbeat
        if pipeline is None:
            patiently(lambda: beat(timeout))
            patiently(self.stay_registered)
        else:
            beat(timeout, pipeline)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[RQJob, Queue] | None:
        """Wait for a job, with a heartbeat every `timeout` seconds; None: return None when there is none now."""
        self.set_state(WorkerStatus.IDLE)
        while True:
            with suppress(DequeueTimeout):
                return patiently(lambda: self._dequeue(timeout))

    def _dequeue(self, timeout: int | None) -> tuple[RQJob, Queue] | None:
        super().heartbeat()
        self.stay_registered()
        found: tuple[RQJob, Queue] | None = self.queue_class.dequeue_any(
            self._ordered_queues,
            timeout,
            connection=self.connection,
            job_class=self.job_class,
            serializer=self.serializer,
        )
        if found is not None:
            found[0].redis_server_version = self.get_redis_server_version()  # else each job asks for it
        return found

    def stay_registered(self) -> None:
        """Register this worker again when Redis has lost some of it, as after FLUSHALL or a failover without data."""
        with self.connection.pipeline(transaction=False) as pipe:
            for registered in (self.redis_workers_keys, *(WORKERS_BY_QUEUE_KEY % one for one in self.queue_names())):
                pipe.sismember(registered, self.key)
            pipe.hexists(self.key, "birth")
            if all(pipe.execute()):
                return
        fields = {**self.serialize(), "state": self.get_state()}
        if (execution := self.execution) is not None:
            fields["current_job"] = execution.job_id
        with self.connection.pipeline() as pipe:
            pipe.hset(self.key, mapping=fields)
            register(self, pipe)
            pipe.expire(self.key, self.worker_ttl + 60)
            pipe.execute()
        log.warning("Redis had lost this worker's registration; it is registered again")

    def put_back(self, job: RQJob, queue: TakingQueue) -> None:
        """Queue a job again that this worker has taken, from where it has got to; that costs none of its tries."""
        with self.connection.pipeline() as pipe:
            self.set_current_job_id(None, pipe)
            if self.execution is not None:
                self.execution.delete(job, pipe)
            pipe.execute()
        if not queue.give_back(job.id):  # it was begun
            queue._enqueue_job(job)
        self.execution = None

    def set_shutdown_requested_date(self) -> None:
        """Note in Redis that this worker was told to stop, if it can be: that runs within a signal's handler."""
        with suppress(RedisError):
            super().set_shutdown_requested_date()

    def teardown(self) -> None:
        """See `rq.worker.BaseWorker`; a registration that cannot be taken back expires."""
        with suppress(RedisError):
            super().teardown()

    def _set_ip_address(self, connection: Redis) -> None:
        ask = super()._set_ip_address
        patiently(lambda: ask(connection))

    def _pubsub_exception_handler(self, exc: Exception, pubsub: Any, pubsub_thread: Any) -> None:
        """Wait for Redis; what stands in the log about it is not said a second time by this thread."""
        if not isinstance(exc, RedisError):
            raise exc
        time.sleep(2)
