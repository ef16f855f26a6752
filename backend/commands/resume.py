"""`python -m backend resume`: let what was paused go on."""

from __future__ import annotations

import argparse

from backend.commands.common import with_redis
from backend.queue.jobs import Jobs
from backend.queue.queues import is_paused, resume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--project", type=int, metavar="ID", help="only this project (default: everything)")


def run(args: argparse.Namespace) -> int:
    """Resume; 1 when the project still waits because everything is paused."""
    return with_redis(lambda jobs: _resume(jobs, args.project))


def _resume(jobs: Jobs, project: int | None) -> int:
    resume(jobs.redis, project)
    if project is not None and is_paused(jobs.redis, str(project)):
        print(f"Project {project} still waits, for everything is paused: `python -m backend resume`.")
        return 1
    print("Everything goes on." if project is None else f"Project {project} goes on.")
    return 0
