"""`python -m backend status --check`: what a container's health check is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from redis import Redis
from werkzeug.serving import make_server

from backend import store
from backend.__main__ import main
from backend.app import create_app
from backend.local.ports import any_free_port
from backend.settings import Settings
from backend.status import alive
from backend.status.reports import Reporter
from tests.backend.refusing import WAYS
from tests.conftest import RedisProcess


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)


def test_a_worker_of_this_host(redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["status", "--check", "worker"]) == 1
    reporter = Reporter(redis, "demo", "car-demo")
    with reporter.reporting():
        assert main(["status", "--check", "worker"]) == 0
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("socket.gethostname", lambda: "another")
            assert alive.worker(settings) == (False, "no worker of another reports")
        reporter.broken("the weights are missing")
    assert alive.worker(settings) == (False, "the weights are missing")


def test_a_courier(redis: Redis) -> None:
    assert main(["status", "--check", "courier"]) == 1
    redis.set(store.COURIER, "somebody", ex=15)
    assert main(["status", "--check", "courier"]) == 0


def test_a_redis_that_is_away_kills_nobody(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{any_free_port()}")
    for role in ("worker", "courier"):
        assert main(["status", "--check", role]) == 0
        assert "cannot tell" in capsys.readouterr().out


def test_a_redis_that_refuses_writes_kills_nobody(
    own_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reports expire there, as workers cannot renew them."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    with Redis.from_url(own_redis.url) as redis:
        WAYS["NOREPLICAS"][0](redis)
    for role in ("worker", "courier"):
        assert main(["status", "--check", role]) == 0
        assert "cannot tell. Redis at REDIS_URL refuses writes (NOREPLICAS" in capsys.readouterr().out


@pytest.fixture
def served(settings: Settings) -> Iterator[tuple[str, Settings]]:
    """The web process with a password, and the settings that hold it."""
    settings = settings.model_copy(update={"basic_auth_user": "car", "basic_auth_pass": SecretStr("hush")})
    server = make_server("127.0.0.1", 0, create_app(settings), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", settings
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_web_process(served: tuple[str, Settings], settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    url, own = served
    assert alive.web(own, f"{url}/") == (True, f"{url}/ answers")
    assert alive.web(settings, url)[0] is False, "without the password"
    gone = f"http://127.0.0.1:{any_free_port()}"
    assert main(["status", "--check", "web", "--url", gone]) == 1
    assert "does not answer" in capsys.readouterr().out
