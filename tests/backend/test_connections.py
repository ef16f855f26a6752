"""Who is connected to us, and by which webhook Label Studio tells us of imports."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from backend import store
from backend.app import create_app
from backend.connections import Connections, note_setup, webhook_problem, webhook_problems
from backend.settings import Settings
from backend.studio.client import SECRET_HEADER, StudioUnavailable, secret_of
from tests.backend.conftest import CONFIG, MemoryStudio

URL = "http://10.0.0.5:9090"


@pytest.fixture
def studio(redis: Redis) -> MemoryStudio:
    """A Label Studio that reaches our web process."""
    studio = MemoryStudio()
    studio.setup = lambda project: note_setup(redis, project, URL + "/")
    return studio


@pytest.fixture
def connections(redis: Redis, settings: Settings, studio: MemoryStudio) -> Connections:
    return Connections(redis, settings, studio)  # type: ignore[arg-type]


def test_a_project_whose_backend_calls_us_is_connected(connections: Connections, studio: MemoryStudio) -> None:
    assert connections.look(1) is None
    studio.connect(1, URL, since="2026-01-01T12:00:00.000000Z")
    found = connections.look(1)
    assert found is not None
    assert (found.backend, found.url, found.since) == (10, URL, "2026-01-01T12:00:00.000000Z")
    assert connections.known() == {1: found}


def test_somebody_elses_backend_is_not_us(connections: Connections, studio: MemoryStudio) -> None:
    studio.connect(1, "http://10.0.0.9:9090")
    studio.setup = lambda project: None  # it is called, we are not
    assert connections.look(1) is None


def test_of_two_backends_the_one_at_our_address_is_us(connections: Connections, studio: MemoryStudio) -> None:
    studio.connect(1, "http://10.0.0.9:9090")
    studio.connect(1, URL)
    found = connections.look(1)
    assert found is not None
    assert found.url == URL


def test_behind_a_proxy_that_hides_the_address_the_version_tells(connections: Connections, redis: Redis) -> None:
    studio = connections.studio
    assert isinstance(studio, MemoryStudio)
    studio.setup = lambda project: note_setup(redis, project, "http://inner:9090/")
    studio.connect(1, "https://car.example.com")
    studio.rows[1].insert(0, {"id": 5, "url": "http://other:9090", "created_at": "", "model_version": "yolo"})
    found = connections.look(1)
    assert found is not None
    assert found.url == "https://car.example.com"


def test_while_label_studio_does_not_reach_us_what_was_known_stays(
    connections: Connections, studio: MemoryStudio
) -> None:
    studio.connect(1, URL)
    connections.look(1)
    studio.setup = lambda project: None
    assert connections.look(1) is not None
    studio.rows[1][0]["url"] = "http://10.0.0.9:9090"
    assert connections.look(1) is None, "it was moved to somebody else"


def test_a_disconnected_project_loses_its_webhook(connections: Connections, studio: MemoryStudio) -> None:
    studio.connect(1, URL)
    studio.hooks[1]["http://10.0.0.7/other"] = {}
    connections.look(1)
    studio.setup(1)  # Label Studio 1.23 calls /setup when a model is disconnected
    studio.rows[1].clear()
    assert not connections.is_connected(1)
    assert list(studio.hooks[1]) == ["http://10.0.0.7/other"]
    assert connections.known() == {}


def test_a_backend_that_was_moved_leaves_no_webhook_at_its_old_address(
    connections: Connections, studio: MemoryStudio
) -> None:
    studio.connect(1, "http://10.0.0.4:9090")
    connections.look(1)
    studio.rows[1][0]["url"] = URL
    found = connections.look(1)
    assert found is not None
    connections.ensure_webhook(found)
    assert list(studio.hooks[1]) == [URL + "/webhook"]


def test_label_studio_is_asked_only_after_it_has_called(connections: Connections, studio: MemoryStudio) -> None:
    studio.connect(1, URL)
    connections.look(1)
    studio.calls.clear()
    assert all(connections.is_connected(1) for _ in range(3))
    assert studio.calls == []
    studio.setup(1)  # somebody opens the project
    assert all(connections.is_connected(1) for _ in range(3))
    assert studio.calls == ["backends"]


def test_a_missing_webhook_is_made_with_the_secret(redis: Redis, settings: Settings, studio: MemoryStudio) -> None:
    closed = settings.model_copy(
        update={"basic_auth_user": "anna", "basic_auth_pass": Settings(basic_auth_pass="x").basic_auth_pass}
    )
    connections = Connections(redis, closed, studio)  # type: ignore[arg-type]
    studio.connect(1, URL)
    studio.hooks.clear()
    found = connections.look(1)
    assert found is not None
    assert connections.ensure_webhook(found) == ""
    assert studio.hooks == {1: {URL + "/webhook": {SECRET_HEADER: secret_of(("anna", "x"))}}}


def test_a_webhook_that_cannot_be_is_said_once_with_the_cause(
    connections: Connections, studio: MemoryStudio, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    studio.connect(1, "http://backend:9090")
    found = connections.look(1)
    assert found is not None
    for _ in range(3):
        assert "host without a dot" in connections.ensure_webhook(found)
    assert connections.studio.calls.count("ensure webhook") == 1, "it is not asked every second"  # type: ignore[attr-defined]
    (told,) = [record.message for record in caplog.records if "host without a dot" in record.message]
    assert "http://backend.car.internal:9090" in told
    assert list(webhook_problems(redis)) == [1]
    studio.rows[1][0]["url"] = "http://backend.car.internal:9090"
    moved = connections.look(1)
    assert moved is not None
    assert connections.ensure_webhook(moved) == ""
    assert webhook_problems(redis) == {}


def test_label_studio_away_is_no_problem_of_the_webhook(
    connections: Connections, studio: MemoryStudio, redis: Redis
) -> None:
    studio.connect(1, URL)
    found = connections.look(1)
    assert found is not None
    studio.down = True
    with pytest.raises(StudioUnavailable):
        connections.ensure_webhook(found)
    assert webhook_problems(redis) == {}


@pytest.mark.parametrize(
    ("url", "possible"),
    [
        ("http://localhost:9090", True),
        ("http://127.0.0.1:9090", True),
        ("http://[::1]:9090", True),
        ("http://backend.car.internal:9090/sub", True),
        ("http://backend:9090", False),
        ("http://car-backend", False),
    ],
)
def test_label_studio_wants_a_dot(url: str, possible: bool) -> None:
    assert (webhook_problem(url) == "") == possible


def test_setup_of_a_new_project_has_it_looked_at(redis: Redis, settings: Settings) -> None:
    client = create_app(settings).test_client()
    body = {"project": "3.1795154356", "schema": CONFIG}
    assert client.post("/setup", json=body, base_url=URL).status_code == 200
    assert redis.zrange(store.CONVERGE_DUE, 0, -1) == [b"3"]
    redis.delete(store.CONVERGE_DUE)
    redis.hset(store.CONNECTED, "3", json.dumps({}))
    assert client.post("/setup", json={**body, "schema": "<View/>"}, base_url=URL).status_code == 400
    assert redis.exists(store.CONVERGE_DUE) == 0, "it is known"
    assert redis.hget(store.SETUPS, "3") == b"2", "also where the labeling config cannot be served"
