from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from flask.testing import FlaskClient
from redis import Redis

from backend import store
from backend.app import create_app
from backend.delivery import Delivery
from backend.pages.status import memory
from backend.queue.failures import Failure, fix, requeue_command
from backend.queue.job import task_of
from backend.queue.jobs import Job, Jobs
from backend.settings import Settings
from backend.status import measures
from backend.status.overview import read
from backend.status.reports import Device, Reporter
from backend.trouble import REFUSALS
from tests.backend.conftest import finished
from tests.backend.refusing import WAYS
from tests.conftest import RedisProcess

BROWSER = {"Accept": "text/html"}
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    return create_app(settings).test_client()


@pytest.fixture
def worker(jobs: Jobs, job: Job, client: FlaskClient) -> Reporter:
    """A worker on a GPU that is at task 3; tasks 4 and 5 wait."""
    version = client.get("/status.json").json["web"]["version"]
    reporter = Reporter(jobs.redis, "demo", version)
    reporter.device = lambda: Device("H200 (cuda:0)", 3 * 2**29, 140 * 2**30)
    for number in (3, 4, 5):
        jobs.request(replace(job, task=number), store.BATCH)
    reporter.begin(jobs.id_of(replace(job, task=3)))
    return reporter


def page(client: FlaskClient) -> str:
    answer = client.get("/", headers=BROWSER)
    assert answer.status_code == 200
    return answer.text


def test_without_anybody_at_work_it_says_what_to_start(client: FlaskClient) -> None:
    shown = page(client)
    assert "start python -m backend worker" in shown
    assert "start python -m backend courier" in shown


def test_it_shows_who_works_on_what(client: FlaskClient, worker: Reporter, jobs: Jobs) -> None:
    jobs.redis.set(store.COURIER, "c")
    measures.record(jobs.redis, 2.0, {"fetch": 0.5})
    shown = page(client)
    assert 'class="note"' not in shown, "nothing is wrong"
    assert re.search(r"<td>batch</td><td class=\"number\">3</td>", shown)
    assert "in line:\n3 just arrived" in shown
    assert "H200 (cuda:0)" in shown
    assert "1.5 GB of 140.0 GB" in shown
    assert 'working: <a href="http://studio.test:8080/projects/1/data?task=3">task 3</a>' in shown
    assert '<td>fetch</td><td class="number">0.500</td>' in shown


def test_a_worker_of_another_release_is_named(client: FlaskClient, jobs: Jobs) -> None:
    Reporter(jobs.redis, "demo", "car-demo-old").send()
    assert "car-demo-old" in page(client)
    assert "from one release" in page(client)


def test_failures_come_with_their_fix(client: FlaskClient, jobs: Jobs, job: Job) -> None:
    jobs.request(job, store.BATCH)
    jobs.fail(jobs.id_of(job), "404 for photo.jpg", Failure.IMAGE)
    shown = page(client)
    assert "404 for photo.jpg" in shown
    assert fix("image") in shown
    assert "python -m backend requeue --project 1 --task 7" in shown


def test_what_users_write_stays_text(client: FlaskClient, jobs: Jobs, job: Job, delivery: Delivery) -> None:
    done = replace(job, task=8)
    for one in (job, done):
        jobs.request(one, store.BATCH)
    jobs.fail(jobs.id_of(job), f"cannot read {EVIL}.png")
    jobs.finish(jobs.id_of(done), finished(done.version), [EVIL])
    delivery.postpone(jobs.id_of(done), 0, f"400: {EVIL}")
    broken = Reporter(jobs.redis, EVIL, EVIL)
    broken.device = lambda: Device(EVIL)
    broken.broken(EVIL)
    shown = page(client)
    assert EVIL not in shown
    assert shown.count("&lt;script&gt;alert(1)") >= 5
    assert shown.count("<script") == 1, "ours"


