from __future__ import annotations

from dataclasses import replace

import pytest
from redis import Redis

from backend import store
from backend.commands.requeue import requeue
from backend.queue.jobs import TOGETHER, Job, Jobs, State
from backend.settings import Settings
from tests.backend.conftest import one_image


def queued_ids(jobs: Jobs, queue: str) -> list[str]:
    return list(jobs.queues[queue].job_ids)


def test_the_id_tells_task_and_project_and_depends_on_what_is_asked(job: Job) -> None:
    job_id = job.id_at("http://a")
    assert job_id.startswith("p1-t7-")
    others = [
        replace(job, pictures=one_image("/x.png")),
        replace(job, version="v2"),
        replace(job, task=8),
        replace(job, project=2),
    ]
    assert len({job_id, job.id_at("http://b"), *(other.id_at("http://a") for other in others)}) == 6
    assert job.id_at("http://a") == job_id


def test_a_job_survives_json(job: Job) -> None:
    assert Job.from_json(job.to_json()) == job


def test_asked_five_times_is_one_job(jobs: Jobs, job: Job) -> None:
    assert [jobs.request(job, store.BATCH) for _ in range(5)] == [State.QUEUED] * 5
    assert queued_ids(jobs, store.BATCH) == [jobs.id_of(job)]


def test_many_at_once_each_get_what_they_would_get_alone(redis: Redis, settings: Settings, job: Job) -> None:
    jobs = Jobs(redis, settings.model_copy(update={"car_queue_limit": 2 * TOGETHER + 11}))
    many = [replace(job, task=number) for number in range(2 * TOGETHER + 10)]
    jobs.request(many[0], store.BATCH)
    jobs.finish(jobs.id_of(many[0]), {"result": []}, [])
    jobs.request(many[1], store.BATCH)
    jobs.start(jobs.id_of(many[1]))
    states = jobs.request_many([*many, replace(job, task=9999), replace(job, task=99999)], store.BATCH)
    expected = [State.DONE, State.RUNNING, *[State.QUEUED] * (len(many) - 2), State.QUEUED, State.QUEUED]
    assert states == expected
    assert jobs.request_many([replace(job, task=5555), *many[:2]], store.BATCH) == [State.REFUSED, *expected[:2]]
    asked = [*many, replace(job, task=9999), replace(job, task=99999)]
    assert queued_ids(jobs, store.BATCH) == [jobs.id_of(one) for one in asked]
    assert jobs.request_many([], store.BATCH) == []


def test_the_same_task_twice_in_one_request_is_one_job_and_two_answers(jobs: Jobs, job: Job) -> None:
    assert jobs.request_many([job, replace(job, task=8), job], store.BATCH) == [State.QUEUED] * 3
    assert len(queued_ids(jobs, store.BATCH)) == 2


def test_while_it_runs_it_is_not_asked_again(jobs: Jobs, job: Job) -> None:
    jobs.request(job, store.BATCH)
    jobs.queues[store.BATCH].empty()
    jobs.start(jobs.id_of(job))
    assert jobs.request(job, store.BATCH) is State.RUNNING
    assert queued_ids(jobs, store.BATCH) == []


def test_somebody_waiting_moves_a_task_of_the_batch_to_the_front(jobs: Jobs, job: Job) -> None:
    for number in range(3):
        jobs.request(replace(job, task=number), store.BATCH)
    wanted = replace(job, task=1)
    jobs.request(wanted, store.INTERACTIVE)
    assert queued_ids(jobs, store.INTERACTIVE) == [jobs.id_of(wanted)]
    assert jobs.id_of(wanted) not in queued_ids(jobs, store.BATCH)


def test_a_finished_job_keeps_its_prediction_and_goes_to_the_courier(jobs: Jobs, job: Job, redis: Redis) -> None:
    jobs.request(job, store.BATCH)
    jobs.finish(jobs.id_of(job), {"result": [], "score": 0.0}, ["cat"])
    assert jobs.request(job, store.BATCH) is State.DONE
    assert jobs.result(jobs.id_of(job)) == {"result": [], "score": 0.0}
    assert jobs.open_ids() == []
    assert redis.zcard(store.OUTBOX) == 1


def test_a_forgotten_prediction_is_made_again(jobs: Jobs, job: Job, redis: Redis) -> None:
    jobs.request(job, store.BATCH)
    jobs.finish(jobs.id_of(job), {}, [])
    redis.delete(store.result_key(jobs.id_of(job)))
    jobs.queues[store.BATCH].empty()
    assert jobs.request(job, store.BATCH) is State.QUEUED
    assert queued_ids(jobs, store.BATCH) == [jobs.id_of(job)]


