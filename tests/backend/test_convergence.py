"""Projects are brought to what they should hold, whatever was missed, lost or replaced."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from backend import convergence, store
from backend.connections import compare_soon, note_setup
from backend.courier import Courier
from backend.labeling.parsing import LabelingConfig
from backend.queue import queues
from backend.queue.cancel import cancel
from backend.settings import Settings
from tests.backend.conftest import CONFIG, NOW, MemoryStudio, finished

URL = "http://10.0.0.5:9090"


@pytest.fixture
def studio(redis: Redis) -> MemoryStudio:
    studio = MemoryStudio(range(1, 6))
    studio.setup = lambda project: note_setup(redis, project, URL + "/")
    studio.connect(1, URL)
    return studio


def courier_of(settings: Settings, studio: MemoryStudio) -> Iterator[Courier]:
    courier = Courier(settings, studio)  # type: ignore[arg-type]
    courier.is_at_work = True
    yield courier
    courier.redis.close()
    courier.webhooks.predictor.redis.close()


@pytest.fixture
def courier(settings: Settings, studio: MemoryStudio) -> Iterator[Courier]:
    yield from courier_of(settings, studio)


@pytest.fixture
def small_courier(settings: Settings, studio: MemoryStudio) -> Iterator[Courier]:
    """Its queue takes three jobs."""
    yield from courier_of(settings.model_copy(update={"car_queue_limit": 3}), studio)


@pytest.fixture
def quiet_courier(settings: Settings, studio: MemoryStudio) -> Iterator[Courier]:
    """It compares nothing of its own accord."""
    yield from courier_of(settings.model_copy(update={"car_converge_seconds": 0}), studio)


def converge(courier: Courier) -> None:
    courier.converger.compare_all()
    courier.converger.round()


def segment_all(courier: Courier) -> int:
    """Do a worker's part for all open jobs, then deliver; how many there were."""
    ids = courier.jobs.open_ids()
    for job_id in ids:
        job = courier.jobs.job(job_id)
        assert job is not None
        courier.jobs.finish(job_id, finished(job.version, "cat", address=job.pictures[0].address), ["cat"])
    while courier.deliver():
        pass
    return len(ids)


def addresses(courier: Courier) -> list[str]:
    jobs = [courier.jobs.job(job_id) for job_id in courier.jobs.open_ids()]
    return sorted(job.pictures[0].address for job in jobs if job)


def test_what_nobody_told_us_of_is_asked_for_once(courier: Courier, studio: MemoryStudio) -> None:
    converge(courier)
    assert segment_all(courier) == 5
    assert all(len(stored) == 1 for stored in studio.stored.values())
    converge(courier)
    assert segment_all(courier) == 0


def test_tasks_older_than_the_connection_are_left_to_prelabel(courier: Courier, studio: MemoryStudio) -> None:
    studio.rows[1][0]["created_at"] = NOW
    converge(courier)
    assert courier.jobs.open_ids() == []


def test_a_project_that_is_not_connected_is_left_alone(courier: Courier, studio: MemoryStudio) -> None:
    studio.rows.clear()
    converge(courier)
    assert courier.jobs.open_ids() == []


def test_redis_emptied_with_jobs_open(courier: Courier, studio: MemoryStudio, redis: Redis) -> None:
    courier.round()
    converge(courier)
    segment_all(courier)
    studio.show(6, "/data/upload/1/6.png", NOW)
    converge(courier)
    redis.flushall()
    assert not courier.converger._all_wanted
    courier.round()
    assert courier.converger._all_wanted, "the lock was gone, so Redis has lost its memory"
    courier.converger.round()
    assert segment_all(courier) == 1
    assert all(len(stored) == 1 for stored in studio.stored.values())


def test_a_replaced_image_gets_its_own_mask(courier: Courier, studio: MemoryStudio) -> None:
    converge(courier)
    segment_all(courier)
    studio.show(2, "/data/upload/1/other.png")
    converge(courier)
    assert studio.stored[2] == [], "the mask of the old image is gone at once"
    assert segment_all(courier) == 1
    assert [len(stored) for stored in studio.stored.values()] == [1, 1, 1, 1, 1]
    studio.show(2, "/data/upload/1/2.png", "2026-01-03T00:00:00.000000Z")
    converge(courier)
    courier.deliver()
    assert len(studio.stored[2]) == 1, "back to the first image: kept from before"
    converge(courier)
    assert segment_all(courier) == 0


