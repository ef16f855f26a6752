from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis
from rq.serializers import JSONSerializer

from backend import store
from backend.queue import queues
from backend.queue.job import Job, project_of
from backend.queue.jobs import Jobs
from backend.queue.queues import TakingQueue
from tests.conftest import RedisProcess


def ask(jobs: Jobs, job: Job, project: int, *tasks: int, queue: str = store.BATCH) -> None:
    jobs.request_many([replace(job, project=project, task=task) for task in tasks], queue)


def take(jobs: Jobs) -> tuple[int, int] | None:
    """What a worker gets next: (project, task)."""
    found = TakingQueue.dequeue_any(list(jobs.queues.values()), None, jobs.redis, serializer=JSONSerializer)
    if found is None:
        return None
    payload = found[0].args[0]
    return payload["project"], payload["task"]


def take_all(jobs: Jobs) -> list[tuple[int, int]]:
    return list(iter(lambda: take(jobs), None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("job_id", "project"), [("p12-t7-0123", "12"), ("p1-x", "1"), ("evil", "0"), ("pp-1", "0"), ("p-1", "0"), ("", "0")]
)
def test_an_id_tells_its_project(job_id: str, project: str) -> None:
    assert project_of(job_id) == project


def test_projects_take_turns_and_each_keeps_its_order(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1, 2, 3, 4)
    ask(jobs, job, 2, 1, 2)
    ask(jobs, job, 3, 1)
    assert take_all(jobs) == [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 3), (1, 4)]


def test_ten_tasks_do_not_wait_for_three_thousand(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, *range(3000))
    take(jobs)
    ask(jobs, job, 2, *range(10))
    taken = [take(jobs) for _ in range(24)]
    assert Counter(one[0] for one in taken if one) == {1: 14, 2: 10}, "once what came before is sorted, every other one"


def test_a_project_whose_line_ran_dry_comes_back_last(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1, 2, 3, 4)
    ask(jobs, job, 2, 1)
    assert [take(jobs) for _ in range(4)] == [(1, 1), (2, 1), (1, 2), (1, 3)]
    ask(jobs, job, 2, 2)
    assert take_all(jobs) == [(1, 4), (2, 2)]
    assert jobs.queues[store.BATCH].waiting() == {}
    assert jobs.redis.exists(store.turns_key(store.BATCH)) == 0


def test_what_is_taken_lies_in_one_list_and_comes_back_to_the_front_of_its_line(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1, 2)
    take(jobs)
    queue = jobs.queues[store.BATCH]
    (taken,) = queue.intermediate_queue.get_job_ids()
    assert queue.job_ids == [jobs.id_of(replace(job, task=2))]
    assert queue.give_back(taken)
    assert not queue.give_back(taken), "it is there no more"
    assert queue.job_ids == [jobs.id_of(replace(job, task=number)) for number in (1, 2)]
    assert take_all(jobs) == [(1, 1), (1, 2)]


def test_a_line_that_nobody_stands_in_any_more_is_joined_again(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1)
    take(jobs)
    assert take(jobs) is None
    assert jobs.queues[store.BATCH].give_back(jobs.id_of(replace(job, task=1)))
    assert take(jobs) == (1, 1)


def test_paused_projects_wait_and_nothing_is_lost(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1, 2)
    ask(jobs, job, 2, 1, 2)
    queues.pause(jobs.redis, 1)
    assert take_all(jobs) == [(2, 1), (2, 2)]
    ask(jobs, job, 1, 3)
    ask(jobs, job, 1, 4, queue=store.INTERACTIVE)
    assert take(jobs) is None
    assert queues.paused(jobs.redis) == ["1"]
    queues.resume(jobs.redis, 1)
    assert take_all(jobs) == [(1, 4), (1, 1), (1, 2), (1, 3)]


def test_all_can_be_paused(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1)
    ask(jobs, job, 2, 1)
    queues.pause(jobs.redis)
    queues.pause(jobs.redis, 2)
    assert take(jobs) is None
    assert queues.is_paused(jobs.redis, "1")
    queues.resume(jobs.redis, 2)
    assert take(jobs) is None, "all are paused still"
    queues.resume(jobs.redis)
    assert take_all(jobs) == [(1, 1), (2, 1)]
    assert queues.paused(jobs.redis) == []


