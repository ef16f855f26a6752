from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from backend import store, webhooks
from backend.__main__ import main
from backend.app import create_app
from backend.courier import Courier
from backend.labeling.parsing import LabelingConfig, parse_config
from backend.queue import sweep
from backend.queue.cancel import Cancelled, cancel, cancel_outdated, current_version
from backend.queue.job import Job, State
from backend.queue.jobs import Jobs
from backend.settings import Settings
from backend.studio.client import StudioError, StudioUnavailable
from tests.backend.conftest import CONFIG, MemoryStudio, finished
from tests.backend.queue.test_queues import ask, take, take_all

OTHER = CONFIG.replace("cat", "dog")


def of(jobs: Jobs, job: Job, **changes: Any) -> str:
    return jobs.id_of(replace(job, **changes))


def test_cancelling_empties_the_queue_of_one_project(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1, 2, 3)
    ask(jobs, job, 2, 1)
    take(jobs)
    jobs.start(of(jobs, job, task=1))
    assert cancel(jobs, 1) == Cancelled(queued=2, running=1)
    assert jobs.queues[store.BATCH].job_ids == [of(jobs, job, project=2, task=1)]
    assert sorted(jobs.open_ids()) == sorted([of(jobs, job, task=1), of(jobs, job, project=2, task=1)])
    assert take_all(jobs) == [(2, 1)]
    jobs.finish(of(jobs, job, task=1), {"result": []}, [])
    assert jobs.redis.zcard(store.OUTBOX) == 1, "what ran is delivered"


def test_project_eleven_is_not_project_one(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 11, 1)
    assert cancel(jobs, 1) == Cancelled(0, 0)
    assert cancel(jobs) == Cancelled(1, 0)


def test_what_waits_for_another_try_is_cancelled_too(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1)
    take(jobs)
    job_id = of(jobs, job, task=1)
    jobs.start(job_id)
    jobs.queues[store.BATCH].intermediate_queue.remove(job_id)
    jobs.retry(job_id, "Label Studio is restarting")
    jobs.redis.zadd("rq:scheduled:batch", {job_id: 1.0})
    assert cancel(jobs, 1).queued == 1
    sweep.sweep(jobs)
    assert take(jobs) is None
    assert jobs.redis.keys("*t1-*") == []


def test_cancelled_between_taking_and_starting_it_is_not_begun(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1)
    take(jobs)
    cancel(jobs, 1)
    assert not jobs.start(of(jobs, job, task=1))
    jobs.finish(of(jobs, job, task=1), {"result": []}, [])
    assert jobs.state(of(jobs, job, task=1)) is None
    assert jobs.redis.zcard(store.OUTBOX) == 0


def test_cancelled_tasks_can_be_asked_for_again(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1)
    cancel(jobs, 1)
    assert jobs.request(replace(job, task=1), store.BATCH) is State.QUEUED
    assert take_all(jobs) == [(1, 1)]


def test_after_a_change_of_the_config_the_old_ones_go_and_the_new_ones_stay(jobs: Jobs, job: Job) -> None:
    new = parse_config(OTHER, "demo")
    ask(jobs, job, 1, 1, 2, 3)
    take(jobs)
    jobs.start(of(jobs, job, task=1))
    ask(jobs, replace(job, config=new, version=new.version()), 1, 2)
    ask(jobs, replace(job, trial=True), 1, 9)
    ask(jobs, job, 2, 1)
    assert cancel_outdated(jobs, 1, new.version()) == Cancelled(queued=2, running=1)
    left = [of(jobs, job, task=2, config=new, version=new.version()), of(jobs, job, task=9, trial=True)]
    assert set(jobs.queues[store.BATCH].job_ids) == {*left, of(jobs, job, project=2, task=1)}


def test_jobs_that_an_earlier_release_queued_are_known_by_their_version_too(jobs: Jobs, job: Job) -> None:
    ask(jobs, job, 1, 1, 2)
    for job_id in jobs.open_ids():
        jobs.redis.hdel(store.ticket_key(job_id), "version")
    assert cancel_outdated(jobs, 1, job.version) == Cancelled(0, 0)
    assert cancel_outdated(jobs, 1, "car-demo-00000000-00000000") == Cancelled(2, 0)


