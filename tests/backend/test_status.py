from __future__ import annotations

import json
from dataclasses import replace

import pytest

from backend import store
from backend.__main__ import main
from backend.commands.status import as_text
from backend.delivery import Delivery
from backend.queue import queues
from backend.queue.jobs import Job, Jobs
from backend.settings import Settings
from backend.status import measures, overview
from backend.status.reports import Device, Reporter
from tests.backend.conftest import finished


def test_it_tells_what_there_is(jobs: Jobs, delivery: Delivery, job: Job) -> None:
    many = [replace(job, task=number) for number in range(6)]
    for one in many:
        jobs.request(one, store.BATCH)
    jobs.fail(jobs.id_of(many[0]), "the image is gone (404)")
    for one in many[1:3]:
        jobs.finish(jobs.id_of(one), finished(one.version, "cat"), ["cat"])
    first, _ = delivery.take_due(10)
    delivery.delivered(first)
    delivery.postpone(jobs.id_of(many[2]), 60, "connection refused")
    status = overview.read(jobs, shown=5)
    told = (status.queued, status.running, status.failed, status.delivered, status.in_outbox, status.workers)
    assert told == (3, 0, 1, 1, 1, 0)
    (failure,) = status.failures
    assert (failure.task, failure.error) == (0, "the image is gone (404)")
    text = as_text(status)
    for words in ("task 0 of project 1: the image is gone (404)", "connection refused", "python -m backend worker"):
        assert words in text


def test_as_a_command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["queued"] == 0
    assert main(["requeue"]) == 0
    assert "0 failed tasks" in capsys.readouterr().out
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    for command in ("status", "requeue"):
        assert main([command]) == 1
        assert "REDIS_URL" in capsys.readouterr().err


def test_an_unknown_command_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["start"])
    assert "courier" in capsys.readouterr().err


def test_workers_running_tasks_and_pauses_in_words(jobs: Jobs, job: Job) -> None:
    jobs.request(job, store.BATCH)
    job_id = jobs.id_of(job)
    jobs.start(job_id)
    jobs.redis.zadd("rq:wip:batch", {f"{job_id}:1": 9e9})
    worker = Reporter(jobs.redis, "photos", "car-photos-1")
    worker.device = lambda: Device("H200 (cuda:0)")
    worker.begin(job_id)
    queues.pause(jobs.redis, 4)
    measures.record(jobs.redis, 2.0, {})
    text = as_text(overview.read(jobs))
    for words in (
        f"photos on H200 (cuda:0)  working on {job_id} since 0 s",
        "task 7 of project 1: 0 s",
        "2.0 s per image",
        "paused     4   go on with `python -m backend resume`",
    ):
        assert words in text
    worker.broken("no weights")
    assert "broken since 0 s  no weights" in as_text(overview.read(jobs))
