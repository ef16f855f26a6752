"""`python -m backend requeue`: give tasks that failed, or lack an image, another chance after the cause was mended."""

from __future__ import annotations

import argparse
import sys

from redis.exceptions import RedisError

from backend import store
from backend.queue.jobs import Job, Jobs
from backend.settings import load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--project", type=int, metavar="ID", help="only failed tasks of this project")
    parser.add_argument("--task", type=int, metavar="ID", help="only this task")


def run(args: argparse.Namespace) -> int:
    """Queue all failed jobs that match; print how many."""
    settings = load_settings()
    try:
        count = requeue(Jobs(store.connect(settings.redis_url, patient=False), settings), args.project, args.task)
    except RedisError as error:
        print(f"Redis does not answer: {error}. Start it, or correct REDIS_URL.", file=sys.stderr)
        return 1
    print(f"{count} failed tasks are queued again.")
    return 0


def requeue(jobs: Jobs, project: int | None = None, task: int | None = None) -> int:
    """Queue the failed jobs of a project, of a task, or all; returns how many."""
    wanted = [job_id for job_id, _ in jobs.failures(None) if _matches(jobs.job(job_id), project, task)]
    return sum(jobs.requeue(job_id) for job_id in wanted)


def _matches(job: Job | None, project: int | None, task: int | None) -> bool:
    return job is not None and project in (None, job.project) and task in (None, job.task)
