"""Health checks of single processes, for containers and Kubernetes: `python -m backend status --check worker`.

The checks of worker and courier pass while Redis is away or refuses writes: nothing is known of them then, and starting
them anew, which is what a failed check leads to, would not bring Redis back but cost the weights.
"""

from __future__ import annotations

import base64
import socket
import urllib.error
import urllib.request
from collections.abc import Callable

from redis import Redis
from redis.exceptions import RedisError

from backend import store
from backend.settings import Settings
from backend.status import reports
from backend.trouble import explain, try_write

WEB_URL = "http://127.0.0.1:9090"
WEB_SECONDS = 5.0
"""Label Studio waits for one; a probe that is stricter would take a busy process for a dead one."""

Answer = tuple[bool, str]
"""Whether it is alive, and in words."""


def web(settings: Settings, url: str = WEB_URL) -> Answer:
    """Whether the web process at `url` answers /health with 200: it is there, and Redis takes writes."""
    request = urllib.request.Request(f"{url.rstrip('/')}/health")
    if settings.auth:
        given = base64.b64encode(":".join(settings.auth).encode()).decode()
        request.add_header("Authorization", f"Basic {given}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would answer for somebody else
    try:
        with opener.open(request, timeout=WEB_SECONDS):
            return True, f"{url} answers"
    except urllib.error.HTTPError as error:
        return False, f"{url}/health says {error.code} {error.reason}"
    except OSError as error:
        return False, f"{url}/health does not answer: {getattr(error, 'reason', error)}"


def worker(settings: Settings) -> Answer:
    """Whether a worker of this host (in a container: this container) has reported within `reports.ALIVE_SECONDS`."""
    return _asked(settings, _worker)


def courier(settings: Settings) -> Answer:
    """Whether a courier is at work, be it another one: a second one stands by."""
    return _asked(settings, _courier)


def _asked(settings: Settings, question: Callable[[Redis], Answer]) -> Answer:
    try:
        redis = store.connect(settings.redis_url, patient=False)
        try_write(redis)
        return question(redis)
    except RedisError as error:
        return True, f"cannot tell. {explain(error)}"


def _worker(redis: Redis) -> Answer:
    host = socket.gethostname()
    here = [one for one in reports.read(redis) if one.host == host]
    if alive := reports.alive(here):
        return True, f"{len(alive)} on {host}, {', '.join(one.doing for one in alive)}"
    return False, next((one.error for one in here if one.error), f"no worker of {host} reports")


def _courier(redis: Redis) -> Answer:
    return (True, "one is at work") if redis.exists(store.COURIER) else (False, "no courier is at work")
