"""`python -m backend requeue`: give tasks that failed, or lack an image, another chance after the cause was mended."""

from __future__ import annotations

import argparse
import sys

from redis.exceptions import RedisError

from backend import store
from backend.queue.jobs import Job, Jobs
from backend.reconcile import by_project, reconciler_of
from backend.settings import Settings, load_settings
from backend.studio.client import Studio, StudioError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--project", type=int, metavar="ID", help="only failed tasks of this project")
    parser.add_argument("--task", type=int, metavar="ID", help="only this task")


def run(args: argparse.Namespace) -> int:
    """Queue all failed jobs that match; print how many."""
    settings = load_settings()
    jobs = Jobs(store.connect(settings.redis_url, patient=False), settings)
    try:
        drop_misfits(jobs, settings, args.project, args.task)
        count = requeue(jobs, args.project, args.task)
    except RedisError as error:
        print(f"Redis does not answer: {error}. Start it, or correct REDIS_URL.", file=sys.stderr)
        return 1
    except StudioError as error:
        print(f"Nothing is queued, as it is not known what the failed tasks show now: {error}", file=sys.stderr)
        return 1
    print(f"{count} failed tasks are queued again.")
    return 0


def drop_misfits(jobs: Jobs, settings: Settings, project: int | None, task: int | None) -> None:
    """Forget failed jobs whose tasks are gone; where a task shows other images now, these are asked for instead."""
    failed = {job_id: job for job_id in jobs.failed_ids(project) if (job := jobs.job(job_id)) is not None}
    wanted = {job_id: job for job_id, job in failed.items() if _matches(job, project, task)}
    if wanted:
        studio = Studio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
        reconciler = reconciler_of(jobs.redis, settings, studio)
        for number, own in by_project(wanted).items():
            reconciler.drop_misfits(number, own)


def requeue(jobs: Jobs, project: int | None = None, task: int | None = None) -> int:
    """Queue the failed jobs of a project, of a task, or all; returns how many."""
    wanted = [job_id for job_id in jobs.failed_ids() if _matches(jobs.job(job_id), project, task)]
    return sum(jobs.requeue(job_id) for job_id in wanted)


def _matches(job: Job | None, project: int | None, task: int | None) -> bool:
    return job is not None and project in (None, job.project) and task in (None, job.task)
