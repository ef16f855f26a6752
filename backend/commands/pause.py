"""`python -m backend pause`: let jobs wait until `resume`."""

from __future__ import annotations

import argparse

from backend.commands.common import with_redis
from backend.queue.jobs import Jobs
from backend.queue.queues import pause


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--project", type=int, metavar="ID", help="only this project (default: everything)")


def run(args: argparse.Namespace) -> int:
    """Pause, and say how to go on."""
    return with_redis(lambda jobs: _pause(jobs, args.project))


def _pause(jobs: Jobs, project: int | None) -> int:
    pause(jobs.redis, project)
    what, option = ("Everything", "") if project is None else (f"Project {project}", f" --project {project}")
    print(f"{what} is paused: what runs is finished, all else waits for `python -m backend resume{option}`.")
    return 0
