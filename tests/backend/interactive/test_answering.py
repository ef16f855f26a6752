"""The web process's part, with a real Redis; a thread plays the worker."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from backend import store
from backend.app import create_app
from backend.interactive.answering import answer
from backend.interactive.asks import read
from backend.labeling.parsing import parse_config
from backend.predict import Predictor
from backend.queue.job import job_of
from backend.queue.jobs import Jobs, State
from backend.queue.queues import pause
from backend.queue.sweep import reconcile
from backend.settings import Settings
from tests.backend.conftest import CONFIG, finished, task
from tests.backend.interactive.test_asks import click, context, text

VERSION = "car-version"
ASKED = context(text("the cat on the left"))


@pytest.fixture
def predictor(settings: Settings) -> Predictor:
    return Predictor(settings.model_copy(update={"car_interactive_wait": 5.0}))


@pytest.fixture
def worker_lives(redis: Redis) -> None:
    redis.sadd("rq:workers", "rq:worker:pretended")


def waiting(jobs: Jobs) -> list[str]:
    return jobs.queues[store.INTERACTIVE].get_job_ids()


def play_worker(jobs: Jobs, error: str = "", found: tuple[str, ...] = ("cat",)) -> threading.Thread:
    """Answer the next interactive job, or fail it."""

    def work() -> None:
        until = time.monotonic() + 10
        while not (ids := waiting(jobs)) and time.monotonic() < until:
            time.sleep(0.02)
        jobs.start(ids[0])
        if error:
            jobs.fail(ids[0], error)
        else:
            jobs.finish(ids[0], finished(VERSION, *found), found, is_asked=True)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.usefixtures("worker_lives")
def test_a_request_is_answered_while_somebody_waits(predictor: Predictor) -> None:
    playing = play_worker(predictor.jobs)
    assert answer(predictor, task(1), 1, CONFIG, ASKED) == finished(VERSION, "cat")
    playing.join()


@pytest.mark.usefixtures("worker_lives")
def test_the_same_question_again_is_answered_at_once(predictor: Predictor) -> None:
    playing = play_worker(predictor.jobs)
    answer(predictor, task(1), 1, CONFIG, ASKED)
    playing.join()
    begun = time.monotonic()
    assert answer(predictor, task(1), 1, CONFIG, ASKED) == finished(VERSION, "cat")
    assert time.monotonic() - begun < 1
    other = Predictor(predictor.settings.model_copy(update={"car_interactive_wait": 0.0}))
    assert answer(other, task(1), 1, CONFIG, context(text("a cat on the right")))["result"] == []


@pytest.mark.usefixtures("worker_lives")
def test_it_does_not_touch_what_is_delivered(predictor: Predictor, redis: Redis) -> None:
    (job_id, _), *_ = filter(None, predictor.request([task(1)], 1, *versioned(predictor), store.BATCH))
    predictor.jobs.start(job_id)
    predictor.jobs.finish(job_id, finished(VERSION, "moai"), ["moai"])
    predictor.delivery.delivered(job_id)
    before = predictor.jobs.ticket(job_id)
    stored = [{"model_version": versioned(predictor)[1], "result": []}]
    playing = play_worker(predictor.jobs)
    assert answer(predictor, task(1, predictions=stored), 1, CONFIG, ASKED) == finished(VERSION, "cat")
    playing.join()
    assert predictor.jobs.ticket(job_id) == before
    assert predictor.jobs.result(job_id) == finished(VERSION, "moai")
    assert redis.zcard(store.OUTBOX) == 0, "nothing is pushed"


def versioned(predictor: Predictor) -> tuple[Any, str]:
    config = parse_config(CONFIG, "demo")
    return config, config.version()


@pytest.mark.usefixtures("worker_lives")
def test_who_waits_in_vain_gets_an_empty_answer_and_leaves_nothing(predictor: Predictor, redis: Redis) -> None:
    hurried = Predictor(predictor.settings.model_copy(update={"car_interactive_wait": 0.3}))
    begun = time.monotonic()
    empty = answer(hurried, task(1), 1, CONFIG, ASKED)
    assert 0.25 < time.monotonic() - begun < 3
    assert empty["result"] == []
    assert empty["model_version"] == versioned(hurried)[1]
    assert "CAR_INTERACTIVE_WAIT" in empty["message"]
    assert waiting(hurried.jobs) == []
    assert redis.zcard(store.OPEN) == 0


def test_without_a_worker_or_paused_nobody_waits(predictor: Predictor, redis: Redis) -> None:
    begun = time.monotonic()
    assert answer(predictor, task(1), 1, CONFIG, ASKED)["result"] == []
    redis.sadd("rq:workers", "rq:worker:pretended")
    pause(redis, 1)
    assert answer(predictor, task(1), 1, CONFIG, ASKED)["result"] == []
    assert time.monotonic() - begun < 3


@pytest.mark.usefixtures("worker_lives")
def test_only_half_of_the_threads_wait(predictor: Predictor) -> None:
    few = Predictor(predictor.settings.model_copy(update={"car_threads": 2, "car_interactive_wait": 2.0}))
    waits = threading.Thread(target=answer, args=(few, task(1), 1, CONFIG, ASKED))
    waits.start()
    time.sleep(0.5)
    begun = time.monotonic()
    assert answer(few, task(2), 1, CONFIG, ASKED)["result"] == []
    assert time.monotonic() - begun < 1
    waits.join()


@pytest.mark.usefixtures("worker_lives")
def test_nothing_found_says_so(predictor: Predictor) -> None:
    playing = play_worker(predictor.jobs, found=())
    empty = answer(predictor, task(1), 1, CONFIG, ASKED)
    assert (empty["result"], empty["message"]) == ([], "nothing was found")
    playing.join()


@pytest.mark.usefixtures("worker_lives")
def test_a_failure_says_why(predictor: Predictor) -> None:
    playing = play_worker(predictor.jobs, error="There is no file of weights /models/sam.pth.")
    assert answer(predictor, task(1), 1, CONFIG, ASKED)["message"] == "There is no file of weights /models/sam.pth."
    playing.join()


@pytest.mark.parametrize(
    ("asked", "config", "message"),
    [
        (context(), CONFIG, "there is nothing to look for"),
        (context(click(500, 5)), CONFIG, "a point is outside of the image"),
        (context(text("x" * 301)), CONFIG, "the text has 301 characters"),
        ({"result": 7}, CONFIG, "the context must be"),
        (ASKED, "<View/>", "The labeling config has no <Image> tag"),
        (ASKED, CONFIG.replace('name="mask"', 'name="mask" model_skip="true"'), "have model_skip"),
    ],
)
def test_what_cannot_be_answered(predictor: Predictor, asked: object, config: str, message: str) -> None:
    empty = answer(predictor, task(1), 1, config, asked)
    assert empty["result"] == []
    assert message in empty["message"]
    assert waiting(predictor.jobs) == []


def test_a_task_without_an_image(predictor: Predictor) -> None:
    assert answer(predictor, {"id": 1, "data": {}}, 1, CONFIG, ASKED)["message"] == "the task has no such image"


def test_a_lost_question_is_forgotten_not_asked_again(predictor: Predictor, redis: Redis) -> None:
    config, version = versioned(predictor)
    job = job_of(task(1), 1, config, version)
    assert job is not None
    asked = replace(job, ask=read(ASKED, config))
    assert predictor.jobs.request(asked, store.INTERACTIVE) is State.QUEUED
    assert predictor.jobs.job(predictor.jobs.id_of(asked)) == asked
    assert predictor.jobs.id_of(asked) != predictor.jobs.id_of(job)
    for queue in predictor.jobs.queues.values():
        queue.empty()
        redis.delete(store.line_key(queue.name, "1"))
    redis.zadd(store.OPEN, {predictor.jobs.id_of(asked): 1.0})
    reconcile(predictor.jobs)
    assert predictor.jobs.ticket(predictor.jobs.id_of(asked)) == {}


def test_the_route_tells_interactive_requests_from_others(settings: Settings) -> None:
    client = create_app(settings).test_client()
    body = {"tasks": [task(1)], "project": "1.2", "label_config": CONFIG, "params": {"context": {"result": []}}}
    (empty,) = client.post("/predict", json=body).get_json()["results"]
    assert empty["result"] == []
    for params in ({"context": None}, {}, None, "text"):
        assert client.post("/predict", json={**body, "params": params}).get_json() == {"results": [[]]}
