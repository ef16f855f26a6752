"""`python -m backend cancel`: empty the queue of a project."""

from __future__ import annotations

import argparse

from backend.commands.common import with_redis
from backend.queue.cancel import cancel
from backend.queue.jobs import Jobs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command: one of both, so that nobody empties everything by leaving one out."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--project", type=int, metavar="ID", help="what is queued for this project")
    which.add_argument("--all", action="store_true", help="what is queued for all projects")


def run(args: argparse.Namespace) -> int:
    """Cancel, and say how many."""
    return with_redis(lambda jobs: _cancel(jobs, None if args.all else args.project))


def _cancel(jobs: Jobs, project: int | None) -> int:
    found = cancel(jobs, project)
    print(f"{found.queued} queued tasks are cancelled; {found.running} that run will be finished and delivered.")
    return 0
