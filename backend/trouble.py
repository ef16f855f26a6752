"""What can be wrong with Redis: it is away, or it answers but refuses writes; what to do, and waiting for its end."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable
from typing import TypeVar

from redis import Redis
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, ResponseError, TimeoutError

from backend import store

log = logging.getLogger(__name__)

REFUSALS = {
    "READONLY": "It is a replica. Point REDIS_URL at the primary, or make this one it: redis-cli replicaof no one.",
    "NOREPLICAS": "Too few replicas are connected. Start them, or: redis-cli config set min-replicas-to-write 0.",
    "OOM": "Its memory is full. Raise maxmemory: redis-cli config set maxmemory 4gb, and in redis.conf.",
    "MISCONF": "It cannot save to its disk. Make room there, then see its log.",
    "MASTERDOWN": "It is a replica that has lost its primary. Point REDIS_URL at the primary.",
}
"""Redis's codes for refused commands -> why, and what to do. The commands are taken again once that is done."""
PROBE_SECONDS = 10
AGAIN_SECONDS = 1.0
"""How often a step that Redis did not take is tried again."""

Result = TypeVar("Result")


def try_write(redis: Redis) -> None:
    """Write a key that expires. Raises RedisError when Redis is away or refuses writes: a ping would not show that."""
    redis.set(store.PROBE, 1, ex=PROBE_SECONDS)


def refusal(error: BaseException) -> str:
    """The code in `REFUSALS` with which Redis refused a command, a script's included; empty for any other error."""
    if not isinstance(error, ResponseError):
        return ""
    said = f"{getattr(error, 'status_code', None) or ''} {error}"
    found = re.search(rf"\b({'|'.join(REFUSALS)})\b", said)
    return found[1] if found else ""


def passes(error: BaseException) -> bool:
    """Whether the same command may succeed later: Redis is away or refuses writes. Not so a wrong password."""
    away = isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(error, AuthenticationError)
    return away or bool(refusal(error))


def explain(error: BaseException) -> str:
    """What is wrong with Redis, in a sentence for people, with what to do where that is known."""
    code = refusal(error)
    if not code:
        return f"Redis at REDIS_URL does not answer: {error}"
    said = str(error) if code in str(error) else f"{code} {error}"
    return f"Redis at REDIS_URL refuses writes ({said.rstrip('.')}). {REFUSALS[code]}"


def patiently(step: Callable[[], Result], seconds: float = math.inf) -> Result:
    """Return what `step` returns; while Redis is away or refuses writes, call it again every `AGAIN_SECONDS`.

    The log has one line when that begins, and one when it is over. After so many `seconds` the error is raised, and
    any other error at once.
    """
    begun: float | None = None
    told: str | None = None
    while True:
        try:
            result = step()
        except RedisError as error:
            now = time.monotonic()
            if not passes(error) or (begun is not None and now - begun >= seconds):
                raise
            begun = now if begun is None else begun
            if told != refusal(error):
                log.error("%s Waiting for it; tried again every second.", explain(error))
            told = refusal(error)
            time.sleep(AGAIN_SECONDS)
        else:
            if begun is not None:
                log.warning("Redis takes writes again, after %.0f s", time.monotonic() - begun)
            return result