def test_a_replaced_image_is_found_although_redis_was_emptied(
    courier: Courier, studio: MemoryStudio, redis: Redis
) -> None:
    converge(courier)
    segment_all(courier)
    studio.show(2, "/data/upload/1/other.png")
    redis.flushall()
    converge(courier)
    assert addresses(courier) == ["/data/upload/1/other.png"]


def test_an_old_mask_that_an_annotation_began_with_stays(courier: Courier, studio: MemoryStudio) -> None:
    converge(courier)
    segment_all(courier)
    studio.annotated[2] = [{"id": 1, "parent_prediction": studio.stored[2][0]["id"]}]
    studio.show(2, "/data/upload/1/other.png")
    converge(courier)
    segment_all(courier)
    assert len(studio.stored[2]) == 2


def test_an_empty_prediction_without_a_record_is_asked_for_only_if_the_task_has_changed(
    courier: Courier, studio: MemoryStudio, config: LabelingConfig
) -> None:
    for number in studio.stored:
        studio._store(number, finished(config.version()))
    studio.changed[3] = "2026-01-02T00:00:00.000000Z"
    converge(courier)
    assert addresses(courier) == ["/data/upload/1/3.png"]
    (job_id,) = courier.jobs.open_ids()
    courier.jobs.finish(job_id, finished(config.version()), [])
    courier.deliver()
    assert len(studio.stored[3]) == 1, "it is empty again: the same"
    studio.changed[3] = "2026-01-03T00:00:00.000000Z"
    converge(courier)
    assert courier.jobs.open_ids() == [], "now it is recorded"


def test_failed_tasks_keep_their_budget(courier: Courier, studio: MemoryStudio, settings: Settings) -> None:
    for _ in range(settings.car_retries + 3):
        converge(courier)
        for job_id in courier.jobs.open_ids():
            courier.jobs.fail(job_id, "broken")
    assert {courier.jobs.ticket(job_id)["failures"] for job_id in courier.jobs.failed_ids()} == {
        str(settings.car_retries + 1)
    }
    assert not any(studio.stored.values())


def test_paused_projects_stay_paused(courier: Courier, redis: Redis) -> None:
    queues.pause(redis, 1)
    converge(courier)
    assert courier.jobs.open_ids() == []
    queues.resume(redis, 1)
    converge(courier)
    assert len(courier.jobs.open_ids()) == 5


def test_what_was_cancelled_is_not_asked_for_again(courier: Courier, studio: MemoryStudio) -> None:
    converge(courier)
    assert cancel(courier.jobs, 1).queued == 5
    converge(courier)
    assert courier.jobs.open_ids() == []


def test_deleted_predictions_come_back_without_computing(courier: Courier, studio: MemoryStudio) -> None:
    converge(courier)
    segment_all(courier)
    studio.stored[4].clear()
    converge(courier)
    assert courier.jobs.open_ids() == []
    courier.deliver()
    assert len(studio.stored[4]) == 1


def test_jobs_of_a_project_that_is_gone_are_cancelled(courier: Courier, studio: MemoryStudio) -> None:
    converge(courier)
    first, second = courier.jobs.open_ids()[:2]
    courier.jobs.start(first)
    courier.jobs.fail(second, "its image is gone")
    studio.projects_there.clear()
    studio.rows.clear()
    converge(courier)
    assert courier.jobs.open_ids() == [first], "what runs is finished, and not delivered"
    assert courier.jobs.failed_ids() == []
    courier.jobs.finish(first, finished("v", "cat"), ["cat"])
    assert courier.delivery.pending() == 0
    assert courier.connections.known() == {}


