"""The real worker, without a model, on a Redis that refuses writes, goes away, or forgets everything."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image
from redis import Redis
from redis.exceptions import RedisError
from rq import Worker
from rq.worker_registration import get_keys

from backend import store
from backend.queue.jobs import Job, Jobs, State
from backend.settings import Settings
from tests.backend.conftest import one_image
from tests.backend.refusing import WAYS
from tests.conftest import RedisProcess


def picture() -> str:
    """A small image as a data: URI."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 120, 200)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass
class Running:
    """A worker's process, and what it has logged."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self, words: str) -> int:
        """How many lines hold these words."""
        return sum(words in line for line in self.log.read_text().splitlines())

    def is_well(self) -> None:
        """It is the same process, and nothing unforeseen was raised in it."""
        assert self.process.poll() is None
        assert "Traceback" not in self.log.read_text()


@contextmanager
def null_worker(redis: RedisProcess, folder: Path, *options: str) -> Iterator[Running]:
    log = folder / "worker.log"
    env = {**os.environ, "REDIS_URL": redis.url, "LABEL_STUDIO_URL": "http://studio.test:8080"}
    command = [sys.executable, "-m", "tests.load.null_worker", *options]
    with log.open("wb") as file, subprocess.Popen(command, env=env, stderr=file) as process:
        try:
            yield Running(process, log)
        finally:
            process.kill()


@pytest.fixture
def own_jobs(own_redis: RedisProcess, settings: Settings) -> Jobs:
    return Jobs(Redis.from_url(own_redis.url), settings.model_copy(update={"redis_url": own_redis.url}))


@pytest.fixture
def asked(job: Job) -> Job:
    return replace(job, pictures=one_image(picture()))


def seconds_until(condition: Callable[[], bool], at_most: float) -> float:
    begun = time.monotonic()
    while time.monotonic() - begun < at_most:
        try:
            if condition():
                return time.monotonic() - begun
        except RedisError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"not within {at_most} s")


def has(jobs: Jobs, job: Job, state: State) -> Callable[[], bool]:
    return lambda: jobs.state(jobs.id_of(job)) is state


def registered(jobs: Jobs) -> Callable[[], bool]:
    return lambda: len(get_keys(connection=jobs.redis)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("code", [*WAYS, "away"])
def test_an_idle_worker_waits_and_goes_on_at_once(
    own_redis: RedisProcess, own_jobs: Jobs, asked: Job, tmp_path: Path, code: str
) -> None:
    with null_worker(own_redis, tmp_path, "--latency", "0") as running:
        seconds_until(registered(own_jobs), 20)
        own_jobs.request(replace(asked, task=1), store.BATCH)
        seconds_until(has(own_jobs, replace(asked, task=1), State.DONE), 10)
        refuse, accept = WAYS.get(code, (lambda _: own_redis.stop(), lambda _: own_redis.start()))
        refuse(own_jobs.redis)
        time.sleep(4)
        running.is_well()
        accept(own_jobs.redis)
        own_jobs.request(replace(asked, task=2), store.BATCH)
        seconds = seconds_until(has(own_jobs, replace(asked, task=2), State.DONE), 10)
        print(f"{code}: a job is done {seconds:.2f} s after Redis is back")
        assert seconds < 2 or code == "away"
        running.is_well()
        assert running.said("tried again every second") <= 2


@pytest.mark.slow
@pytest.mark.parametrize("code", [*WAYS, "away"])
def test_in_mid_job_nothing_is_lost_and_nothing_is_done_twice(
    own_redis: RedisProcess, own_jobs: Jobs, asked: Job, tmp_path: Path, code: str
) -> None:
    with null_worker(own_redis, tmp_path, "--latency", "1") as running:
        seconds_until(registered(own_jobs), 20)
        own_jobs.request(asked, store.BATCH)
        seconds_until(has(own_jobs, asked, State.RUNNING), 10)
        refuse, accept = WAYS.get(code, (lambda _: own_redis.stop(), lambda _: own_redis.start()))
        refuse(own_jobs.redis)
        time.sleep(4)
        running.is_well()
        accept(own_jobs.redis)
        seconds = seconds_until(has(own_jobs, asked, State.DONE), 10)
        print(f"{code}: the job is done {seconds:.2f} s after Redis is back")
        assert seconds < 2 or code == "away"
        assert own_jobs.result(own_jobs.id_of(asked)) is not None
        own_jobs.request(replace(asked, task=2), store.BATCH)
        seconds_until(has(own_jobs, replace(asked, task=2), State.DONE), 5)
        running.is_well()
        assert own_jobs.ticket(own_jobs.id_of(asked)).get("error") is None


@pytest.mark.slow
def test_a_worker_may_start_before_redis_takes_writes(
    own_redis: RedisProcess, own_jobs: Jobs, asked: Job, tmp_path: Path
) -> None:
    own_jobs.request(asked, store.BATCH)
    WAYS["NOREPLICAS"][0](own_jobs.redis)
    with null_worker(own_redis, tmp_path, "--latency", "0") as running:
        seconds_until(lambda: running.said("NOREPLICAS") == 1, 20)
        WAYS["NOREPLICAS"][1](own_jobs.redis)
        assert seconds_until(has(own_jobs, asked, State.DONE), 10) < 2
        running.is_well()


@pytest.mark.slow
@pytest.mark.parametrize("at", ["its start", "idle"])
def test_told_to_stop_while_it_waits_it_ends(own_redis: RedisProcess, own_jobs: Jobs, tmp_path: Path, at: str) -> None:
    if at == "its start":
        WAYS["NOREPLICAS"][0](own_jobs.redis)
    with null_worker(own_redis, tmp_path, "--latency", "0") as running:
        if at == "idle":
            seconds_until(registered(own_jobs), 20)
            WAYS["NOREPLICAS"][0](own_jobs.redis)
        seconds_until(lambda: running.said("NOREPLICAS") == 1, 20)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(3) == 0
        assert running.said("Traceback") == 0


@pytest.mark.slow
def test_a_forgotten_worker_registers_again(
    own_redis: RedisProcess, own_jobs: Jobs, asked: Job, tmp_path: Path
) -> None:
    with null_worker(own_redis, tmp_path, "--latency", "0", "--hurry", "15") as running:
        seconds_until(registered(own_jobs), 20)
        (before,) = Worker.all(own_jobs.redis)
        own_jobs.redis.flushall()
        seconds = seconds_until(registered(own_jobs), 10)
        print(f"registered again {seconds:.2f} s after FLUSHALL, with a heartbeat each second")
        assert seconds < 2
        (after,) = Worker.all(own_jobs.redis)
        for name in ("name", "pid", "hostname", "birth_date", "version"):
            assert getattr(after, name) == getattr(before, name), name
        assert after.queue_names() == list(store.QUEUES)
        assert after.get_state() == "idle"
        assert all(get_keys(queue=own_jobs.queues[queue]) for queue in store.QUEUES)
        assert 0 < own_jobs.redis.ttl(after.key) <= 120
        own_jobs.request(asked, store.BATCH)
        seconds_until(has(own_jobs, asked, State.DONE), 5)
        running.is_well()


@pytest.mark.slow
def test_a_worker_whose_job_is_forgotten_finishes_it_and_goes_on(
    own_redis: RedisProcess, own_jobs: Jobs, asked: Job, tmp_path: Path
) -> None:
    with null_worker(own_redis, tmp_path, "--latency", "3", "--hurry", "15") as running:
        seconds_until(registered(own_jobs), 20)
        own_jobs.request(asked, store.BATCH)
        seconds_until(has(own_jobs, asked, State.RUNNING), 10)
        own_jobs.redis.flushall()
        assert seconds_until(registered(own_jobs), 5) < 2
        (worker,) = Worker.all(own_jobs.redis)
        assert (worker.get_state(), worker.get_current_job_id()) == ("busy", own_jobs.id_of(asked))
        seconds_until(lambda: Worker.all(own_jobs.redis)[0].get_state() == "idle", 10)
        assert own_jobs.ticket(own_jobs.id_of(asked)) == {}, "nobody asks for it any more"
        lasting = {key for key in own_jobs.redis.keys("*") if own_jobs.redis.ttl(key) < 0 and b"job" in key}
        assert lasting == set()
        own_jobs.request(asked, store.BATCH)
        seconds_until(has(own_jobs, asked, State.DONE), 10)
        running.is_well()