def test_a_failed_job_runs_again_within_its_budget(jobs: Jobs, job: Job) -> None:
    job_id = jobs.id_of(job)
    states = []
    for _ in range(jobs.settings.car_retries + 3):
        states.append(jobs.request(job, store.BATCH))
        if states[-1] is State.QUEUED:
            jobs.fail(job_id, "no such image")
    assert states == [State.QUEUED] * (1 + jobs.settings.car_retries) + [State.FAILED] * 2
    assert [ticket["error"] for _, ticket in jobs.failures()] == ["no such image"]


def test_failing_twice_counts_once(jobs: Jobs, job: Job, redis: Redis) -> None:
    jobs.request(job, store.BATCH)
    for _ in range(2):
        jobs.fail(jobs.id_of(job), "broken")
    assert redis.hget(store.COUNTERS, "failed") == b"1"


def test_a_second_attempt_cannot_undo_what_the_first_has_finished(jobs: Jobs, job: Job) -> None:
    job_id = jobs.id_of(job)
    jobs.request(job, store.BATCH)
    jobs.finish(job_id, {"result": []}, [])
    jobs.retry(job_id, "no connection")
    jobs.fail(job_id, "no connection")
    assert jobs.state(job_id) is State.DONE
    assert list(jobs.failures()) == []


def test_finished_after_it_was_given_up_is_finished(jobs: Jobs, job: Job, redis: Redis) -> None:
    job_id = jobs.id_of(job)
    jobs.request(job, store.BATCH)
    jobs.fail(job_id, "the worker died each time")
    jobs.finish(job_id, {"result": []}, [])
    assert jobs.state(job_id) is State.DONE
    assert list(jobs.failures()) == []
    assert redis.ttl(store.ticket_key(job_id)) == -1, "kept until it is delivered"


def test_the_queue_is_bounded(redis: Redis, settings: Settings, job: Job) -> None:
    jobs = Jobs(redis, settings.model_copy(update={"car_queue_limit": 2}))
    states = [jobs.request(replace(job, task=number), store.BATCH) for number in range(3)]
    assert states == [State.QUEUED, State.QUEUED, State.REFUSED]
    assert jobs.state(jobs.id_of(replace(job, task=2))) is None


@pytest.mark.parametrize("state", [None, *State])
def test_a_ticket_answers_its_state(jobs: Jobs, redis: Redis, state: State | None) -> None:
    if state:
        redis.hset(store.ticket_key("x"), "state", state)
    assert jobs.state("x") is state


def test_nothing_secret_is_queued(jobs: Jobs, job: Job, redis: Redis) -> None:
    jobs.request(job, store.BATCH)
    (queued,) = jobs.queues[store.BATCH].jobs
    written = repr([queued.args, queued.kwargs, queued.meta, redis.hgetall(store.ticket_key(queued.id))])
    assert job.version in written, "this is where a secret would be seen"
    assert jobs.settings.label_studio_api_key.get_secret_value() not in written


def test_requeued_failures_get_all_their_tries_again(jobs: Jobs, job: Job) -> None:
    others = [replace(job, task=8), replace(job, task=9, project=2)]
    for one in (job, *others):
        for _ in range(jobs.settings.car_retries + 1):
            jobs.request(one, store.BATCH)
            jobs.fail(jobs.id_of(one), "404")
        assert jobs.request(one, store.BATCH) is State.FAILED
    assert requeue(jobs, project=2) == 1
    assert requeue(jobs, task=8) == 1
    assert requeue(jobs) == 1
    assert requeue(jobs) == 0
    assert len(jobs.open_ids()) == 3
    jobs.fail(jobs.id_of(job), "404")
    assert jobs.request(job, store.BATCH) is State.QUEUED


@pytest.mark.parametrize("function", ["os.system", "backend.worker.engine", "builtins.print"])
def test_a_job_may_call_one_function_only(jobs: Jobs, function: str) -> None:
    job = jobs.queues[store.BATCH].enqueue_call(function, args=("x",), job_id="p1-t1-evil")
    with pytest.raises(PermissionError, match=function):
        job.perform()


def test_the_pauses_between_tries_are_spread(redis: Redis, settings: Settings, job: Job) -> None:
    jobs = Jobs(redis, settings.model_copy(update={"car_retry_seconds": (10, 60, 300)}))
    pauses = []
    for number in range(20):
        jobs.request(replace(job, task=number), store.BATCH)
    for queued in jobs.queues[store.BATCH].jobs:
        pauses.append(tuple(queued.retry_intervals))
    assert len(set(pauses)) > 10
    for each, middle in zip(zip(*pauses, strict=True), (10, 60, 300), strict=True):
        assert 0.8 * middle <= min(each) <= max(each) <= 1.2 * middle