def test_an_outdated_one_that_ran_is_kept_but_not_delivered(jobs: Jobs, job: Job, redis: Redis) -> None:
    job_id = jobs.id_of(job)
    jobs.request(job, store.BATCH)
    jobs.start(job_id)
    cancel_outdated(jobs, 1, "car-demo-00000000-00000000")
    jobs.finish(job_id, {"result": []}, [])
    assert redis.zcard(store.OUTBOX) == 0
    assert jobs.open_ids() == []
    assert 0 < redis.ttl(store.result_key(job_id)) <= jobs.keep_seconds
    assert jobs.request(job, store.BATCH) is State.DONE, "should the config be changed back"


def test_asked_for_again_while_it_runs_it_is_delivered_after_all(jobs: Jobs, job: Job, redis: Redis) -> None:
    jobs.request(job, store.BATCH)
    jobs.start(jobs.id_of(job))
    cancel_outdated(jobs, 1, "car-demo-00000000-00000000")
    assert jobs.request(job, store.BATCH) is State.RUNNING
    jobs.finish(jobs.id_of(job), {"result": []}, [])
    assert redis.zcard(store.OUTBOX) == 1


class StudioWithProjects(MemoryStudio):
    def __init__(self, **configs: str):
        super().__init__()
        self.configs = configs
        self.error: StudioError | None = None

    def project(self, project: int) -> dict[str, Any] | None:
        if self.error:
            raise self.error
        config = self.configs.get(f"p{project}")
        return None if config is None else {"id": project, "label_config": config}


def updated(courier: Courier) -> None:
    body = {"action": "PROJECT_UPDATED", "project": {"id": 1, "label_config": "<View>what a webhook says</View>"}}
    courier.redis.lpush(store.INBOX, json.dumps(body))


def deleted(courier: Courier, *tasks: int) -> None:
    body = {"action": "TASKS_DELETED", "project": {"id": 1}, "tasks": [{"id": task} for task in tasks]}
    courier.redis.lpush(store.INBOX, json.dumps(body))


def test_jobs_of_deleted_tasks_are_cancelled(settings: Settings, job: Job) -> None:
    studio = MemoryStudio()
    for number in (2, 4):
        studio.show(number, job.pictures[0].address)
    courier = Courier(settings, studio)  # type: ignore[arg-type]
    ask(courier.jobs, job, 1, 1, 2, 3, 4)
    ask(courier.jobs, job, 2, 1)
    courier.jobs.start(of(courier.jobs, job, task=3))
    deleted(courier, 1, 2, 3, 99)
    assert courier.webhooks.read_one()
    open_ones = [of(courier.jobs, job, task=task) for task in (2, 3, 4)] + [of(courier.jobs, job, project=2, task=1)]
    assert sorted(courier.jobs.open_ids()) == sorted(open_ones), "task 2 is there, whatever the webhook says"
    courier.jobs.finish(of(courier.jobs, job, task=3), {"result": []}, [])
    assert courier.redis.zcard(store.OUTBOX) == 0, "nobody is there to take what ran"


def test_deleted_tasks_wait_for_label_studio(settings: Settings, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "FULL_SECONDS", 0.0)
    studio = MemoryStudio()
    courier = Courier(settings, studio)  # type: ignore[arg-type]
    ask(courier.jobs, job, 1, 1)
    deleted(courier, 1)
    studio.down = True
    assert not courier.webhooks.read_one()
    assert len(courier.jobs.open_ids()) == 1
    studio.down = False
    assert courier.webhooks.read_one()
    assert courier.jobs.open_ids() == []


