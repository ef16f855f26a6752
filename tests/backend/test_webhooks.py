from __future__ import annotations

import json
import time

import pytest
from redis import Redis

from backend import store, webhooks
from backend.app import create_app
from backend.predict import Predictor
from backend.settings import Settings
from backend.studio.client import SECRET_HEADER, secret_of
from backend.webhooks import Webhooks
from tests.backend.conftest import CONFIG, task


@pytest.fixture
def reader(redis: Redis, settings: Settings) -> Webhooks:
    return Webhooks(redis, settings, Predictor(settings))


def event(*numbers: int, action: str = "TASKS_CREATED", config: str = CONFIG) -> bytes:
    tasks = [task(number) for number in numbers]
    return json.dumps({"action": action, "tasks": tasks, "project": {"id": 1, "label_config": config}}).encode()


def test_an_import_is_prelabelled(reader: Webhooks, redis: Redis) -> None:
    redis.lpush(store.INBOX, event(1, 2, 3))
    assert reader.read_one()
    assert len(reader.predictor.jobs.queues[store.BATCH]) == 3
    assert redis.llen(store.INBOX) == redis.llen(store.READING) == 0


def test_a_courier_that_died_over_a_webhook_starts_it_again(reader: Webhooks, redis: Redis) -> None:
    redis.lpush(store.READING, event(1, 2))
    redis.lpush(store.INBOX, event(3))
    while reader.read_one():
        pass
    assert len(reader.predictor.jobs.queues[store.BATCH]) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"5",
        b"{}",
        b'{"action": "TASKS_CREATED"}',
        b'{"action": "TASKS_CREATED", "tasks": 3, "project": {"id": 1, "label_config": "<View/>"}}',
        event(1, action="ANNOTATION_CREATED"),
        event(1, config="<View/>"),
        event(1, config=CONFIG.replace("<BrushLabels", '<BrushLabels model_skip="true"')),
    ],
)
def test_other_webhooks_are_read_and_do_no_harm(reader: Webhooks, redis: Redis, body: bytes) -> None:
    redis.lpush(store.INBOX, body)
    redis.lpush(store.INBOX, event(9))
    while reader.read_one():
        pass
    assert len(reader.predictor.jobs.queues[store.BATCH]) == 1
    assert redis.llen(store.READING) == 0


def test_an_import_waits_for_room(redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "FULL_SECONDS", 0.05)
    small = settings.model_copy(update={"car_queue_limit": 2})
    reader = Webhooks(redis, small, Predictor(small))
    redis.lpush(store.INBOX, event(1, 2, 3))
    assert not reader.read_one()
    assert redis.llen(store.READING) == 1
    jobs = reader.predictor.jobs
    for job_id in jobs.open_ids():
        jobs.finish(job_id, {}, [])
    time.sleep(0.06)
    assert reader.read_one()
    assert redis.llen(store.READING) == 0
    assert len(jobs.open_ids()) == 1, "the third; the others are not asked for twice"


@pytest.fixture
def closed(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"basic_auth_user": "anna", "basic_auth_pass": Settings(basic_auth_pass="x").basic_auth_pass}
    )


def test_a_webhook_is_let_in_by_its_secret_alone(closed: Settings) -> None:
    client = create_app(closed).test_client()
    headers = {SECRET_HEADER: secret_of(("anna", "x"))}
    assert client.post("/webhook", json={"action": "TASKS_CREATED"}).status_code == 401
    assert client.post("/webhook", json={"action": "TASKS_CREATED"}, headers=headers).status_code == 201


def test_imports_of_a_project_that_is_not_connected_are_left_alone(redis: Redis, settings: Settings) -> None:
    asked: list[int] = []
    reader = Webhooks(redis, settings, Predictor(settings), is_connected=lambda project: bool(asked.append(project)))
    redis.lpush(store.INBOX, event(1, 2))
    assert reader.read_one()
    assert asked == [1]
    assert len(reader.predictor.jobs.queues[store.BATCH]) == 0


@pytest.mark.parametrize("path", ["/predict", "/setup", "/health", "/versions"])
def test_the_secret_opens_the_webhook_only(closed: Settings, path: str) -> None:
    headers = {SECRET_HEADER: secret_of(("anna", "x"))}
    assert create_app(closed).test_client().get(path, headers=headers).status_code == 401


def test_secrets_differ_by_user_and_password() -> None:
    assert len({secret_of(auth) for auth in (("a", "x"), ("b", "x"), ("a", "y"), ("é", "ü"))}) == 4
