"""The web process's part: an annotator's request becomes a job of its own, and is answered while the annotator waits.

It has nothing to do with the task's pre-labelling: what is asked for is part of the job's id, the answer is never
delivered or pushed, and neither looks at what was. Label Studio shows it as a suggestion and stores nothing of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from redis.exceptions import RedisError

from backend import store
from backend.interactive.asks import AskError, read
from backend.interactive.present import present
from backend.labeling.parsing import ConfigError, LabelingConfig, for_task, parse_config
from backend.predict import Predictor
from backend.queue.job import Job, job_of
from backend.queue.jobs import State

log = logging.getLogger(__name__)


def answer(
    predictor: Predictor, task: Mapping[str, Any], project: int, label_config: str, context: object
) -> dict[str, Any]:
    """The regions for what the annotator drew or wrote; none, with a `message` that says why, where there is none.

    Waits up to CAR_INTERACTIVE_WAIT. Never raises for what a user can cause.
    """
    version = ""
    try:
        config = parse_config(label_config, predictor.settings.car_preset)
        version = config.version(predictor.settings.car_weights)
        job = _job(task, project, config, version, context)
        message = "there is nothing to look for"
        if job is not None:
            answered, message = _answered(predictor, job)
            if answered is not None and answered["result"]:
                return answered
    except (ConfigError, AskError) as error:
        message = str(error)
    except RedisError as error:
        message = f"Redis at REDIS_URL does not answer: {error}"
    log.warning("task %s of project %s: no mask for what was asked: %s", task.get("id"), project, message)
    return {"result": [], "score": 0.0, "model_version": version, "message": message}


def _job(task: Mapping[str, Any], project: int, config: LabelingConfig, version: str, context: object) -> Job | None:
    if config.skip:
        raise AskError("all controls of the labeling config have model_skip")
    ask = read(context, for_task(config, task.get("data")))
    if ask is None:
        return None
    job = job_of(task, project, config, version)
    shown = tuple(one for one in job.pictures if (one.tag, one.page) == (ask.image, ask.page)) if job else ()
    if job is None or not shown:
        raise AskError("the task has no such image")
    return replace(job, ask=replace(ask, present=present(task, ask, job.config)), pictures=shown)


def _answered(predictor: Predictor, job: Job) -> tuple[dict[str, Any] | None, str]:
    """The answer, or None and why there is none. What nobody waits for any more is not begun."""
    jobs, seconds = predictor.jobs, predictor.settings.car_interactive_wait
    job_id, state = jobs.id_of(job), jobs.request(job, store.INTERACTIVE)
    if state in (State.QUEUED, State.RUNNING):
        predictor.wait(job_id, seconds)
        state = jobs.state(job_id) or State.QUEUED
    if state is State.DONE:
        return jobs.result(job_id), "nothing was found"
    if state is State.FAILED:
        return None, jobs.ticket(job_id).get("error", "it failed")
    if state is State.REFUSED:
        return None, "too many jobs are open (CAR_QUEUE_LIMIT)"
    if state is State.QUEUED:
        jobs.forget(job_id)
    return None, f"no worker was done within {seconds:g} s (CAR_INTERACTIVE_WAIT); ask again, or start more workers"
