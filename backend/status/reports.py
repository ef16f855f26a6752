"""What each worker tells of itself, for the status page and /metrics: kept in Redis for as long as it lives."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from backend import store
from backend.pulse import repeated
from backend.store import text

log = logging.getLogger(__name__)

REPORT_SECONDS = 5.0
ALIVE_SECONDS = 60
"""A worker that has not reported for this long is dead."""
BROKEN_SECONDS = 24 * 3600
"""How long the last words of a worker that cannot work are kept."""


class Doing(StrEnum):
    """What a worker does now."""

    LOADING = "loading"
    IDLE = "idle"
    WORKING = "working"
    BROKEN = "broken"
    """It has ended, because it cannot work; `error` says why."""


@dataclass(frozen=True)
class WorkerReport:
    """One worker. Times are seconds since the epoch, by its own clock; memory is in bytes."""

    name: str
    host: str
    pid: int
    doing: Doing
    since: float
    preset: str
    version: str
    """The model version that it would write for an empty config: what must be the same everywhere."""
    device: str = ""
    job: str = ""
    memory: int = 0
    """Resident memory of the process."""
    device_memory: int = 0
    """What the process holds of the GPU's memory."""
    device_memory_total: int = 0
    images: int = 0
    """Images finished since it started."""
    error: str = ""


@dataclass(frozen=True)
class Device:
    """A device and its memory in bytes, as a worker sees it; no memory is known of a CPU."""

    name: str
    used: int = 0
    total: int = 0


class Reporter:
    """A worker's own: keeps its report in Redis up to date. A Redis that is away costs a report, nothing else."""

    def __init__(self, redis: Redis, preset: str, version: str):
        self.redis = redis
        self.device: Callable[[], Device] = lambda: Device("")
        """Asked at each report; the worker puts its own in place when the weights are loaded."""
        self._lock = threading.RLock()  # two threads change the report: the one that works, and the one that reports
        self._report = WorkerReport(
            uuid.uuid4().hex, socket.gethostname(), os.getpid(), Doing.LOADING, time.time(), preset, version
        )

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Report now, every `REPORT_SECONDS`, and for the last time when the block is left."""
        self.send()
        try:
            with repeated(self.send, REPORT_SECONDS, "reporter"):
                yield
        finally:
            self._leave()

    def begin(self, job_id: str) -> None:
        """The worker starts with a job."""
        self._now(doing=Doing.WORKING, job=job_id)

    def rest(self, finished: bool = False) -> None:
        """The worker has no job (any more); `finished` counts the image that it had."""
        with self._lock:
            self._now(doing=Doing.IDLE, job="", images=self._report.images + finished)

    def broken(self, error: str) -> None:
        """The worker is about to end, because it cannot work."""
        self._now(doing=Doing.BROKEN, job="", error=error)

    def _now(self, **changes: object) -> None:
        with self._lock:
            self._report = replace(self._report, since=time.time(), **changes)  # type: ignore[arg-type]
            self.send()

    def send(self) -> None:
        """Put the report into Redis."""
        with self._lock, suppress(RedisError):
            device = self.device()
            self._report = replace(
                self._report,
                memory=resident_memory(),
                device=device.name,
                device_memory=device.used,
                device_memory_total=device.total,
            )
            seconds = BROKEN_SECONDS if self._report.doing is Doing.BROKEN else ALIVE_SECONDS
            with self.redis.pipeline() as pipe:
                pipe.sadd(store.WORKERS, self._report.name)
                pipe.set(store.worker_key(self._report.name), json.dumps(asdict(self._report)), ex=seconds)
                pipe.execute()

    def _leave(self) -> None:
        if self._report.doing is Doing.BROKEN:
            return
        with suppress(RedisError), self.redis.pipeline() as pipe:
            pipe.srem(store.WORKERS, self._report.name)
            pipe.delete(store.worker_key(self._report.name))
            pipe.execute()


def resident_memory() -> int:
    """Bytes of memory that this process holds; 0 where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def read(redis: Redis) -> tuple[WorkerReport, ...]:
    """The reports of all workers that live or died saying why, by host and process id; forgets the others."""
    names = [text(name) for name in redis.smembers(store.WORKERS)]
    if not names:
        return ()
    found = dict(zip(names, redis.mget([store.worker_key(name) for name in names]), strict=True))
    silent = [name for name, report in found.items() if report is None]
    if silent:
        with suppress(ResponseError):  # a Redis that refuses writes can still be read
            redis.srem(store.WORKERS, *silent)
    reports = (parsed(report) for report in found.values() if report is not None)
    return tuple(sorted((one for one in reports if one), key=lambda one: (one.host, one.pid, one.name)))


def parsed(report: bytes | str) -> WorkerReport | None:
    """A report as it is kept; None when another release wrote it so that it cannot be read."""
    known = {field.name for field in fields(WorkerReport)}
    try:
        said = json.loads(report)
        return WorkerReport(**{**{key: said[key] for key in known & said.keys()}, "doing": Doing(said["doing"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("a worker's report cannot be read, it is of another release: %s", error)
        return None


def alive(reports: Iterable[WorkerReport]) -> list[WorkerReport]:
    """Those that work, wait for work, or load their weights."""
    return [report for report in reports if report.doing is not Doing.BROKEN]
