"""What the commands that look into Redis share."""

from __future__ import annotations

import sys
from collections.abc import Callable

from redis.exceptions import RedisError

from backend import store
from backend.queue.jobs import Jobs
from backend.settings import load_settings


def with_redis(body: Callable[[Jobs], int]) -> int:
    """Run `body` on this backend's jobs and return its exit code; 1, and what to do, when Redis does not answer."""
    settings = load_settings()
    try:
        return body(Jobs(store.connect(settings.redis_url, patient=True), settings))
    except RedisError as error:
        print(f"Redis does not answer: {error}. Start it, or correct REDIS_URL.", file=sys.stderr)
        return 1
