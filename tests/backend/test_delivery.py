from __future__ import annotations

import threading
import time

import pytest
from redis import Redis

from backend import store
from backend.delivery import Delivery, backoff
from backend.queue.jobs import Job, Jobs
from backend.settings import Settings
from tests.backend.conftest import finished


@pytest.fixture
def done(jobs: Jobs, job: Job) -> str:
    job_id = jobs.id_of(job)
    jobs.request(job, store.BATCH)
    jobs.finish(job_id, finished(job.version, "cat"), ["cat"])
    return job_id


def test_what_is_finished_is_due_at_once(delivery: Delivery, done: str) -> None:
    assert delivery.take_due(10) == [done]
    assert delivery.take_due(10) == [], "leased"


def test_a_waiting_request_goes_before_the_courier(delivery: Delivery, jobs: Jobs, job: Job) -> None:
    job_id = jobs.id_of(job)
    jobs.request(job, store.INTERACTIVE)
    delivery.hold(job_id, 5)
    jobs.finish(job_id, finished(job.version), [])
    assert delivery.take_due(10) == []
    assert delivery.answer(job_id) is not None
    assert delivery.take_due(10) == [], "it is verified later, not pushed now"


def test_a_request_that_gave_up_leaves_it_to_the_courier(delivery: Delivery, jobs: Jobs, job: Job) -> None:
    job_id = jobs.id_of(job)
    jobs.request(job, store.INTERACTIVE)
    delivery.hold(job_id, 60)
    jobs.finish(job_id, finished(job.version), [])
    delivery.release(job_id)
    assert delivery.take_due(10) == [job_id]


def test_a_request_that_gave_up_before_the_end_changes_nothing(delivery: Delivery, jobs: Jobs, job: Job) -> None:
    job_id = jobs.id_of(job)
    jobs.request(job, store.INTERACTIVE)
    delivery.hold(job_id, 60)
    delivery.release(job_id)
    assert delivery.take_due(10) == []
    jobs.finish(job_id, finished(job.version), [])
    assert delivery.take_due(10) == [job_id]


def test_while_the_courier_pushes_nobody_answers(delivery: Delivery, done: str) -> None:
    delivery.take_due(10)
    assert delivery.answer(done) is None
    delivery.delivered(done)
    assert delivery.answer(done) is None, "a request that Label Studio sent before it had it"


def test_two_requests_at_once_get_one_answer(delivery: Delivery, done: str) -> None:
    assert [delivery.answer(done) is not None for _ in range(2)] == [True, False]


def test_an_answer_is_verified(delivery: Delivery, done: str) -> None:
    delivery.answer(done)
    time.sleep(delivery.verify_seconds + 0.05)
    assert delivery.take_due(10) == [done]


def test_a_long_answer_is_verified_later(delivery: Delivery, done: str, redis: Redis) -> None:
    delivery.answer(done, answers=100)
    assert redis.zscore(store.OUTBOX, done) > time.time() + 49


def test_deleted_in_label_studio_it_is_handed_over_again(delivery: Delivery, done: str) -> None:
    delivery.take_due(10)
    delivery.delivered(done)
    time.sleep(delivery.verify_seconds + 0.05)
    assert delivery.answer(done) is not None


def test_deleted_a_moment_after_delivery_it_comes_from_the_courier(delivery: Delivery, done: str) -> None:
    delivery.take_due(10)
    delivery.delivered(done)
    assert delivery.answer(done) is None
    time.sleep(delivery.verify_seconds + 0.05)
    assert delivery.take_due(10) == [done]


def test_only_after_delivery_it_may_be_forgotten(delivery: Delivery, done: str, redis: Redis) -> None:
    keys = [store.ticket_key(done), store.result_key(done)]
    assert [redis.ttl(key) for key in keys] == [-1, -1]
    delivery.take_due(10)
    delivery.delivered(done)
    assert all(redis.ttl(key) > 6 * 86_400 for key in keys)


def test_a_postponed_push_comes_back_and_says_why(delivery: Delivery, jobs: Jobs, done: str) -> None:
    delivery.take_due(10)
    delivery.postpone(done, 0.1, "connection refused")
    assert delivery.take_due(10) == []
    assert jobs.ticket(done)["undelivered"] == "connection refused"
    time.sleep(0.12)
    assert delivery.take_due(10) == [done]


def test_what_is_delivered_cannot_be_postponed(delivery: Delivery, jobs: Jobs, done: str) -> None:
    delivery.take_due(10)
    delivery.delivered(done)
    delivery.postpone(done, 0, "connection refused")
    delivery.postpone("p1-t1-forgotten", 0, "connection refused")
    assert delivery.take_due(10) == []
    assert "undelivered" not in jobs.ticket(done)
    assert jobs.ticket("p1-t1-forgotten") == {}


def test_answer_and_push_never_both(jobs: Jobs, settings: Settings, job: Job, redis: Redis) -> None:
    """A thousand races of a request against the courier: exactly one hands it over, every time."""
    delivery = Delivery(redis, jobs, 60)
    job_id = jobs.id_of(job)
    for _ in range(1000):
        redis.flushdb()
        jobs.request(job, store.BATCH)
        jobs.finish(job_id, {"result": []}, [])
        gate, won = threading.Barrier(2), []

        def race(name: str, gate: threading.Barrier = gate, won: list[str] = won) -> None:
            gate.wait()
            if delivery.take_due(1) if name == "push" else delivery.answer(job_id):
                won.append(name)

        threads = [threading.Thread(target=race, args=(name,)) for name in ("push", "answer")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1, won


@pytest.mark.parametrize(("pushes", "seconds"), [(0, 1), (1, 2), (5, 32), (8, 256), (9, 300), (1000, 300)])
def test_backoff_doubles_up_to_five_minutes(pushes: int, seconds: float) -> None:
    assert backoff(pushes, 0.5) == seconds
    assert backoff(pushes, 0.0) < seconds < backoff(pushes, 1.0)


def test_a_lease_that_ran_out_cannot_be_renewed(delivery: Delivery, done: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.delivery.LEASE", 0.2)
    delivery.take_due(10)
    assert delivery.renew(done)
    time.sleep(0.25)
    assert not delivery.renew(done)
    assert delivery.take_due(10) == [done], "another courier may have it"


def test_a_second_look_is_not_a_second_delivery(delivery: Delivery, done: str, redis: Redis) -> None:
    delivery.take_due(10)
    delivery.delivered(done)
    delivery.look_again(done)
    delivery.delivered(done)
    assert redis.hget(store.COUNTERS, "delivered") == b"1"
    delivery.delivered(done)
    assert redis.hget(store.COUNTERS, "delivered") == b"2"
