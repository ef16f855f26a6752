from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from backend import store
from backend.connections import note_setup
from backend.courier import LOCK, Courier, until
from backend.labeling.parsing import LabelingConfig
from backend.queue.jobs import Job
from backend.settings import Settings
from backend.studio.client import StudioError
from tests.backend.conftest import CONFIG, MemoryStudio, finished, one_image, task
from tests.backend.refusing import WAYS
from tests.conftest import RedisProcess


@pytest.fixture
def studio() -> MemoryStudio:
    return MemoryStudio(range(1, 41))


@pytest.fixture
def courier(settings: Settings, studio: MemoryStudio) -> Iterator[Courier]:
    courier = Courier(settings, studio)  # type: ignore[arg-type]
    yield courier
    courier.redis.close()
    courier.webhooks.predictor.redis.close()


def event(*numbers: int, action: str = "TASKS_CREATED", config: str = CONFIG) -> bytes:
    tasks = [task(number) for number in numbers]
    return json.dumps({"action": action, "tasks": tasks, "project": {"id": 1, "label_config": config}}).encode()


def finish(courier: Courier, config: LabelingConfig, *numbers: int) -> list[str]:
    ids = []
    for number in numbers:
        address = f"/data/upload/1/{number}.png"
        job = Job(1, number, one_image(address), config, config.version())
        ids.append(courier.jobs.id_of(job))
        courier.jobs.request(job, store.BATCH)
        courier.jobs.finish(ids[-1], finished(job.version, "cat", address=address), ["cat"])
    return ids


def connect(courier: Courier, studio: MemoryStudio) -> None:
    """Connect project 1 to this courier's backend."""
    studio.setup = lambda project: note_setup(courier.redis, project, "http://10.0.0.5:9090/")
    studio.connect(1, "http://10.0.0.5:9090")


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
    studio.stored[1] = [{"id": 1, **finished(config.version(), "cat", address="/data/upload/1/1.png")}]
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
        address = courier.jobs.job(job_id).pictures[0].address  # type: ignore[union-attr]
        courier.jobs.finish(job_id, finished(config.version(), "cat", "statue", address=address), ["cat", "moai"])
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


@pytest.mark.parametrize(
    ("change", "asked_for"),
    [
        (lambda studio: studio.owner.update({3: 8}), []),  # the id was given out again, to another project
        (lambda studio: studio.show(3, "/data/upload/1/new.png"), ["/data/upload/1/new.png"]),
        (lambda studio: studio.delete(3), []),
    ],
)
def test_a_prediction_of_another_image_never_gets_to_a_task(
    courier: Courier,
    studio: MemoryStudio,
    config: LabelingConfig,
    change: Callable[[MemoryStudio], None],
    asked_for: list[str],
) -> None:
    finish(courier, config, 2, 3)
    change(studio)
    deliver_all(courier)
    assert len(studio.stored[2]) == 1
    assert not studio.stored.get(3)
    jobs = [courier.jobs.job(job_id) for job_id in courier.jobs.open_ids()]
    assert [job.pictures[0].address for job in jobs if job] == asked_for
    assert courier.delivery.pending() == 0


def test_an_image_that_is_replaced_during_the_push_is_noticed(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(courier, config, 2, 3)
    push = studio.import_predictions

    def replaced_meanwhile(project: int, predictions: Any) -> int:
        studio.show(3, "/data/upload/1/new.png")
        return push(project, predictions)

    monkeypatch.setattr(studio, "import_predictions", replaced_meanwhile)
    deliver_all(courier)
    assert [len(studio.stored[number]) for number in (2, 3)] == [1, 0]
    (job_id,) = courier.jobs.open_ids()
    assert courier.jobs.job(job_id).pictures[0].address == "/data/upload/1/new.png"  # type: ignore[union-attr]


def test_a_mask_of_another_image_that_is_there_already_makes_room(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig
) -> None:
    for version in (config.version(), "car-demo-00000000-00000000"):  # older versions of ours, too
        studio._store(2, finished(version, "cat", address="/data/upload/1/old.png"))
    studio._store(2, finished("yolo", "cat"))
    studio._store(3, finished("car-demo-00000000-00000000", "cat", address="/data/upload/1/3.png"))
    finish(courier, config, 2, 3)
    deliver_all(courier)
    assert [one["model_version"] for one in studio.stored[2]] == ["yolo", config.version()]
    assert len(studio.stored[3]) == 2, "an older version of the same image is none of our business"


@pytest.mark.parametrize(("drawn", "stays"), [("cat", True), ("moai", False)])
def test_a_prediction_of_an_earlier_release_stays_if_it_draws_the_same(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig, drawn: str, stays: bool
) -> None:
    stored = finished(config.version(), drawn, address="/data/upload/1/2.png")
    studio._store(2, {**stored, "result": [{**one, "id": "0123456789"} for one in stored["result"]]})
    finish(courier, config, 2)
    deliver_all(courier)
    (after,) = studio.stored[2]
    assert (after["result"][0]["id"] == "0123456789") == stays


def test_jobs_of_a_project_that_is_gone_are_cancelled_at_the_first_delivery(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig
) -> None:
    finish(courier, config, 2)
    courier.jobs.request(Job(1, 3, one_image("/data/upload/1/3.png"), config, config.version()), store.BATCH)
    studio.projects_there.clear()
    deliver_all(courier)
    assert courier.jobs.open_ids() == []
    assert courier.delivery.pending() == 0


def test_one_request_for_a_batch_and_one_after_it(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig
) -> None:
    finish(courier, config, *range(1, 26))
    assert courier.deliver() == 25
    assert studio.calls == ["whole tasks", "import", "tasks"]


def test_an_import_is_expanded_where_label_studio_refuses_us_and_waits_where_it_is_away(
    courier: Courier, studio: MemoryStudio, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.down = True
    assert not courier.is_connected(1)
    assert redis.zrange(store.CONVERGE_DUE, 0, -1) == [b"1"], "looked at later"
    connect(courier, studio)
    studio.down = False
    assert courier.is_connected(1)
    studio.down = True
    studio.setup(1)
    assert courier.is_connected(1), "so it was known"

    def refused(project: int) -> list[dict[str, Any]]:
        raise StudioError("LABEL_STUDIO_API_KEY is not accepted", 401)

    monkeypatch.setattr(studio, "backends", refused)
    assert courier.is_connected(2), "its jobs fail with the reason"


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
    connect(courier, studio)
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
    connect(courier, studio)
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
