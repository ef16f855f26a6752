from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from redis import Redis

from backend import store
from backend.courier import LOCK, Courier, until
from backend.labeling.parsing import LabelingConfig
from backend.queue.jobs import Job
from backend.settings import Settings
from tests.backend.conftest import CONFIG, MemoryStudio, finished, one_image, task
from tests.backend.refusing import WAYS
from tests.conftest import RedisProcess


@pytest.fixture
def studio() -> MemoryStudio:
    return MemoryStudio(range(1, 41))


@pytest.fixture
def courier(settings: Settings, studio: MemoryStudio) -> Courier:
    return Courier(settings, studio)  # type: ignore[arg-type]


def event(*numbers: int, action: str = "TASKS_CREATED", config: str = CONFIG) -> bytes:
    tasks = [task(number) for number in numbers]
    return json.dumps({"action": action, "tasks": tasks, "project": {"id": 1, "label_config": config}}).encode()


def finish(courier: Courier, config: LabelingConfig, *numbers: int) -> list[str]:
    ids = []
    for number in numbers:
        job = Job(1, number, one_image(f"/data/upload/1/{number}.png"), config, config.version())
        ids.append(courier.jobs.id_of(job))
        courier.jobs.request(job, store.BATCH)
        courier.jobs.finish(ids[-1], finished(job.version, "cat"), ["cat"])
    return ids


def deliver_all(courier: Courier) -> None:
    while courier.deliver():
        pass


def test_finished_predictions_reach_each_task_once(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig
) -> None:
    finish(courier, config, *range(1, 41))
    deliver_all(courier)
    assert all(len(stored) == 1 for stored in studio.stored.values())
    assert studio.calls.count("import") == 2, "in bulk"
    assert courier.delivery.pending() == 0


def test_what_label_studio_already_has_is_not_pushed(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig
) -> None:
    studio.stored[1] = [{"id": 1, "model_version": config.version()}]
    studio.stored[2] = [{"id": 2, "model_version": "another"}]
    finish(courier, config, 1, 2)
    deliver_all(courier)
    assert [len(studio.stored[number]) for number in (1, 2)] == [1, 2]


def test_a_prediction_that_lacked_an_image_is_replaced_unless_somebody_began_with_it(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig
) -> None:
    ids = finish(courier, config, 1, 2)
    deliver_all(courier)
    for job_id in ids:
        courier.jobs.finish(job_id, {}, [], "1 of 2 images are missing in the prediction: b: 404")
        assert courier.jobs.requeue(job_id)
    studio.annotated[2] = [{"id": 1, "parent_prediction": studio.stored[2][0]["id"]}]
    for job_id in ids:
        courier.jobs.finish(job_id, finished(config.version(), "cat", "statue"), ["cat", "moai"])
    deliver_all(courier)
    assert [[len(one["result"]) for one in studio.stored[number]] for number in (1, 2)] == [[2], [1]]
    deliver_all(courier)
    assert "replaces" not in courier.jobs.ticket(ids[0])
    assert [len(studio.stored[number]) for number in (1, 2)] == [1, 1]


def test_a_deleted_task_does_not_hold_up_its_batch(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig, redis: Redis
) -> None:
    finish(courier, config, 1, 2, 99, 3)
    deliver_all(courier)
    assert [len(studio.stored[number]) for number in (1, 2, 3)] == [1, 1, 1]
    assert courier.delivery.pending() == 0
    assert redis.hgetall(store.COUNTERS) == {b"delivered": b"3", b"dropped": b"1"}


def test_a_batch_silently_dropped_goes_one_by_one(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig
) -> None:
    studio.silently_drops = True
    finish(courier, config, 1, 2, 3)
    deliver_all(courier)
    assert [len(studio.stored[number]) for number in (1, 2, 3)] == [1, 1, 1]


