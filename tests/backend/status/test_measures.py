from __future__ import annotations

import pytest
from redis import Redis

from backend import store
from backend.status import measures
from backend.status.measures import BOUNDS, Histogram, Minute
from backend.status.overview import rate


def test_finished_jobs_add_up_whoever_records_them(redis: Redis) -> None:
    now = 1_700_000_000.0
    measures.record(redis, 1.5, {"fetch": 0.03, "masks": 1.0}, now)
    measures.record(redis, 3.5, {"fetch": 0.05, "masks": 2000.0}, now)
    found = measures.histograms(redis.hgetall(store.STAGES))
    assert list(found) == ["fetch", "masks", "job"], "in the order of the work"
    assert found["job"].mean == 2.5
    assert (found["job"].count, found["job"].total) == (2, 5.0)
    assert dict(found["fetch"].cumulative()) == {str(float(b)): 2 if b >= 0.05 else 0 for b in BOUNDS} | {"+Inf": 2}
    assert found["masks"].cumulative()[-2:] == [("1800.0", 1), ("+Inf", 2)], "1 s is at most 1 s; 2000 s is beyond all"
    (key,) = redis.keys("car:minute:*")
    assert measures.minute(redis.hgetall(key)) == Minute(2, 5.0)
    assert key.decode() == measures.minute_keys(now)[-1]
    assert 0 < redis.ttl(key) <= 7200


def test_a_stage_may_have_several_parts() -> None:
    seconds = {"fetch": 1.0}
    with measures.timed(seconds, "fetch"), measures.timed(seconds, "decode"):
        pass
    assert 1.0 < seconds["fetch"] < 2.0
    assert 0 <= seconds["decode"] <= seconds["fetch"]


def test_a_histogram_of_nothing() -> None:
    assert measures.histograms({}) == {}
    nothing = Histogram((0,) * (len(BOUNDS) + 1), 0.0)
    assert (nothing.cumulative()[-1], nothing.mean) == (("+Inf", 0), None)


IDLE = Minute(0, 0.0)


@pytest.mark.parametrize(
    ("minutes", "into_the_minute", "expected"),
    [
        ([IDLE] * 60, 30, (0.0, None)),
        ([*[IDLE] * 59, Minute(5, 10.0)], 30, (10.0, 2.0)),  # the first half minute
        ([*[IDLE] * 58, Minute(6, 12.0), Minute(3, 6.0)], 30, (6.0, 2.0)),
        ([*[IDLE] * 58, Minute(6, 12.0), IDLE], 30, (4.0, 2.0)),
        ([Minute(60, 6.0)] * 60, 0, (60 * 660 / 601, 0.1)),  # ten minutes and a second of the present one
        ([*[Minute(60, 6.0)] * 49, *[IDLE] * 11], 30, (0.0, None)),  # longer ago than ten minutes
    ],
)
def test_the_rate_is_that_of_lately(
    minutes: list[Minute], into_the_minute: float, expected: tuple[float, float | None]
) -> None:
    per_minute, per_image = rate(minutes, 60 * 1000 + into_the_minute)
    assert (per_minute, per_image) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
