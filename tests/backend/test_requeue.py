"""`requeue`: failed jobs get another chance, for what their tasks show now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backend import store
from backend.__main__ import main
from backend.commands import requeue as command
from backend.queue.jobs import Job, Jobs, State
from backend.settings import Settings
from tests.backend.conftest import MemoryStudio, finished, one_image

ELSEWHERE = "/data/upload/1/other.png"


@pytest.fixture
def studio(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> MemoryStudio:
    """Project 1 with tasks 7 and 8, known to the command."""
    studio = MemoryStudio([7, 8])
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("LABEL_STUDIO_URL", settings.label_studio_url)
    monkeypatch.setattr(command, "Studio", lambda *_: studio)
    return studio


def failed(jobs: Jobs, job: Job) -> str:
    """A job that has failed, and used up its tries; its id."""
    for _ in range(jobs.settings.car_retries + 1):
        jobs.request(job, store.BATCH)
        jobs.fail(jobs.id_of(job), "404")
    assert jobs.request(job, store.BATCH) is State.FAILED
    return jobs.id_of(job)


def of_task(job: Job, task: int, address: str = "") -> Job:
    return replace(job, task=task, pictures=one_image(address or f"/data/upload/1/{task}.png"))


def requeued(capsys: pytest.CaptureFixture[str], *options: str) -> int:
    """Run the command; how many it says that it queued."""
    assert main(["requeue", *options]) == 0
    return int(capsys.readouterr().out.split()[0])


@pytest.mark.usefixtures("studio")
def test_a_failed_job_whose_task_shows_the_same_is_queued(
    jobs: Jobs, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [failed(jobs, of_task(job, task)) for task in (7, 8)]
    assert requeued(capsys) == 2
    assert sorted(jobs.open_ids()) == sorted(ids)


@pytest.mark.parametrize("change", ["gone", "moved", "project"])
def test_a_failed_job_whose_task_is_gone_is_forgotten(
    jobs: Jobs, job: Job, studio: MemoryStudio, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    job_id = failed(jobs, job)
    if change == "gone":
        studio.delete(7)
    elif change == "moved":
        studio.owner[7] = 2
    else:
        studio.projects_there = set()
    assert requeued(capsys) == 0
    assert (jobs.open_ids(), jobs.failed_ids(), jobs.ticket(job_id)) == ([], [], {})


def test_a_failed_job_whose_task_shows_another_image_is_replaced(
    jobs: Jobs, job: Job, studio: MemoryStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    misfit, fitting = failed(jobs, job), failed(jobs, of_task(job, 8))
    studio.show(7, ELSEWHERE)
    assert requeued(capsys) == 1, "task 8"
    present = jobs.id_of(of_task(job, 7, ELSEWHERE))
    assert set(jobs.open_ids()) == {present, fitting}
    assert jobs.ticket(misfit) == {}
    assert jobs.failed_ids() == []


def test_another_image_that_has_its_prediction_is_not_asked_for(
    jobs: Jobs, job: Job, studio: MemoryStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    failed(jobs, job)
    studio.show(7, ELSEWHERE)
    studio.create_prediction(7, finished(job.version, "cat", address=ELSEWHERE))
    assert requeued(capsys) == 0
    assert (jobs.open_ids(), jobs.failed_ids()) == ([], [])


def test_a_prediction_that_lacks_an_image_of_another_task_is_not_queued(
    jobs: Jobs, job: Job, studio: MemoryStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs.request(job, store.BATCH)
    jobs.finish(jobs.id_of(job), finished(job.version, "cat"), ["cat"], "1 of 2 images are missing")
    assert jobs.failed_ids() == [jobs.id_of(job)]
    studio.delete(7)
    assert requeued(capsys) == 0
    assert (jobs.open_ids(), jobs.failed_ids(), jobs.ticket(jobs.id_of(job))) == ([], [], {})


@pytest.mark.parametrize(
    ("options", "left"),
    [(["--project", "2"], {7}), (["--task", "8"], {7}), (["--project", "1", "--task", "7"], {8})],
)
def test_only_what_is_asked_for_is_looked_at(
    jobs: Jobs, job: Job, studio: MemoryStudio, capsys: pytest.CaptureFixture[str], options: list[str], left: set[int]
) -> None:
    """Task 8 is of project 2 in the first case; tasks that are gone stay listed unless they are asked for."""
    other = replace(of_task(job, 8), project=2 if "2" in options else 1)
    known = {7: failed(jobs, job), 8: failed(jobs, other)}
    studio.delete(7)
    studio.delete(8)
    assert requeued(capsys, *options) == 0
    assert jobs.failed_ids() == [known[task] for task in left]


def test_label_studio_away_queues_nothing(
    jobs: Jobs, job: Job, studio: MemoryStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = failed(jobs, job)
    studio.down = True
    assert main(["requeue"]) == 1
    told: Any = capsys.readouterr()
    assert told.out == ""
    assert "Nothing is queued" in told.err
    assert "connection refused" in told.err
    assert (jobs.open_ids(), jobs.failed_ids()) == ([], [job_id])


def test_without_failed_jobs_label_studio_is_not_asked(
    jobs: Jobs, studio: MemoryStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    studio.down = True
    assert requeued(capsys) == 0
    assert studio.calls == []
