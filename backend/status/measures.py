"""How long jobs take: workers add each finished one to histograms and to its minute's sums, all kept in Redis.

So the figures are whole whichever process is asked, and outlive every one of them.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from redis import Redis

from backend import store
from backend.store import text

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
"""Upper bounds of the histograms' buckets in seconds; beyond the last one there is one more, without a bound."""
JOB = "job"
"""The name under which the whole job is measured, from the moment a worker has it until its result is kept."""
STAGES = ("fetch", "trunk", "texts", "proposals", "classifier", "masks", "encode", "keep", JOB)
"""The stages that are known, in their order; the model may have others."""
MINUTES = 60
"""So many minutes are looked back at; Redis forgets them soon after."""


@dataclass(frozen=True)
class Histogram:
    """Durations of one stage: how many fell into each bucket (one more than `BOUNDS`), and their sum in seconds."""

    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Seconds that one took on average, None when there was none."""
        return self.total / self.count if self.count else None

    def cumulative(self) -> list[tuple[str, int]]:
        """(upper bound, how many were not longer), the last bound being "+Inf": Prometheus's form."""
        bounds = [*(str(float(bound)) for bound in BOUNDS), "+Inf"]
        return [(bound, sum(self.counts[: at + 1])) for at, bound in enumerate(bounds)]


@dataclass(frozen=True)
class Minute:
    """What was finished within one minute of the clock: images, and the seconds that workers spent on them."""

    images: int
    seconds: float


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time that the block takes to `seconds[stage]`."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - begun


def record(redis: Redis, job: float, stages: Mapping[str, float], now: float | None = None) -> None:
    """Add one finished job: its seconds, and those of each of its stages; one round trip."""
    minute = store.minute_key(int((time.time() if now is None else now) // 60))
    with redis.pipeline(transaction=False) as pipe:
        for stage, seconds in {**stages, JOB: job}.items():
            pipe.hincrby(store.STAGES, f"{stage}|{bisect_left(BOUNDS, seconds)}", 1)
            pipe.hincrbyfloat(store.STAGES, f"{stage}|sum", seconds)
        pipe.hincrby(minute, "images", 1)
        pipe.hincrbyfloat(minute, "seconds", job)
        pipe.expire(minute, 2 * 60 * MINUTES)
        pipe.execute()


def histograms(fields: Mapping[bytes, bytes]) -> dict[str, Histogram]:
    """All of `store.STAGES`, by stage, in the order in which a job goes through them; the whole job comes last."""
    counts: dict[str, dict[str, float]] = defaultdict(dict)
    for key, value in fields.items():
        stage, _, bucket = text(key).rpartition("|")
        counts[stage][bucket] = float(value)
    buckets = range(len(BOUNDS) + 1)
    return {
        stage: Histogram(tuple(int(found.get(str(at), 0)) for at in buckets), found.get("sum", 0.0))
        for stage, found in sorted(counts.items(), key=lambda one: (_place(one[0]), one[0]))
    }


def _place(stage: str) -> int:
    return STAGES.index(stage) if stage in STAGES else len(STAGES) - 1


def minute_keys(now: float) -> list[str]:
    """The keys of the last `MINUTES` minutes, oldest first; the last one is the present one, which is not over."""
    this = int(now // 60)
    return [store.minute_key(minute) for minute in range(this - MINUTES + 1, this + 1)]


def minute(fields: Mapping[bytes, bytes]) -> Minute:
    """One minute as it is kept; nothing at all is an idle one."""
    return Minute(int(fields.get(b"images", 0)), float(fields.get(b"seconds", 0.0)))