def test_the_json_has_the_same_numbers(client: FlaskClient, worker: Reporter, jobs: Jobs) -> None:
    told = client.get("/status.json").json
    assert (told["queued"], told["running"], told["workers"], told["failed"]) == (3, 0, 1, 0)
    assert told["waiting"] == {"interactive": 0, "batch": 3, "retries": 0}
    (report,) = told["worker_reports"]
    assert (report["device"], task_of(report["job"])) == ("H200 (cuda:0)", (1, 3))
    assert (told["web"]["preset"], told["web"]["password"], told["web"]["open"]) == ("demo", False, False)
    assert len(told["minutes"]) == 60
    assert json.dumps(told)


def test_redis_away_is_told_quickly(own_redis: RedisProcess, settings: Settings) -> None:
    client = create_app(settings.model_copy(update={"redis_url": own_redis.url})).test_client()
    own_redis.stop()
    assert "Redis at REDIS_URL does not answer" in page(client)
    answer = client.get("/status.json")
    assert (answer.status_code, "REDIS_URL" in answer.json["error"]) == (503, True)
    assert answer.json["web"]["preset"] == "demo"


def test_a_redis_that_refuses_writes_is_told_and_so_are_the_webhooks_that_were_lost(
    own_redis: RedisProcess, settings: Settings
) -> None:
    client = create_app(settings.model_copy(update={"redis_url": own_redis.url})).test_client()
    refuse, accept = WAYS["NOREPLICAS"]
    with Redis.from_url(own_redis.url) as redis:
        redis.sadd(store.WORKERS, "a worker that is gone")
        assert client.get("/status.json").json["refuses_writes"] == ""
        assert "refused" not in page(client)
        refuse(redis)
        assert client.post("/webhook", json={"action": "TASKS_CREATED"}).status_code == 503
        shown = page(client)
        assert "refuses writes (NOREPLICAS" in shown
        assert REFUSALS["NOREPLICAS"] in shown
        told = client.get("/status.json")
        assert (told.status_code, REFUSALS["NOREPLICAS"] in told.json["refuses_writes"]) == (200, True)
        accept(redis)
        shown = page(client)
        assert "Until then nothing is queued" not in shown
        assert "Webhooks of Label Studio that this web process has refused since its start: 1, " in shown
        refused = client.get("/status.json").json["web"]["webhooks_refused"]
        assert (refused["count"], "NOREPLICAS" in refused["reason"]) == (1, True)


def test_running_jobs_with_their_age(jobs: Jobs, job: Job) -> None:
    jobs.request(job, store.BATCH)
    job_id = jobs.id_of(job)
    jobs.start(job_id)
    jobs.redis.hset(store.ticket_key(job_id), "started", jobs.redis.time()[0] - 90)
    jobs.redis.zadd("rq:wip:batch", {f"{job_id}:1": 9e9})
    (running,) = read(jobs).running_tasks
    assert (running.project, running.task, running.worker) == (1, 7, "")
    assert 89 <= running.seconds < 150


@pytest.mark.parametrize(
    ("job_id", "named"), [("p3-t17-abc", (3, 17)), ("p3-t17", (0, 0)), ("x", (0, 0)), ("", (0, 0)), ("p-t1-a", (0, 0))]
)
def test_task_of(job_id: str, named: tuple[int, int]) -> None:
    assert task_of(job_id) == named


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 MB"), (2**29, "512 MB"), (2**30, "1.0 GB"), (3 * 2**29, "1.5 GB")]
)
def test_memory(number: int, words: str) -> None:
    assert memory(number) == words


@pytest.mark.parametrize("kind", [*Failure, "of-the-future", ""])
def test_every_kind_of_failure_has_a_fix(kind: str) -> None:
    assert fix(kind)[0].isupper()
    assert not fix(kind).endswith(".")


def test_what_to_requeue() -> None:
    assert requeue_command(3, 8) == "python -m backend requeue --project 3 --task 8"
    assert requeue_command(None, None) == "python -m backend requeue"
