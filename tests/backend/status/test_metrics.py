from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from backend import store
from backend.app import create_app
from backend.queue.failures import Failure
from backend.queue.jobs import Job, Jobs
from backend.settings import Settings
from backend.status import measures
from backend.status.reports import Device, Doing, Reporter
from tests.backend.refusing import WAYS
from tests.conftest import RedisProcess


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    return create_app(settings).test_client()


def scrape(client: FlaskClient) -> Mapping[tuple[str, tuple[str, ...]], float]:
    """(name, label values by label name) -> value, as Prometheus reads the page."""
    answer = client.get("/metrics")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_queue_in_numbers(client: FlaskClient, jobs: Jobs, job: Job) -> None:
    for number in range(3):
        jobs.request(replace(job, task=number), store.BATCH)
    jobs.request(replace(job, task=9), store.INTERACTIVE)
    jobs.fail(jobs.id_of(replace(job, task=0)), "not an image", Failure.IMAGE)
    found = scrape(client)
    assert [found["car_jobs", (state,)] for state in ("queued", "running", "failed")] == [3, 0, 1]
    assert found["car_queue_length", ("interactive",)] == 1
    assert found["car_failures_total", ("image",)] == 1
    assert found["car_failures_total", ("network",)] == 0
    assert 0 < found["car_oldest_job_age_seconds", ()] < 120
    assert found["car_redis_up", ()] == 1
    assert found["car_courier_up", ()] == 0


def test_stages_are_histograms(client: FlaskClient, jobs: Jobs) -> None:
    measures.record(jobs.redis, 2.0, {"fetch": 0.02})
    measures.record(jobs.redis, 40.0, {"fetch": 0.2})
    found = scrape(client)
    assert (found["car_job_seconds_count", ()], found["car_job_seconds_sum", ()]) == (2, 42.0)
    assert [found["car_job_seconds_bucket", (bound,)] for bound in ("1.0", "2.5", "30.0", "60.0", "+Inf")] == [
        0,
        1,
        1,
        2,
        2,
    ]
    assert found["car_stage_seconds_sum", ("fetch",)] == pytest.approx(0.22)
    assert found["car_stage_seconds_bucket", ("0.025", "fetch")] == 1


def test_workers_report_through_redis(client: FlaskClient, jobs: Jobs) -> None:
    reporter = Reporter(jobs.redis, "photos", "v1")
    reporter.device = lambda: Device("H200 (cuda:0)", 2**30, 2**37)
    reporter.rest(finished=True)
    Reporter(jobs.redis, "photos", "v1").broken("no weights")
    found = scrape(client)
    own = {name: labels for name, labels in found if name.startswith("car_worker_")}
    (worker,) = own["car_worker_memory_bytes"]
    assert found["car_worker_device_memory_bytes", (worker,)] == 2**30
    assert found["car_worker_device_memory_total_bytes", (worker,)] == 2**37
    assert found["car_worker_memory_bytes", (worker,)] > 2**20
    assert found["car_worker_images_total", (worker,)] == 1
    assert found["car_workers_alive", ()] == 1
    assert [found["car_workers", (doing,)] for doing in Doing] == [0, 1, 0, 1]
    assert own["car_worker_info"] == ("H200 (cuda:0)", worker.split(":")[0], "photos", "v1", worker)


def test_names_and_units_are_as_prometheus_wants_them(client: FlaskClient, jobs: Jobs) -> None:
    measures.record(jobs.redis, 2.0, {"fetch": 0.02})
    Reporter(jobs.redis, "demo", "v").rest()
    for family in text_string_to_metric_families(client.get("/metrics").text):
        assert family.name.startswith("car_")
        assert family.documentation.endswith(".")
        names = {sample.name for sample in family.samples}
        assert not any(word in family.name for word in ("_ms", "_mb", "_minutes", "_percent"))
        if family.type == "counter":
            assert names <= {f"{family.name}_total"}
        elif family.type == "gauge":
            assert names <= {family.name}
            assert not family.name.endswith("_total")


def test_with_redis_away_it_is_quick_and_says_so(own_redis: RedisProcess, settings: Settings) -> None:
    client = create_app(settings.model_copy(update={"redis_url": own_redis.url})).test_client()
    assert scrape(client)["car_redis_up", ()] == 1
    own_redis.stop()
    begun = time.monotonic()
    assert scrape(client) == {("car_redis_up", ()): 0, ("car_webhooks_refused_total", ()): 0}
    assert time.monotonic() - begun < 5
    own_redis.start()
    assert scrape(client)["car_redis_up", ()] == 1


def test_a_redis_that_refuses_writes_is_up_and_not_writable(own_redis: RedisProcess, settings: Settings) -> None:
    client = create_app(settings.model_copy(update={"redis_url": own_redis.url})).test_client()
    refuse, accept = WAYS["READONLY"]
    with Redis.from_url(own_redis.url) as redis:
        assert scrape(client)["car_redis_writable", ()] == 1
        refuse(redis)
        for _ in range(2):
            client.post("/webhook", json={"action": "TASKS_CREATED"})
        found = scrape(client)
        assert (found["car_redis_up", ()], found["car_redis_writable", ()]) == (1, 0)
        assert found["car_webhooks_refused_total", ()] == 2
        accept(redis)
        assert scrape(client)["car_redis_writable", ()] == 1


def test_a_long_list_of_failures_costs_a_scrape_nothing(client: FlaskClient, jobs: Jobs, job: Job) -> None:
    for number in range(30):
        jobs.request(replace(job, task=number), store.BATCH)
        jobs.fail(jobs.id_of(replace(job, task=number)), "x")
    before = jobs.redis.info("stats")["total_commands_processed"]
    assert scrape(client)["car_jobs", ("failed",)] == 30
    assert jobs.redis.info("stats")["total_commands_processed"] - before < 120, "60 of them are the minutes"


def test_the_table_in_the_docs_is_complete(client: FlaskClient, jobs: Jobs) -> None:
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    documented = {name for line in text.splitlines() if line.startswith("| `car_") for name in named(line)}
    measures.record(jobs.redis, 2.0, {"fetch": 0.02})
    Reporter(jobs.redis, "demo", "v").rest()
    families = text_string_to_metric_families(client.get("/metrics").text)
    assert {f"{one.name}_total" if one.type == "counter" else one.name for one in families} == documented
    assert all(f"| `{kind}` |" in text for kind in Failure)
    assert ", ".join(measures.STAGES[:-1]) in text
    assert all(doing in text for doing in Doing)


def named(line: str) -> list[str]:
    """The metrics in the first column of a row."""
    return re.findall(r"`(car_[a-z_]+)`", line.split("|")[1])
