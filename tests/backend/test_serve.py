"""The real web process, under requests that wait, clients that hold connections, and signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from redis import Redis

from backend import store
from backend.commands.serve import HEADER_BYTES
from backend.local.ports import any_free_port
from tests.backend.conftest import CONFIG, task
from tests.backend.slow_clients import SENT, slow_clients

MANY = 200


@contextmanager
def serving(redis_url: str, **env: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = any_free_port()
    command = [sys.executable, "-m", "backend", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "REDIS_URL": redis_url, "CAR_PRESET": "demo", **env})
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 30
    try:
        while not answers(url):
            assert time.monotonic() < until, "the web process did not start"
            time.sleep(0.1)
        yield url, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server(redis_url: str) -> Iterator[str]:
    with serving(redis_url, CAR_WAIT="20") as (url, _):
        yield url


def answers(url: str) -> bool:
    """Whether it serves; 401 is an answer, too."""
    try:
        return requests.get(f"{url}/health", timeout=1).status_code in (200, 401)
    except requests.RequestException:
        return False


def ask(url: str, number: int) -> object:
    """Open a task; the answer comes when its mask is there or CAR_WAIT is over. None when the connection breaks."""
    body = {"tasks": [task(number)], "project": "1.1", "label_config": CONFIG, "params": {}}
    try:
        return requests.post(f"{url}/predict", json=body, timeout=30).json()
    except requests.ConnectionError:
        return None


def health_seconds(url: str) -> list[float]:
    """How long /health takes, twenty times, shortest first; it must answer."""
    seconds = []
    for _ in range(20):
        begun = time.monotonic()
        assert requests.get(f"{url}/health", timeout=5).json()["status"] == "UP"
        seconds.append(time.monotonic() - begun)
    return sorted(seconds)


def test_health_answers_while_fifty_requests_wait(server: str, redis: Redis) -> None:
    redis.sadd("rq:workers", "rq:worker:pretended")
    threads = [threading.Thread(target=ask, args=(server, number), daemon=True) for number in range(50)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    with slow_clients(server, "half of the headers", MANY):
        seconds = health_seconds(server)
    waiting = sum(thread.is_alive() for thread in threads)
    print(f"{waiting} waiting; /health took {seconds[10] * 1000:.1f} ms, at most {seconds[-1] * 1000:.1f} ms")
    assert waiting == 16, "half of the threads wait, the other requests were answered"
    assert seconds[-1] < 1, "Label Studio 1.23 waits for one second"


def test_clients_that_send_half_a_request_hold_no_thread(server: str) -> None:
    for kind in SENT:
        with slow_clients(server, kind, MANY) as clients:
            time.sleep(0.7)
            seconds = health_seconds(server)
            print(f"{kind}: /health took {seconds[10] * 1000:.1f} ms, at most {seconds[-1] * 1000:.1f} ms")
            assert seconds[-1] < 1, kind
            assert len(clients) == MANY


def test_what_is_too_large_is_refused_before_it_has_arrived(redis_url: str) -> None:
    with serving(redis_url, CAR_MAX_BODY_BYTES="2000") as (url, _):
        assert requests.get(f"{url}/health", headers={"X-Large": "x" * HEADER_BYTES}, timeout=5).status_code == 431
        event = {"action": "x" * (2000 - len('{"action": ""}'))}
        assert requests.post(f"{url}/webhook", json=event, timeout=5).status_code == 201
        with socket.create_connection(address(url), timeout=5) as client:
            client.sendall(b"POST /webhook HTTP/1.1\r\nHost: backend\r\nContent-Length: 2001\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_large_body_arrives_whole(server: str, redis: Redis) -> None:
    body = b'{"action": "%s"}' % (b"x" * 3_000_000)
    headers = {"Content-Type": "application/json"}
    assert requests.post(f"{server}/webhook", body, headers=headers, timeout=10).status_code == 201
    assert redis.lpop(store.INBOX) == body


def test_forwarded_headers_are_not_believed(redis_url: str, redis: Redis) -> None:
    names = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "Forwarded")
    forged = {name: "host=evil.test;proto=https" if name == "Forwarded" else "https" for name in names}
    password = ("car", "hush hush")
    with serving(redis_url, BASIC_AUTH_USER=password[0], BASIC_AUTH_PASS=password[1]) as (url, _):
        config = {"schema": CONFIG, "project": "7.1"}
        answer = requests.post(f"{url}/setup", json=config, headers=forged, auth=password, timeout=5)
        assert answer.ok
        assert "Server" not in answer.headers
        assert redis.hget(store.ADDRESSES, "7") == f"{url}/".encode()


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


def test_told_to_stop_it_answers_what_it_has_begun(redis_url: str, redis: Redis) -> None:
    redis.sadd("rq:workers", "rq:worker:pretended")
    with serving(redis_url, CAR_WAIT="2") as (url, process):
        kept = requests.Session()
        assert kept.get(f"{url}/health", timeout=5).ok, "a connection that is kept does not hold it up"
        with ThreadPoolExecutor(1) as somebody:
            answer = somebody.submit(ask, url, 1)
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address(url), timeout=1)
            assert answer.result(10) == {"results": [[]]}
        assert process.wait(10) == 0


def test_told_twice_to_stop_it_ends_at_once(redis_url: str, redis: Redis) -> None:
    redis.sadd("rq:workers", "rq:worker:pretended")
    with serving(redis_url, CAR_WAIT="20") as (url, process):
        threading.Thread(target=ask, args=(url, 1), daemon=True).start()
        time.sleep(0.5)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        assert process.wait(5) == -signal.SIGTERM


def test_it_writes_nothing_outside_of_the_temporary_folder(redis_url: str, tmp_path: Path) -> None:
    with serving(redis_url, HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path)) as (url, _):
        assert requests.get(f"{url}/health", timeout=5).ok
        assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "backend", "serve", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert f"Cannot listen on 127.0.0.1, port {port}" in ended.stderr
    assert "Traceback" not in ended.stderr


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