@pytest.mark.parametrize(
    ("configs", "left"),
    [
        ({"p1": CONFIG}, 2),
        ({"p1": OTHER}, 0),
        ({"p1": "<View/>"}, 0),
        ({"p1": CONFIG.replace("<BrushLabels", '<BrushLabels model_skip="true"')}, 0),
        ({}, 0),
    ],
    ids=["something else changed", "other labels", "no labels", "skipped", "deleted"],
)
def test_the_webhook_makes_the_courier_look(settings: Settings, job: Job, configs: dict[str, str], left: int) -> None:
    courier = Courier(settings, StudioWithProjects(**configs))  # type: ignore[arg-type]
    ask(courier.jobs, job, 1, 1, 2)
    updated(courier)
    assert courier.webhooks.read_one()
    assert len(courier.jobs.open_ids()) == left


def test_while_label_studio_is_away_the_webhook_waits(
    settings: Settings, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "FULL_SECONDS", 0.0)
    studio = StudioWithProjects(p1=OTHER)
    courier = Courier(settings, studio)  # type: ignore[arg-type]
    ask(courier.jobs, job, 1, 1)
    updated(courier)
    studio.error = StudioUnavailable("restarting")
    assert not courier.webhooks.read_one()
    assert len(courier.jobs.open_ids()) == courier.redis.llen(store.READING) == 1
    studio.error = None
    assert courier.webhooks.read_one()
    assert courier.jobs.open_ids() == []


def test_a_project_that_may_not_be_read_keeps_its_jobs(settings: Settings, job: Job) -> None:
    studio = StudioWithProjects(p1=OTHER)
    studio.error = StudioError("401")
    courier = Courier(settings, studio)  # type: ignore[arg-type]
    ask(courier.jobs, job, 1, 1)
    updated(courier)
    assert courier.webhooks.read_one()
    assert len(courier.jobs.open_ids()) == 1


def test_without_webhooks_setup_tells_of_a_new_version(settings: Settings, redis: Redis) -> None:
    client = create_app(settings).test_client()
    for config in (CONFIG, CONFIG, OTHER, OTHER):
        assert client.post("/setup", json={"schema": config, "project": "1.1795154356"}).status_code == 200
    events = [json.loads(body) for body in redis.lrange(store.INBOX, 0, -1)]
    assert events == [{"action": "PROJECT_UPDATED", "project": {"id": 1}}], "once"


@pytest.mark.parametrize(("xml", "version"), [(CONFIG, True), ("<View/>", False), ("<View", False)])
def test_a_config_without_words_has_no_version(settings: Settings, xml: str, version: bool) -> None:
    expected = parse_config(xml, "demo").version() if version else None
    assert current_version(xml, settings) == expected


def test_a_trial_is_only_looked_at(jobs: Jobs, job: Job, redis: Redis, config: LabelingConfig) -> None:
    trial = replace(job, trial=True)
    assert jobs.id_of(trial) != jobs.id_of(job)
    assert Job.from_json(json.loads(json.dumps(trial.to_json()))) == trial
    jobs.request(trial, store.BATCH)
    jobs.start(jobs.id_of(trial))
    jobs.finish(jobs.id_of(trial), finished(config.version(), "cat"), ["cat"])
    assert redis.zcard(store.OUTBOX) == 0
    assert jobs.result(jobs.id_of(trial)) == finished(config.version(), "cat")
    assert redis.ttl(store.ticket_key(jobs.id_of(trial))) > 0


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["pause", "--project", "1"], "Project 1 is paused"),
        (["pause"], "Everything is paused"),
        (["resume"], "Everything goes on."),
        (["resume", "--project", "1"], "Project 1 goes on."),
        (["cancel", "--project", "1"], "2 queued tasks are cancelled; 0 that run"),
        (["cancel", "--all"], "3 queued tasks are cancelled; 0 that run"),
    ],
)
def test_the_commands_say_what_they_did(
    jobs: Jobs,
    job: Job,
    redis_url: str,
    command: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    ask(jobs, job, 1, 1, 2)
    ask(jobs, job, 2, 1)
    assert main(command) == 0
    assert says in capsys.readouterr().out


def test_one_project_cannot_be_resumed_while_all_are_paused(
    redis_url: str, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    main(["pause"])
    assert main(["resume", "--project", "1"]) == 1
    assert "everything is paused" in capsys.readouterr().out


def test_cancel_wants_to_know_what(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["cancel"])
    assert "--project" in capsys.readouterr().err
