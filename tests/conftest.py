"""Fixtures for all tests: a real Redis on a free port, empty before each test."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from redis import Redis
from xdist.scheduler import LoadScopeScheduling

from backend.local import redis_server
from backend.local.ports import any_free_port
from backend.settings import Settings

# Threads that spin while they wait slow down everything else here; must be said before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# An example that takes 200 ms says that the machine is busy, not that something is wrong.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


class Modules(LoadScopeScheduling):
    """With `--numprocesses`: a module stays in one process, and so do all of tests/e2e, which share a Label Studio."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/e2e" if nodeid.startswith("tests/e2e/") else nodeid.split("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Modules:
    return Modules(config, log)


class RedisProcess:
    """A redis-server that tests may stop, freeze and start again; it keeps its data over a restart."""

    def __init__(self, folder: Path):
        self.port = any_free_port()
        self.url = redis_server.url(self.port)
        self._program = redis_server.program(redis_server.find_server(), folder, self.port, {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = self._program.command
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while not redis_server.answers(self.url):
            assert time.monotonic() < until, "redis-server did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@pytest.fixture(scope="session")
def _redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def redis_url(_redis_process: RedisProcess) -> str:
    with Redis.from_url(_redis_process.url) as client:
        client.flushall()
    return _redis_process.url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis for one test, to be stopped and frozen at will."""
    process = RedisProcess(tmp_path / "redis")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(
        redis_url=redis_url,
        label_studio_url="http://studio.test:8080",
        label_studio_api_key="topsecret",
        car_wait=0.5,
        car_verify_seconds=0.3,
        car_retry_seconds=(0,),
    )