def test_label_studio_down_is_waited_for(courier: Courier, studio: MemoryStudio, config: LabelingConfig) -> None:
    studio.down = True
    ids = finish(courier, config, 1, 2)
    deliver_all(courier)
    assert courier.delivery.pending() == 2
    assert courier.jobs.ticket(ids[0])["undelivered"] == "connection refused"
    studio.down = False
    courier.redis.zadd(store.OUTBOX, dict.fromkeys(ids, 0.0))  # the pause is over
    deliver_all(courier)
    assert [len(studio.stored[number]) for number in (1, 2)] == [1, 1]
    assert "undelivered" not in courier.jobs.ticket(ids[0])


def test_an_answer_that_label_studio_dropped_is_pushed(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig
) -> None:
    (job_id,) = finish(courier, config, 1)
    assert courier.delivery.answer(job_id)
    assert courier.deliver() == 0
    time.sleep(courier.settings.car_verify_seconds + 0.05)
    deliver_all(courier)
    assert len(studio.stored[1]) == 1


def test_an_answer_that_arrived_is_not_doubled(courier: Courier, studio: MemoryStudio, config: LabelingConfig) -> None:
    (job_id,) = finish(courier, config, 1)
    answer = courier.delivery.answer(job_id)
    assert answer is not None
    studio.create_prediction(1, answer)
    time.sleep(courier.settings.car_verify_seconds + 0.05)
    deliver_all(courier)
    assert len(studio.stored[1]) == 1
    assert courier.delivery.pending() == 0


def test_an_answer_that_arrived_after_the_push_is_taken_back(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig
) -> None:
    (job_id,) = finish(courier, config, 1)
    answer = courier.delivery.answer(job_id)
    assert answer is not None
    time.sleep(courier.settings.car_verify_seconds + 0.05)
    deliver_all(courier)
    studio.create_prediction(1, answer)  # Label Studio was that slow
    studio.create_prediction(1, {**answer, "model_version": "another"})
    time.sleep(courier.settings.car_verify_seconds + 0.05)
    deliver_all(courier)
    assert sorted(one["model_version"] for one in studio.stored[1]) == ["another", config.version()]
    assert courier.delivery.pending() == 0


def test_one_courier_works_and_the_other_takes_over(
    settings: Settings, studio: MemoryStudio, config: LabelingConfig, redis: Redis
) -> None:
    first, second = (Courier(settings, studio) for _ in range(2))  # type: ignore[arg-type]
    first.round()
    finish(second, config, 1)
    assert not second.round()
    assert studio.stored[1] == []
    first.retire()
    assert second.round()
    assert len(studio.stored[1]) == 1
    assert redis.ttl(LOCK) > 10


def test_the_loop_survives_redis_going_away(own_redis: RedisProcess, settings: Settings, studio: MemoryStudio) -> None:
    courier = Courier(settings.model_copy(update={"redis_url": own_redis.url}), studio)  # type: ignore[arg-type]
    stop = threading.Event()
    thread = threading.Thread(target=until, args=(stop, courier.round))
    thread.start()
    try:
        own_redis.stop()
        time.sleep(0.5)
        own_redis.start()
        courier.redis.lpush(store.INBOX, event(1))
        assert eventually(lambda: len(courier.jobs.queues[store.BATCH]) == 1)
    finally:
        stop.set()
        thread.join()


def test_the_loop_survives_a_redis_that_refuses_writes_and_goes_on_at_once(
    own_redis: RedisProcess, settings: Settings, studio: MemoryStudio, caplog: pytest.LogCaptureFixture
) -> None:
    courier = Courier(settings.model_copy(update={"redis_url": own_redis.url}), studio)  # type: ignore[arg-type]
    refuse, accept = WAYS["READONLY"]
    stop = threading.Event()
    thread = threading.Thread(target=until, args=(stop, courier.round))
    with Redis.from_url(own_redis.url) as redis:
        refuse(redis)
        thread.start()
        try:
            time.sleep(5)
            accept(redis)
            redis.lpush(store.INBOX, event(1))
            assert eventually(lambda: len(courier.jobs.queues[store.BATCH]) == 1, seconds=2)
        finally:
            stop.set()
            thread.join()
    messages = [record.getMessage() for record in caplog.records if record.name == "backend.courier"]
    assert [message for message in messages if "REDIS_URL" in message] == messages[:1]
    assert "READONLY" in messages[0]


def eventually(condition: Any, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False
