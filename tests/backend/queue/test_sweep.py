from __future__ import annotations

import time
from dataclasses import replace

import pytest
from redis import Redis
from rq.job import Job as RQJob
from rq.job import JobStatus
from rq.registry import ScheduledJobRegistry
from rq.serializers import JSONSerializer

from backend import store
from backend.queue import sweep
from backend.queue.jobs import Job, Jobs, State
from backend.worker import GPUWorker, TakingQueue


@pytest.fixture
def asked(jobs: Jobs, job: Job) -> str:
    jobs.request(job, store.BATCH)
    return jobs.id_of(job)


def rq_job(jobs: Jobs, job_id: str) -> RQJob:
    return RQJob.fetch(job_id, connection=jobs.redis, serializer=JSONSerializer)


def take(jobs: Jobs) -> None:
    """What a worker does before it dies."""
    assert TakingQueue.dequeue_any([jobs.queues[store.BATCH]], None, jobs.redis, serializer=JSONSerializer)


def test_a_job_taken_by_a_dead_worker_comes_back_without_costing_a_retry(
    jobs: Jobs, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "STUCK_SECONDS", 0.1)
    for _ in range(50):
        take(jobs)
        sweep.sweep(jobs)
        assert jobs.queues[store.BATCH].job_ids == [], "it may still be starting"
        time.sleep(0.11)
        sweep.sweep(jobs)
        assert jobs.queues[store.BATCH].job_ids == [asked]
    assert rq_job(jobs, asked).retries_left == jobs.settings.car_retries


def test_a_job_that_was_seen_taken_long_ago_is_not_taken_from_its_next_worker(
    jobs: Jobs, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "STUCK_SECONDS", 0.1)
    queue = jobs.queues[store.BATCH]
    take(jobs)
    sweep.sweep(jobs)
    queue.intermediate_queue.remove(asked)  # it starts
    sweep.sweep(jobs)
    time.sleep(0.11)
    queue.push_job_id(asked)  # it comes back, and another worker takes it
    take(jobs)
    sweep.sweep(jobs)
    assert queue.job_ids == []
    assert queue.intermediate_queue.get_job_ids() == [asked]


@pytest.mark.parametrize("finished", [False, True], ids=["in the middle", "after all was done"])
def test_a_worker_dies_over_a_job(jobs: Jobs, job: Job, asked: str, finished: bool) -> None:
    take(jobs)
    worker = GPUWorker(
        [TakingQueue(store.BATCH, connection=jobs.redis)], connection=jobs.redis, serializer=JSONSerializer
    )
    taken = rq_job(jobs, asked)
    worker.prepare_execution(taken)
    worker.prepare_job_execution(taken)
    jobs.start(asked)
    if finished:
        jobs.finish(asked, {"result": []}, [])
    for entry in jobs.redis.zrange("rq:wip:batch", 0, -1):
        jobs.redis.zadd("rq:wip:batch", {entry: time.time() - 1})  # no heartbeat since
    sweep.sweep(jobs)
    assert jobs.redis.zcard("rq:wip:batch") == 0
    assert rq_job(jobs, asked).retries_left == jobs.settings.car_retries - 1
    ticket = jobs.ticket(asked)
    retried = ("queued", "the worker died over it (out of memory?)")
    assert (ticket["state"], ticket.get("error")) == (("done", None) if finished else retried)


def test_a_job_that_rq_lost_is_queued_again(jobs: Jobs, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.queues[store.BATCH].empty()
    sweep.sweep(jobs)
    assert jobs.queues[store.BATCH].job_ids == [], "too young to tell"
    monkeypatch.setattr(sweep, "LOST_SECONDS", 0.0)
    sweep.sweep(jobs)
    assert jobs.queues[store.BATCH].job_ids == [asked]


def test_jobs_in_their_queue_are_left_alone(jobs: Jobs, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "LOST_SECONDS", 0.0)
    for _ in range(3):
        sweep.sweep(jobs)
    assert jobs.queues[store.BATCH].job_ids == [asked]


def test_a_job_that_rq_gave_up_is_failed_with_a_reason(jobs: Jobs, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "LOST_SECONDS", 0.0)
    jobs.start(asked)
    jobs.redis.lrem(jobs.queues[store.BATCH].key, 1, asked)
    rq_job(jobs, asked).set_status(JobStatus.FAILED)
    sweep.sweep(jobs)
    assert jobs.state(asked) is State.FAILED
    assert "worker died" in jobs.ticket(asked)["error"]


def test_a_ticket_without_a_job_is_forgotten(jobs: Jobs, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "LOST_SECONDS", 0.0)
    redis.zadd(store.OPEN, {"p1-t1-gone": 1.0})
    sweep.sweep(jobs)
    assert jobs.open_ids() == []


def test_retries_are_queued_when_their_pause_is_over(jobs: Jobs, asked: str) -> None:
    queue = jobs.queues[store.BATCH]
    redis = jobs.redis
    redis.lrem(queue.key, 1, asked)
    registry = ScheduledJobRegistry(queue=queue)
    redis.zadd(registry.key, {asked: time.time() + 60, "p1-t1-vanished": time.time() - 1})
    sweep.sweep(jobs)
    assert queue.job_ids == []
    redis.zadd(registry.key, {asked: time.time() - 1})
    sweep.sweep(jobs)
    assert queue.job_ids == [asked]
    assert redis.zcard(registry.key) == 0


def test_jobs_of_an_earlier_release_are_asked_for_under_their_present_version(jobs: Jobs, job: Job) -> None:
    open_one, failed_one = (replace(job, task=number, version="car-demo-00000000-00000000") for number in (1, 2))
    for one in (job, open_one, failed_one):
        jobs.request(one, store.BATCH)
    jobs.fail(jobs.id_of(failed_one), "this worker would write another version")
    sweep.renew_outdated(jobs)
    present = [replace(one, version=job.version) for one in (job, open_one, failed_one)]
    assert sorted(jobs.open_ids()) == sorted(jobs.queues[store.BATCH].job_ids) == sorted(map(jobs.id_of, present))
    assert list(jobs.failures()) == []
    assert jobs.ticket(jobs.id_of(open_one)) == {}


def test_what_is_of_this_release_stays_as_it_is(jobs: Jobs, asked: str, job: Job) -> None:
    jobs.request(replace(job, task=8), store.BATCH)
    jobs.fail(jobs.id_of(replace(job, task=8)), "404")
    sweep.renew_outdated(jobs)
    assert jobs.open_ids() == [asked]
    assert len(list(jobs.failures())) == 1
