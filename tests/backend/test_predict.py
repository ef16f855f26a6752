from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from redis import Redis

from backend import store
from backend.labeling.parsing import LabelingConfig, pictures
from backend.predict import Predictor
from backend.queue.jobs import Job, State
from backend.settings import Settings
from tests.backend.conftest import CONFIG, finished, one_image, task


@pytest.fixture
def predictor(settings: Settings) -> Predictor:
    return Predictor(settings)


def finish(predictor: Predictor, config: LabelingConfig, asked: dict[str, Any], *labels: str) -> str:
    version = config.version()
    job_id = predictor.jobs.id_of(Job(1, asked["id"], pictures(config, asked["data"]), config, version))
    predictor.jobs.finish(job_id, finished(version, *labels), labels)
    return job_id


def pretend_a_worker_lives(redis: Redis) -> None:
    redis.sadd("rq:workers", "rq:worker:pretended")


def test_what_is_not_ready_is_an_empty_list_and_enqueued(predictor: Predictor) -> None:
    tasks = [task(number) for number in range(5)]
    assert predictor.predict(tasks, 1, CONFIG) == [[]] * 5
    assert len(predictor.jobs.queues[store.BATCH]) == 5


def test_ready_and_unready_keep_their_places(predictor: Predictor, config: LabelingConfig) -> None:
    tasks = [task(number) for number in range(3)]
    predictor.predict(tasks, 1, CONFIG)
    finish(predictor, config, tasks[1], "cat")
    assert predictor.predict(tasks, 1, CONFIG) == [[], finished(config.version(), "cat"), []]


def test_nothing_found_is_a_final_empty_prediction(predictor: Predictor, config: LabelingConfig) -> None:
    predictor.predict([task(1)], 1, CONFIG)
    finish(predictor, config, task(1))
    answer = predictor.predict([task(1)], 1, CONFIG)
    assert answer == [{"result": [], "score": 0.0, "model_version": config.version()}]


def test_a_single_task_waits_for_its_mask(predictor: Predictor, config: LabelingConfig, redis: Redis) -> None:
    pretend_a_worker_lives(redis)
    threading.Timer(0.2, finish, (predictor, config, task(1), "cat")).start()
    assert predictor.predict([task(1)], 1, CONFIG) == [finished(config.version(), "cat")]
    assert len(predictor.jobs.queues[store.INTERACTIVE]) == 1


def test_a_single_task_waits_no_longer_than_allowed(predictor: Predictor, redis: Redis) -> None:
    pretend_a_worker_lives(redis)
    begun = time.monotonic()
    assert predictor.predict([task(1)], 1, CONFIG) == [[]]
    assert 0.4 < time.monotonic() - begun < 1.5


def test_without_a_worker_nobody_waits(predictor: Predictor) -> None:
    begun = time.monotonic()
    assert predictor.predict([task(1)], 1, CONFIG) == [[]]
    assert time.monotonic() - begun < 0.3


def test_only_half_of_the_threads_wait(settings: Settings, redis: Redis) -> None:
    pretend_a_worker_lives(redis)
    predictor = Predictor(settings.model_copy(update={"car_threads": 4, "car_wait": 1.0}))
    seconds: list[float] = []

    def ask(number: int) -> None:
        begun = time.monotonic()
        predictor.predict([task(number)], 1, CONFIG)
        seconds.append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(second > 0.9 for second in seconds) == 2


def test_a_failed_task_does_not_hold_up_the_others(predictor: Predictor, config: LabelingConfig) -> None:
    tasks = [task(1), {"id": 2, "data": {}}, task(3)]
    predictor.predict(tasks, 1, CONFIG)
    finish(predictor, config, tasks[2], "cat")
    assert [bool(answer) for answer in predictor.predict(tasks, 1, CONFIG)] == [False, False, True]


def test_what_label_studio_has_is_not_asked_again(predictor: Predictor, config: LabelingConfig) -> None:
    known = task(1, predictions=[{"model_version": config.version()}])
    old = task(2, predictions=[{"model_version": "older"}])
    assert predictor.predict([known, old], 1, CONFIG) == [[], []]
    assert len(predictor.jobs.queues[store.BATCH]) == 1


def test_a_long_answer_is_cut_and_the_rest_pushed(settings: Settings, config: LabelingConfig, redis: Redis) -> None:
    predictor = Predictor(settings.model_copy(update={"car_answer_limit": 2}))
    tasks = [task(number) for number in range(4)]
    predictor.predict(tasks, 1, CONFIG)
    for asked in tasks:
        finish(predictor, config, asked)
    assert [bool(answer) for answer in predictor.predict(tasks, 1, CONFIG)] == [True, True, False, False]
    assert len(predictor.delivery.take_due(10)) == 2


def test_another_config_is_another_version(predictor: Predictor, config: LabelingConfig) -> None:
    changed = CONFIG.replace('"cat"', '"dog"')
    assert predictor.version(changed) != predictor.version(CONFIG) == config.version()
    predictor.predict([task(1)], 1, CONFIG)
    finish(predictor, config, task(1), "cat")
    assert predictor.predict([task(1)], 1, changed) == [[]]


@pytest.mark.parametrize(
    "bad", ["", "<View/>", "<View", CONFIG.replace("<BrushLabels", '<BrushLabels model_skip="true"')]
)
def test_a_config_without_masks_gets_one_empty_answer_per_task(predictor: Predictor, bad: str) -> None:
    assert predictor.predict([task(1), task(2)], 1, bad) == [[], []]
    assert len(predictor.jobs.queues[store.BATCH]) == 0


def test_redis_down_is_not_ready_within_three_seconds(settings: Settings) -> None:
    predictor = Predictor(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    begun = time.monotonic()
    assert predictor.predict([task(1), task(2)], 1, CONFIG) == [[], []]
    assert time.monotonic() - begun < 3


def test_failed_stays_empty_after_its_budget(predictor: Predictor, config: LabelingConfig) -> None:
    job = Job(1, 1, one_image("/data/upload/1/1.png"), config, config.version())
    for _ in range(predictor.settings.car_retries + 1):
        predictor.predict([task(1), task(2)], 1, CONFIG)
        predictor.jobs.fail(predictor.jobs.id_of(job), "404")
    assert predictor.predict([task(1), task(2)], 1, CONFIG) == [[], []]
    assert predictor.jobs.state(predictor.jobs.id_of(job)) is State.FAILED