def test_open_and_failed_jobs_of_other_images_make_room_for_the_present_ones(
    courier: Courier, studio: MemoryStudio
) -> None:
    converge(courier)
    (failed,) = [job_id for job_id in courier.jobs.open_ids() if job_id.startswith("p1-t2-")]
    courier.jobs.fail(failed, "404")
    studio.delete(1)
    for number in (2, 3):
        studio.show(number, f"/data/upload/1/new-{number}.png")
    converge(courier)
    assert courier.jobs.failed_ids() == []
    wanted = [f"/data/upload/1/{name}.png" for name in ("4", "5", "new-2", "new-3")]
    assert addresses(courier) == wanted


def test_another_project_of_the_same_number_inherits_nothing(
    courier: Courier, studio: MemoryStudio, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(created_at: str) -> dict[str, object]:
        return {"id": 1, "label_config": CONFIG, "created_at": created_at}

    monkeypatch.setattr(studio, "project", lambda project: shown("2026-01-01T00:00:00.000000Z"))
    converge(courier)
    segment_all(courier)
    redis.hset(store.corrections_key(1), "2", b"what annotators of the first project changed")
    queues.pause(redis, 1)
    converge(courier)
    assert redis.exists(store.corrections_key(1)) == 1
    assert redis.keys(store.held_key(1, "*"))
    monkeypatch.setattr(studio, "project", lambda project: shown("2026-02-01T00:00:00.000000Z"))
    converge(courier)
    assert redis.exists(store.corrections_key(1)) == 0
    assert queues.paused(redis) == []


def test_a_large_project_is_compared_in_parts(
    courier: Courier, studio: MemoryStudio, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(convergence, "PAGES_AT_ONCE", 2)
    for number in range(6, 451):
        studio.show(number, f"/data/upload/1/{number}.png", NOW)
    parts = []
    for _ in range(3):
        studio.calls.clear()
        parts.append(courier.converger.convergence.converge(1))
        assert studio.calls.count("tasks") <= 3 + 5, "its jobs' tasks, too"
    assert [(part.read, part.asked, part.is_complete) for part in parts] == [
        (200, 200, False),
        (200, 200, False),
        (50, 50, True),
    ]


def test_idle_it_costs_five_requests(courier: Courier, studio: MemoryStudio) -> None:
    converge(courier)
    segment_all(courier)
    for _ in range(3):
        converge(courier)
    studio.calls.clear()
    courier.converger.convergence.converge(1)
    assert sorted(studio.calls) == ["backends", "ensure webhook", "newest", "project", "tasks"]


def test_without_convergence_the_webhook_is_seen_to_all_the_same(
    quiet_courier: Courier, studio: MemoryStudio, redis: Redis
) -> None:
    studio.hooks.clear()
    compare_soon(redis, 1)
    quiet_courier.converger.round()
    assert list(studio.hooks[1]) == [URL + "/webhook"]
    assert quiet_courier.jobs.open_ids() == []


def test_label_studio_away_is_waited_for(
    courier: Courier, studio: MemoryStudio, caplog: pytest.LogCaptureFixture
) -> None:
    studio.down = True
    courier.converger.compare_all()
    assert [courier.converger.round() for _ in range(3)] == [5.0, 5.0, 5.0]
    assert len(caplog.records) == 1, "said once"
    studio.down = False
    courier.converger.round()
    assert len(courier.jobs.open_ids()) == 5


def test_another_courier_at_work_compares_nothing(courier: Courier, studio: MemoryStudio) -> None:
    courier.is_at_work = False
    converge(courier)
    assert studio.calls == []


def test_a_queue_without_room_is_gone_on_with_later(small_courier: Courier) -> None:
    delivered = 0
    for _ in range(4):
        converge(small_courier)
        delivered += segment_all(small_courier)
    assert delivered == 5


def test_a_cancelled_queue_counts_by_time(redis: Redis, courier: Courier) -> None:
    cancel(courier.jobs, 1)
    assert convergence.cancelled_at(redis, 2) == ""
    moment = datetime.fromisoformat(convergence.cancelled_at(redis, 1))
    assert datetime.now(UTC) - moment < timedelta(seconds=5)
    cancel(courier.jobs)
    assert convergence.cancelled_at(redis, 2) > moment.isoformat()
