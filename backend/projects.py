"""What is kept of a project under its number, and its end: the number may stand for another project one day.

So it is when Label Studio's database was made anew, and Redis was not.
"""

from __future__ import annotations

import logging

from redis import Redis

from backend import store
from backend.store import text

log = logging.getLogger(__name__)


def note_project(redis: Redis, project: int, created_at: str) -> None:
    """Note when a project was created; what is kept of an earlier one of the same number is deleted."""
    known = redis.hget(store.PROJECTS, str(project))
    if known is not None and text(known) != created_at:
        log.warning("project %s is another one now: what was kept of the one before is deleted", project)
        forget_project(redis, project)
    redis.hset(store.PROJECTS, str(project), created_at)


def forget_project(redis: Redis, project: int) -> None:
    """Delete scores, corrections, proposals and marks of a project. Its jobs are judged by their images."""
    patterns = (store.scores_key(project, "*"), store.held_key(project, "*"))
    keys = [key for pattern in patterns for key in redis.scan_iter(match=pattern, count=1000)]
    kept = (store.corrections_key, store.corrected_key, store.annotations_key, store.calibration_key)
    with redis.pipeline() as pipe:
        pipe.delete(*keys, *(name(project) for name in kept))
        for marks in (store.WATERMARKS, store.CANCELLED, store.PROJECT_VERSIONS):
            pipe.hdel(marks, str(project))
        pipe.srem(store.PAUSED, str(project))
        pipe.execute()
