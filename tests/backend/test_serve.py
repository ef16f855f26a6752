"""The real web process, in gunicorn, under requests that wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from redis import Redis

from backend.local.ports import any_free_port
from tests.backend.conftest import CONFIG, task


@pytest.fixture
def server(redis_url: str, tmp_path: Path) -> Iterator[tuple[str, int]]:
    port = any_free_port()
    env = {**os.environ, "REDIS_URL": redis_url, "CAR_WAIT": "20", "CAR_PRESET": "demo"}
    command = [sys.executable, "-m", "backend", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env=env)
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 30
    while not answers(url):
        assert time.monotonic() < until, "gunicorn did not start"
        time.sleep(0.1)
    yield url, process.pid
    process.send_signal(signal.SIGQUIT)  # gunicorn: stop without waiting for requests
    process.wait(90)  # threads that wait for a mask end with CAR_WAIT


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=1).ok
    except requests.RequestException:
        return False


def ask(url: str, number: int) -> None:
    body = {"tasks": [task(number)], "project": "1.1", "label_config": CONFIG, "params": {}}
    requests.post(f"{url}/predict", json=body, timeout=30)


def test_health_answers_while_fifty_requests_wait(server: tuple[str, int], redis: Redis) -> None:
    url, _ = server
    redis.sadd("rq:workers", "rq:worker:pretended")
    threads = [threading.Thread(target=ask, args=(url, number), daemon=True) for number in range(50)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    seconds = []
    for _ in range(20):
        begun = time.monotonic()
        assert requests.get(f"{url}/health", timeout=1).json()["status"] == "UP"
        seconds.append(time.monotonic() - begun)
    waiting = sum(thread.is_alive() for thread in threads)
    print(f"{waiting} waiting; /health took {sorted(seconds)[10] * 1000:.1f} ms, at most {max(seconds) * 1000:.1f} ms")
    assert waiting == 16, "half of the threads wait, the other requests were answered"
    assert max(seconds) < 1, "Label Studio 1.23 waits for one second"


@pytest.mark.parametrize(
    ("options", "env", "code", "words"),
    [
        (["--host", "0.0.0.0"], {}, 2, "BASIC_AUTH_USER"),
        ([], {"LABEL_STUDIO_URL": "studio"}, 2, "LABEL_STUDIO_URL"),
        ([], {"CAR_THREADS": "none"}, 2, "CAR_THREADS"),
    ],
)
def test_it_refuses_to_start_with_settings_that_cannot_work(
    options: list[str], env: dict[str, str], code: int, words: str
) -> None:
    command = [sys.executable, "-m", "backend", "serve", *options]
    ended = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, words in ended.stderr) == (code, True)
    assert "Traceback" not in ended.stderr