def test_lengths_and_ids_count_what_stands_in_line_and_what_has_just_arrived(jobs: Jobs, job: Job) -> None:
    queue = jobs.queues[store.BATCH]
    ask(jobs, job, 1, 1, 2, 3)
    assert queue.waiting() == {"new": 3}
    take(jobs)
    ask(jobs, job, 2, 1)
    assert queue.waiting() == {"1": 2, "new": 1}
    assert len(queue) == queue.count == 3
    ids = [jobs.id_of(replace(job, project=project, task=task)) for project, task in ((1, 2), (1, 3), (2, 1))]
    assert queue.job_ids == ids
    assert queue.get_job_ids(1, 1) == ids[1:2]


@pytest.mark.parametrize("in_line", [False, True], ids=["just arrived", "in line"])
def test_who_opens_a_task_has_it_moved_wherever_it_waits(jobs: Jobs, job: Job, in_line: bool) -> None:
    ask(jobs, job, 1, 0, 1, 2)
    if in_line:
        take(jobs)
    ask(jobs, job, 1, 2, queue=store.INTERACTIVE)
    assert take_all(jobs)[0] == (1, 2)


def test_no_more_than_so_many_are_sorted_at_once(jobs: Jobs, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "SORT_AT_ONCE", 2)
    ask(jobs, job, 1, *range(5))
    take(jobs)
    assert jobs.queues[store.BATCH].waiting() == {"1": 1, "new": 3}
    assert take_all(jobs) == [(1, task) for task in range(1, 5)]


@pytest.mark.slow
def test_eight_workers_at_once_take_each_job_once(jobs: Jobs, job: Job, redis_url: str) -> None:
    for project in (1, 2, 3):
        ask(jobs, job, project, *range(100))
    taken: list[tuple[int, int]] = []

    def work() -> None:
        taken.extend(take_all(Jobs(store.connect(redis_url, patient=True), jobs.settings)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 300


def test_lines_survive_a_killed_redis(own_redis: RedisProcess, jobs: Jobs, job: Job) -> None:
    own = Jobs(store.connect(own_redis.url, patient=True), jobs.settings)
    ask(own, job, 1, *range(6))
    ask(own, job, 2, 1)
    take(own)
    own_redis.stop()
    own_redis.start()
    again = Jobs(store.connect(own_redis.url, patient=True), jobs.settings)
    (taken,) = again.queues[store.BATCH].intermediate_queue.get_job_ids()
    assert again.queues[store.BATCH].give_back(taken)
    assert sorted(take_all(again)) == [*((1, task) for task in range(6)), (2, 1)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["take", "give back"]), st.just(0)),
        st.tuples(st.sampled_from(["pause", "resume"]), st.integers(1, 3)),
    ),
    max_size=40,
)


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_happens_each_job_is_in_exactly_one_place(redis: Redis, jobs: Jobs, job: Job, steps: list) -> None:  # type: ignore[type-arg]
    redis.flushdb()
    asked: list[str] = []
    for number, (step, project) in enumerate(steps):
        if step == "ask":
            ask(jobs, job, project, number)
            asked.append(jobs.id_of(replace(job, project=project, task=number)))
        elif step == "take":
            took = take(jobs)
            assert took is None or not queues.is_paused(redis, str(took[0]))
        elif step == "give back":
            for job_id in jobs.queues[store.BATCH].intermediate_queue.get_job_ids()[:1]:
                assert jobs.queues[store.BATCH].give_back(job_id)
        else:
            getattr(queues, step)(redis, project)
        queue = jobs.queues[store.BATCH]
        assert sorted([*queue.job_ids, *queue.intermediate_queue.get_job_ids()]) == sorted(asked)
    queues.resume(redis)
    waiting = len(jobs.queues[store.BATCH])
    assert len(take_all(jobs)) == waiting, "and nobody is forgotten"
