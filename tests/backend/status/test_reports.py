from __future__ import annotations

import json
import os
import threading
import time

import pytest
from redis import Redis

from backend import store
from backend.status import reports
from backend.status.reports import Device, Doing, Reporter, WorkerReport
from tests.conftest import RedisProcess


@pytest.fixture
def reporter(redis: Redis) -> Reporter:
    return Reporter(redis, "demo", "car-demo-1-2")


def only(redis: Redis) -> WorkerReport:
    (report,) = reports.read(redis)
    return report


def test_a_worker_tells_what_it_does(redis: Redis, reporter: Reporter) -> None:
    assert reports.read(redis) == ()
    with reporter.reporting():
        first = only(redis)
        assert (first.doing, first.preset, first.version, first.pid) == ("loading", "demo", "car-demo-1-2", os.getpid())
        assert first.memory > 10 * 2**20
        reporter.device = lambda: Device("H200 (cuda:0)", 5, 9)
        reporter.rest()
        reporter.begin("p1-t7-ab")
        working = only(redis)
        assert (working.doing, working.job, working.images) == (Doing.WORKING, "p1-t7-ab", 0)
        assert (working.device, working.device_memory, working.device_memory_total) == ("H200 (cuda:0)", 5, 9)
        assert abs(working.since - time.time()) < 60
        reporter.rest(finished=True)
        assert (only(redis).doing, only(redis).job, only(redis).images) == (Doing.IDLE, "", 1)
    assert reports.read(redis) == (), "who has left is not waited for"
    assert redis.keys("car:worker*") == []


def test_it_goes_on_reporting_by_itself(redis: Redis, reporter: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "REPORT_SECONDS", 0.01)
    with reporter.reporting():
        redis.flushall()
        until = time.monotonic() + 10
        while not reports.read(redis):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_slow_report_takes_nothing_back(redis: Redis, reporter: Reporter) -> None:
    asked, go = threading.Event(), threading.Event()

    def slow() -> Device:
        asked.set()
        assert go.wait(60)
        return Device("cpu")

    reporter.device = slow
    threads = [threading.Thread(target=reporter.send)]
    threads[0].start()
    assert asked.wait(60)
    threads.append(threading.Thread(target=reporter.begin, args=("p1-t7-ab",)))
    threads[1].start()
    time.sleep(0.05)
    go.set()
    for thread in threads:
        thread.join()
    assert (only(redis).doing, only(redis).job) == (Doing.WORKING, "p1-t7-ab")


def test_the_silent_are_forgotten(redis: Redis, reporter: Reporter) -> None:
    reporter.send()
    assert 0 < redis.ttl(store.worker_key(only(redis).name)) <= reports.ALIVE_SECONDS
    redis.delete(store.worker_key(only(redis).name))
    assert reports.read(redis) == ()
    assert redis.scard(store.WORKERS) == 0


def test_the_last_words_of_a_broken_worker_stay(redis: Redis, reporter: Reporter) -> None:
    with reporter.reporting():
        reporter.broken("weights are missing")
    report = only(redis)
    assert (report.doing, report.error) == (Doing.BROKEN, "weights are missing")
    assert reports.alive([report]) == []
    assert redis.ttl(store.worker_key(report.name)) > reports.ALIVE_SECONDS


def test_redis_away_costs_a_report_and_nothing_else(own_redis: RedisProcess) -> None:
    reporter = Reporter(Redis.from_url(own_redis.url), "demo", "v")
    own_redis.stop()
    with reporter.reporting():
        reporter.begin("p1-t7-ab")
        reporter.rest(finished=True)
        own_redis.start()
        reporter.send()
        with Redis.from_url(own_redis.url) as redis:
            assert only(redis).images == 1


@pytest.mark.parametrize(
    ("report", "readable"),
    [
        (b"not json", False),
        (b"[]", False),
        (b'{"doing": "sleeping"}', False),
        (b'{"name": "a", "host": "h", "pid": 1, "doing": "idle", "since": 1, "preset": "p", "version": "v"}', True),
        (
            b'{"name": "a", "host": "h", "pid": 1, "doing": "idle", "since": 1, "preset": "p", "version": "v", "x": 1}',
            True,
        ),
    ],
)
def test_reports_of_other_releases(report: bytes, readable: bool) -> None:
    found = reports.parsed(report)
    assert (found is not None) is readable
    if found:
        assert found.pid == json.loads(report)["pid"]
