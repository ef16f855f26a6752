"""Some tasks of a project, segmented to be looked at: nothing of it reaches Label Studio.

They go through the queue as trials (`backend.queue.job.Job`), before the batch, because somebody waits for them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from backend import store
from backend.bulk.run import BulkError, Plan
from backend.bulk.tally import Outcome, Tally, count, seconds_of
from backend.corrections.records import ScoreBook
from backend.labeling.parsing import LabelingConfig
from backend.queue.job import Job, State, job_of
from backend.queue.jobs import Jobs, found_scores
from backend.studio.client import Studio, TaskFilter
from backend.words import duration

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Trial:
    """One task that was tried: its prediction as Label Studio would store it, or why there is none.

    seconds: fetching and segmenting, None where nobody knows. scores: label (as stored) -> raw score, of dropped ones
    too; {} if not known.
    stored_bytes: what the prediction takes in Label Studio, kept_bytes in Redis.
    """

    job: Job
    prediction: Mapping[str, Any] | None = None
    error: str = ""
    seconds: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    stored_bytes: int = 0
    kept_bytes: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a whole run would take: seconds with the workers that are alive, bytes in Label Studio and in Redis.

    seconds_each, seconds: None where no trial knows how long it took.
    """

    tasks: int
    workers: int
    seconds_each: float | None
    seconds: float | None
    stored_bytes: int
    kept_bytes: int


def choose(studio: Studio, plan: Plan, count: int) -> list[Job]:
    """Trials of `count` tasks at even distances over the project. Raises BulkError when no task has an image."""
    tasks = studio.spread_tasks(plan.project, count, TaskFilter(unlabelled=plan.which.unlabelled))
    jobs = [job_of(task, plan.project, plan.config, plan.version) for task in tasks]
    chosen = [replace(job, trial=True) for job in jobs if job is not None]
    if not chosen:
        fields = " or ".join(repr(image.field) for image in plan.config.images)
        raise BulkError(f"No task of project {plan.project} has an image in its field {fields}.")
    return chosen


def ask(jobs: Jobs, trials: list[Job]) -> None:
    """Queue them. Raises BulkError when there is no room."""
    if State.REFUSED in jobs.request_many(trials, store.INTERACTIVE):
        raise BulkError("The queue is full (CAR_QUEUE_LIMIT); try again when it is shorter.")


def wait(jobs: Jobs, trials: list[Job], stop: threading.Event, show: Callable[[int], None]) -> bool:
    """Wait until all are finished; `show` is told how many are. False when stopped before."""
    ids = [jobs.id_of(job) for job in trials]
    while True:
        finished = sum(jobs.state(job_id) not in (State.QUEUED, State.RUNNING) for job_id in ids)
        show(finished)
        if finished == len(ids):
            return True
        if stop.wait(POLL_SECONDS):
            return False


def read(jobs: Jobs, trials: list[Job]) -> list[Trial]:
    """What came of them, in the same order."""
    book = ScoreBook(jobs.redis, jobs.settings)
    return [_read(jobs, job, book) for job in trials]


def _read(jobs: Jobs, job: Job, book: ScoreBook) -> Trial:
    job_id = jobs.id_of(job)
    ticket, prediction = jobs.ticket(job_id), jobs.result(job_id)
    if prediction is None:
        return Trial(job, error=ticket.get("error") or "it was cancelled")
    return Trial(
        job,
        prediction,
        seconds=seconds_of(ticket),
        scores=book.scores(job.project, job.task, job.version, job.fingerprint),
        stored_bytes=len(json.dumps(prediction)),
        kept_bytes=int(jobs.redis.strlen(store.result_key(job_id))),
    )


def tally_of(trials: list[Trial], config: LabelingConfig) -> Tally:
    """In how many of them each label was found, and why some failed."""
    outcomes = [
        Outcome(None if one.prediction is None else found_scores(one.prediction), one.error, one.seconds)
        for one in trials
    ]
    return count(outcomes, [label.name for label in config.labels])


def estimate(trials: list[Trial], tasks: int, workers: int) -> Estimate | None:
    """What `tasks` tasks would take, if they are like these; None when none of these was finished."""
    done = [trial for trial in trials if trial.prediction is not None]
    if not done:
        return None
    known = [trial.seconds for trial in done if trial.seconds is not None]
    each = fmean(known) if known else None
    all_of_them = None if each is None else each * tasks / max(workers, 1)
    stored, kept = (
        round(tasks * fmean(sizes)) for sizes in zip(*((one.stored_bytes, one.kept_bytes) for one in done), strict=True)
    )
    return Estimate(tasks, workers, each, all_of_them, stored, kept)


def estimate_text(found: Estimate) -> str:
    """One sentence for people."""
    sizes = f"{_megabytes(found.stored_bytes)} in Label Studio's database and {_megabytes(found.kept_bytes)} in Redis."
    if found.seconds is None:
        return f"{found.tasks} tasks take about {sizes}"
    return (
        f"{found.tasks} tasks at {found.seconds_each:.1f} s each take {duration(found.seconds)} with "
        f"{max(found.workers, 1)} worker{'s' if found.workers > 1 else ''}, about {sizes}"
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
